"""Activations of the base model on the probe documents, computed once and shared by every run.

For each batch of documents the store contains the base's queries at the measured rows and its keys
(so attention divergences need no second model), its residual stream and neurons, and its rows after
the final norm; once for all batches, its unembedding and its own record. It is made by
`measures.measuring.prepare_base`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from torch import Tensor
from torch.nn.functional import linear

from sumcirc.models.architectures import Shape
from sumcirc.models.unembedding import scaled_logits
from sumcirc.storage.reading import read_json
from sumcirc.tracking.measure_records import ProbeRecord, record_file

if TYPE_CHECKING:
    from sumcirc.measures.measure_documents import ProbeSet

UNEMBEDDING = "unembedding.safetensors"


@dataclass(frozen=True)
class About:
    """Contents of the store's about.json: sizes and model type of the base, scale of its logits."""

    shape: Shape
    family: str
    logits_scaling: float = 1.0
    logit_cap: float | None = None


class BaseStore:
    """A folder with activations of the base model on the batches of a `ProbeSet`.

    Args:
        folder: the folder, which was written by `measures.measuring.prepare_base`.

    Attributes:
        shape: sizes of the base.
        family: model type of the base.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        about = read_json(folder / "about.json", About)
        self.shape, self.family = about.shape, about.family
        self._scale = about.logits_scaling, about.logit_cap

    @property
    def record(self) -> ProbeRecord:
        """Measures of the base model alone, without a comparison."""
        return ProbeRecord.read(record_file(self.folder, -1))

    def check(self, shape: Shape, probes: ProbeSet) -> None:
        """Check that the store was made for given model sizes and for given documents.

        Args:
            shape: expected sizes of the model.
            probes: expected documents.

        Raises:
            ValueError: model sizes, document ids or sizes of stored tensors differ.
        """
        if self.shape != shape or self.record.documents != probes.ids:
            raise ValueError("of another model or other documents")
        layers, width = range(shape.layers), shape.head_width
        for number, batch in enumerate(probes.batches):
            documents, length = batch.input_ids.shape
            rows = batch.rows.index.shape[1]
            expected = {
                "residual": (shape.layers + 1, len(batch.groups), shape.width),
                "normed": (len(batch.groups), shape.width),
                "neurons": (shape.layers, documents, shape.neurons),
                **{f"query.{i}": (documents, shape.heads, rows, width) for i in layers},
                **{f"key.{i}": (documents, shape.key_value_heads, length, width) for i in layers},
                **{f"seen.{i}": (len(batch.groups),) for i in layers},
                **{f"scaling.{i}": () for i in layers},
            }
            _check_sizes(self.folder / batch_name(number), expected)
        _check_sizes(self.folder / UNEMBEDDING, {"weight": (shape.vocabulary, shape.width)})

    def batch(self, number: int) -> BaseBatch:
        """Return the base's activations on a batch; each tensor is read when it is accessed.

        Args:
            number: index of the batch.
        """
        return BaseBatch(self.folder / batch_name(number))

    def unembedding(self, device: torch.device) -> tuple[Tensor, Tensor | None]:
        """Return the weight and the bias of the base's unembedding.

        Args:
            device: device on which the tensors are placed.

        Returns:
            The weight [vocabulary, width], and the bias [vocabulary] or None.
        """
        with safe_open(self.folder / UNEMBEDDING, framework="pt", device=str(device)) as file:
            names = set(file.keys())
            bias = file.get_tensor("bias") if "bias" in names else None
            return file.get_tensor("weight"), bias

    def to_logits(self, device: torch.device) -> Callable[[Tensor], Tensor]:
        """Return the function that maps normed streams [..., width] to the base's logits."""
        weight, bias = self.unembedding(device)
        return lambda normed: scaled_logits(linear(normed, weight, bias), *self._scale)


class BaseBatch:
    """The base's activations on one batch, of which `batch[name]` reads one.

    A measured row is a measured query position of a document; their total number is `total`, and
    `rows` is the number per document after padding.

    - `query.L` [batch, heads, rows, head width] and `key.L` [batch, key/value heads, length, head
      width]: queries at the measured rows, and keys, of layer L.
    - `scaling.L`: the factor by which the products of queries and keys are multiplied. - `seen.L`
    [total]: number of keys that each row sees. - `residual` [layers + 1, total, width]: the
    residual streams. - `neurons` [layers, batch, neurons]: activations of MLP neurons, averaged
    over each document's rows. - `normed` [total, width]: the last stream after the final norm.
    """

    def __init__(self, file: Path) -> None:
        self._file: Any = safe_open(file, framework="pt")

    def __getitem__(self, name: str) -> Tensor:
        return self._file.get_tensor(name)


def _check_sizes(file: Path, expected: dict[str, tuple[int, ...]]) -> None:
    with safe_open(file, framework="pt") as tensors:
        for name, size in expected.items():
            found = tuple(tensors.get_slice(name).get_shape())
            if found != size:
                raise ValueError(f"{file.name}: {name} has sizes {found}, not {size}")


def batch_name(number: int) -> str:
    """Return the name of the file with a batch's activations.

    Args:
        number: index of the batch.
    """
    return f"batch-{number:04d}.safetensors"
