"""What the base gives on the probe documents: computed once, kept on disk, shared by every run.

For each batch of documents the store holds the base's queries of the measured rows and its keys (so
attention divergences need no second model), its residual stream and neurons, and its last normed
rows; once for all, its unembedding and its own record. `probes.measure.prepare_base` makes it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from sumcirc.modeling.anatomy import Shape
from sumcirc.records import ProbeRecord, record_file


class BaseStore:
    """A folder with what the base gave; batches as `ProbeSet` makes them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
        self.shape = Shape(**about["shape"])
        self.family: str = about["family"]

    @property
    def record(self) -> ProbeRecord:
        """The base's own record."""
        return ProbeRecord.read(record_file(self.folder, -1))

    def batch(self, number: int) -> BaseBatch:
        """What the base gave on one batch, read tensor by tensor."""
        return BaseBatch(self.folder / batch_name(number))

    def unembedding(self, device: torch.device) -> tuple[Tensor, Tensor | None]:
        """Weight [vocabulary, width] and bias of the base's unembedding."""
        with safe_open(
            self.folder / "unembedding.safetensors", framework="pt", device=str(device)
        ) as file:
            names = set(file.keys())
            bias = file.get_tensor("bias") if "bias" in names else None
            return file.get_tensor("weight"), bias


class BaseBatch:
    """Tensors of one batch.

    `query.L` [batch, heads, rows, head width], `key.L` [batch, key/value heads, length, head
    width], `residual` [streams, rows, width], `neurons` [layers, batch, neurons] (means over rows),
    `normed` [rows, width].
    """

    def __init__(self, file: Path) -> None:
        self._file: Any = safe_open(file, framework="pt")

    def __getitem__(self, name: str) -> Tensor:
        return self._file.get_tensor(name)


def batch_name(number: int) -> str:
    """The file of one batch."""
    return f"batch-{number:04d}.safetensors"
