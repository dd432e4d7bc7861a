"""Causal language models and tokenizers from the hub, a folder, or the built-in `tiny`.

Everything that can be known without reading weights is checked first (`check_model`), so that a
mistake costs only seconds. Code that comes with a model is never run (`models.weight_files`
describes what is read). No token is added to a vocabulary: a tokenizer without a padding token pads
with its end token, which is safe because padding is masked by position and never by token id.

Every function takes, for its messages, the name of the setting that contains `config.path`: a model
can also be named by `checkpoint=` or by the folder of an adapter (`models.model_reference`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sumcirc.errors import UserError
from sumcirc.models import weight_files
from sumcirc.models.attention_backends import require_attention_backend
from sumcirc.models.gguf_files import dequantized_folder, is_gguf
from sumcirc.models.quantization import (
    loading_arguments,
    require_quantization,
    use_exact_products,
)
from sumcirc.schema import ModelConfig
from sumcirc.storage import hub
from sumcirc.storage.reading import read_json, require_regular

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

log = logging.getLogger(__name__)

BUILT_IN = "tiny"
MOST_LAYERS = 10_000
ADAPTER = "adapter_config.json"  # PEFT's name of the file that describes an adapter
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")


def is_adapter(path: str | Path) -> bool:
    """Return whether a folder contains a PEFT adapter.

    Args:
        path: the folder.
    """
    return (Path(path).expanduser() / ADAPTER).is_file()


def holds_tokenizer(folder: Path) -> bool:
    """Return whether a folder contains tokenizer files.

    Args:
        folder: the folder.
    """
    if any((folder / name).is_file() for name in TOKENIZER_FILES):
        return True
    return all((folder / name).is_file() for name in ("vocab.json", "merges.txt"))


def read_model_config(config: ModelConfig, setting: str = "model.path") -> PretrainedConfig:
    """Return transformers' configuration of a model, without reading weights.

    Args:
        config: settings, of which the path (or hub id) and the revision are used.
        setting: name of the setting that contains the path, for error messages.

    Raises:
        UserError: there is no configuration, the model is not a causal language model, or its
            weights are quantized.
    """
    import transformers

    given = f"{setting}={config.path}"
    path = resolve_path(config.path, setting)
    if not Path(path).is_dir():
        repository = hub.require_hub(path, setting, revision=config.revision)
        _require_config(repository.files, given, path)
    elif is_adapter(path):
        raise UserError(
            f"{given}: a PEFT adapter, where a whole model is needed; name it with checkpoint=,"
            " before=, after= or selector.after=, or merge it into its base (merge_and_unload)"
        )
    elif not (Path(path) / "config.json").is_file():
        raise UserError(
            f"{given}: the folder holds no config.json; it must be a folder that "
            "save_pretrained or `hf download` wrote"
        )
    try:
        found = transformers.AutoConfig.from_pretrained(
            path, revision=config.revision, trust_remote_code=False
        )
    except Exception as error:  # transformers checks little: any error is due to the file
        raise UserError(
            f"{given}: its config.json cannot be used ({hub.one_line(error)})"
        ) from error
    _require_causal(found, given)
    _require_unquantized(found, given)
    return found


def check_model(config: ModelConfig, setting: str = "model.path") -> None:
    """Raise an error for mistakes in `model.*` that can be found without reading weights.

    The tokenizer is loaded to check it.

    Args:
        config: settings, of which the path (or hub id), the revision and the tokenizer are used.
        setting: name of the setting that contains the path, for error messages.

    Raises:
        UserError: weight files are missing, are damaged (judged by their headers), or are a pickle
            that contains more than tensors; also as in `read_model_config` and `load_tokenizer`.
    """
    given = f"{setting}={config.path}"
    described = _require_buildable(found := read_model_config(config, setting), given)
    require_attention_backend(config.attention, found)
    require_quantization(config.quantize, found)
    path = resolve_path(config.path, setting)
    if Path(path).is_dir():
        held = 0
        for file in weight_files.weight_files(Path(path), given):
            held += sum(weight_files.check_file(file, given).values())
        # the names of weights may be converted on reading, but not their number; transformers would
        # allocate memory for the whole description before it notices that nothing fits
        if 2 * held < described:
            raise UserError(
                f"{given}: its config.json describes {described:,} parameters and its files hold"
                f" {held:,}, so they don't belong together"
            )
    else:
        repository = hub.require_hub(path, setting, revision=config.revision)
        if repository.files is not None:
            if not repository.online and weight_files.top_file(repository.files) is None:
                raise hub.not_cached(repository, setting)
            weight_files.require_weights(repository.files, given)
    load_tokenizer(config, setting)


def load_tokenizer(config: ModelConfig, setting: str = "model.path") -> PreTrainedTokenizerBase:
    """Return the tokenizer named by `model.tokenizer`, or the model's own.

    A folder with only vocab.json and merges.txt is read as a GPT-2 byte-level BPE.

    Args:
        config: settings, of which the path (or hub id), the revision and the tokenizer are used.
        setting: name of the setting that contains the path, for error messages.

    Raises:
        UserError: there is no tokenizer, its vocabulary is empty or larger than the model's
            embedding, or it has no end-of-text token.
    """
    rows = read_model_config(config, setting).get_text_config().vocab_size
    revision, value = config.revision, config.path
    if config.tokenizer is not None:
        revision, setting, value = None, "model.tokenizer", config.tokenizer
    path = resolve_path(value, setting)
    if not Path(path).is_dir():
        hub.require_hub(path, setting, revision=revision)
    tokenizer = _read_tokenizer(path, revision, f"{setting}={value}")

    vocabulary = tokenizer.get_vocab()
    if len(vocabulary) <= len(tokenizer.all_special_tokens):
        # transformers also returns this for a GPT-2 folder without any tokenizer file
        raise UserError(
            f"{setting}={value}: it has no tokenizer, or one with an empty vocabulary; "
            "give one with model.tokenizer=FOLDER or a hub id"
        )
    if tokenizer.eos_token_id is None:
        raise UserError(
            f"{setting}={value}: the tokenizer has no end-of-text token, so no summary could end; "
            "set eos_token in its tokenizer_config.json"
        )
    if max(vocabulary.values()) >= rows:
        raise UserError(
            f"{setting}={value}: the tokenizer has token ids up to {max(vocabulary.values())}, the "
            f"model's embedding {rows} rows; use the model's own tokenizer (model.tokenizer=null)"
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(
    config: ModelConfig, dtype: torch.dtype | None = None, setting: str = "model.path"
) -> PreTrainedModel:
    """Return a model with its pretrained weights.

    Args:
        config: settings, of which the path (or hub id), the revision, the attention implementation
            and the quantization are used.
        dtype: type of the weights, or of those that aren't quantized; None for float32.
        setting: name of the setting that contains the path, for error messages.

    Raises:
        UserError: weights can't be read, or are missing for some parameters (which transformers
            would initialise at random, with only a warning); also as in `require_quantization`.
    """
    import torch
    import transformers

    require_quantization(config.quantize, read_model_config(config, setting))
    path = resolve_path(config.path, setting)
    dtype = torch.float32 if dtype is None else dtype
    try:
        with without_bars():
            loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(
                path,
                revision=config.revision,
                dtype=dtype,
                use_safetensors=not _is_pickled(path, config.revision, setting),
                weights_only=True,
                trust_remote_code=False,
                output_loading_info=True,
                **({} if config.attention is None else {"attn_implementation": config.attention}),
                **loading_arguments(config.quantize, dtype),
            )
    except Exception as error:  # there are as many kinds of errors as ways to damage a folder
        raise UserError(
            f"{setting}={config.path}: weights cannot be loaded ({hub.one_line(error)})"
        ) from error
    model, report = loaded
    if missing := sorted(report["missing_keys"]):
        shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if missing[5:] else "")
        raise UserError(
            f"{setting}={config.path}: {len(missing)} parameters have no weights in it: {shown}; "
            "is it complete, and does its config.json belong to it?"
        )
    use_exact_products(model)
    return model


def resolve_path(value: str, setting: str) -> str:
    """Return the folder or hub id that a setting names; for `tiny`, the built-in folder.

    A GGUF file stands for the folder with its de-quantized model, which is written if there is
    none. `./tiny` means a folder of that name in the current folder.

    Args:
        value: the setting's value.
        setting: the setting's name, for error messages.

    Raises:
        UserError: the value is a file of another kind, or looks like a folder
            (`looks_like_folder`) that doesn't exist; also as in `require_readable`.
    """
    if value == BUILT_IN:
        folder = Path(str(files("sumcirc") / "assets" / BUILT_IN))
        if not folder.is_dir():
            raise UserError(
                f"{setting}={value}: this installation lacks the built-in model; reinstall"
            )
        return str(folder)
    path = Path(value).expanduser()
    if path.is_dir():
        require_readable(path, f"{setting}={value}")
        return str(path)
    if is_gguf(path):
        return str(dequantized_folder(path, f"{setting}={value}"))
    if path.is_file():
        raise UserError(
            f"{setting}={value}: a file; give the folder that holds the model's files, or a GGUF"
            " file"
        )
    if looks_like_folder(value):
        raise UserError(
            f"{setting}={value}: no such folder ({path.absolute()}); give a folder or a hub id"
        )
    return value


def require_readable(folder: Path, given: str) -> None:
    """Raise an error if a folder contains a special file, since opening it could block.

    Args:
        folder: the folder.
        given: text that names the folder in error messages: the user's setting and its value.

    Raises:
        UserError: the folder contains a pipe, a device or a socket.
    """
    try:
        for file in folder.iterdir():
            if file.exists() and not file.is_dir():
                require_regular(file)
    except OSError as error:
        raise UserError(f"{given}: can't be read ({error.strerror})") from None


def looks_like_folder(value: str) -> bool:
    """Return whether a path can't be a hub id: it starts with / . or ~, or has several slashes.

    Args:
        value: a path or hub id.
    """
    return value.startswith(("/", ".", "~")) or value.endswith("/") or value.count("/") > 1


def _require_causal(found: PretrainedConfig, given: str) -> None:
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    )

    kind = found.model_type
    name = (found.architectures or [kind])[0]
    if found.is_encoder_decoder:
        reason = f"{name} is an encoder-decoder"
    elif kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(found, "is_decoder", False):
        reason = f"{name} is an encoder"  # such types are also in the mapping of causal models
    elif kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        reason = f"{name} (type {kind!r}) is of another kind"
    else:
        return
    raise UserError(
        f"{given}: {reason}, which is not a causal language model; "
        "use a decoder like gpt2, pythia-160m or qwen2.5-0.5b"
    )


def _require_unquantized(found: PretrainedConfig, given: str) -> None:
    """Refuse all quantization methods, whether or not their packages are installed."""
    settings: Any = getattr(found, "quantization_config", None)
    if settings is None:
        return
    if not isinstance(settings, dict):
        settings = getattr(settings, "to_dict", dict)()
    method = settings.get("quant_method") or "an unnamed method"
    raise UserError(
        f"{given}: its weights are quantized ({getattr(method, 'value', method)}), which is not"
        " supported; take the model that it was made from, or write its weights in full"
        " (transformers' model.dequantize() and save_pretrained)"
    )


def _require_buildable(found: PretrainedConfig, given: str) -> int:
    """Build the network without memory for its weights, and return its number of parameters.

    This detects configurations that ask for something unavailable, such as an unknown activation or
    attention kernels that aren't installed.
    """
    import torch
    import transformers

    layers = getattr(found, "num_hidden_layers", 0)
    if layers > MOST_LAYERS:
        raise UserError(f"{given}: its config.json names {layers} layers, more than any model has")
    try:
        with torch.device("meta"):
            model = transformers.AutoModelForCausalLM.from_config(found)
    except Exception as error:
        reason = hub.one_line(error) or type(error).__name__
        raise UserError(f"{given}: its config.json describes no model ({reason})") from error
    return sum(parameter.numel() for parameter in model.parameters())


def _require_config(names: frozenset[str] | None, given: str, path: str) -> None:
    if names is None or "config.json" in names:
        return
    if ADAPTER in names:
        raise UserError(
            f"{given}: a PEFT adapter on the hub; download it and give the folder:"
            f" hf download {path} --local-dir FOLDER"
        )
    raise UserError(f"{given}: holds no config.json, so it is not a transformers model")


def _is_pickled(path: str, revision: str | None, setting: str) -> bool:
    if Path(path).is_dir():
        names = frozenset(file.name for file in Path(path).iterdir())
    else:
        names = hub.require_hub(path, setting, revision=revision).files or frozenset()
    return weight_files.top_file(names) in weight_files.PICKLED


def _read_tokenizer(path: str, revision: str | None, given: str) -> PreTrainedTokenizerBase:
    import transformers

    folder = Path(path)
    if folder.is_dir() and not any((folder / name).is_file() for name in TOKENIZER_FILES):
        vocabulary, merges = folder / "vocab.json", folder / "merges.txt"
        if vocabulary.is_file() and merges.is_file():
            if "<|endoftext|>" not in read_json(vocabulary, dict[str, int]):
                raise UserError(f"{given}: vocab.json has no <|endoftext|>, which ends a text")
            try:
                return transformers.GPT2Tokenizer(vocab=str(vocabulary), merges=str(merges))
            except Exception as error:  # the tokenizers library raises bare Exception
                raise UserError(
                    f"{given}: vocab.json and merges.txt cannot be read ({hub.one_line(error)})"
                ) from error
    try:
        found = transformers.AutoTokenizer.from_pretrained(
            path, revision=revision, trust_remote_code=False
        )
        found("a")  # some settings are read only here, and may be of any type
        return found
    except Exception as error:  # the tokenizers library raises bare Exception
        raise UserError(
            f"{given}: no tokenizer can be read from it ({hub.one_line(error)}); "
            "give one with model.tokenizer=FOLDER or a hub id"
        ) from error


@contextmanager
def without_bars() -> Iterator[None]:
    """Hide transformers' progress bars in a `with` block, except those for downloads."""
    from transformers.utils import logging as transformers_logging

    previous = transformers_logging.set_tqdm_hook(
        lambda factory, arguments, options: transformers_logging.EmptyTqdm(*arguments, **options)
    )
    try:
        yield
    finally:
        transformers_logging.set_tqdm_hook(previous)
