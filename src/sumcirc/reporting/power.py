"""Which differences between arms and a control a sweep could have shown, and what others take.

Variance components are estimated from the differences of all arms from the same control, and
averaged over those that are paired alike: a single arm with three seeds says little about the
spread of runs. Arms of random layers are kept apart, since their runs vary more, and by design.
The averages are used for planning only; each test has its own variance. The level is that of Holm's
first step, alpha divided by the number of arms that are tested against the control.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sumcirc.errors import UserError
from sumcirc.statistics.power import Components, components, detectable, pooled, seeds_needed

if TYPE_CHECKING:
    from sumcirc.reporting.comparison import ArmComparison, Difference

TIMES = (1, 2, 5, 10)  # numbers of documents that are planned for, in those of the runs


@dataclass(frozen=True)
class Need:
    """What it takes to show a difference from a control.

    Attributes:
        documents: number of documents.
        seeds: number of seeds of each arm; None if even 100 are too few.
    """

    documents: int
    seeds: int | None


def parts_of(
    ours: NDArray[np.float64], theirs: NDArray[np.float64], paired: bool
) -> Components | None:
    """Return the variance components of the difference of two arms, not pooled over arms.

    Args:
        ours, theirs: [runs, documents] scores; documents with an undefined score are left out.
        paired: whether runs are compared seed by seed.

    Returns:
        The components; None if an arm has a single run, or there are fewer than two documents.
    """
    kept = np.isfinite(ours).all(axis=0) & np.isfinite(theirs).all(axis=0)
    if min(len(ours), len(theirs)) < 2 or kept.sum() < 2:
        return None
    ours, theirs = ours[:, kept], theirs[:, kept]
    return components([ours - theirs] if paired else [ours, theirs])


def with_power(differences: Sequence[Difference], alpha: float) -> list[Difference]:
    """Return the differences of a family with the smallest difference that each could have shown.

    Args:
        differences: the differences of all arms from one control in one score.
        alpha: level of significance of the family.
    """
    tested = sum(item.corrected is not None for item in differences)
    shared = _shared(differences)
    found = []
    for item in differences:
        if item.corrected is None or _kind(item) not in shared:
            found.append(item)
            continue
        seeds = [len(item.arm.runs), len(item.control.runs)][: 1 if item.paired else 2]
        design = shared[_kind(item)], seeds, item.estimate.documents, alpha / tested
        found.append(replace(item, detectable=detectable(*design)))
    return found


def needs(comparison: ArmComparison, against: str, difference: float) -> list[Need]:
    """Return the numbers of seeds that show a difference from a control, by number of documents.

    As many arms are tested as `planned_arms` says. Variances are those of arms whose layers aren't
    random, if there are such arms, and of arms with the same seeds, if there are such.

    Args:
        comparison: the comparison of the runs whose variances are used.
        against: name of the control, see `ComparisonOptions.against`.
        difference: the difference to be shown, in units of the score.

    Returns:
        One entry for each number of documents; empty if no arm and its control have two seeds.
    """
    differences = comparison.of(against, comparison.options.metric)
    shared = _shared(differences)
    if not shared:
        return []
    parts, level = shared[min(shared)], comparison.alpha / planned_arms(comparison, against)
    return [
        Need(count, seeds_needed(parts, count, difference, level))
        for count in (comparison.documents * times for times in TIMES)
    ]


def planned_arms(comparison: ArmComparison, against: str) -> int:
    """Return the number of arms that a planned sweep compares with a control.

    Args:
        comparison: the comparison of the runs from which it is planned.
        against: name of the control, see `ComparisonOptions.against`.
    """
    options = comparison.options
    return options.arms or len(comparison.of(against, options.metric))


def check_wanted(comparison: ArmComparison) -> None:
    """Refuse to plan for a difference if the runs don't tell how much runs vary.

    Args:
        comparison: the comparison.

    Raises:
        UserError: a difference is wanted, but no arm has two seeds and a control with two seeds.
    """
    wanted, metric = comparison.options.wanted, comparison.options.metric
    if wanted is None:
        return
    if not any(_shared(comparison.of(name, metric)) for name in comparison.options.against):
        raise UserError(
            f"wanted={wanted:g}: needs an arm and its control with two seeds or more each, which"
            " tell how much runs vary; these runs have none"
        )


def _kind(item: Difference) -> tuple[bool, bool]:
    """Return whether an arm has random layers, and whether its seeds are not the control's."""
    return item.arm.selector == "random", not item.paired


def _shared(differences: Sequence[Difference]) -> dict[tuple[bool, bool], Components]:
    """Return the components averaged over the arms of each kind."""
    found: dict[tuple[bool, bool], list[Components]] = {}
    for item in differences:
        if item.parts is not None:
            found.setdefault(_kind(item), []).append(item.parts)
    return {kind: pooled(several) for kind, several in found.items()}
