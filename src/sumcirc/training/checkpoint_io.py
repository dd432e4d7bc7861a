"""Lightning checkpoints that are written atomically and read without running code.

A checkpoint carries a seal, a hash of its structure, plain values and tensors, which is verified
when it is read. Lightning and torch accept whatever they read (torch doesn't even verify the
archive's checksums): a counter of the wrong type would end training later with a traceback, and a
flipped byte would go unnoticed.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import CheckpointIO

from sumcirc.storage.hub import one_line
from sumcirc.storage.reading import RecordError, require_regular
from sumcirc.storage.writing import write_file

SEAL = "seal"
REMEDY = "remove it, and training goes on from the checkpoint before it"


class AtomicCheckpointIO(CheckpointIO):
    """Writes checkpoints atomically, and reads only tensors and plain values from them."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None):
        """Write a checkpoint to a file.

        Args:
            checkpoint: Lightning's state of the run.
            path: the file, which is replaced if it exists.
            storage_options: ignored.

        Raises:
            UserError: the disk is full; an existing file remains.
        """

        sealed = {**checkpoint, SEAL: _seal(checkpoint)}

        def write(temporary: Path) -> None:
            with open(temporary, "wb") as file:
                torch.save(sealed, file)

        write_file(Path(path), write)

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: Any = None, mapped: bool = False
    ) -> dict:
        """Return the checkpoint that a file contains.

        Args:
            path: the file.
            map_location: device on which tensors are placed; None for the CPU.
            weights_only: ignored, since code in a checkpoint is never run.
            mapped: whether tensors are mapped from the file (on the CPU), so that they take up
                memory only while they are used.

        Raises:
            RecordError: the file is missing or damaged, was changed, or contains code.
        """
        require_regular(path)
        # torch would also read the bare pickles of its early versions, which can fail in many ways
        if not zipfile.is_zipfile(path):
            reason = f"is not a checkpoint (its end is missing, or it is no archive); {REMEDY}"
            raise RecordError(path, reason)
        try:
            where = map_location or "cpu"
            found = torch.load(path, map_location=where, weights_only=True, mmap=mapped)
        # UnpicklingError, or whatever else a manipulated pickle leads to
        except Exception as error:
            reason = f"is not a checkpoint ({one_line(error)}); {REMEDY}"
            raise RecordError(path, reason) from error
        seal = found.pop(SEAL, None) if isinstance(found, dict) else None
        if seal is None or seal != _seal(found):
            raise RecordError(path, f"does not hold what was written there; {REMEDY}")
        return found

    def remove_checkpoint(self, path: Any) -> None:
        """Delete a checkpoint.

        Args:
            path: the file.
        """
        Path(path).unlink(missing_ok=True)


def _seal(value: Any) -> str:
    """Hash nested plain values and tensors, including keys and order."""
    digest = hashlib.blake2b(digest_size=16)
    for part in _parts(value):
        digest.update(part.encode("utf-8", "surrogatepass") + b"\n")
    return digest.hexdigest()


def _parts(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        yield f"mapping {len(value)}"
        for key, part in value.items():
            yield from _parts(key)
            yield from _parts(part)
    elif isinstance(value, (list, tuple)):
        yield f"{type(value).__name__} {len(value)}"
        for part in value:
            yield from _parts(part)
    elif isinstance(value, torch.Tensor):
        content: Any = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        # a checksum: faster than a hash for gigabytes of weights
        yield f"tensor {tuple(value.shape)} {value.dtype} {zlib.crc32(content)}"
    elif value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
        yield f"{type(value).__name__} {value!r}"
    else:
        yield type(value).__name__
