"""Models that score summaries: encoders for BERTScore, and classifiers of entailment.

They come from a folder or the hub, with a tokenizer of their own. Weights are read from safetensors
files alone, and code that comes with a model is never run. `check_scoring_model` finds mistakes
before anything large is loaded: the network is built without memory, and the names of its
parameters are compared with those in the weight files.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sumcirc.errors import UserError
from sumcirc.models import weight_files
from sumcirc.models.loading import is_adapter, require_readable, resolve_path, without_bars
from sumcirc.storage import hub

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

UNLIMITED = 10**6  # tokenizers without a limit give a far larger number
TRIED = 512  # tokens of the text that a model has to read before it is used
POOLER = "pooler."  # of BERT-like encoders; only a classifier reads what it computes


@dataclass
class ScoringModel:
    """An encoder or a sequence classifier with its tokenizer.

    Attributes:
        given: text that names the model in messages: the user's setting and its value.
        value: the setting's value, a folder or hub id.
        model: the model in evaluation mode.
        tokenizer: its tokenizer, which pads on the right.
        limit: largest number of tokens that it reads, including special tokens.
        revision: the commit, if the model comes from the hub.
    """

    given: str
    value: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    limit: int
    revision: str | None

    @property
    def record(self) -> dict[str, Any]:
        """What identifies the model in records: path or id, commit, and hashes of its content."""
        from sumcirc.models.fingerprint import model_fingerprint

        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        text = "" if backend is None else backend.to_str()
        return {
            "model": self.value,
            "revision": self.revision,
            "fingerprint": model_fingerprint(self.model),
            "tokenizer": hashlib.sha256(text.encode()).hexdigest()[:32],
        }


def check_scoring_model(value: str, setting: str, classifier: bool) -> PretrainedConfig:
    """Return a scoring model's configuration, after all checks that need no values of weights.

    Args:
        value: a folder or hub id.
        setting: name of the setting that contains it, for error messages.
        classifier: whether a sequence classifier is needed; otherwise an encoder.

    Raises:
        UserError: there is no such model, it is of another kind, its weights are missing or in no
            safetensors file, or it has no fast tokenizer with a padding token.
    """
    found = _load(value, setting, classifier, without_weights=True)
    return found.model.config


def load_scoring_model(value: str, setting: str, classifier: bool) -> ScoringModel:
    """Return a scoring model with its weights, in float32 on the CPU.

    Args:
        value: a folder or hub id.
        setting: name of the setting that contains it, for error messages.
        classifier: whether a sequence classifier is needed; otherwise an encoder.

    Raises:
        UserError: as in `check_scoring_model`, or the model can't read what its tokenizer gives.
    """
    found = _load(value, setting, classifier, without_weights=False)
    _try_out(found, classifier)
    return found


def _load(value: str, setting: str, classifier: bool, without_weights: bool) -> ScoringModel:
    import torch
    import transformers

    given = f"{setting}={value}"
    path, revision, names = _located(value, setting)
    config = _config(path, given, classifier)
    tokenizer = _tokenizer(path, given)
    if weight_files.require_weights(names, given) not in weight_files.SAFE:
        raise UserError(
            f"{given}: its weights are a pickle; only safetensors files are read here: convert it"
            " where you trust it, with from_pretrained and save_pretrained(FOLDER)"
        )
    if Path(path).is_dir():
        for file in weight_files.weight_files(Path(path), given):
            weight_files.check_file(file, given)
    kind: Any = (
        transformers.AutoModelForSequenceClassification if classifier else transformers.AutoModel
    )
    placed = {"device_map": "meta"} if without_weights else {}
    try:
        with without_bars(), _quiet():
            model, report = kind.from_pretrained(
                path,
                dtype=torch.float32,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
                **placed,
            )
    except Exception as error:  # there are as many kinds of errors as ways to damage a folder
        raise UserError(f"{given}: cannot be loaded ({hub.one_line(error)})") from error
    missing = sorted(
        name for name in report["missing_keys"] if classifier or not name.startswith(POOLER)
    )
    if missing or report["mismatched_keys"]:
        shown = ", ".join(missing[:3]) or "shapes that differ from its config.json"
        raise UserError(
            f"{given}: its files lack weights of {type(model).__name__} ({shown}); give a"
            f" {'trained sequence classifier' if classifier else 'pretrained encoder'}"
        )
    if not classifier:
        _require_ends(tokenizer, given)
    limit = _limit(model, tokenizer, config)
    if limit is None:
        raise UserError(
            f"{given}: neither its config.json (max_position_embeddings) nor its tokenizer"
            " (model_max_length) says how many tokens it reads; set one of them"
        )
    if len(tokenizer) > model.get_input_embeddings().weight.shape[0]:
        raise UserError(f"{given}: its tokenizer has more tokens than its embedding has rows")
    return ScoringModel(given, value, model.eval(), tokenizer, limit, revision)


def _located(value: str, setting: str) -> tuple[str, str | None, frozenset[str]]:
    """Return the folder or hub id, the commit and the names of the files."""
    given = f"{setting}={value}"
    path = resolve_path(value, setting)
    if not Path(path).is_dir():
        repository = hub.require_hub(path, setting)
        if repository.files is None:
            raise hub.not_cached(repository, setting)
        if not repository.online and weight_files.top_file(repository.files) is None:
            raise hub.not_cached(repository, setting)
        return path, repository.commit, repository.files
    require_readable(Path(path), given)
    names = frozenset(file.name for file in Path(path).iterdir())
    if is_adapter(path):
        raise UserError(f"{given}: a PEFT adapter, where a whole model is needed")
    if "config.json" not in names:
        raise UserError(
            f"{given}: the folder holds no config.json; give a folder that save_pretrained or"
            " `hf download` wrote, or a hub id"
        )
    return path, None, names


def _config(path: str, given: str, classifier: bool) -> PretrainedConfig:
    import transformers

    try:
        config = transformers.AutoConfig.from_pretrained(path, trust_remote_code=False)
    except Exception as error:  # transformers checks little: any error is due to the file
        raise UserError(
            f"{given}: its config.json cannot be used ({hub.one_line(error)})"
        ) from error
    if not isinstance(getattr(config, "num_hidden_layers", None), int):
        raise UserError(f"{given}: its config.json doesn't say how many layers it has")
    names = config.architectures or [config.model_type]
    if classifier and not any(name.endswith("ForSequenceClassification") for name in names):
        raise UserError(
            f"{given}: {names[0]} is no sequence classifier; give a model of natural-language"
            " inference, whose config.json names ...ForSequenceClassification"
        )
    if config.is_encoder_decoder:
        raise UserError(
            f"{given}: {names[0]} is an encoder-decoder; give an encoder such as BERT or RoBERTa"
        )
    return config


def _require_ends(tokenizer: PreTrainedTokenizerBase, given: str) -> None:
    """Raise an error unless a text is encoded with one special token at each end.

    BERTScore leaves out the first and the last token of a text, whatever they are.
    """
    marks = tokenizer("a", return_special_tokens_mask=True)["special_tokens_mask"]
    if len(marks) < 3 or list(marks) != [1, *[0] * (len(marks) - 2), 1]:
        raise UserError(
            f"{given}: its tokenizer doesn't put one special token before and one after a text, as"
            " BERTScore expects; give an encoder such as BERT or RoBERTa"
        )


def _tokenizer(path: str, given: str) -> PreTrainedTokenizerBase:
    import transformers

    try:
        with _quiet():
            found = transformers.AutoTokenizer.from_pretrained(path, trust_remote_code=False)
            found("a")  # some settings are read only here, and may be of any type
    except Exception as error:  # the tokenizers library raises bare Exception
        raise UserError(
            f"{given}: no tokenizer can be read from it ({hub.one_line(error)})"
        ) from error
    if not found.is_fast or len(found.get_vocab()) <= len(found.all_special_tokens):
        # transformers also returns one with an empty vocabulary if there is no tokenizer file
        raise UserError(f"{given}: it has no fast tokenizer (tokenizer.json)")
    if found.pad_token_id is None:
        raise UserError(
            f"{given}: its tokenizer has no padding token; set pad_token in tokenizer_config.json"
        )
    found.padding_side = "right"
    return found


def _limit(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig
) -> int | None:
    """Return how many tokens a model reads, or None if nothing says so."""
    from torch import nn

    limits = []
    if tokenizer.model_max_length < UNLIMITED:
        limits.append(int(tokenizer.model_max_length))
    positions = getattr(config, "max_position_embeddings", None)
    if isinstance(positions, int) and positions > 0:
        # RoBERTa counts positions from the one after that of padding
        first = 0
        for name, module in model.named_modules():
            if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
                first = 0 if module.padding_idx is None else module.padding_idx + 1
        limits.append(positions - first)
    return min(limits, default=None)


def _try_out(found: ScoringModel, classifier: bool) -> None:
    """Read one text that is as long as the model allows, or a pair of texts."""
    import torch

    length = min(found.limit, TRIED)
    text = " ".join(["a"] * length)
    try:
        encoded = found.tokenizer(
            text,
            "a" if classifier else None,
            truncation="only_first",
            max_length=length,
            return_tensors="pt",
        )
        with torch.no_grad():
            found.model(**encoded)
    except Exception as error:  # of any part of the network
        raise UserError(
            f"{found.given}: can't read {length} tokens of its tokenizer"
            f" ({hub.one_line(error) or type(error).__name__}); do the two belong together?"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide transformers' report of unused and new weights in a `with` block; it is checked here."""
    logger = logging.getLogger("transformers")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
