"""Adapters in PEFT's format: which kinds are supported, and how they are loaded.

PEFT has about fifty kinds. Most change modules of the model, where the analyses see them. Kinds
that act elsewhere are refused by name where the inside of a model is analysed:

    prompt learning     virtual tokens or cached keys and values in front of the text
    whole modules       blocks or attentions that are replaced, added or run repeatedly
    by the input        an adapter that is switched, or mixed, depending on the text

With its adapter switched off a model is usually its base; `changes_base` names the cases in which
PEFT itself says that it is not. Where both models are available this is measured as well
(`models.model_pairs`).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from peft import PeftConfig, PeftModel, get_peft_model_state_dict
from torch import nn
from transformers import PreTrainedModel

from sumcirc.errors import UserError
from sumcirc.models.loading import ADAPTER, require_readable
from sumcirc.models.weight_files import ADAPTER_PICKLED, ADAPTER_SAFE, check_file
from sumcirc.schema import REWRITING_STARTS
from sumcirc.storage.hub import one_line

# by the value of PeftType: an older PEFT, which we accept too, has fewer members
EXCHANGED = {
    "ADAPTION_PROMPT": "puts attentions of its own in place of the model's",
    "SHADOW": "runs a network of its own beside the blocks",
    "XLORA": "mixes adapters by what the text holds",
    "LILY": "mixes adapters by what the text holds",
}
UNLOADABLE = {
    "POLY": "needs the number of a task with every text",
    "MULTITASK_PROMPT_TUNING": "needs the number of a task with every text",
    "XLORA": "mixes other adapters, whose folders it does not name",
}


def check_adapter(folder: Path, given: str, analysed: bool) -> None:
    """Raise an error for mistakes in an adapter's folder that can be found without reading weights.

    Args:
        folder: the adapter's folder.
        given: text that names the adapter in error messages: the user's setting and its value.
        analysed: whether the model's activations will be analysed, which some kinds of adapters
            don't allow.

    Raises:
        UserError: weights are missing or damaged, or this kind of adapter can't be loaded or
            analysed.
    """
    config = read_adapter(folder, given)
    if reason := _why_not_loaded(config):
        raise UserError(f"{given}: {reason}")
    if analysed:
        require_analysable(config, given)
    _names(folder, given)


def read_adapter(folder: Path, given: str) -> PeftConfig:
    """Return the PEFT configuration in an adapter's folder.

    Args:
        folder: the adapter's folder.
        given: text that names the adapter in error messages: the user's setting and its value.

    Raises:
        UserError: PEFT can't read the configuration.
    """
    require_readable(folder, given)
    try:
        return PeftConfig.from_pretrained(str(folder))
    except Exception as error:  # PEFT checks little: any error is due to the file
        raise UserError(f"{given}: {ADAPTER} cannot be used ({one_line(error)})") from None


def require_analysable(config: PeftConfig, given: str) -> None:
    """Raise an error if an adapter acts outside the modules that the analyses see.

    Args:
        config: PEFT's configuration of the adapter.
        given: text that names the adapter in error messages: the user's setting and its value.

    Raises:
        UserError: the adapter acts outside these modules, as in prompt learning; the message names
            its kind.
    """
    kind = getattr(config.peft_type, "value", config.peft_type)
    reason = EXCHANGED.get(str(kind))
    if config.is_prompt_learning:
        reason = "puts virtual tokens in front of the text, which no part of the model holds"
    elif getattr(config, "alora_invocation_tokens", None):
        kind, reason = "aLoRA", "acts only after its invocation tokens"
    elif getattr(config, "layer_replication", None):
        kind, reason = "layer_replication", "makes a model of more layers than its base"
    elif _init(config).startswith("pissa_niter"):
        kind, reason = _init(config), "is taken out of the base at random, anew at every load"
    if reason is not None:
        raise UserError(
            f"{given}: the adapter ({kind}) {reason}, so it can't be analysed;"
            " `sumcirc evaluate` supports it"
        )


def require_plain_text(configs: Iterable[PeftConfig], given: str) -> None:
    """Raise an error if an adapter does not act on the tokens of a plain text alone.

    Args:
        configs: PEFT's configurations of the adapters.
        given: text that names the adapter in error messages: the user's setting and its value.

    Raises:
        UserError: an adapter puts virtual tokens in front of every text, or acts only after tokens
            that invoke it.
    """
    for config in configs:
        reason = "puts virtual tokens in front of the text" if config.is_prompt_learning else None
        if getattr(config, "alora_invocation_tokens", None):
            reason = "acts only after its invocation tokens"
        if reason is not None:
            raise UserError(
                f"evaluation.retention: {given}: the adapter {reason}, so it is not measured on"
                " plain text; leave evaluation.retention out"
            )


def changes_base(config: PeftConfig) -> str | None:
    """Return why switching off an adapter doesn't give its base model, or None if it should.

    Args:
        config: PEFT's configuration of the adapter.
    """
    if _init(config).startswith(REWRITING_STARTS):
        return f"init_lora_weights={_init(config)} rewrites the base's weights"
    bias = getattr(config, "bias", None) or "none"
    if bias != "none":
        return f"bias={bias} trains biases of the base"
    if getattr(config, "layer_replication", None):
        return "layer_replication adds layers to the base"
    return None


def virtual_tokens(model: nn.Module) -> int:
    """Return the number of positions of the context that a model's virtual tokens take.

    Prompt-learning adapters put virtual tokens before the text; for other models the number is 0.

    Args:
        model: a model with or without an adapter.
    """
    if not isinstance(model, PeftModel):
        return 0
    configs: list[Any] = [model.peft_config[name] for name in model.active_adapters]
    return sum(one.num_virtual_tokens for one in configs if one.is_prompt_learning)


def changes_ends(folder: Path, given: str) -> bool:
    """Return whether an adapter changes the embedding, the final norm or the unembedding.

    Args:
        folder: the adapter's folder.
        given: text that names the adapter in error messages: the user's setting and its value.
    """
    return any(".layers." not in name and ".h." not in name for name in _names(folder, given))


def load_adapter(model: PreTrainedModel, folder: Path, given: str) -> PeftModel:
    """Load a saved adapter into its base, and return the adapted model in evaluation mode.

    Args:
        model: the base model.
        folder: the adapter's folder.
        given: text that names the adapter in error messages: the user's setting and its value.

    Raises:
        UserError: the adapter does not fit the model.
    """
    refused = f"{given}: the adapter does not fit the model"
    stored = _names(folder, given)
    try:
        with without_idle_warnings():
            # PEFT only warns about missing tensors; they are compared below
            warnings.filterwarnings("ignore", message="Found missing adapter keys")
            adapted = PeftModel.from_pretrained(model, str(folder))
        wanted = set(get_peft_model_state_dict(adapted, save_embedding_layers=False))
    except Exception as error:  # PEFT raises any kind of error, such as TypeError for a wrong value
        raise UserError(f"{refused} ({one_line(error)})") from None
    # an adapter on the embedding also contains the embedding itself, under the model's own name
    strange = stored - wanted - set(adapted.state_dict())
    if missing := sorted((wanted - stored) | strange):
        raise UserError(f"{refused} (only one of them has {missing[0]})")
    return adapted.eval()


@contextmanager
def without_idle_warnings() -> Iterator[None]:
    """Silence three of PEFT's warnings, on which users can't act, in a `with` block.

    Peft 0.21 uses a deprecated name of transformers 5.23. With virtual tokens the model counts
    positions itself, which is intended. And the ranks that AdaLoRA kept are applied later than
    where PEFT looks for those of LoRA.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")
        warnings.filterwarnings("ignore", message="Position ids are not supported")
        warnings.filterwarnings("ignore", message=r"The following rank_pattern keys .*lora_E")
        yield


def _names(folder: Path, given: str) -> set[str]:
    return set(check_file(_weights(folder, given), given))


def _weights(folder: Path, given: str) -> Path:
    for name in (ADAPTER_SAFE, ADAPTER_PICKLED):
        if (folder / name).is_file():
            return folder / name
    raise UserError(f"{given}: an adapter without {ADAPTER_SAFE}")


def _init(config: Any) -> str:
    found = getattr(config, "init_lora_weights", None)
    return found if isinstance(found, str) else ""


def _why_not_loaded(config: PeftConfig) -> str | None:
    kind = getattr(config.peft_type, "value", config.peft_type)
    if reason := UNLOADABLE.get(str(kind)):
        return f"the adapter ({kind}) {reason}"
    if _init(config) in ("lora_ga", "corda"):
        return (
            f"init_lora_weights={_init(config)} rewrote the base's weights by data that the adapter"
            " does not hold, so the trained model can't be had again; convert it where it was"
            " trained (PEFT's path_initial_model_for_weight_conversion)"
        )
    if config.is_prompt_learning and config.task_type != "CAUSAL_LM":
        return f"the adapter ({kind}) has task_type={config.task_type}, where CAUSAL_LM is needed"
    return None
