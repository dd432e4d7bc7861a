"""Causal language models and tokenizers from the hub, a folder, or the built-in `tiny`.

What can be known without reading weights is checked first (`check_model`), so that a mistake costs
seconds. Weights are read from safetensors only and code that comes with a model is never run. No
token is added to a vocabulary: a tokenizer without a padding token pads with its end token, which
is safe because padding is masked by position and never by token id.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sumcirc import hub
from sumcirc.errors import UserError
from sumcirc.schema import ModelConfig

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

log = logging.getLogger(__name__)

BUILT_IN = "tiny"
WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
PICKLES = (".bin", ".pt", ".pth", ".ckpt")


def resolve_model_path(config: ModelConfig) -> str:
    """The built-in folder for `tiny`, else the folder or hub id that `model.path` names.

    A folder of that name in the current folder is meant by `./tiny`. Raises UserError if the value
    is a file, or looks like a folder (starts with / . or ~, or has several slashes) and is none.
    """
    return _resolve(config.path, "model.path")


def is_adapter(path: str | Path) -> bool:
    """Whether a folder holds a PEFT adapter."""
    return (Path(path).expanduser() / "adapter_config.json").is_file()


def adapter_base(path: str | Path) -> str:
    """The base model of the PEFT adapter in a folder: a folder, a hub id, or `tiny`.

    A relative folder is looked up from the current folder, then from the adapter's. Raises
    UserError if the adapter does not tell its base, or the base is a folder that is not there.
    """
    folder = Path(path).expanduser()
    base = _read_json(folder / "adapter_config.json", "model.path").get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise UserError(
            f"model.path={path}: the adapter does not tell its base model; set "
            f"base_model_name_or_path in {folder / 'adapter_config.json'}"
        )
    if not Path(base).expanduser().exists() and (folder / base).is_dir():
        return str(folder / base)
    if _looks_like_folder(base) and not Path(base).expanduser().is_dir():
        raise UserError(
            f"model.path={path}: the adapter's base model {base} is not there; correct "
            f"base_model_name_or_path in {folder / 'adapter_config.json'}"
        )
    return base


def read_model_config(config: ModelConfig) -> PretrainedConfig:
    """The model's configuration, no weights; of an adapter folder, its base model's.

    Raises UserError if there is none, or it is not that of a causal language model.
    """
    import transformers

    path = resolve_model_path(config)
    if is_adapter(path):
        return read_model_config(_base_config(config, path))
    if not Path(path).is_dir():
        repository = hub.require_hub(path, "model.path", revision=config.revision)
        _require_file(repository.files, "config.json", path)
    elif not (Path(path) / "config.json").is_file():
        raise UserError(
            f"model.path={config.path}: the folder holds no config.json; it must be a folder that "
            "save_pretrained or `hf download` wrote"
        )
    try:
        found = transformers.AutoConfig.from_pretrained(
            path, revision=config.revision, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"model.path={config.path}: its config.json cannot be used ({hub.one_line(error)})"
        ) from error
    _require_causal(found, config)
    return found


def check_model(config: ModelConfig) -> None:
    """Find the mistakes in `model.*` that show without reading weights; loads the tokenizer.

    Raises UserError as `read_model_config` and `load_tokenizer` do, and if weights are missing, are
    pickled, or are damaged (judged by the header of each safetensors file).
    """
    path = resolve_model_path(config)
    if is_adapter(path):
        if not (Path(path).expanduser() / "adapter_model.safetensors").is_file():
            raise UserError(
                f"model.path={config.path}: an adapter without adapter_model.safetensors"
            )
        check_model(_base_config(config, path))
        return
    read_model_config(config)
    if Path(path).is_dir():
        names = {file.name for file in Path(path).iterdir()}
        _check_headers(Path(path), _require_weights(names, config), config)
    else:
        repository = hub.require_hub(path, "model.path", revision=config.revision)
        if repository.files is not None:
            if not repository.online and not repository.files & {WEIGHTS, WEIGHTS_INDEX}:
                raise hub.not_cached(repository, "model.path")
            _require_weights(set(repository.files), config)
    load_tokenizer(config)


def load_tokenizer(config: ModelConfig) -> PreTrainedTokenizerBase:
    """The tokenizer of `model.tokenizer`, or else the model's own.

    A folder that holds only vocab.json and merges.txt is read as a GPT-2 byte-level BPE.

    Raises UserError if there is none, its vocabulary is empty or larger than the model's embedding,
    or it has no end-of-text token.
    """
    setting, value = "model.tokenizer", config.tokenizer
    if value is None:
        setting, value = "model.path", config.path
        path = resolve_model_path(config)
        if is_adapter(path) and not _holds_tokenizer(Path(path)):
            return load_tokenizer(_base_config(config, path))
    else:
        path = _resolve(value, setting)
    revision = config.revision if setting == "model.path" else None
    if not Path(path).is_dir():
        hub.require_hub(path, setting, revision=revision)
    tokenizer = _read_tokenizer(path, revision, f"{setting}={value}")

    vocabulary = tokenizer.get_vocab()
    if len(vocabulary) <= len(tokenizer.all_special_tokens):
        # which is also what transformers makes of a GPT-2 folder without any tokenizer file
        raise UserError(
            f"{setting}={value}: it has no tokenizer, or one with an empty vocabulary; "
            "give one with model.tokenizer=FOLDER or a hub id"
        )
    if tokenizer.eos_token_id is None:
        raise UserError(
            f"{setting}={value}: the tokenizer has no end-of-text token, so no summary could end; "
            "set eos_token in its tokenizer_config.json"
        )
    rows = read_model_config(config).get_text_config().vocab_size
    if max(vocabulary.values()) >= rows:
        raise UserError(
            f"{setting}={value}: the tokenizer has token ids up to {max(vocabulary.values())}, the "
            f"model's embedding {rows} rows; use the model's own tokenizer (model.tokenizer=null)"
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(config: ModelConfig, dtype: torch.dtype | None = None) -> PreTrainedModel:
    """The model with its pretrained weights, in float32 unless `dtype` says otherwise.

    Raises UserError if weights cannot be read, or parameters of the model are not among them
    (transformers would draw those at random, with no more than a warning).
    """
    import torch
    import transformers
    from safetensors import SafetensorError

    path = resolve_model_path(config)
    if is_adapter(path):
        raise UserError(f"model.path={config.path}: an adapter, where a whole model is needed")
    read_model_config(config)
    try:
        with _no_loading_bar():
            loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(
                path,
                revision=config.revision,
                dtype=torch.float32 if dtype is None else dtype,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise UserError(
            f"model.path={config.path}: weights cannot be loaded ({hub.one_line(error)})"
        ) from error
    model, report = loaded
    if missing := sorted(report["missing_keys"]):
        shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if missing[5:] else "")
        raise UserError(
            f"model.path={config.path}: {len(missing)} parameters have no weights in it: {shown}; "
            "is it complete, and does its config.json belong to it?"
        )
    return model


def _resolve(value: str, setting: str) -> str:
    if value == BUILT_IN:
        folder = Path(str(files("sumcirc") / "assets" / BUILT_IN))
        if not folder.is_dir():
            raise UserError(
                f"{setting}={value}: this installation lacks the built-in model; reinstall"
            )
        return str(folder)
    path = Path(value).expanduser()
    if path.is_dir():
        return str(path)
    if path.is_file():
        raise UserError(f"{setting}={value}: a file; give the folder that holds the model's files")
    if _looks_like_folder(value):
        raise UserError(
            f"{setting}={value}: no such folder ({path.absolute()}); give a folder or a hub id"
        )
    return value


def _looks_like_folder(value: str) -> bool:
    return value.startswith(("/", ".", "~")) or value.endswith("/") or value.count("/") > 1


def _base_config(config: ModelConfig, path: str) -> ModelConfig:
    recorded = _read_json(Path(path).expanduser() / "adapter_config.json", "model.path")
    revision = recorded.get("revision")
    return dataclasses.replace(config, path=adapter_base(path), revision=revision)


def _read_json(path: Path, setting: str) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{setting}={path.parent}: {path.name} cannot be read ({hub.one_line(error)})"
        ) from error
    if not isinstance(value, dict):
        raise UserError(f"{setting}={path.parent}: {path.name} is not a JSON object")
    return value


def _require_causal(found: PretrainedConfig, config: ModelConfig) -> None:
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    )

    kind = found.model_type
    name = (found.architectures or [kind])[0]
    if found.is_encoder_decoder:
        reason = f"{name} is an encoder-decoder"
    elif kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(found, "is_decoder", False):
        reason = f"{name} is an encoder"  # such types are in the causal mapping too
    elif kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        reason = f"{name} (type {kind!r}) is of another kind"
    else:
        return
    raise UserError(
        f"model.path={config.path}: {reason}, which is not a causal language model; "
        "use a decoder like gpt2, pythia-160m or qwen2.5-0.5b"
    )


def _require_file(names: frozenset[str] | None, name: str, path: str) -> None:
    if names is None or name in names:
        return
    if "adapter_config.json" in names:
        raise UserError(
            f"model.path={path}: a PEFT adapter; download it and give the folder: "
            f"hf download {path} --local-dir FOLDER, then model.path=FOLDER"
        )
    raise UserError(f"model.path={path}: holds no {name}, so it is not a transformers model")


def _require_weights(names: set[str], config: ModelConfig) -> list[str]:
    """Names of the files at the top that hold weights: one, or the index of several."""
    for name in (WEIGHTS, WEIGHTS_INDEX):
        if name in names:
            return [name]
    if pickles := sorted(name for name in names if name.endswith(PICKLES) and "/" not in name):
        raise UserError(
            f"model.path={config.path}: its weights are a pickle ({pickles[0]}), which can run "
            "code when read, so it is not read; convert it where you trust it: load it with "
            "AutoModelForCausalLM.from_pretrained and write it with save_pretrained(FOLDER)"
        )
    raise UserError(f"model.path={config.path}: there are no weights in it ({WEIGHTS})")


def _check_headers(folder: Path, weights: list[str], config: ModelConfig) -> None:
    from safetensors import SafetensorError, safe_open

    if weights == [WEIGHTS_INDEX]:
        index = _read_json(folder / WEIGHTS_INDEX, "model.path")
        weights = sorted(set(index.get("weight_map", {}).values()))
    for name in weights:
        file = folder / name
        if not file.is_file():
            raise UserError(
                f"model.path={config.path}: {name} is missing, but {WEIGHTS_INDEX} names it"
            )
        try:
            with safe_open(file, framework="pt"):
                pass
        except (SafetensorError, OSError) as error:
            with file.open("rb") as opened:
                pointer = opened.read(24) == b"version https://git-lfs."
            remedy = "run git lfs pull" if pointer else "copy or download it again"
            raise UserError(
                f"model.path={config.path}: {name} is "
                f"{'a Git LFS pointer' if pointer else 'damaged'} ({hub.one_line(error)}); {remedy}"
            ) from error


def _holds_tokenizer(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json"))


def _read_tokenizer(path: str, revision: str | None, given: str) -> PreTrainedTokenizerBase:
    import transformers

    folder = Path(path)
    if folder.is_dir() and not _holds_tokenizer(folder):
        vocabulary, merges = folder / "vocab.json", folder / "merges.txt"
        if vocabulary.is_file() and merges.is_file():
            if "<|endoftext|>" not in _read_json(vocabulary, given.partition("=")[0]):
                raise UserError(f"{given}: vocab.json has no <|endoftext|>, which ends a text")
            try:
                return transformers.GPT2Tokenizer(vocab=str(vocabulary), merges=str(merges))
            except Exception as error:  # the tokenizers library raises bare Exception
                raise UserError(
                    f"{given}: vocab.json and merges.txt cannot be read ({hub.one_line(error)})"
                ) from error
    try:
        return transformers.AutoTokenizer.from_pretrained(
            path, revision=revision, trust_remote_code=False
        )
    except Exception as error:  # the tokenizers library raises bare Exception
        raise UserError(
            f"{given}: no tokenizer can be read from it ({hub.one_line(error)}); "
            "give one with model.tokenizer=FOLDER or a hub id"
        ) from error


@contextmanager
def _no_loading_bar() -> Iterator[None]:
    """No bar while weights are placed; those of downloads stay."""
    from transformers.utils import logging as transformers_logging

    previous = transformers_logging.set_tqdm_hook(
        lambda factory, arguments, options: transformers_logging.EmptyTqdm(*arguments, **options)
    )
    try:
        yield
    finally:
        transformers_logging.set_tqdm_hook(previous)
