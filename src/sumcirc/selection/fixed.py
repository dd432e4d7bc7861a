"""Layers that somebody names: the user, or earlier work on 12-layer models."""

from __future__ import annotations

from sumcirc.errors import UserError
from sumcirc.schema import Preset, SelectorConfig
from sumcirc.selection.evidence import Evidence
from sumcirc.selection.scores import Scores, rule

PRESETS = {Preset.paper: (2, 3, 5), Preset.observed: (9, 10, 11), Preset.hybrid: (5, 10, 11)}


def score(evidence: Evidence) -> Scores:
    """1 for the named layers, 0 for the others."""
    config = evidence.config.selector
    named = named_layers(config, evidence.layers)
    reason = "named by the user"
    if config.preset is not None:
        reason = f"named by earlier work on 12-layer models ({config.preset.value})"
    return rule([layer in named for layer in range(evidence.layers)], reason)


def named_layers(config: SelectorConfig, layers: int) -> list[int]:
    """The layers that are meant.

    Raises:
        UserError: none is named, or the model has no such layer.
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
