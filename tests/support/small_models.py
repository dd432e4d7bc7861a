"""One small model of every family that `models.architectures` knows, from its configuration."""

from __future__ import annotations

from pathlib import Path
from types import MethodType
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig
from transformers.pytorch_utils import Conv1D

from sumcirc.models.activations.effective_weights import HeadWeights
from sumcirc.models.activations.hooked_model import Block, HookedModel
from sumcirc.models.activations.hooks import NAME as OURS

VOCABULARY, WIDTH, INNER, LAYERS, CONTEXT = 400, 32, 48, 2, 128
WITH_GROUPS = (
    *("llama", "mistral", "qwen2", "qwen3", "phi3", "smollm3", "granite"),
    *("olmo2", "gemma2", "gemma3_text"),
)
# a norm after attention and MLP, at a scale that all heads of a layer share
POST_NORM = ("olmo2", "gemma2", "gemma3_text")
WINDOW = 4  # of every other layer of Gemma
# settings by which families differ, with values that no test could miss
PECULIAR: dict[str, dict[str, Any]] = {
    "smollm3": {"no_rope_layer_interval": 2},
    "granite": {
        "embedding_multiplier": 3.0,
        "residual_multiplier": 0.7,
        "attention_multiplier": 0.6,
        "logits_scaling": 1.7,
    },
    "gemma2": {
        "sliding_window": WINDOW,
        "query_pre_attn_scalar": 12,
        "attn_logit_softcapping": 2.5,
        "final_logit_softcapping": 2.5,
    },
    "gemma3_text": {
        "sliding_window": WINDOW,
        "query_pre_attn_scalar": 12,
        "final_logit_softcapping": 2.5,
    },
}


def small_config(family: str, layers: int = LAYERS, **changes: Any) -> PretrainedConfig:
    """Width 32, 4 heads, of which pairs share a key/value head where the family can."""
    if family == "gpt2":
        shape = {"n_layer": layers, "n_embd": WIDTH, "n_head": 4, "n_positions": CONTEXT}
    else:
        shape = {
            "num_hidden_layers": layers,
            "hidden_size": WIDTH,
            "intermediate_size": INNER,
            "num_attention_heads": 4,
            "max_position_embeddings": CONTEXT,
        }
    if family in WITH_GROUPS:
        shape |= {"num_key_value_heads": 2, "head_dim": WIDTH // 4}
    shape |= PECULIAR.get(family, {})
    if family == "gemma3_text":
        kinds = ["sliding_attention", "full_attention"]
        shape["layer_types"] = [kinds[layer % 2] for layer in range(layers)]
    ends = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": None}
    return AutoConfig.for_model(family, **{"vocab_size": VOCABULARY, **shape, **ends, **changes})


def small_model(family: str, seed: int = 0, **changes: Any) -> Any:
    """A model with random weights, in evaluation mode."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(small_config(family, **changes)).eval()


def scrambled(family: str, **changes: Any) -> Any:
    """A model none of whose parameters is zero or one: fresh biases and gains would hide errors."""
    model = small_model(family, layers=3, **changes)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(3)
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def in_float64(model: Any) -> Any:
    """The model in float64; Gemma 2's softmax as well, which eager attention keeps in float32.

    There a mask of the least float64 is -inf, and a row that sees no key NaN.
    """
    if model.config.model_type == "gemma2":
        model.set_attn_implementation(OURS)
    return model.double()


def share_of(model: Any, layer: int, part: Tensor, whole: Tensor) -> Tensor:
    """What a part of an output projection's output becomes after it, at the scale of the whole."""
    if model.config.model_type not in POST_NORM:
        return part
    norm = model.model.layers[layer].post_attention_layernorm
    root = (whole.square().mean(-1, keepdim=True) + model.config.rms_norm_eps).sqrt()
    return part / root * (norm.weight if model.config.model_type == "olmo2" else 1 + norm.weight)


def writing(block: Block) -> tuple[nn.Module, nn.Module]:
    """The modules of a block whose outputs are added to the stream, of attention and of the MLP."""
    if not hasattr(block.whole, "post_feedforward_layernorm"):
        return block.attn_out, block.mlp
    whole: Any = block.whole
    return whole.post_attention_layernorm, whole.post_feedforward_layernorm


def exact_norms(model: Any) -> Any:
    """The model with RMSNorms in its own precision, where transformers computes them in float32."""

    def exact(self: Any, x: Tensor) -> Tensor:
        gemma = "Gemma" in type(self).__name__
        epsilon = self.eps if gemma else self.variance_epsilon
        weight = 1 + self.weight if gemma else self.weight
        return weight * x / (x.square().mean(-1, True) + epsilon).sqrt()

    for module in model.modules():
        if "RMSNorm" in type(module).__name__:
            module.forward = MethodType(exact, module)
    return model


def linears(hooked: HookedModel) -> list[nn.Module]:
    """Every linear of the blocks that an adapter may go on, the MLP's first aside."""
    return [
        linear for block in hooked.blocks for linear in (*block.qkv, block.attn_out, block.mlp_out)
    ]


def columns(model: HookedModel, layer: int) -> list[HeadWeights]:
    """Effective weights of a layer's queries, keys and values, each by itself."""
    found, size = model.head_weights(layer), model.shape
    counts = (size.heads, size.key_value_heads, size.key_value_heads)
    pairs = zip(found.weight.split(counts), found.bias.split(counts), strict=True)
    return [HeadWeights(*pair) for pair in pairs]


def adapted(model: Any, dropout: float = 0.0) -> Any:
    """LoRA on these linears, with both matrices far from zero."""
    hooked = HookedModel(model)
    wanted = set(linears(hooked))
    config = LoraConfig(
        r=3,
        lora_alpha=7,
        lora_dropout=dropout,
        target_modules=[name for name, module in model.named_modules() if module in wanted],
        fan_in_fan_out=isinstance(hooked.blocks[0].attn_out, Conv1D),
    )
    found = get_peft_model(model, config)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(4)
        for name, parameter in found.named_parameters():
            if "lora_" in name:
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return found.eval()


def write_model(folder: Path, config: PretrainedConfig, tokenizer: Any) -> Path:
    """Save a random model that fits the tokenizer; returns the folder."""
    config.vocab_size = len(tokenizer)
    config.bos_token_id, config.eos_token_id = tokenizer.bos_token_id, tokenizer.eos_token_id
    with torch.random.fork_rng():
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
