"""Scores of a selector for every target, sample by sample."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sumcirc.errors import UserError
from sumcirc.schema import MODULES
from sumcirc.statistics.resampling import resampled
from sumcirc.storage.reading import read_json
from sumcirc.storage.writing import plain_numbers, write_json


@dataclass(frozen=True, eq=False)
class Scores:
    """The scores of all layers or modules of a model, of which those with the largest are chosen.

    Attributes:
        values: [layers, modules, samples] with modules in the order of `schema.MODULES`, or
            [layers, 1, samples] if layers are scored as a whole. A score is the mean over samples.
        reason: what a high score means, in words.
        unit: unit of the values.
        samples: what the samples are, such as `documents`; empty for scores without samples, which
            depend on no document or are those of a rule that measures nothing.
        power: exponent p of the p-norm that combines the values of a layer's modules: 1 for their
            sum, 2 for the Euclidean norm.
        resamples: [layers, modules or 1, resamples] scores computed from resampled documents; None
            if these are the means of resampled `values`.
        scale: size of the quantities whose difference a score is, such as 1 for a change of CKA;
            None if a score isn't a difference.
    """

    values: NDArray[np.float64]
    reason: str
    unit: str = ""
    samples: str = ""
    power: int = 1
    resamples: NDArray[np.float64] | None = None
    scale: float | None = None

    @property
    def tells_modules(self) -> bool:
        """Whether the modules of a layer have separate scores."""
        return self.values.shape[1] > 1

    def of_targets(self, modules: list[int], whole: bool) -> NDArray[np.float64]:
        """Return the values of whole layers, or of some modules of each layer.

        Args:
            modules: indices into `schema.MODULES`.
            whole: whether to combine the modules of a layer into one value.

        Returns:
            [layers, modules or 1, samples].
        """
        return self._of_targets(self.values, modules, whole)

    def resampled(self, modules: list[int], whole: bool, count: int) -> NDArray[np.float64]:
        """Return the scores in resamples, of whole layers or of some modules of each layer.

        Args:
            modules: indices into `schema.MODULES`.
            whole: whether to combine the modules of a layer into one score.
            count: number of resamples; ignored if the attribute `resamples` is not None.

        Returns:
            [layers, modules or 1, resamples].
        """
        kept = resampled(self.values, count) if self.resamples is None else self.resamples
        return self._of_targets(kept, modules, whole)

    def _of_targets(
        self, values: NDArray[np.float64], modules: list[int], whole: bool
    ) -> NDArray[np.float64]:
        if not self.tells_modules:
            # a rule gives all modules of a layer the same score
            return values if whole else np.repeat(values, len(modules), axis=1)
        chosen = values[:, modules]
        if not whole:
            return chosen
        if self.power == 1:
            return chosen.sum(1, keepdims=True)
        return (chosen**self.power).sum(1, keepdims=True) ** (1 / self.power)

    def save(self, path: Path) -> None:
        """Write the scores to a file, atomically.

        Args:
            path: the file to write.
        """
        write_json(path, plain_numbers(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> Scores:
        """Read scores that `save` wrote.

        Args:
            path: the file to read.
        """
        body = read_json(path, dict[str, Any])
        for name in ("values", "resamples"):
            if body[name] is not None:
                body[name] = np.array(body[name], dtype=np.float64)
        return cls(**body)

    def check(self, layers: int) -> None:
        """Check that the arrays have shapes that fit a model.

        Args:
            layers: number of layers of the model.

        Raises:
            ValueError: an array has another shape.
        """
        for array in (self.values, self.resamples):
            if array is None:
                continue
            if array.ndim != 3 or len(array) != layers or array.shape[1] not in (1, len(MODULES)):
                raise ValueError(f"scores of shape {array.shape} for {layers} layers")


def rule(values: Any, reason: str) -> Scores:
    """Return the scores of a rule that measures nothing.

    Args:
        values: the scores, [layers] or [layers, modules].
        reason: what a high score means, in words.
    """
    array = np.asarray(values, dtype=np.float64)
    return Scores(array.reshape(len(array), -1, 1), reason)


def require_defined(values: NDArray[np.float64], selector: str) -> NDArray[np.float64]:
    """Return scores unchanged, or raise an error if one is not finite.

    Args:
        values: the scores, an array of any shape.
        selector: name of the selector, for error messages.

    Raises:
        UserError: a value is NaN or infinite.
    """
    if not np.isfinite(values).all():
        raise UserError(
            f"selector={selector}: undefined for some layers on these documents; take more of"
            " them with selector.documents"
        )
    return values
