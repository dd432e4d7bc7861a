"""Checks for models whose configurations differ, so that equal weights give different outputs."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from sumcirc.compare.deltas.adapter_deltas import LEAVE_OUT
from sumcirc.errors import UserError
from sumcirc.models.config_differences import (
    Differing,
    differing_settings,
    differing_windows,
    shown,
)
from sumcirc.models.loading import read_model_config
from sumcirc.models.model_reference import ModelReference
from sumcirc.schema import Analysis

log = logging.getLogger(__name__)


def scales(analyses: Sequence[Analysis]) -> bool:
    """Return whether one of the analyses scales the change of weights.

    Args:
        analyses: the requested analyses.
    """
    return not {Analysis.delta_scaling, Analysis.path, Analysis.masks}.isdisjoint(analyses)


def check_settings(
    before: ModelReference, after: ModelReference, analyses: Sequence[Analysis]
) -> None:
    """Refuse to scale the change of two models whose configurations differ; none is loaded.

    Args:
        before, after: the two models to compare.
        analyses: the requested analyses.

    Raises:
        UserError: delta scaling, path attribution or masks are requested, and the configurations
            differ.
    """
    one, other = (read_model_config(side.whole) for side in (before, after))
    found = differing_settings(one, other)
    if found and scales(analyses):
        raise _not_by_weights(after, found)


def tell_settings(
    before: ModelReference, after: ModelReference, analyses: Sequence[Analysis], longest: int
) -> None:
    """Warn if two models' configurations differ, and refuse analyses that this makes impossible.

    Args:
        before, after: the two models to compare.
        analyses: the requested analyses.
        longest: length of the longest text in tokens; attention windows that are longer make no
            difference.

    Raises:
        UserError: delta scaling, path attribution, masks or the differences of attention are
            requested, and the models' attention windows differ for texts of this length.
    """
    one, other = (read_model_config(side.whole) for side in (before, after))
    windows = differing_windows(one, other, longest)
    if windows and scales(analyses):
        raise _not_by_weights(after, windows)
    if windows and Analysis.differences in analyses:
        raise UserError(
            f"{after.given}: its heads see other tokens than those of the model before"
            f" ({shown(windows)}; before first) in texts of {longest} tokens, so attention has no"
            " divergence between them; leave differences out of compare.analyses"
        )
    if found := {**differing_settings(one, other), **windows}:
        log.warning(
            "%s: its configuration differs from that of the model before: %s (before first)",
            after.given,
            shown(found),
        )


def _not_by_weights(after: ModelReference, found: Differing) -> UserError:
    return UserError(
        f"{after.given}: its configuration differs from that of the model before"
        f" ({shown(found)}; before first), so their difference can't be scaled; {LEAVE_OUT}"
    )
