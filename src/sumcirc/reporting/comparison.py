"""Comparison of arms: means over seeds and documents, differences from controls, and cost.

The tests of all arms against one control in one score are a family, within which p-values are
corrected by Holm's method. Scores are not combined into one family, since claims are made for only
one score, `ComparisonOptions.metric`, which is chosen in advance. The other scores are reported for
context.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sumcirc.errors import UserError
from sumcirc.reporting.arm_scores import (
    Reach,
    common_loss,
    difference_of,
    inside_of,
    lowest_loss,
    reach_of,
    scores_of,
    training_seconds,
    values_of,
)
from sumcirc.reporting.arms import Arm, in_text, make_arms, nearest, of_few_runs, unlike
from sumcirc.reporting.costs import Cost, cost_of
from sumcirc.reporting.inside import INSIDE
from sumcirc.reporting.notes import chosen_layers, missing_seeds, twins, versions
from sumcirc.reporting.power import check_wanted, parts_of, with_power
from sumcirc.reporting.runs import LeftOut, ReportRun, baselines
from sumcirc.statistics import (
    SEEDS_TO_CLAIM,
    Estimate,
    holm,
)
from sumcirc.statistics.power import Components
from sumcirc.tracking.score_names import ROUGE_LSUM, SCORES

CONTROLS = ("random", "all")


@dataclass(frozen=True)
class ComparisonOptions:
    """Options of a comparison.

    Attributes:
        metric: the score for which claims are made, as a column of documents.parquet.
        against: names of the controls: `random` (the random selector), `all` (LoRA on all layers),
            or labels of arms.
        loss: validation loss; for each arm, the steps and the time until this loss was reached are
            reported. None means the highest of the runs' lowest losses, which all runs reach.
        confidence: level of the intervals, such as 0.95.
        wanted: difference in `metric`, as shown in tables, for which seeds are planned; None plans
            for none.
        arms: number of arms that the planned sweep compares with a control; None for as many as are
            compared here.
    """

    metric: str = ROUGE_LSUM
    against: tuple[str, ...] = CONTROLS
    loss: float | None = None
    confidence: float = 0.95
    wanted: float | None = None
    arms: int | None = None


@dataclass(frozen=True)
class ArmResult:
    """The scores and the cost of an arm, as means over its runs.

    Attributes:
        arm: the arm.
        scores: mean of each score with its interval, by name of the score. Scores that are defined
            for fewer than two documents are missing.
        inside: the same for the measures in `reporting.inside` that all runs of the arm recorded.
        seconds: mean training time of the runs.
        loss: mean over runs of the lowest validation loss; NaN if a run never validated.
        reach: when the runs first reached the validation loss `ArmComparison.loss`.
        cost: mean operations, rate and peak memory of training.
        remarks: reasons why the arm is not directly comparable with others, in words.
    """

    arm: Arm
    scores: dict[str, Estimate]
    inside: dict[str, Estimate]
    seconds: float
    loss: float
    reach: Reach
    cost: Cost
    remarks: list[str]


@dataclass(frozen=True)
class Difference:
    """The difference between the scores of an arm and of its control.

    Attributes:
        arm, control: the two arms.
        against: name by which the control was requested, see `ComparisonOptions.against`.
        measure: name of the score that is compared.
        estimate: the arm's score minus the control's, with its interval and p-value.
        paired: whether both arms have the same seeds, so that runs are compared seed by seed.
        corrected: p-value after Holm's correction over the arms with the same control and score;
            None if either arm has fewer than `SEEDS_TO_CLAIM` seeds, so that nothing is claimed.
        remarks: how the arms differ apart from the layers that have an adapter, in words.
        parts: variance components of the difference; None for other scores than
            `ComparisonOptions.metric`, or if either arm has one seed.
        detectable: the smallest difference that 80 % of sweeps like this one show
            (`reporting.power`); None where nothing is tested.
    """

    arm: Arm
    control: Arm
    against: str
    measure: str
    estimate: Estimate
    paired: bool
    remarks: list[str]
    corrected: float | None = None
    parts: Components | None = None
    detectable: float | None = None

    @property
    def seeds(self) -> str:
        """The smaller of the two arms' numbers of seeds in words, such as `two seeds`."""
        count = self.estimate.seeds
        return {1: "one seed", 2: "two seeds"}.get(count, f"{count} seeds")

    def shown(self, alpha: float) -> bool:
        """Return whether the difference is significant after Holm's correction.

        Args:
            alpha: level of significance.
        """
        return self.corrected is not None and self.corrected < alpha

    def verdict(self, alpha: float) -> str:
        """Return, in words, what can be concluded about the difference.

        Args:
            alpha: level of significance.
        """
        if self.corrected is None:
            return f"{self.seeds}: not tested"
        if not self.shown(alpha):
            return "no difference was shown"
        direction = "higher" if self.estimate.mean > 0 else "lower"
        beside = ", but not directly comparable" if self.remarks else ""
        return f"differs from {in_text(self.control.title)}: {direction}{beside}"


