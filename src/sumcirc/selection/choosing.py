"""The selectors by name, and selection from start to end, with scores cached for later jobs."""

from __future__ import annotations

import logging
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from transformers import PretrainedConfig

from sumcirc.errors import UserError
from sumcirc.models.adapters import Target, adapter_costs, resolve_targets
from sumcirc.models.architectures import shape
from sumcirc.models.fingerprint import model_fingerprint
from sumcirc.models.quantization import require_effective_weights
from sumcirc.models.variants import peft_config
from sumcirc.schema import (
    AUTO,
    MODULES,
    Adaptation,
    AdaptationConfig,
    Granularity,
    Quantization,
    SelectConfig,
    SelectorName,
    TrainConfig,
)
from sumcirc.selection import (  # noqa: F401  # importing these files registers selectors
    circuit,
    conditioning,
    differences,
    explained_variance,
    extrapolation,
    feature_norms,
    gradient_subspace,
    gradients,
    positional,
    projected_residual,
    user_function,
    weight_change,
)
from sumcirc.selection.context import SelectionContext, check_own_summaries, inputs_fingerprint
from sumcirc.selection.ranking import Ranking, default_count, rank
from sumcirc.selection.registry import SELECTORS, Selector
from sumcirc.selection.scores import Scores
from sumcirc.selection.tuned import check_tuned, first_step_settings, settings_of
from sumcirc.storage.cache import Cache

log = logging.getLogger(__name__)

SELECTION = Cache("selection", format=5, libraries=("peft", "torch", "transformers"))
FILE = "scores.json"
# settings that affect how scores are used, but not the scores
NOT_OF_SCORES = ("count", "seed", "preset", "layers", "after", "probe_steps")
# settings of `evaluation` that determine the salient sentences of pairs
OF_PAIRS = ("sentences", "min_sentence_words", "rouge_tokenizer")


def select(context: SelectionContext) -> Ranking:
    """Score all layers or modules with the configured selector, and choose those that get adapters.

    Args:
        context: the configuration, the model and the data.

    Raises:
        UserError: the settings don't fit the model (see `check_selection`), or the scores can't be
            computed or ranked.
    """
    config = context.config
    selector = SELECTORS[_name(config)]
    kept = selector.measures and selector.kept
    scores = _kept_scores(context, selector) if kept else selector.score(context)
    granularity, modules = config.adaptation.granularity, config.adaptation.modules
    count = how_many(config, context.layers)
    name = config.selector.score or _name(config).value
    return rank(scores, name, granularity, modules, count, config.selector.resamples)


def how_many(config: TrainConfig | SelectConfig, layers: int) -> int:
    """Return the number of layers or modules to select.

    Args:
        config: settings of the selector and the adaptation.
        layers: number of layers of the model.

    Raises:
        UserError: the model has fewer layers or modules than that, or the selector `fixed` names a
            layer that doesn't exist.
    """
    name, options = _name(config), config.selector
    whole = config.adaptation.granularity is Granularity.layer
    parts = 1 if whole else len(config.adaptation.modules)
    total = layers * parts
    if name is SelectorName.all:
        return total
    if name is SelectorName.fixed:
        return len(positional.named_layers(options, layers)) * parts
    if options.count is not None and options.count > total:
        raise UserError(
            f"selector.count={options.count}: the model has {total}"
            f" {'layers' if whole else 'modules'} to choose from"
        )
    return default_count(total) if options.count is None else options.count


def check_selection(config: TrainConfig | SelectConfig, model_config: PretrainedConfig) -> None:
    """Refuse settings of the selection that would fail later, without reading weights.

    Args:
        config: settings of the selector and the adaptation.
        model_config: transformers' configuration of the model.

    Raises:
        UserError: the settings of selector and adaptation contradict each other, the tuned model
            isn't available, or the parameter budget is too small for a possible selection.
    """
    adaptation, name = config.adaptation, config.selector.name
    if name is None:
        if adaptation.kind is Adaptation.lora:
            resolve_targets(adaptation, model_config)
        return
    shown = f"selector={name.value}"
    if adaptation.kind is not Adaptation.lora:
        raise UserError(f"{shown}: full fine-tuning has nothing to choose; add adaptation=lora")
    if adaptation.layers != AUTO:
        raise UserError(
            f"adaptation.layers={adaptation.layers}: names the layers, which {shown} is to choose;"
            " leave one of them out"
        )
    if own := [name for name in adaptation.modules if name not in MODULES]:
        raise UserError(
            f"adaptation.modules={adaptation.modules}: selectors score {', '.join(MODULES)}, so"
            f" {own[0]} can't go with {shown}; use these names, or name the layers"
        )
    selector = SELECTORS[name]
    if adaptation.granularity is Granularity.module and not selector.modules:
        able = [one.value for one, its in SELECTORS.items() if its.modules and its.measures]
        raise UserError(
            f"{shown}: scores whole layers, not their modules; with adaptation.granularity=module"
            f" take {', '.join(able)} or random"
        )
    _check_quantized(config.model.quantize, name)
    if selector.pairs:
        config.selector.circuit.corruption_of(config.data.source, "selector.")
        if name is not SelectorName.own:
            check_own_summaries(config)
    if name is SelectorName.own:
        user_function.function_of(config.selector)
    if selector.compares or (name is SelectorName.own and config.selector.after is not None):
        check_tuned(config)
    count = how_many(config, shape(model_config).layers)
    resolve_targets(adaptation, model_config, dearest(config, model_config, count))


