"""The settings in which the runs of a sweep differ, as axes of plots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sumcirc.reporting.dashboard.logged_runs import LoggedRun
from sumcirc.reporting.dashboard.panels import Axis
from sumcirc.tracking.sweep_axes import ARM

LABELS = {ARM: "arm", "layers": "layer set", "learning_rate": "learning rate"}


def settings_axes(runs: Sequence[LoggedRun]) -> list[Axis]:
    """Return the axes on which every run has a value, and on which the values differ.

    Args:
        runs: the runs to compare.
    """
    names = dict.fromkeys(name for run in runs for name in run.axes)
    names["seed"] = names.pop("seed", None)  # last: it distinguishes runs of one arm
    found = []
    for name in names:
        values = [run.axes.get(name) for run in runs]
        if None not in values and len(set(values)) > 1:
            label = LABELS.get(name, name.replace("_", " "))
            found.append(Axis(name, label, True, all(map(_is_number, values))))
    return found


def distinct(axes: Sequence[Axis], runs: Sequence[LoggedRun]) -> list[Axis]:
    """Leave out axes that divide the runs into the same groups as an earlier axis.

    Args:
        axes: the axes.
        runs: runs with a value on each axis.
    """
    found: dict[tuple[int, ...], Axis] = {}
    for axis in axes:
        values = [run.axes[axis.name] for run in runs]
        found.setdefault(tuple(values.index(value) for value in values), axis)
    return list(found.values())


def grouping(axes: Sequence[Axis]) -> list[Axis]:
    """Return the axes by which W&B groups runs into arms.

    These are all axes except the seed and, if the arm itself is an axis, the layers and the
    selector.

    Args:
        axes: the axes to choose from.
    """
    told = {"layers", "selector"} if any(axis.name == ARM for axis in axes) else set()
    return [axis for axis in axes if axis.name not in {"seed", *told}]


def summary_axis(name: str, label: str) -> Axis:
    """Return an axis for a value in the runs' W&B summaries.

    Args:
        name: name of the value in W&B.
        label: label of the axis.
    """
    return Axis(name, label, setting=False)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