@dataclass(frozen=True)
class ArmComparison:
    """The comparison of runs by arms: their scores, costs, and differences from controls.

    Attributes:
        options: options of the comparison.
        arms: results of the arms, from the highest to the lowest `options.metric`.
        differences: the difference of each arm from each control in each score.
        baselines: scores of the untrained base model and of the baselines on which all runs agree.
        loss: the validation loss to which `ArmResult.reach` refers; None if no run validated.
        documents: number of documents on which the runs were scored.
        items: hash of the documents on which the runs were scored.
        left_out: runs that are not compared, with the reasons.
        notes: remarks on the whole comparison, one line each.
    """

    options: ComparisonOptions
    arms: list[ArmResult]
    differences: list[Difference]
    baselines: dict[str, dict[str, Any]]
    loss: float | None
    documents: int
    items: str
    left_out: list[LeftOut]
    notes: list[str]

    @property
    def alpha(self) -> float:
        """The level of significance, below which a corrected p-value is significant."""
        return round(1.0 - self.options.confidence, 12)

    @property
    def measures(self) -> list[str]:
        """Names of the scores that at least one arm has, in the order of `SCORES`."""
        return [name for name in SCORES if any(name in found.scores for found in self.arms)]

    @property
    def inside(self) -> list[str]:
        """Names of the measures that at least one arm has, in the order of `INSIDE`."""
        return [name for name in INSIDE if any(name in found.inside for found in self.arms)]

    def of(self, against: str, measure: str) -> list[Difference]:
        """Return the differences of all arms from one control in one score.

        Args:
            against: name of the control, see `ComparisonOptions.against`.
            measure: name of the score.
        """
        return [
            found
            for found in self.differences
            if (found.against, found.measure) == (against, measure)
        ]


def compare(
    runs: Sequence[ReportRun], left_out: Sequence[LeftOut], options: ComparisonOptions
) -> ArmComparison:
    """Compare the arms of runs that were scored on the same items.

    Args:
        runs: runs to compare.
        left_out: runs that can't be compared, which are added to the result.
        options: options of the comparison.

    Raises:
        UserError: a control names no arm, or the metric is not among the scores.
    """
    metric = options.metric.removesuffix("_f1")
    scored = [run for run in runs if options.metric in run.values]
    if not scored:
        raise UserError(f"metric={metric}: these runs have no such score")
    unscored = [run for run in runs if run not in scored]
    left_out = [*left_out, *(LeftOut(run.path, f"has no score {metric}") for run in unscored)]
    runs = scored
    arms, notes = make_arms(runs)
    controls = {name: _controls(name, arms) for name in options.against}
    seeds = max(len(arm.runs) for arm in arms)
    loss = options.loss if options.loss is not None else common_loss(arms)
    results = []
    for arm in arms:
        name, candidates = next((one for one in controls.items() if one[1]), ("", arms[:1]))
        reference = _control_of(arm, name, candidates)
        remarks = [*(unlike(arm, reference) if reference else ()), *of_few_runs(arm, seeds)]
        reached = training_seconds(arm.runs), lowest_loss(arm.runs), reach_of(arm, loss)
        found = arm, scores_of(arm, options.confidence), inside_of(arm, options.confidence)
        cost = cost_of([run.summary for run in arm.runs])
        results.append(ArmResult(*found, *reached, cost, remarks))
    results.sort(key=lambda found: -found.scores[options.metric].mean)
    differences = [
        found
        for name, candidates in controls.items()
        for measure in (*SCORES, *INSIDE)
        for found in _family(name, measure, arms, candidates, options)
    ]
    notes += [*missing_seeds(arms), *twins(arms), *chosen_layers(arms), *versions(runs)]
    notes += [_no_control(name) for name, found in controls.items() if not found]
    first = runs[0]
    shared, items = baselines(runs), first.summary["items"]
    found = (options, results, differences, shared, loss, len(first.ids), items)
    comparison = ArmComparison(*found, list(left_out), notes)
    check_wanted(comparison)
    return comparison


