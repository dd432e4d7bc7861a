"""Models whose weights bitsandbytes quantizes when they are loaded (`model.quantize`).

transformers replaces the linears of the blocks; embeddings, norms and the unembedding keep their
weights. The two methods differ in what can be analysed:

- nf4 (QLoRA: Dettmers et al. 2023, arXiv 2305.14314) stores 4-bit weights and multiplies by their
  float values, so each linear is an affine map with an effective weight.
- int8 (LLM.int8: Dettmers et al. 2022, arXiv 2208.07339) also rounds a linear's inputs, by scales
  that depend on the inputs. Such a linear has no weight for circuits and comparisons.

Quantization happens on the CPU, so that the weights are the same on every device.
"""

from __future__ import annotations

import importlib.util
import logging
from typing import TYPE_CHECKING, Any

from sumcirc.errors import UserError
from sumcirc.schema import Quantization

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from transformers import PretrainedConfig, PreTrainedModel

# of transformers' BitsAndBytesConfig; products of nf4 are in float32 by default
SETTINGS: dict[Quantization, dict[str, Any]] = {
    Quantization.nf4: {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
    },
    Quantization.int8: {"load_in_8bit": True},
}
NO_WEIGHTS = (
    "needs the effective weights of linears, which model.quantize=int8 doesn't have, since LLM.int8"
    " also quantizes their inputs; use model.quantize=nf4"
)


def require_quantization(quantize: Quantization | None, config: PretrainedConfig) -> None:
    """Raise an error if a model can't be quantized here.

    The network is built without memory for its weights; nothing is read.

    Args:
        quantize: value of `model.quantize`.
        config: transformers' configuration of the model.

    Raises:
        UserError: bitsandbytes is missing, or the model's linears are `Conv1D`, as in GPT-2.
    """
    import torch
    import transformers
    from transformers.pytorch_utils import Conv1D

    if quantize is None:
        return
    given = f"model.quantize={quantize.value}"
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UserError(
            f"{given}: needs a package that is not installed; pip install 'sumcirc[quantize]'"
        )
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    if any(isinstance(module, Conv1D) for module in model.modules()):
        raise UserError(
            f"{given}: a `{config.model_type}` stores its weights transposed (Conv1D), and adapters"
            " on such weights can't be trained once they are quantized; leave it out, or use"
            " another model"
        )


def require_effective_weights(quantize: Quantization | None, given: str) -> None:
    """Raise an error if a model's linears have no effective weights.

    Args:
        quantize: the model's `model.quantize`.
        given: the beginning of the message: what needs the weights.

    Raises:
        UserError: the model is loaded with LLM.int8.
    """
    if quantize is Quantization.int8:
        raise UserError(f"{given} {NO_WEIGHTS}")


def loading_arguments(quantize: Quantization | None, dtype: torch.dtype) -> dict[str, Any]:
    """Return arguments of transformers' `from_pretrained` that quantize a model.

    Args:
        quantize: value of `model.quantize`.
        dtype: type of the other weights, and of nf4's products.
    """
    from transformers import BitsAndBytesConfig

    if quantize is None:
        return {}
    if quantize is Quantization.int8:
        logging.getLogger("bitsandbytes.autograd._functions").addFilter(_is_no_cast)
    settings = BitsAndBytesConfig(**SETTINGS[quantize], bnb_4bit_compute_dtype=dtype)
    return {"quantization_config": settings, "device_map": {"": "cpu"}}


def use_exact_products(model: PreTrainedModel) -> None:
    """Make 4-bit linears multiply by their weights in the type of their inputs, on every CPU.

    By default, bitsandbytes repacks the weights in evaluation mode for processors with AVX512-BF16.
    Products are then rounded to bfloat16, and no gradient passes through them.

    Args:
        model: the model, which is changed in place.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False  # type: ignore[assignment]


def is_int8(linear: nn.Module) -> bool:
    """Return whether a linear, with or without an adapter, quantizes its inputs by LLM.int8.

    Args:
        linear: the linear.
    """
    import torch

    weight = getattr(getattr(linear, "base_layer", linear), "weight", None)
    return weight is not None and weight.dtype == torch.int8


def scales(parameter: Tensor) -> dict[str, Tensor]:
    """Return the tensors that turn a quantized parameter's integers into weights.

    Args:
        parameter: a parameter, which may be unquantized; the result is then empty.
    """
    state = getattr(parameter, "quant_state", None)
    if state is not None:
        return dict(state.as_dict(packed=True))
    rows = getattr(parameter, "SCB", None)
    return {} if rows is None else {"SCB": rows}


def _is_no_cast(record: logging.LogRecord) -> bool:
    """Drop the line that bitsandbytes logs at every product of int8 weights and float32 inputs."""
    return "inputs will be cast" not in record.msg
