"""Module names and sizes of the supported architectures; no other file depends on a family.

Block i is `LAYERS.i`, and all names below it are relative to it. Every family is a decoder whose
attention and MLP read the residual stream and add to it, one after the other or (GPT-NeoX) in
parallel. `models.hooked_model` looks up these modules in a live model.
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
        norm_attention, norm_mlp: the norms before attention and before the MLP; None if the family
            has none (OLMo 2).
        attention, mlp: the modules that add to the residual stream.
        activation: the MLP's activation function.
        modules: names of a block's linears, by the module names used in settings (`qkv`,
            `attn_out`, `mlp_in`, `mlp_out`).
        fused: how the linears of `qkv` hold the projections for query, key and value.
        gated: whether the MLP multiplies its activations by a gate, as in SwiGLU.
        head_norms: the norms of query and key, each of one head's width or (OLMo 2) of all heads'
            together; empty if the family has none.
        norm_attention_output, norm_mlp_output: the norms of what attention and MLP add to the
            stream, which must be RMSNorms; None if the family has none.
        norms_add_one: whether all norms multiply by 1 + weight (Gemma).
    """

    embedding: str
    layers: str
    final_norm: str
    norm_attention: str | None
    norm_mlp: str | None
    attention: str
    mlp: str
    activation: str
    modules: dict[str, tuple[str, ...]]
    fused: Fused
    gated: bool = False
    head_norms: tuple[str, ...] = ()
    norm_attention_output: str | None = None
    norm_mlp_output: str | None = None
    norms_add_one: bool = False

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
    gated=True,
)

_GEMMA = replace(
    _LLAMA,
    norm_mlp="pre_feedforward_layernorm",
    norm_attention_output="post_attention_layernorm",
    norm_mlp_output="post_feedforward_layernorm",
    norms_add_one=True,
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
    # Phi-3 and Phi-4
    "phi3": replace(
        _LLAMA,
        activation="mlp.activation_fn",
        modules={
            "qkv": ("self_attn.qkv_proj",),
            "attn_out": ("self_attn.o_proj",),
            "mlp_in": ("mlp.gate_up_proj",),
            "mlp_out": ("mlp.down_proj",),
        },
        fused=Fused.concatenated,
    ),
    "smollm3": _LLAMA,
    "granite": _LLAMA,
    "olmo2": replace(
        _LLAMA,
        norm_attention=None,
        norm_mlp=None,
        norm_attention_output="post_attention_layernorm",
        norm_mlp_output="post_feedforward_layernorm",
        head_norms=("self_attn.q_norm", "self_attn.k_norm"),
    ),
    "gemma2": _GEMMA,
    "gemma3_text": replace(_GEMMA, head_norms=("self_attn.q_norm", "self_attn.k_norm")),
}

# settings by which configurations of mixture-of-experts models name the number of experts
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")


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


@dataclass(frozen=True)
class Multipliers:
    """Constants by which a model multiplies what its modules compute (Granite), and its logit cap.

    Attributes:
        embedding: factor of the token embedding where it enters the residual stream.
        residual: factor of what attention and MLP add to the residual stream.
        logits_scaling: number by which the unembedding's output is divided.
        logit_cap: c in c * tanh(logit / c), which is applied last (Gemma 2); None without a cap.
    """

    embedding: float = 1.0
    residual: float = 1.0
    logits_scaling: float = 1.0
    logit_cap: float | None = None


def multipliers(config: PretrainedConfig) -> Multipliers:
    """Return the constants of a model; all are 1 in most families.

    Args:
        config: transformers' configuration of the model.
    """
    return Multipliers(
        embedding=float(getattr(config, "embedding_multiplier", 1.0)),
        residual=float(getattr(config, "residual_multiplier", 1.0)),
        logits_scaling=float(getattr(config, "logits_scaling", 1.0)),
        logit_cap=getattr(config, "final_logit_softcapping", None),
    )


def architecture(config: PretrainedConfig) -> Architecture:
    """Return the architecture of a model.

    Args:
        config: transformers' configuration of the model.

    Raises:
        UserError: the architecture is unknown, a mixture of experts, or has cross-attention; the
            message says what to do.
    """
    experts = [name for name in _EXPERTS if getattr(config.get_text_config(), name, None)]
    if experts:
        count = getattr(config.get_text_config(), experts[0])
        raise UserError(
            f"model.path: a `{config.model_type}` ({experts[0]}={count}) is a mixture of experts,"
            " whose tokens take different MLPs; it is not supported; choose a dense model from"
            f" {', '.join(ARCHITECTURES)}"
        )
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
    if getattr(config, "use_bidirectional_attention", None):
        raise UserError(
            f"model.path: a `{config.model_type}` with use_bidirectional_attention, which reads"
            " later tokens too; take a model that reads only earlier ones"
        )
    found = ARCHITECTURES[config.model_type]
    if found.norm_attention_output and getattr(config, "attention_bias", False):
        raise UserError(
            f"model.path: a `{config.model_type}` with attention_bias=true, whose output"
            " projection's bias would belong to no head where a norm follows it; take a model"
            " without this bias"
        )
    return found


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
