"""Whether two landscapes can be compared, and in which settings they differ."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from sumcirc.errors import UserError
from sumcirc.placement.landscape import Landscape
from sumcirc.reporting.arms import APART
from sumcirc.tracking.record_format import value_before

BUDGET = "adaptation.budget"
# settings that tell apart landscapes of different sets of layers, or how runs were carried out
UNTOLD = ("model.name", "data.name", "selector.", "generation.batch_size")


def check_comparable(
    first: Landscape, other: Landscape, given: str, column: str, metric: str
) -> None:
    """Refuse a landscape that can't be compared with the first.

    Args:
        first, other: the landscapes.
        given: the path of the other, for messages.
        column: name of the score in a landscape.
        metric: the same as the user gives it.

    Raises:
        UserError: it has other layers, sets, or another budget, lacks the score, or is the same.
    """
    start = f"against={given}:"
    if other.layers != first.layers:
        raise UserError(
            f"{start} its model has {other.layers} layers, that of {first.name} {first.layers};"
            " compare landscapes of equally many layers"
        )
    if other.modules != first.modules:
        raise UserError(
            f"{start} has {_of_what(other)}, {first.name} {_of_what(first)}; compare landscapes of"
            " layers, or of the same modules (granularity= says which of a sweep)"
        )
    if other.size != first.size:
        raise UserError(
            f"{start} has {_of_what(other)}, {first.name} {_of_what(first)}; compare landscapes of"
            " one size (size= says which of a sweep)"
        )
    budgets = [one.settings.get(BUDGET) for one in (first, other)]
    if budgets[0] != budgets[1]:
        shown = [f"{one:,}" if isinstance(one, int) else "none" for one in budgets]
        raise UserError(
            f"{start} has a budget of {shown[1]}, {first.name} of {shown[0]}; compare landscapes"
            " trained with the same adaptation.budget"
        )
    if column not in other.scores:
        raise UserError(
            f"{start} has no metric={metric}; choose one that both have, of"
            f" {', '.join(name for name in first.scores if name in other.scores) or 'none'}"
        )
    ours, theirs = first.scores[column], other.scores[column]
    if ours.shape == theirs.shape and np.array_equal(ours, theirs, equal_nan=True):
        raise UserError(
            f"{start} has the same scores as {first.name}, so it is the same landscape; name each"
            " once"
        )


def _of_what(landscape: Landscape) -> str:
    """Return of what a landscape's sets consist."""
    told = landscape.units.sets(landscape.size)
    return f"{told} ({', '.join(landscape.modules)})" if landscape.modules else told


def differing(first: Landscape, other: Landscape) -> dict[str, tuple[Any, Any]]:
    """Return the settings in which two landscapes differ, with both values by dotted name.

    Args:
        first, other: the landscapes.
    """
    # records made by an earlier version may have settings that define no arm any more
    names = sorted({*first.settings, *other.settings} - APART)
    # and may lack settings that were added since
    both = {
        name: tuple(one.settings.get(name, value_before(name)) for one in (first, other))
        for name in names
    }
    return {
        name: values
        for name, values in both.items()
        if not name.startswith(UNTOLD) and json.dumps(values[0]) != json.dumps(values[1])
    }
