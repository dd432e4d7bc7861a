"""Notes on a comparison of arms, one line each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sumcirc.reporting.arms import Arm, in_text
from sumcirc.reporting.runs import ReportRun


def missing_seeds(arms: Sequence[Arm]) -> list[str]:
    """Return a note on each arm that lacks seeds which other arms have.

    The list is empty if selectors have their own seeds.

    Args:
        arms: the arms of the comparison.
    """
    seeds = {seed for arm in arms for seed in arm.seeds}
    return [
        f"missing: {in_text(arm.title)} has no finished run of seed {', '.join(absent)}"
        for arm in arms
        if (absent := sorted(seeds - set(arm.seeds))) and "/" not in "".join(seeds)
    ]


def chosen_layers(arms: Sequence[Arm]) -> list[str]:
    """Return a note on each arm with a selector: which layers were chosen with which seeds.

    Args:
        arms: the arms of the comparison.
    """
    found = []
    for arm in arms:
        chosen: dict[str, list[str]] = {}
        for run, seed in zip(arm.runs, arm.seeds, strict=True):
            if arm.selector not in (None, "all", "fixed") and run.layers is not None:
                chosen.setdefault(",".join(map(str, run.layers)), []).append(seed)
        sets = (f"{layers} (seed {', '.join(seeds)})" for layers, seeds in chosen.items())
        if chosen:
            found.append(f"layers of {in_text(arm.title)}: {'; '.join(sets)}")
    return found


def versions(runs: Sequence[ReportRun]) -> list[str]:
    """Return a note if the runs were made by different versions or commits of this package.

    Args:
        runs: the runs of the comparison.
    """
    found = []
    for name in ("sumcirc", "commit"):
        values = sorted({str(run.environment.get(name)) for run in runs})
        if len(values) > 1:
            found.append(f"runs were made by different versions ({name} {', '.join(values)})")
    return found


def twins(arms: Sequence[Arm]) -> list[str]:
    """Return a note on each pair of arms that are the same training under two names.

    Such arms have equal losses and equal scores on every document for all seeds that they share.

    Args:
        arms: the arms of the comparison.
    """
    notes = []
    for i, arm in enumerate(arms):
        for other in arms[i + 1 :]:
            theirs = {run.seeds[0]: run for run in other.runs}
            shared = [(run, theirs[run.seeds[0]]) for run in arm.runs if run.seeds[0] in theirs]
            if shared and all(_equal_scores(*pair) for pair in shared):
                notes.append(
                    f"{in_text(arm.title)} and {in_text(other.title)} are one training under two"
                    " names: equal losses and equal scores on every document in every shared seed"
                )
    return notes


def _equal_scores(run: ReportRun, other: ReportRun) -> bool:
    same_losses = run.losses == other.losses
    return (
        same_losses
        and run.values.keys() == other.values.keys()
        and all(
            np.array_equal(values, other.values[name], equal_nan=True)
            for name, values in run.values.items()
        )
    )
