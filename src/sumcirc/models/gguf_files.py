"""Models in GGUF, the single-file format of llama.cpp, as folders that every tool here can read.

transformers de-quantizes the weights to float32. That takes a while, so it is done once for each
file: the folder is kept in `$SUMCIRC_CACHE/gguf`, or else `~/.cache/sumcirc/gguf`. Its weights are
not those of the model before quantization: they carry the rounding of the GGUF file. `config.json`
states this as `dequantized_from`.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sumcirc.errors import UserError
from sumcirc.schema.configuration import default_cache
from sumcirc.storage.cache import Cache
from sumcirc.storage.hub import one_line

if TYPE_CHECKING:
    from transformers import PretrainedConfig

SUFFIX = ".gguf"
FOLDERS = Cache("gguf", format=1, libraries=("gguf", "transformers"))
DEQUANTIZED = "dequantized_from"  # key of config.json: type of most of the file's weights
EXACT = ("F64", "F32", "F16", "BF16")  # types of weights that aren't quantized


def is_gguf(path: str | Path) -> bool:
    """Return whether a path is that of a GGUF file.

    Args:
        path: the path.
    """
    found = Path(path).expanduser()
    return found.suffix.lower() == SUFFIX and found.is_file()


def dequantized_folder(file: Path, given: str) -> Path:
    """Return a folder with a GGUF file's model and tokenizer, which is written if there is none.

    Args:
        file: the GGUF file.
        given: text that names the file in error messages: the user's setting and its value.

    Raises:
        UserError: the package gguf is not installed, or transformers can't read the file.
    """
    require_gguf(given)
    status = file.stat()
    return _folder(str(file.resolve()), (status.st_size, status.st_mtime_ns), given)


def require_gguf(given: str) -> None:
    """Raise an error if the package that reads GGUF files is not installed.

    Args:
        given: text that names the file in error messages: the user's setting and its value.

    Raises:
        UserError: it is not installed.
    """
    if find_spec("gguf") is None:
        raise UserError(
            f"{given}: a GGUF file is read with the package gguf: pip install 'sumcirc[gguf]'"
        )


def dequantization(config: PretrainedConfig) -> dict[str, str | None]:
    """Return the type from which a model's weights were de-quantized, for its records.

    Args:
        config: transformers' configuration of the model.

    Returns:
        `dequantized_from` with the type, such as Q4_1; None if the weights weren't quantized.
    """
    return {DEQUANTIZED: getattr(config, DEQUANTIZED, None)}


@lru_cache
def _folder(path: str, state: tuple[int, int], given: str) -> Path:
    with open(path, "rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    found, _ = FOLDERS.get(
        Path(default_cache()),
        digest,
        lambda folder: write_dequantized(Path(path), folder, given),
        lambda folder: folder,
    )
    return found


def write_dequantized(file: Path, folder: Path, given: str) -> None:
    """Write a GGUF file's model, in float32, and its tokenizer to a folder.

    Args:
        file: the GGUF file.
        folder: the folder.
        given: text that names the file in error messages: the user's setting and its value.

    Raises:
        UserError: transformers can't read the file, or the file lacks weights.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from sumcirc.models.loading import without_bars

    place: dict[str, Any] = {"gguf_file": file.name, "trust_remote_code": False}
    try:
        kind = _weight_type(file)
        with without_bars():
            tokenizer = AutoTokenizer.from_pretrained(str(file.parent), **place)
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                str(file.parent), dtype=torch.float32, output_loading_info=True, **place
            )
    except Exception as error:  # there are as many kinds of errors as ways to damage a file
        raise UserError(f"{given}: the GGUF file can't be read ({one_line(error)})") from error
    read, report = loaded
    if report["missing_keys"]:
        raise UserError(
            f"{given}: {len(report['missing_keys'])} parameters have no weights in the GGUF file"
        )
    # transformers takes `read` for a quantized model, which can't be saved
    config = read.config
    del config.quantization_config
    if kind is not None:
        setattr(config, DEQUANTIZED, kind)
    with torch.device("meta"):
        model = type(read)(config)
    model.load_state_dict(read.state_dict(), assign=True)
    model.tie_weights()
    model.generation_config = read.generation_config
    with without_bars():
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _weight_type(file: Path) -> str | None:
    """Return the type of most of a file's quantized weights, such as Q4_1; None if there are none.

    A file's own statement (`general.file_type`) is optional and may be a name such as Q4_K_M, which
    stands for a mixture of types.
    """
    from gguf import GGUFReader, LlamaFileType

    reader = GGUFReader(str(file))
    sizes: dict[str, int] = {}
    for tensor in reader.tensors:
        name = tensor.tensor_type.name
        if name not in EXACT:
            sizes[name] = sizes.get(name, 0) + int(tensor.n_elements)
    if not sizes:
        return None
    stated = reader.get_field("general.file_type")
    known = {int(kind): kind.name.removeprefix("MOSTLY_") for kind in LlamaFileType}
    most = max(sizes, key=lambda name: sizes[name])
    return most if stated is None else known.get(int(stated.contents()), most)
