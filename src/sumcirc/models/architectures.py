"""Module names and sizes of the supported architectures; no other file depends on a family.

Block i is `LAYERS.i`, and all names below it are relative to it. Every family is a pre-norm
decoder: attention and MLP read the normed residual stream and add to it, one after the other or
(GPT-NeoX) in parallel. `models.hooked_model` looks up these modules in a live model.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from transformers import PretrainedConfig

from sumcirc.errors import UserError


class Fused(Enum):
    """How a block's linears hold the projections for query, key and value."""

    split = "split"  # three linears
    concatenated = "concatenated"  # one linear: all queries, all keys, all values
    interleaved = "interleaved"  # one linear: query, key and value of each head in turn


@dataclass(frozen=True)
class Architecture:
    """The names of modules in models of one family; names inside a block are relative to the block.

    Attributes:
        embedding: the token embedding.
        layers: path of the list of blocks.
        final_norm: the norm before the unembedding.
        norm_attention, norm_mlp: the norms before attention and before the MLP.
        attention, mlp: the modules that add to the residual stream.
        activation: the MLP's activation function.
        modules: names of a block's linears, by the module names used in settings (`qkv`,
            `attn_out`, `mlp_in`, `mlp_out`).
        fused: how the linears of `qkv` hold the projections for query, key and value.
        head_norms: the norms that are applied to each head's query and key; empty if the family has
            none.
    """

    embedding: str
    layers: str
    final_norm: str
    norm_attention: str
    norm_mlp: str
    attention: str
    mlp: str
    activation: str
    modules: dict[str, tuple[str, ...]]
    fused: Fused
    head_norms: tuple[str, ...] = ()

    def linears(self, layer: int, module: str) -> list[str]:
        """Return the full names of the linears that a module name stands for in one block.

        Args:
            layer: index of the block.
            module: a key of `modules`, or the end of linears' own names as in PEFT's
                `target_modules`, such as `q_proj` or `c_proj`.

        Raises:
            UserError: no linear of a block has that name.
        """
        every = [name for names in self.modules.values() for name in names]
        found = self.modules.get(module) or tuple(
            name for name in every if f".{name}".endswith(f".{module}")
        )
        if not found:
            own = ", ".join(name.rpartition(".")[2] for name in every)
            raise UserError(
                f"adaptation.modules={module}: unknown; choose from {', '.join(self.modules)},"
                f" all-linear, or the model's own {own}"
            )
        return [f"{self.layers}.{layer}.{name}" for name in found]


_LLAMA = Architecture(
    embedding="model.embed_tokens",
    layers="model.layers",
    final_norm="model.norm",
    norm_attention="input_layernorm",
    norm_mlp="post_attention_layernorm",
    attention="self_attn",
    mlp="mlp",
    activation="mlp.act_fn",
    modules={
        "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        "attn_out": ("self_attn.o_proj",),
        "mlp_in": ("mlp.gate_proj", "mlp.up_proj"),
        "mlp_out": ("mlp.down_proj",),
    },
    fused=Fused.split,
)

ARCHITECTURES = {
    "gpt2": Architecture(
        embedding="transformer.wte",
        layers="transformer.h",
        final_norm="transformer.ln_f",
        norm_attention="ln_1",
        norm_mlp="ln_2",
        attention="attn",
        mlp="mlp",
        activation="mlp.act",
        modules={
            "qkv": ("attn.c_attn",),
            "attn_out": ("attn.c_proj",),
            "mlp_in": ("mlp.c_fc",),
            "mlp_out": ("mlp.c_proj",),
        },
        fused=Fused.concatenated,
    ),
    "gpt_neox": Architecture(
        embedding="gpt_neox.embed_in",
        layers="gpt_neox.layers",
        final_norm="gpt_neox.final_layer_norm",
        norm_attention="input_layernorm",
        norm_mlp="post_attention_layernorm",
        attention="attention",
        mlp="mlp",
        activation="mlp.act",
        modules={
            "qkv": ("attention.query_key_value",),
            "attn_out": ("attention.dense",),
            "mlp_in": ("mlp.dense_h_to_4h",),
            "mlp_out": ("mlp.dense_4h_to_h",),
        },
        fused=Fused.interleaved,
    ),
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": replace(_LLAMA, head_norms=("self_attn.q_norm", "self_attn.k_norm")),
}


@dataclass(frozen=True)
class Shape:
    """Sizes of a model.

    Attributes:
        layers: number of blocks.
        heads: number of query heads in a block.
        key_value_heads: number of key/value heads in a block, which is smaller than `heads` with
            grouped-query attention.
        head_width: width of one head's query, key and value vectors.
        width: width of the residual stream.
        neurons: number of neurons in one MLP.
        vocabulary: number of rows of the embedding matrix.
        parallel: whether a block's attention and MLP read the same residual stream (GPT-NeoX).
    """

    layers: int
    heads: int
    key_value_heads: int
    head_width: int
    width: int
    neurons: int
    vocabulary: int
    parallel: bool

    @property
    def group(self) -> int:
        """Number of query heads that share a key/value head."""
        return self.heads // self.key_value_heads


def architecture(config: PretrainedConfig) -> Architecture:
    """Return the architecture of a model.

    Args:
        config: transformers' configuration of the model.

    Raises:
        UserError: the architecture is unknown or has cross-attention; the message says what to do.
    """
    if config.model_type not in ARCHITECTURES:
        raise UserError(
            f"model.path: architecture `{config.model_type}` is not supported; choose"
            f" from {', '.join(ARCHITECTURES)} (a new one is an entry in models/architectures.py)"
        )
    if getattr(config, "add_cross_attention", False):
        raise UserError(
            f"model.path: a `{config.model_type}` with cross-attention, a part of an"
            " encoder-decoder; take a model that is a decoder alone"
        )
    return ARCHITECTURES[config.model_type]


def shape(config: PretrainedConfig) -> Shape:
    """Return the sizes of a model.

    Args:
        config: transformers' configuration of the model.

    Raises:
        UserError: as in `architecture`.
    """
    architecture(config)
    heads, width = config.num_attention_heads, config.hidden_size
    neurons = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None)
    return Shape(
        layers=config.num_hidden_layers,
        heads=heads,
        key_value_heads=getattr(config, "num_key_value_heads", None) or heads,
        head_width=getattr(config, "head_dim", None) or width // heads,
        width=width,
        neurons=neurons or 4 * width,  # GPT-2 omits n_inner
        vocabulary=config.vocab_size,
        parallel=bool(getattr(config, "use_parallel_residual", False)),
    )


def context_length(config: PretrainedConfig) -> int:
    """Return the largest number of tokens that a model accepts.

    Args:
        config: transformers' configuration of the model.

    Raises:
        UserError: the configuration does not contain this number.
    """
    found = getattr(config.get_text_config(), "max_position_embeddings", None)
    if found is None:
        raise UserError(
            f"model.path: the configuration of this `{config.model_type}` names no"
            " max_position_embeddings, so the context length is unknown"
        )
    return int(found)
