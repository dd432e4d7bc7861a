"""PEFT's configurations of the adapter variants that can be trained here.

Every variant starts as its base: a fresh adapter changes no logit beyond rounding, on `nn.Linear`
and on GPT-2's `Conv1D`, or the variant is refused there. Three variants (PiSSA, OLoRA, LoRA-GA)
reach this by moving a part of each weight of the base into the adapter; `models.peft_adapters`
calls them rewriting. What is saved of these is converted to LoRA on the unchanged base.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from peft import AdaLoraConfig, IA3Config, LoraConfig, PeftConfig, VeraConfig

from sumcirc.errors import UserError
from sumcirc.models.peft_adapters import changes_base, require_analysable
from sumcirc.runtime.messages import did_you_mean
from sumcirc.schema import AdaptationConfig, Variant
from sumcirc.storage.hub import one_line

if TYPE_CHECKING:
    from sumcirc.models.adapters import Targets

SCALE = 2  # alpha divided by rank
RSLORA_ALPHA = 8.0  # gives rank 16 the same scale
END = 2 / 3  # share of its ranks that AdaLoRA keeps, as in PEFT's defaults
UNKNOWN_STEPS = 10**9  # stands for the length of training while sizes are counted

CONFIGS: dict[Variant, type[PeftConfig]] = {
    Variant.adalora: AdaLoraConfig,
    Variant.vera: VeraConfig,
    Variant.ia3: IA3Config,
}
OPTIONS: dict[Variant, dict[str, Any]] = {
    Variant.dora: {"use_dora": True},
    Variant.pissa: {"init_lora_weights": "pissa"},
    Variant.olora: {"init_lora_weights": "olora"},
    Variant.eva: {"init_lora_weights": "eva", "eva_config": {}},
    Variant.loraga: {"init_lora_weights": "lora_ga", "lora_ga_config": {}},
}

# fields of PEFT's configurations that follow from other settings
SET_HERE = {
    **dict.fromkeys(("r", "init_r", "rank_pattern"), "adaptation.rank or adaptation.budget"),
    **dict.fromkeys(("lora_alpha", "alpha_pattern"), "adaptation.alpha"),
    **dict.fromkeys(("lora_dropout", "vera_dropout"), "adaptation.dropout"),
    "use_rslora": "adaptation.rslora",
    **dict.fromkeys(
        ("target_modules", "exclude_modules", "target_parameters", "feedforward_modules"),
        "adaptation.modules",
    ),
    **dict.fromkeys(("layers_to_transform", "layers_pattern"), "adaptation.layers"),
    **dict.fromkeys(("base_model_name_or_path", "revision"), "model.path"),
    "total_step": "trainer.max_steps or trainer.max_epochs",
    **dict.fromkeys(
        ("peft_type", "task_type", "peft_version", "auto_mapping", "inference_mode"),
        "the variant",
    ),
    "fan_in_fan_out": "the model",
    "runtime_config": "the model",
}
# initializations that PEFT can't make from a model alone, or whose fresh adapter isn't its base
REFUSED_STARTS = {
    "corda": "needs PEFT's preprocess_corda, which is not run here; use adaptation=eva or loraga",
    "loftq": "replaces the base's weights by quantized ones; leave it out",
    "false": "starts with an adapter that changes the model; leave it out",
}
CONV1D_REFUSED = {"olora": "takes Conv1D's transposed weights for a linear's"}


def peft_config(
    config: AdaptationConfig,
    targets: Targets,
    base: str | None = None,
    total_steps: int = UNKNOWN_STEPS,
) -> PeftConfig:
    """Return PEFT's configuration for the targets.

    Args:
        config: settings of the adapter.
        targets: the linears and their ranks.
        base: path of the base model, which is written into the configuration; None for no path.
        total_steps: optimizer steps of the training, on which AdaLoRA's schedule depends.

    Raises:
        UserError: `adaptation.peft` has a field that PEFT or this package refuses.
    """
    variant = config.variant
    kind: Any = CONFIGS.get(variant, LoraConfig)
    fields: dict[str, Any] = {
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "target_modules": list(targets.names),
        "fan_in_fan_out": targets.fan_in_fan_out,
        **OPTIONS.get(variant, {}),
    }
    if variant is Variant.ia3:
        fields["feedforward_modules"] = list(targets.mlp_out)
    elif variant is Variant.vera:
        fields |= {"r": targets.rank, "vera_dropout": config.dropout}
    elif variant is Variant.adalora:
        fields |= _adalora(config, targets, total_steps)
    else:
        fields |= _lora(config, targets)
    fields |= _own_fields(config, kind)
    if config.budget is not None and fields.get("init_lora_weights") == "eva":
        # a moved rank would change the number of parameters
        fields["eva_config"] = {**(fields.get("eva_config") or {}), "rho": 1.0}
    try:
        return kind(**fields)
    except Exception as error:  # PEFT raises any kind of error for a wrong value
        raise UserError(f"{setting_of(config)}: refused by PEFT ({one_line(error)})") from None


def variant_fields(config: AdaptationConfig) -> dict[str, Any]:
    """Return the fields of PEFT's configuration that a variant and `adaptation.peft` set."""
    return {**OPTIONS.get(config.variant, {}), **(config.peft or {})}


