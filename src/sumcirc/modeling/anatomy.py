"""Where things live in each architecture; the only file that knows architectures.

A block is `LAYERS.i`; the names of `qkv`, `attn_out`, `mlp_in` and `mlp_out` are relative to it.
"""

from __future__ import annotations

from dataclasses import dataclass

from transformers import PretrainedConfig

from sumcirc.errors import UserError


@dataclass(frozen=True)
class Anatomy:
    """Names of one family.

    Attributes:
        layers: path of the list of blocks.
        modules: linears of a block by the anatomy's module names.
    """

    layers: str
    modules: dict[str, tuple[str, ...]]

    def linears(self, layer: int, module: str) -> list[str]:
        """Full names of the linears behind a module name in one block."""
        return [f"{self.layers}.{layer}.{name}" for name in self.modules[module]]


_LLAMA = Anatomy(
    "model.layers",
    {
        "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        "attn_out": ("self_attn.o_proj",),
        "mlp_in": ("mlp.gate_proj", "mlp.up_proj"),
        "mlp_out": ("mlp.down_proj",),
    },
)

FAMILIES = {
    "gpt2": Anatomy(
        "transformer.h",
        {
            "qkv": ("attn.c_attn",),
            "attn_out": ("attn.c_proj",),
            "mlp_in": ("mlp.c_fc",),
            "mlp_out": ("mlp.c_proj",),
        },
    ),
    "gpt_neox": Anatomy(
        "gpt_neox.layers",
        {
            "qkv": ("attention.query_key_value",),
            "attn_out": ("attention.dense",),
            "mlp_in": ("mlp.dense_h_to_4h",),
            "mlp_out": ("mlp.dense_4h_to_h",),
        },
    ),
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
}


def anatomy(config: PretrainedConfig) -> Anatomy:
    """The anatomy of a model by its configuration.

    Raises:
        UserError: the architecture is not known; its name and the known ones are in the message.
    """
    if config.model_type not in FAMILIES:
        raise UserError(
            f"model.path: architecture `{config.model_type}` is not known here;"
            f" known: {', '.join(FAMILIES)} (a new one is an entry in modeling/anatomy.py)"
        )
    if getattr(config, "add_cross_attention", False):
        raise UserError(
            f"model.path: a `{config.model_type}` with cross-attention, a part of an"
            " encoder-decoder; take a model that is a decoder alone"
        )
    return FAMILIES[config.model_type]


def context_length(config: PretrainedConfig) -> int:
    """The most tokens that a model takes.

    Raises:
        UserError: its configuration does not say.
    """
    found = getattr(config.get_text_config(), "max_position_embeddings", None)
    if found is None:
        raise UserError(
            f"model.path: the configuration of this `{config.model_type}` names no"
            " max_position_embeddings, so nobody knows how long a document may be"
        )
    return int(found)
