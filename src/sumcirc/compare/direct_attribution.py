"""Direct attribution: the contribution of every component of a model to an item's metric.

The last residual stream is a sum: token embedding (with positions) + outputs of all heads + biases
of the attentions' output projections + outputs of all MLPs. The metric is computed from it by the
final norm and the unembedding W_U. With the norm linearised at this run (its scale 1 / sigma is
kept fixed; LayerNorm's mean subtraction is linear anyway), a component that writes c contributes at
a position

    (gain * centred(c) / sigma) . d

where d is a direction in the normed space:

    logit_difference    d = W_U[good] - W_U[bad], also for wrong_fact
    log_probability     d = W_U[y] - sum_v p_v W_U[v],  p the prediction of this run

The second follows from an identity. With logits l and H = -sum_v p_v log p_v the entropy of p,

    log p_y = l_y - logsumexp(l) = (l_y - sum_v p_v l_v) - H

exactly, since log p_v = l_v - logsumexp(l). The bracket is linear in the logits if p is held fixed;
-H is attributed to no component and is reported separately as `entropy`. A constant added to all
logits contributes nothing.

Norms that follow an output projection are linearised in the same way, and a soft cap of the logits
l = c tanh(u / c) as the factor l / u of this run: both keep the contributions' sum exact.

The rest is `bias`: of the final norm and of the unembedding. All contributions, the biases and
`entropy` therefore sum to the metric. "Direct" means that later components are bypassed: effects of
a component through later components are not included.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sumcirc.circuits.metrics import at_least_float32
from sumcirc.compare.items.item_set import LOG_PROBABILITY, ItemBatch, ItemSet
from sumcirc.models.activations.activation_cache import ActivationCache, ActivationKey, HookPoint
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.models.modes import frozen

READ_AT_ONCE = 128  # rows unembedded at once: at most 128 x vocabulary numbers, a few times


@dataclass(frozen=True)
class DirectAttribution:
    """Contributions of a model's components to the metric of every item, in the metric's unit.

    Each value is the mean over the positions at which the item's predictions are read.

    Attributes:
        embedding: [items] contribution of the residual stream before block 0.
        heads: [layers, heads, items] contribution of each head, without the bias of the output
            projection.
        attention_bias: [layers, items] contribution of the output projection's bias.
        mlps: [layers, items] contribution of each MLP, including its biases.
        bias: [items] contribution of the biases of the final norm and the unembedding.
        entropy: [items] negative entropy of the predictions; zero if the metric is the logit
            difference.
        metric: [items] metric, the sum of all contributions above.
    """

    embedding: np.ndarray
    heads: np.ndarray
    attention_bias: np.ndarray
    mlps: np.ndarray
    bias: np.ndarray
    entropy: np.ndarray
    metric: np.ndarray

    @property
    def layers(self) -> np.ndarray:
        """[layers, items] sum of the contributions of a layer's heads, attention bias, and MLP."""
        return self.heads.sum(1) + self.attention_bias + self.mlps


def direct_attribution(
    hooked: HookedModel,
    items: ItemSet,
    batch_size: int,
    progress: Callable[[int], None] | None = None,
) -> DirectAttribution:
    """Return the contribution of every component of a model to the metric of every item.

    Args:
        hooked: the model, including its adapters that are switched on.
        items: the items whose metric is attributed.
        batch_size: number of items in a batch.
        progress: called with the number of newly completed items.
    """
    size, count = hooked.shape, len(items)
    found = DirectAttribution(
        np.empty(count),
        np.empty((size.layers, size.heads, count)),
        *(np.empty((size.layers, count)) for _ in range(2)),
        *(np.empty(count) for _ in range(3)),
    )
    with frozen(hooked.model):
        for batch in items.batches(batch_size, hooked.device):
            run = _Run(hooked, batch, items.metric != LOG_PROBABILITY)
            for name, values in run.result().items():
                getattr(found, name)[..., batch.places] = values
            if progress is not None:
                progress(len(batch))
    return found