def check_variant(config: AdaptationConfig, made: PeftConfig, conv1d: bool) -> None:
    """Raise an error if the adapter can't be trained and analysed on a model.

    Args:
        config: settings of the adapter.
        made: PEFT's configuration made from them.
        conv1d: whether the model's linears are `Conv1D`, as in GPT-2.

    Raises:
        UserError: the fresh adapter would not be the base, or the analyses can't see what it does.
    """
    given, start = setting_of(config), str(getattr(made, "init_lora_weights", None))
    require_analysable(made, given)
    if conv1d and (reason := CONV1D_REFUSED.get(start)):
        raise UserError(
            f"{given}: PEFT's {start} {reason}, so a fresh adapter would not be its base; on GPT-2"
            " use adaptation=pissa"
        )
    if not rewrites(made) and changes_base(made):
        raise UserError(f"{given}: {changes_base(made)}; leave it out, or use adaptation=full")
    extra = [name for name in ("use_dora", "modules_to_save", "lora_bias") if _has(made, name)]
    extra += [name for name in ("bias", "trainable_token_indices") if _has(made, name)]
    if rewrites(made) and extra:
        raise UserError(
            f"{given}: {extra[0]} can't be combined with init_lora_weights={start}, which is saved"
            " as LoRA on the unchanged base; leave one of them out"
        )


def rewrites(made: PeftConfig) -> bool:
    """Return whether starting the adapter changes the base's weights (PiSSA, OLoRA, LoRA-GA)."""
    return "rewrites" in (changes_base(made) or "")


def _has(made: PeftConfig, name: str) -> bool:
    return getattr(made, name, None) not in (None, False, "none")


def setting_of(config: AdaptationConfig) -> str:
    """Return the setting, as typed, that decides the variant."""
    if config.peft:
        return f"adaptation.peft={config.peft}"
    return f"adaptation={config.variant.value}"


def _lora(config: AdaptationConfig, targets: Targets) -> dict[str, Any]:
    assert targets.rank is not None
    follows_rank = config.alpha is None and not config.rslora
    return {
        "r": targets.rank,
        "lora_alpha": config.alpha or (RSLORA_ALPHA if config.rslora else SCALE * targets.rank),
        "rank_pattern": targets.raised,
        "alpha_pattern": {
            name: SCALE * rank for name, rank in targets.raised.items() if follows_rank
        },
        "use_rslora": config.rslora,
        "lora_dropout": config.dropout,
    }


def _adalora(config: AdaptationConfig, targets: Targets, total_steps: int) -> dict[str, Any]:
    """Return AdaLoRA's ranks, and a schedule that removes ranks from 10 to 70 % of the steps."""
    assert targets.rank is not None
    return {
        "init_r": targets.rank,
        "target_r": max(1, round(END * targets.rank)),
        "lora_alpha": config.alpha or SCALE * targets.rank,
        "lora_dropout": config.dropout,
        "total_step": total_steps,
        "tinit": total_steps // 10,
        "tfinal": 3 * total_steps // 10,
    }


def _own_fields(config: AdaptationConfig, kind: type[PeftConfig]) -> dict[str, Any]:
    """Return the fields in `adaptation.peft`, all of which PEFT's configuration has."""
    known = [one.name for one in dataclasses.fields(kind)]  # type: ignore[arg-type]
    given = config.peft or {}
    for name, value in given.items():
        if name in SET_HERE:
            raise UserError(
                f"adaptation.peft={{{name}: {value}}}: is set by {SET_HERE[name]}; leave it out"
            )
        if name not in known:
            raise UserError(
                f"adaptation.peft={{{name}: {value}}}: PEFT's {kind.__name__} has no such field"
                f"{did_you_mean(str(name), known)}"
            )
    start = str(given.get("init_lora_weights")).lower()
    if reason := REFUSED_STARTS.get(start):
        raise UserError(f"{setting_of(config)}: init_lora_weights={start} {reason}")
    eva = given.get("eva_config") or {}
    if config.budget is not None and isinstance(eva, Mapping) and eva.get("rho", 1) != 1:
        raise UserError(
            f"adaptation.peft={{eva_config: {{rho: {eva['rho']}}}}}: moves ranks between linears of"
            " different sizes, so the number of parameters would not be that of the budget; give"
            " adaptation.rank"
        )
    return dict(given)
