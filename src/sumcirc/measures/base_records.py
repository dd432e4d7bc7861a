"""Activations of the base model on the probe documents, computed once and shared by every run.

For each batch of documents the store contains the base's queries at the measured rows and its keys
(so attention divergences need no second model), its residual stream and neurons, and its rows after
the final norm; once for all batches, its unembedding and its own record. It is made by
`measures.measuring.prepare_base`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from torch import Tensor

from sumcirc.models.architectures import Shape
from sumcirc.storage.reading import read_json
from sumcirc.tracking.measure_records import ProbeRecord, record_file

if TYPE_CHECKING:
    from sumcirc.measures.measure_documents import ProbeSet

UNEMBEDDING = "unembedding.safetensors"


@dataclass(frozen=True)
class About:
    """Contents of about.json."""

    shape: Shape
    family: str


class BaseStore:
    """A folder with activations of the base, in the batches of a `ProbeSet`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        about = read_json(folder / "about.json", About)
        self.shape, self.family = about.shape, about.family

    @property
    def record(self) -> ProbeRecord:
        """The base's own record."""
        return ProbeRecord.read(record_file(self.folder, -1))

    def check(self, shape: Shape, probes: ProbeSet) -> None:
        """Compare the sizes of all files with those of a model and documents.

        Args:
            shape: sizes of the model.
            probes: the documents.

        Raises:
            ValueError: they differ.
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
        """Return the activations of one batch, which are read tensor by tensor."""
        return BaseBatch(self.folder / batch_name(number))

    def unembedding(self, device: torch.device) -> tuple[Tensor, Tensor | None]:
        """Return weight [vocabulary, width] and bias (or None) of the base's unembedding."""
        with safe_open(self.folder / UNEMBEDDING, framework="pt", device=str(device)) as file:
            names = set(file.keys())
            bias = file.get_tensor("bias") if "bias" in names else None
            return file.get_tensor("weight"), bias


class BaseBatch:
    """Activations of one batch, by name.

    `query.L` [batch, heads, rows, head width] and `key.L` [batch, key/value heads, length, head
    width] of layer L, `scaling.L` the factor of their products, `seen.L` [rows] the number of keys
    that a row sees, `residual` [streams, rows, width], `neurons` [layers, batch, neurons] (means
    over rows), `normed` [rows, width].
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
    """Return the file name of a batch."""
    return f"batch-{number:04d}.safetensors"