def _check_quantized(quantize: Quantization | None, name: SelectorName) -> None:
    """Refuse selectors that need what a quantized base hasn't."""
    if quantize is None:
        return
    if SELECTORS[name].weights:
        require_effective_weights(quantize, f"selector={name.value}:")
    if SELECTORS[name].gradients:
        raise UserError(
            f"selector={name.value}: needs gradients of the base's weights, which"
            f" model.quantize={quantize.value} stores as integers; use another selector, or select"
            " with model.quantize=null and name the layers in adaptation.layers"
        )


def adapter_facts(
    adaptation: AdaptationConfig, model_config: PretrainedConfig, ranking: Ranking | None
) -> dict[str, Any]:
    """Describe a run's adapter for the run's summary.

    Args:
        adaptation: settings of the adapter.
        model_config: transformers' configuration of the model.
        ranking: the selector's result; None if no selector is configured.

    Returns:
        `rank`, the adapter's rank (left out for a variant without ranks), and `adapter`, a mapping
        with the variant, the adapted layers and modules, rank, scale and number of parameters; with
        a selector also its name and stability, and with a budget also the budget and the share of
        it that is used.
    """
    targets = resolve_targets(adaptation, model_config, ranking and ranking.targets)
    alpha = getattr(peft_config(adaptation, targets), "lora_alpha", None)
    rank = targets.rank or 1
    facts: dict[str, Any] = {
        "variant": adaptation.variant.value,
        "layers": list(targets.layers),
        "targets": list(targets.names),
        "rank": targets.rank,
        "raised": sorted(targets.raised),  # linears with a rank of one more
        # null for variants without one
        "scale": alpha and alpha / (math.sqrt(rank) if adaptation.rslora else rank),
        "parameters": targets.parameters,
    }
    if ranking is not None:
        facts |= {"selector": ranking.selector, "stability": ranking.stability}
    if adaptation.budget is not None:
        facts |= {"budget": adaptation.budget, "used": targets.parameters / adaptation.budget}
    return {**({"rank": targets.rank} if targets.ranks else {}), "adapter": facts}


def dearest(
    config: TrainConfig | SelectConfig, model_config: PretrainedConfig, count: int
) -> list[Target]:
    """Return the most expensive targets, by parameters, that a selector may choose.

    Args:
        config: settings of the adaptation.
        model_config: transformers' configuration of the model.
        count: number of layers or modules that the selector chooses.
    """
    adaptation, layers = config.adaptation, shape(model_config).layers
    every = [(layer, module) for layer in range(layers) for module in adaptation.modules]
    if adaptation.granularity is Granularity.layer:  # all layers have the same size
        return every[: count * len(adaptation.modules)]
    costs = {
        module: sum(adapter_costs(model_config, [(0, module)]).values())
        for module in adaptation.modules
    }
    return sorted(every, key=lambda one: -costs[one[1]])[:count]


def _kept_scores(context: SelectionContext, selector: Selector) -> Scores:
    """Return the scores from the cache, computed if missing; a second process waits."""
    config = context.config
    settings = {
        name: value for name, value in asdict(config.selector).items() if name not in NOT_OF_SCORES
    }
    parts = [
        model_fingerprint(context.model),
        inputs_fingerprint(context) if selector.documents else None,
        settings,
        settings_of(config) if selector.compares else None,
        first_step_settings(config) if selector.steps else None,
        [asdict(config.evaluation)[name] for name in OF_PAIRS] if selector.pairs else None,
    ]

    def write(folder: Path) -> None:
        # a job that finds the scores draws no random numbers, and must train identically
        with context.preserving_training_state():
            selector.score(context).save(folder / FILE)

    def read(folder: Path) -> Scores:
        stored = Scores.read(folder / FILE)
        stored.check(context.layers)
        return stored

    scores, found = SELECTION.get(context.cache, parts, write, read)
    if found:
        log.info("selector=%s: scores read from the cache", _name(config).value)
    return scores


def _name(config: TrainConfig | SelectConfig) -> SelectorName:
    name = config.selector.name
    assert name is not None, "nothing is selected"
    return name