def _controls(name: str, arms: Sequence[Arm]) -> list[Arm]:
    if name == "random":
        return [arm for arm in arms if arm.selector == "random"]
    if name == "all":
        return [arm for arm in arms if arm.all_layers]
    found = [arm for arm in arms if arm.label == name]
    if not found:
        labels = ", ".join(f"`{arm.label}`" for arm in arms)
        raise UserError(f"against={name}: no such arm; choose from random, all, {labels}")
    return found


def _control_of(arm: Arm, name: str, controls: Sequence[Arm]) -> Arm | None:
    """Return the control that an arm is compared with, or None if the arm is that control.

    Of several controls, that is the one that differs in the fewest settings. A control is compared
    with the one whose label is `name`, if there is one: DoRA on all layers with LoRA on all layers.
    """
    if arm not in controls:
        return nearest(arm, controls)
    return next((one for one in controls if one.label == name and one is not arm), None)


def _no_control(name: str) -> str:
    if name == "random":
        return "No random-layer control in this sweep; add one with selector=random"
    return "No control with LoRA on all layers in this sweep; add one with adaptation.layers=all"


def _family(
    against: str,
    measure: str,
    arms: Sequence[Arm],
    controls: Sequence[Arm],
    options: ComparisonOptions,
) -> list[Difference]:
    """Return the difference of each arm from the most similar of the controls, for one score.

    P-values are corrected over these differences.
    """
    found = []
    for arm in arms:
        control = _control_of(arm, against, controls)
        if control is None:
            continue
        paired = _paired_order(arm, control)
        pair = paired or (arm.runs, control.runs)
        values = values_of([*pair[0], *pair[1]], measure)
        if values is None:
            continue
        ours, theirs = values[: len(pair[0])], values[len(pair[0]) :]
        estimate = difference_of(ours, theirs, measure, paired is not None, options.confidence)
        if estimate is None:
            continue
        by_seed = paired is not None
        parts = parts_of(ours, theirs, by_seed) if measure == options.metric else None
        words = unlike(arm, control)
        found.append(
            Difference(arm, control, against, measure, estimate, by_seed, words, parts=parts)
        )
    tested = [item for item in found if item.estimate.seeds >= SEEDS_TO_CLAIM]
    corrected = holm([item.estimate.p_value for item in tested])
    by_arm = {item.arm.label: p for item, p in zip(tested, corrected, strict=True)}
    found = [replace(item, corrected=by_arm.get(item.arm.label)) for item in found]
    return with_power(found, 1.0 - options.confidence)


def _paired_order(arm: Arm, control: Arm) -> tuple[list[ReportRun], list[ReportRun]] | None:
    """Return the runs of both arms in the order of their seeds.

    The result is None unless both arms have the same seeds, and each seed once.
    """
    ours = {run.seeds[0]: run for run in arm.runs}
    theirs = {run.seeds[0]: run for run in control.runs}
    once = len(ours) == len(arm.runs) and len(theirs) == len(control.runs)
    if not once or ours.keys() != theirs.keys():
        return None
    return [ours[seed] for seed in sorted(ours)], [theirs[seed] for seed in sorted(theirs)]
