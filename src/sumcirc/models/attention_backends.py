"""Implementations of attention, as `model.attention` names them."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from sumcirc.errors import UserError
from sumcirc.storage import hub

if TYPE_CHECKING:
    from transformers import PretrainedConfig

OWN = "sumcirc"  # name under which `models.activations.hooks` registers its function


def attention_backends() -> list[str]:
    """Return the names that `model.attention` takes, in alphabetical order.

    These are transformers' own. Names of kernels on the hub are not among them, because loading one
    would run code from the hub.
    """
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    registered = ALL_ATTENTION_FUNCTIONS.valid_keys()
    return sorted({"eager", *(name for name in registered if "|" not in name and name != OWN)})


def require_attention_backend(name: str | None, config: PretrainedConfig) -> None:
    """Raise an error if a model can't use an attention implementation here.

    The network is built without memory for its weights; nothing is read.

    Args:
        name: value of `model.attention`; None for the model's default.
        config: transformers' configuration of the model.

    Raises:
        UserError: the name is unknown, the model has no such implementation, or a package that it
            needs is missing.
    """
    import torch
    import transformers

    if name is None:
        return
    known = attention_backends()
    if name not in known:
        raise UserError(f"model.attention={name}: not known; choose from {', '.join(known)}")
    if name == "flex_attention" and not torch.cuda.is_available():
        raise UserError(
            f"model.attention={name}: its gradients need a GPU, which this machine lacks; choose"
            " sdpa or eager"
        )
    try:
        with torch.device("meta"):
            transformers.AutoModelForCausalLM.from_config(
                copy.deepcopy(config), attn_implementation=name
            )
    except (ImportError, ValueError) as error:
        reason = hub.one_line(error).split(". ")[0].split(" yet.")[0].rstrip(".")
        raise UserError(
            f"model.attention={name}: a `{config.model_type}` can't use it here ({reason}); choose"
            " eager, or leave it out for the model's default"
        ) from error
