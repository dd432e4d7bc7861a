"""Lightning checkpoints written whole or not at all, and read as weights only."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import CheckpointIO

from sumcirc.errors import UserError
from sumcirc.files import write_file
from sumcirc.hub import one_line


class AtomicCheckpointIO(CheckpointIO):
    """Writes beside the target and renames; nothing but tensors and plain containers is read."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None):
        """Write `checkpoint` to `path`.

        Raises:
            UserError: the disk is full; an earlier file of that name stays.
        """

        def write(temporary: Path) -> None:
            with open(temporary, "wb") as file:
                torch.save(checkpoint, file)

        write_file(Path(path), write)

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: Any = None
    ) -> dict:
        """Read a checkpoint to the CPU.

        Raises:
            UserError: there is no such file, or it is not a checkpoint, or holds code to run.
        """
        if not Path(path).is_file():
            raise UserError(f"{path}: no such checkpoint")
        # torch would also read the bare pickles of its early versions, and fail in many ways
        if not zipfile.is_zipfile(path):
            raise UserError(f"{path}: is not a checkpoint, or not a whole one")
        try:
            return torch.load(path, map_location=map_location or "cpu", weights_only=True)
        except (RuntimeError, ValueError, pickle.UnpicklingError) as error:
            raise UserError(f"{path}: is not a checkpoint ({one_line(error)})") from None

    def remove_checkpoint(self, path: Any) -> None:
        """Delete a checkpoint."""
        Path(path).unlink(missing_ok=True)
