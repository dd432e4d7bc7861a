"""Selectors that measure nothing: layers chosen by position, at random, or by name.

Selectors that measure are compared with these. `random` is the control that every other selector
has to beat; `all` is the usual LoRA on every layer.
"""

from __future__ import annotations

import numpy as np

from sumcirc.errors import UserError
from sumcirc.schema import MODULES, Granularity, Preset, SelectorConfig, SelectorName
from sumcirc.selection.context import SelectionContext
from sumcirc.selection.registry import selector
from sumcirc.selection.scores import Scores, rule

PRESETS = {Preset.paper: (2, 3, 5), Preset.observed: (9, 10, 11), Preset.hybrid: (5, 10, 11)}


@selector(SelectorName.all, measures=False)
def every_layer(context: SelectionContext) -> Scores:
    """Give every layer the score 1."""
    return rule([1] * context.layers, "every layer")


@selector(SelectorName.first, measures=False)
def first(context: SelectionContext) -> Scores:
    """Score layers by the negative of their index, so that earlier layers rank higher."""
    return rule([-layer for layer in range(context.layers)], "the first ones")


@selector(SelectorName.middle, measures=False)
def middle(context: SelectionContext) -> Scores:
    """Score layers by the negative of their distance from the middle of the model."""
    center = (context.layers - 1) / 2
    return rule([-abs(layer - center) for layer in range(context.layers)], "the middle ones")


@selector(SelectorName.last, measures=False)
def last(context: SelectionContext) -> Scores:
    """Score layers by their index, so that later layers rank higher."""
    return rule(range(context.layers), "the last ones")


@selector(SelectorName.random, measures=False)
def random(context: SelectionContext) -> Scores:
    """Score layers or modules by random numbers, which are the same on every machine.

    The numbers are drawn with `selector.seed`, or with the run's seed if that is None.
    """
    parts = 1 if context.granularity is Granularity.layer else len(MODULES)
    draws = np.random.default_rng(context.seed).random((context.layers, parts))
    return rule(draws, f"drawn at random by seed {context.seed}")


@selector(SelectorName.fixed, measures=False)
def fixed(context: SelectionContext) -> Scores:
    """Give the layers that the settings name the score 1, and all other layers the score 0."""
    config = context.config.selector
    named = named_layers(config, context.layers)
    reason = "named by the user"
    if config.preset is not None:
        reason = f"named by earlier work on 12-layer models ({config.preset.value})"
    return rule([layer in named for layer in range(context.layers)], reason)


def named_layers(config: SelectorConfig, layers: int) -> list[int]:
    """Return the indices of the layers that `selector.preset` or `selector.layers` names.

    Args:
        config: the selector's settings.
        layers: number of layers of the model.

    Raises:
        UserError: no layer is named, or the model lacks a named layer.
    """
    if config.preset is None and config.layers is None:
        raise UserError("selector=fixed: name the layers with selector.layers=[...]")
    named = list(PRESETS[config.preset]) if config.preset is not None else list(config.layers or [])
    beyond = [layer for layer in named if not 0 <= layer < layers]
    if beyond:
        given = f"selector.layers={named}"
        if config.preset is not None:
            given = f"selector={config.preset.value}: names layers {named} of 12-layer models, but"
        raise UserError(
            f"{given}: layer {beyond[0]} is out of range; the model has {layers} layers, 0 to"
            f" {layers - 1}; take selector=first, middle or last, or name others with"
            " selector=fixed selector.layers=[...]"
        )
    return named
