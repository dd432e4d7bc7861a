"""Weight files: which ones are read, and checks that need only their headers.

safetensors files are preferred. Pickled weights (.bin) are read by torch's restricted unpickler,
which creates only tensors and plain containers and calls nothing else; a pickle that needs more is
refused.
"""

from __future__ import annotations

import math
import warnings
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypedDict

from sumcirc.errors import UserError
from sumcirc.storage.hub import one_line
from sumcirc.storage.reading import RecordError, read_json

SAFE = ("model.safetensors", "model.safetensors.index.json")
PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")
ADAPTER_SAFE, ADAPTER_PICKLED = "adapter_model.safetensors", "adapter_model.bin"
OTHER_PICKLES = (".bin", ".pt", ".pth", ".ckpt")  # formats that transformers doesn't read


class _Index(TypedDict):
    """model.safetensors.index.json: the shard that contains each weight."""

    weight_map: dict[str, str]


def top_file(names: Iterable[str]) -> str | None:
    """Return the file that transformers reads first to load weights, or None if there is none.

    It is a weight file, or the index of several weight files (shards).

    Args:
        names: names of the model's files.
    """
    known = set(names)
    return next((name for name in (*SAFE, *PICKLED) if name in known), None)


def require_weights(names: Iterable[str], given: str) -> str:
    """Return the file that transformers reads first (`top_file`), or raise an error.

    Args:
        names: names of the model's files.
        given: text that names the files in error messages: the user's setting and its value.

    Raises:
        UserError: none of the files contains weights in a supported format.
    """
    found = top_file(names)
    if found is not None:
        return found
    others = sorted(name for name in names if name.endswith(OTHER_PICKLES) and "/" not in name)
    if others:
        raise UserError(f"{given}: its weights are a pickle ({others[0]}) {_REMEDY}")
    raise UserError(f"{given}: there are no weights in it ({SAFE[0]})")


def weight_files(folder: Path, given: str) -> list[Path]:
    """Return the weight files of a model's folder.

    Args:
        folder: the model's folder.
        given: text that names the folder in error messages: the user's setting and its value.

    Raises:
        UserError: there are no weight files, or a file that the index names is missing.
    """
    name = require_weights({file.name for file in folder.iterdir()}, given)
    if not name.endswith(".json"):
        return [folder / name]
    try:
        index: _Index = read_json(folder / name, _Index)
    except RecordError as error:
        raise UserError(f"{given}: {error.path.name} {error.reason}") from None
    shards = sorted(set(index["weight_map"].values()))
    for shard in shards:
        if Path(shard).name != shard or not (folder / shard).is_file():
            raise UserError(f"{given}: {shard} is missing, but {name} names it")
    return [folder / shard for shard in shards]


def check_file(file: Path, given: str) -> dict[str, int]:
    """Return the number of elements of each tensor in a weight file, without reading its values.

    Args:
        file: a safetensors file, or a pickle (`.bin`).
        given: text that names the folder in error messages: the user's setting and its value.

    Raises:
        UserError: the file is damaged, or is a pickle that contains more than tensors.
    """
    if file.suffix != ".bin":
        return _header(file, given)
    found = _pickled(file, given).items()
    return {name: value.numel() if hasattr(value, "numel") else 0 for name, value in found}


def _header(file: Path, given: str) -> dict[str, int]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            names = opened.keys()
            return {name: math.prod(opened.get_slice(name).get_shape()) for name in names}
    except (SafetensorError, OSError) as error:
        pointer = False
        if file.is_file():
            with file.open("rb") as start:
                pointer = start.read(24) == b"version https://git-lfs."
        remedy = "run git lfs pull" if pointer else "copy or download it again"
        raise UserError(
            f"{given}: {file.name} is {'a Git LFS pointer' if pointer else 'damaged'}"
            f" ({one_line(error)}); {remedy}"
        ) from error


def _pickled(file: Path, given: str) -> dict[str, Any]:
    import torch

    # in the format since torch 1.6 tensors aren't read, only what the pickle creates from them
    lazily = {"mmap": True} if zipfile.is_zipfile(file) else {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # users can't act on warnings about old formats
            found = torch.load(file, map_location="meta", weights_only=True, **lazily)
    except Exception as error:  # a pickle is a program: it can make torch's reader fail in any way
        raise UserError(
            f"{given}: {file.name} is damaged, or a pickle that holds more than tensors"
            f" ({one_line(error)}), {_REMEDY}"
        ) from None
    if not (isinstance(found, dict) and all(isinstance(name, str) for name in found)):
        raise UserError(f"{given}: {file.name} holds no tensors by name, {_REMEDY}")
    return found


_REMEDY = (
    "so it is not read; convert it where you trust it: load it with from_pretrained and write it"
    " with save_pretrained(FOLDER)"
)
