"""Every kind of adapter that PEFT has, small enough for the models of `tests.support`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from peft import PeftConfig, PeftType
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

BOTH, LLAMA, GPT2 = ("gpt2", "llama"), ("llama",), ("gpt2",)
# with the adapter switched off a model is its base, or it is not
OFF, APART = "off", "apart"
VIRTUAL, TASK = "virtual tokens in front of the text", "needs the number of a task"


@dataclass(frozen=True)
class Kind:
    """One kind and what is expected of it.

    Attributes:
        outcome: OFF, APART, or why its inside is not analysed.
        options: of its configuration, for each family.
        made: whether PEFT makes it on these models; else its configuration alone is written.
        loads: whether `sumcirc evaluate` takes it.
    """

    outcome: str
    families: tuple[str, ...] = BOTH
    options: Callable[[str], dict[str, Any]] = field(default=lambda family: {})
    type: PeftType = PeftType.LORA
    made: bool = True
    loads: bool = True

    def config(self, family: str) -> PeftConfig:
        """On two linears of every block, unless the options say something else."""
        gpt2 = family == "gpt2"
        cls: Any = PEFT_TYPE_TO_CONFIG_MAPPING[self.type]
        usual = {
            "r": 4,
            "target_modules": ["c_attn", "c_fc"] if gpt2 else ["q_proj", "up_proj"],
            "fan_in_fan_out": gpt2,
            "num_virtual_tokens": 5,
        }
        known = {one.name for one in fields(cls)}
        given = {name: value for name, value in usual.items() if name in known}
        return cls(task_type="CAUSAL_LM", **{**given, **self.options(family)})


def lora(outcome: str = OFF, families: tuple[str, ...] = BOTH, **options: Any) -> Kind:
    return Kind(outcome, families, lambda family: options)


def other(name: str, outcome: str = OFF, families: tuple[str, ...] = BOTH, **options: Any) -> Kind:
    return Kind(outcome, families, lambda family: options, PeftType[name])


def by_family(gpt2: Any, llama: Any, name: str) -> Callable[[str], dict[str, Any]]:
    return lambda family: {name: gpt2 if family == "gpt2" else llama}


LORA = {
    "plain": lora(),
    "gaussian": lora(init_lora_weights="gaussian"),
    "orthogonal": lora(init_lora_weights="orthogonal"),
    "mica": lora(init_lora_weights="mica"),
    "eva": lora(init_lora_weights="eva"),
    "pissa": lora(APART, init_lora_weights="pissa"),
    "pissa_niter": lora("at random, anew at every load", init_lora_weights="pissa_niter_4"),
    "olora": lora(APART, LLAMA, init_lora_weights="olora"),
    "bias=all": lora(APART, GPT2, bias="all"),
    "bias=lora_only": lora(APART, GPT2, bias="lora_only"),
    "lora_bias": lora(lora_bias=True),
    "dora": lora(use_dora=True),
    "rslora": lora(use_rslora=True),
    "saved norm": Kind(OFF, options=by_family(["ln_f"], ["norm"], "modules_to_save")),
    "saved head": lora(modules_to_save=["lm_head"]),
    "tokens": lora(trainable_token_indices=[1, 2, 3]),
    "head": lora(target_modules=["lm_head"]),
    "embedding": Kind(OFF, options=by_family(["wte"], ["embed_tokens"], "target_modules")),
    "parameters": lora(OFF, LLAMA, target_modules=[], target_parameters=["mlp.up_proj.weight"]),
    "replicated layers": lora(
        "more layers than its base", LLAMA, layer_replication=[[0, 2], [1, 2]]
    ),
    "alora": lora("after its invocation tokens", alora_invocation_tokens=[3, 4]),
}

OTHERS = {
    "ADALORA": other("ADALORA", total_step=10),
    "ADAPTION_PROMPT": other(
        "ADAPTION_PROMPT",
        "attentions of its own",
        target_modules=None,
        adapter_layers=2,
        adapter_len=3,
    ),
    "BEFT": other("BEFT", OFF, LLAMA),
    "BOFT": other("BOFT", OFF, LLAMA),
    "C3A": other("C3A", OFF, LLAMA, block_size=16),
    "CARTRIDGE": other("CARTRIDGE", VIRTUAL),
    "CPT": other("CPT", VIRTUAL, cpt_token_ids=[1, 2, 3], cpt_tokens_type_mask=[1, 2, 3]),
    "DEFT": other("DEFT"),
    "DELORA": other("DELORA", OFF, LLAMA),
    "FOURIERFT": other("FOURIERFT"),
    "FROD": other("FROD"),
    "GLORA": other("GLORA", OFF, LLAMA),
    "GRALORA": other("GRALORA"),
    "HIRA": other("HIRA"),
    "HRA": other("HRA", OFF, LLAMA),
    "IA3": Kind(
        OFF,
        options=by_family(["c_fc"], ["up_proj"], "feedforward_modules"),
        type=PeftType.IA3,
    ),
    "LILY": other("LILY", "by what the text holds", LLAMA),
    "LN_TUNING": Kind(
        OFF,
        options=by_family(["ln_1", "ln_f"], ["input_layernorm", "norm"], "target_modules"),
        type=PeftType.LN_TUNING,
    ),
    "LOHA": other("LOHA", OFF, LLAMA),
    "LOKR": other("LOKR", OFF, LLAMA),
    "MISS": other("MISS", OFF, LLAMA),
    "OFT": other("OFT", OFF, LLAMA, r=0, oft_block_size=8),
    "OSF": other("OSF", OFF, LLAMA),
    "PEANUT": other("PEANUT", OFF, LLAMA),
    "PREFIX_TUNING": other("PREFIX_TUNING", VIRTUAL),
    "PROMPT_TUNING": other("PROMPT_TUNING", VIRTUAL),
    "PSOFT": other("PSOFT", OFF, LLAMA),
    "PVERA": other("PVERA"),
    "P_TUNING": other("P_TUNING", VIRTUAL, encoder_hidden_size=16),
    "RANDLORA": other("RANDLORA"),
    "ROAD": other("ROAD", OFF, LLAMA, group_size=16),
    "SHIRA": other("SHIRA", OFF, LLAMA, r=2),
    "SUPERTUNING": other("SUPERTUNING", OFF, LLAMA),
    "TINYLORA": other("TINYLORA"),
    "TRAINABLE_TOKENS": Kind(
        OFF,
        options=lambda family: {
            "token_indices": [1, 2, 3],
            "target_modules": ["wte"] if family == "gpt2" else ["embed_tokens"],
        },
        type=PeftType.TRAINABLE_TOKENS,
    ),
    "UNILORA": other("UNILORA"),
    "VBLORA": other("VBLORA", vector_length=4, num_vectors=8),
    "VERA": other("VERA"),
    "WAVEFT": other("WAVEFT", n_frequency=64),
}

# neither has PEFT a small one of these, nor do they come as a folder that is whole by itself
WRITTEN = {
    "ADAMSS": Kind("scikit-learn is required", type=PeftType.ADAMSS, made=False, loads=False),
    "MULTITASK_PROMPT_TUNING": Kind(
        TASK,
        options=lambda family: {"num_tasks": 2},
        type=PeftType.MULTITASK_PROMPT_TUNING,
        made=False,
        loads=False,
    ),
    "POLY": Kind(TASK, type=PeftType.POLY, made=False, loads=False),
    "SHADOW": Kind("a network of its own", type=PeftType.SHADOW, made=False),
    "XLORA": Kind("whose folders it does not name", type=PeftType.XLORA, made=False, loads=False),
    "lora_ga": Kind(
        "can't be had again",
        options=lambda family: {"init_lora_weights": "lora_ga"},
        made=False,
        loads=False,
    ),
    "corda": Kind(
        "can't be had again",
        options=lambda family: {"init_lora_weights": "corda"},
        made=False,
        loads=False,
    ),
}

KINDS = {**LORA, **OTHERS, **WRITTEN}


def disturb(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Add noise, so that no parameter is zero or one, which would hide errors."""
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for one in parameters:
            if one.is_floating_point():
                one.add_(0.1 * torch.randn(one.shape, generator=draw))