class _Run:
    """Direct attribution on one batch.

    Tensors have a row for each of the n positions of the batch at which predictions are read.
    """

    def __init__(self, hooked: HookedModel, batch: ItemBatch, two_answers: bool) -> None:
        self.hooked, self.batch, self.two_answers = hooked, batch, two_answers
        self.rows = batch.reads.flatten().nonzero()[:, 0]
        self.of_item = batch.reads.nonzero()[:, 0].cpu()
        self.cache = ActivationCache()

    def result(self) -> dict[str, np.ndarray]:
        """Return the values for the attributes of DirectAttribution, [..., items of the batch]."""
        hooked = self.hooked
        first, last = (HookPoint.RESIDUAL, 0), (HookPoint.RESIDUAL, hooked.shape.layers)
        keys = [first, last, *hooked.every(*hooked.head_points, HookPoint.MLP_OUTPUT)]
        with hooked.caching(keys, keep=self._rows) as self.cache:
            normed = self._rows(self.batch.run(hooked))
        stream = at_least_float32(self.cache[last])
        norm = hooked.norm(hooked.final_norm, stream.dtype)
        direction, bias, entropy, metric = self._read(normed)
        towards = norm.transposed(stream, direction, frozen_scale=True)
        columns = {
            "embedding": self._dot(first, towards),
            "bias": direction @ norm.bias + bias,
            "entropy": entropy,
            "metric": metric,
        }
        layers = range(hooked.shape.layers)
        attention = [self._attention(layer, towards) for layer in layers]
        columns["heads"] = torch.stack([heads for heads, _ in attention], 1)
        columns["attention_bias"] = torch.stack([bias for _, bias in attention], 1)
        mlps = [self._dot((HookPoint.MLP_OUTPUT, layer), towards) for layer in layers]
        columns["mlps"] = torch.stack(mlps, 1)
        return {name: self._means(values) for name, values in columns.items()}

    def _rows(self, values: Tensor) -> Tensor:
        return values.flatten(0, 1)[self.rows]

    def _read(self, normed: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the direction [n, width], its product with the bias, -H and the metric, [n]."""
        unembedding: Any = self.hooked.model.get_output_embeddings()
        finish = getattr(self.hooked.unembedding, "finish", None)
        constant = at_least_float32(unembedding(torch.zeros_like(normed[:1]))[0])
        batch = self.batch
        good, bad = (tokens[batch.reads][:, None] for tokens in (batch.good, batch.bad))
        pieces = []
        for start in range(0, len(normed), READ_AT_ONCE):
            rows = slice(start, start + READ_AT_ONCE)
            here = normed[rows].detach().requires_grad_()
            output = unembedding(here)
            raw = logits = at_least_float32(output.detach())
            if finish is not None:
                logits = finish(raw)
            if self.two_answers:
                metric = (logits.gather(1, good[rows]) - logits.gather(1, bad[rows]))[:, 0]
                entropy = torch.zeros_like(metric)
                slope = torch.zeros_like(logits).scatter_(1, bad[rows], -1.0)
            else:
                log_p = logits.log_softmax(1)
                metric = log_p.gather(1, good[rows])[:, 0]
                slope = log_p.exp().neg_()
                entropy = -torch.linalg.vecdot(slope, log_p)
            slope.scatter_add_(1, good[rows], torch.ones_like(metric)[:, None])
            if finish is not None:  # as if logits were their ratio in this run times the output
                slope = slope * torch.where(raw != 0, logits / raw, 1.0)
            # backward through the module itself, which works for any affine module
            (direction,) = torch.autograd.grad(output, here, slope.to(output.dtype))
            pieces.append((at_least_float32(direction), slope @ constant, entropy, metric))
        direction, bias, entropy, metric = (torch.cat(part) for part in zip(*pieces, strict=True))
        return direction, bias, entropy, metric

    def _attention(self, layer: int, towards: Tensor) -> tuple[Tensor, Tensor]:
        """Return contributions of the heads [n, heads] and of the output projection's bias [n].

        The direction is propagated back through the projection, rather than the heads' outputs
        forward through it, so no head's output in the width of the stream is ever computed.
        """
        linear = self.hooked.blocks[layer].attn_out
        gain = self.hooked.attention_gain(layer, towards.dtype)
        if gain is not None:
            towards = towards * gain
        if (HookPoint.ATTENTION_SCALE, layer) in self.cache:
            towards = towards * self.cache[HookPoint.ATTENTION_SCALE, layer].to(towards.dtype)
        z = self.cache[HookPoint.HEAD_OUTPUTS, layer]
        back = at_least_float32(_transposed(linear, z, towards))
        by_head = [values.unflatten(-1, (self.hooked.shape.heads, -1)) for values in (z, back)]
        bias = at_least_float32(linear(torch.zeros_like(z[:1]))[0].detach())
        return torch.linalg.vecdot(by_head[0].to(back.dtype), by_head[1]), towards @ bias

    def _dot(self, key: ActivationKey, towards: Tensor) -> Tensor:
        return torch.linalg.vecdot(self.cache[key].to(towards.dtype), towards)

    def _means(self, values: Tensor) -> np.ndarray:
        """Average [n, ...] over the positions of each item, to [..., items of the batch]."""
        values = values.detach().cpu().double()
        sums = values.new_zeros(len(self.batch), *values.shape[1:])
        sums.index_add_(0, self.of_item, values)
        return np.moveaxis(sums.numpy(), 0, -1) / self.batch.reads.sum(1).cpu().numpy()


def _transposed(linear: nn.Module, at: Tensor, gradient: Tensor) -> Tensor:
    """Return the gradient at the input of a linear module, including its adapter, [n, in]."""
    at = at.detach().requires_grad_()
    (found,) = torch.autograd.grad(linear(at), at, gradient.to(at.dtype))
    return found
