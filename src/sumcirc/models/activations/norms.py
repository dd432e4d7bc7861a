"""Forward formula and transposed Jacobian of LayerNorm and RMSNorm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sumcirc.errors import UserError


@dataclass(frozen=True)
class Norm:
    """The parameters and formulas of a LayerNorm or RMSNorm.

    Attributes:
        weight: [width] factor by which the standardized stream is multiplied.
        bias: [width] vector that is added last; zero for an RMSNorm.
        epsilon: number added to the variance.
        centred: whether the mean is subtracted, as in a LayerNorm.
        identity: whether there is no norm: the output is the input.
    """

    weight: Tensor
    bias: Tensor
    epsilon: float
    centred: bool
    identity: bool = False

    @classmethod
    def of(cls, module: Any, dtype: torch.dtype, add_one: bool = False) -> Norm:
        """Return the parameters of a LayerNorm or RMSNorm module.

        Args:
            module: the norm.
            dtype: type of the parameters, and of all results of the methods.
            add_one: whether the factor is 1 + the module's weight (Gemma).

        Raises:
            UserError: the module is neither a LayerNorm nor an RMSNorm.
        """
        of_llama = hasattr(module, "variance_epsilon")  # that family's own class
        root_mean_square = of_llama or "RMSNorm" in type(module).__name__
        if not root_mean_square and not hasattr(module, "eps"):
            raise UserError(
                f"model.path: the norm `{type(module).__name__}` is neither a LayerNorm nor an"
                " RMSNorm; edges through it can't be attributed"
            )
        weight = module.weight.detach().to(dtype)
        if add_one:
            weight = 1 + weight
        bias = getattr(module, "bias", None)
        epsilon = module.variance_epsilon if of_llama else module.eps
        return cls(
            weight,
            torch.zeros_like(weight) if bias is None else bias.detach().to(dtype),
            float(epsilon),
            not root_mean_square,
        )

    @classmethod
    def absent(cls, width: int, dtype: torch.dtype, device: torch.device) -> Norm:
        """Return the formulas of a place without a norm, whose output is its input."""
        ones = torch.ones(width, dtype=dtype, device=device)
        return cls(ones, torch.zeros_like(ones), 0.0, centred=False, identity=True)

    def standardized(self, stream: Tensor) -> tuple[Tensor, Tensor]:
        """Return the standardized stream and the factor by which it was scaled.

        Args:
            stream: [..., width] the norm's input x.

        Returns:
            (x - mean) / sigma, [..., width], and 1 / sigma, [..., 1], in the weights' dtype. For an
            RMSNorm the mean is not subtracted.
        """
        stream = stream.detach().to(self.weight.dtype)
        if self.identity:
            return stream, torch.ones_like(stream[..., :1])
        mean, scale = self._moments(stream)
        return (stream if mean is None else stream - mean) * scale, scale

    def scale(self, stream: Tensor) -> Tensor:
        """Return the factor by which the norm scales a stream, 1 / sigma, with its gradient.

        Args:
            stream: [..., width] the norm's input.

        Returns:
            [..., 1], in the weights' dtype; see `standardized`, which has no gradient.
        """
        stream = stream.to(self.weight.dtype)
        return torch.ones_like(stream[..., :1]) if self.identity else self._moments(stream)[1]

    def _moments(self, stream: Tensor) -> tuple[Tensor | None, Tensor]:
        """Return the mean that is subtracted, None if none is, and 1 / sigma."""
        mean = None
        if self.centred:
            variance, mean = torch.var_mean(stream, -1, correction=0, keepdim=True)
        else:
            variance = torch.linalg.vector_norm(stream, dim=-1, keepdim=True) ** 2
            variance = variance / stream.shape[-1]
        return mean, torch.rsqrt(variance + self.epsilon)

    def transposed(self, stream: Tensor, gradient: Tensor, frozen_scale: bool) -> Tensor:
        """Multiply a gradient at the norm's output by the norm's transposed Jacobian.

        The result is (w v - mean(w v) - xhat mean(w v xhat)) / sigma, where w is the weight and
        xhat the standardized stream. The term mean(w v) is absent for an RMSNorm, and the last term
        if sigma is treated as a constant.

        Args:
            stream: [..., width] the norm's input.
            gradient: [..., width] the gradient v at the norm's output.
            frozen_scale: whether sigma is treated as a constant.

        Returns:
            [..., width], the gradient at the norm's input.
        """
        if self.identity:
            return gradient.to(self.weight.dtype)
        normalized, scale = self.standardized(stream)
        found = gradient.to(self.weight.dtype) * self.weight
        share = None if frozen_scale else (found * normalized).mean(-1, keepdim=True)
        if self.centred:
            found = found - found.mean(-1, keepdim=True)
        if share is not None:
            found.addcmul_(normalized, share, value=-1)
        return found.mul_(scale)

    def pushed(self, stream: Tensor, tangent: Tensor) -> Tensor:
        """Multiply small changes of the norm's input by the norm's Jacobian.

        Args:
            stream: [..., width] the norm's input.
            tangent: changes of the input, in a shape to which `stream` can be expanded.

        Returns:
            The changes of the norm's output to first order, in the shape of `tangent`.
        """
        if self.identity:
            return tangent.to(self.weight.dtype)
        normalized, scale = self.standardized(stream)
        found = tangent.to(self.weight.dtype)
        share = (found * normalized).mean(-1, keepdim=True)
        if self.centred:
            found = found - found.mean(-1, keepdim=True)
        return (found - normalized * share) * scale * self.weight
