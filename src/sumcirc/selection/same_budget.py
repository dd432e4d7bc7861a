"""Whether all adapters of a sweep can have the same number of parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import PretrainedConfig

from sumcirc.errors import UserError
from sumcirc.models.adapters import adapter_size
from sumcirc.models.architectures import shape
from sumcirc.models.budget import EQUAL, AdapterSize, smallest_common_budget
from sumcirc.schema import Adaptation, Granularity, TrainConfig, Variant
from sumcirc.selection.choosing import dearest, how_many


def check_same_budget(configs: Sequence[TrainConfig], model_config: PretrainedConfig) -> None:
    """Refuse a sweep if one of its adapters can't use the budget.

    An adapter can't if rank 1 takes more, if its ranks leave more than 3 % unused, or if a rank
    would exceed the full rank of a weight, beyond which it adds parameters but nothing to learn.

    Args:
        configs: configurations of all jobs.
        model_config: transformers' configuration of the model.

    Raises:
        UserError: a job trains no adapter or has no budget, budgets differ, or an adapter can't use
            the budget; the message has the smallest budget that works.
    """
    sizes: dict[str, AdapterSize] = {}
    for config in configs:
        name = arm_name(config)
        if config.adaptation.kind is not Adaptation.lora or config.adaptation.budget is None:
            what = "no adapter" if config.adaptation.kind is not Adaptation.lora else "no budget"
            raise UserError(
                f"sweep.same_budget=true: {name} has {what}; leave it out of the sweep, give"
                " adaptation.budget, or leave out sweep.same_budget"
            )
        if name not in sizes:
            chosen = None
            if config.selector.name is not None:
                count = how_many(config, shape(model_config).layers)
                chosen = dearest(config, model_config, count)
            sizes[name] = adapter_size(config.adaptation, model_config, chosen)
    budgets = sorted({config.adaptation.budget or 0 for config in configs})
    if len(budgets) > 1:
        raise UserError(
            f"sweep.same_budget=true: the sweep has the budgets {', '.join(map(str, budgets))};"
            " give one, or leave out sweep.same_budget"
        )
    for name, size in sizes.items():
        if reason := _why_not(size, budgets[0]):
            least = smallest_common_budget(list(sizes.values()))
            remedy = (
                f"the smallest budget that works for all {len(sizes)} arms is {least}"
                if least is not None
                else f"no budget works for all {len(sizes)} arms; leave out sweep.same_budget, or"
                " compare fewer"
            )
            raise UserError(f"adaptation.budget={budgets[0]}: {name} {reason}; {remedy}")


def arm_name(config: TrainConfig) -> str:
    """Return what the size of a job's adapter depends on beside the budget, as it is typed.

    Args:
        config: configuration of the job.
    """
    adaptation, selector = config.adaptation, config.selector
    if adaptation.kind is not Adaptation.lora:
        return f"adaptation={adaptation.kind.value}"
    variant = adaptation.variant
    words = [] if variant is Variant.lora else [f"adaptation={variant.value}"]
    if selector.name is None:
        words.append(f"adaptation.layers={_typed(adaptation.layers)}")
    else:
        words.append(f"selector={selector.name.value}")
        given = {"preset": selector.preset, "layers": selector.layers, "count": selector.count}
        words += [
            f"selector.{key}={_typed(value)}" for key, value in given.items() if value is not None
        ]
        if adaptation.granularity is Granularity.module:
            words.append("adaptation.granularity=module")
    words.append(f"adaptation.modules={_typed(adaptation.modules)}")
    if adaptation.peft:
        words.append(f"adaptation.peft={adaptation.peft}")
    return " ".join(words)


def _typed(value: Any) -> str:
    """Return a value as it is typed on the command line."""
    return f"[{','.join(map(str, value))}]" if isinstance(value, list) else str(value)


def _why_not(size: AdapterSize, budget: int) -> str | None:
    """Return why an adapter can't use a budget, or None if it can."""
    if size.fits(budget):
        return None
    if size.least > budget:
        return f"takes {size.least} parameters with rank 1"
    ranks = size.ranks(budget)
    above = next((name for name, rank in ranks.items() if rank > size.full[name]), None)
    if above is not None:
        return (
            f"would need rank {ranks[above]} on {above}, whose weight has full rank"
            f" {size.full[above]} (at most {size.most} parameters)"
        )
    share = 100 * size.used(budget) / budget
    return f"uses {size.used(budget)} of it ({share:.0f} %, less than {100 * (1 - EQUAL):.0f} %)"
