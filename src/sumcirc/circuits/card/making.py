"""Making a circuit's card: which lines can be tested, the tests, and what is assumed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from sumcirc.circuits.card import agreement, minimality, other_tasks, rivals
from sumcirc.circuits.card.lines import (
    BARS,
    LEVEL,
    NOT_TESTED,
    RESAMPLES,
    REST,
    STABLE,
    Card,
    Line,
    enough,
    told,
    untested,
    verdict,
)
from sumcirc.circuits.card.other_tasks import OtherPairs
from sumcirc.circuits.card.subject import Subject
from sumcirc.circuits.discovery import CircuitResult
from sumcirc.circuits.tasks import Task
from sumcirc.runtime.progress import Counted, silent
from sumcirc.schema import CARD_LINES, Ablation, CardOptions, CircuitOptions
from sumcirc.statistics import MIN_DOCUMENTS, Interval

NO_OTHER = OtherPairs("", (), "no other pairs are given")


def make_card(
    model: Any,
    task: Task,
    held_out: Task | None,
    found: CircuitResult,
    options: CircuitOptions,
    card: CardOptions,
    *,
    others: Mapping[str, OtherPairs] | None = None,
    counted: Counted = silent,
) -> Card:
    """Test a circuit line by line.

    The model is not changed. Lines that `card` leaves out say which setting tests them and
    how many passes it takes.

    Args:
        model: the model, with or without an adapter.
        task: the pairs that chose the edges.
        held_out: the pairs that judge; None if the circuit was judged on `task`, where only
            stability can be tested.
        found: the circuit with its figures.
        options: the settings by which it was found.
        card: settings of the tests.
        others: pairs for the lines `ablation` (the same documents under another corruption) and
            `specific` (another task); a line without pairs is not tested.
        counted: shows the progress of a test, as `runtime.progress.counted` does.
    """
    subject = Subject(model, task, held_out or task, found, options, card, counted)
    reason = _reason(subject, held_out)
    lines = [_faithful(found, reason), _complete(found, reason), _stable(found, options)]
    tests = _tests(subject, others or {})
    for name in CARD_LINES:
        test, passes = tests[name]
        if reason:
            lines.append(untested(name, reason))
        elif name in card.tested:
            lines.append(test())
        else:
            lines.append(untested(name, "", f"card.lines=[quick,{name}]", passes))
    order = list(BARS)
    lines.sort(key=lambda line: order.index(line.name))
    return Card(lines, identification(subject))


def _tests(
    subject: Subject, others: Mapping[str, OtherPairs]
) -> dict[str, tuple[Callable[[], Line], int]]:
    """Return the test of every line that takes passes, and the number of passes over one pair."""

    def ablation() -> Line:
        return other_tasks.other_ablation(subject, others.get("ablation", NO_OTHER))

    def specific() -> Line:
        return other_tasks.specific(subject, others.get("specific", NO_OTHER))

    return {
        "minimal": (lambda: minimality.minimal(subject), minimality.passes(subject)),
        "rival": (lambda: rivals.rival(subject), rivals.passes(subject)),
        "ablation": (ablation, other_tasks.ablation_passes(subject)),
        "specific": (specific, other_tasks.specific_passes(subject)),
        "converged": (lambda: agreement.converged(subject), agreement.finer_passes(subject)),
        "exact": (lambda: agreement.exact(subject), agreement.exact_passes(subject)),
    }


def _reason(subject: Subject, held_out: Task | None) -> str:
    """Return why no line can be tested on held-out pairs; empty if they can."""
    if not subject.circuit.any():
        return "the circuit has no edge"
    if held_out is None:
        return "judged in-sample, on the pairs that chose its edges (circuit.held_out)"
    if subject.evaluator.doubt is not None:
        return subject.evaluator.doubt
    if not enough(subject.pairs):
        return (
            f"{subject.pairs} held-out pairs; {MIN_DOCUMENTS} or more are needed for an interval"
            " (circuit.documents)"
        )
    return ""


def _faithful(found: CircuitResult, reason: str) -> Line:
    one = found.faithfulness.faithfulness
    number = one if np.isfinite(one.mean) else None
    if reason:
        return Line("faithful", NOT_TESTED, number, reason)
    first = found.absolute.reached
    reached = f"{LEVEL:g} is reached by no size of circuit.sizes"
    if first is not None:
        reached = f"{LEVEL:g} is reached by {first.edges:,} edges"
    above, control = found.above_control, found.control
    if above is None or control is None:
        return untested("faithful", "there are no random circuits", "circuit.random_circuits=10")
    shared = found.control_shared or 0.0
    said = (
        f"matched random circuits {told(control)} (they contain {100 * shared:.0f} % of its edges),"
        f" the circuit is {told(above)} above them; {reached}"
    )
    passed = one.low >= LEVEL and one.high <= 2 - LEVEL and above.low > 0
    details = {"edges": found.faithfulness.edges, "kl": found.faithfulness.kl.mean}
    return Line("faithful", verdict(passed), number, said, details=details)


def _complete(found: CircuitResult, reason: str) -> Line:
    one = found.faithfulness.completeness
    if one is None or not np.isfinite(one.mean):
        return untested("complete", reason or "completeness was not measured")
    rest = Interval(1 - one.mean, 1 - one.high, 1 - one.low, one.n)
    if reason:
        return Line("complete", NOT_TESTED, rest, reason)
    said = f"without the circuit's edges {told(rest)} of the gap is left"
    return Line("complete", verdict(rest.high <= REST), rest, said)


def _stable(found: CircuitResult, options: CircuitOptions) -> Line:
    one = found.stability
    if one is None:
        return untested("stable", "a single pair chose the edges", "circuit.documents=32")
    if np.isnan(one.jaccard.mean):
        return untested("stable", "circuits of resamples are equal by construction")
    number = one.jaccard
    said = (
        f"{options.resamples} resamples of {number.n} pairs that choose edges; by chance"
        f" {one.chance:.3f}, Spearman of the scores {one.spearman.mean:.2f}; the bounds"
        " contain 95 % of the pairs of resamples"
    )
    if options.resamples < RESAMPLES:
        why = f"{options.resamples} resamples are fewer than {RESAMPLES}"
        return Line("stable", NOT_TESTED, number, why, f"circuit.resamples={RESAMPLES}")
    return Line("stable", verdict(number.mean >= STABLE), number, said)


def identification(subject: Subject) -> dict[str, Sequence[str]]:
    """Return what the circuit is a circuit of, as sentences by subject.

    Args:
        subject: the circuit.
    """
    options = subject.options
    corruption = ", ".join(sorted({pair.corruption for pair in subject.held_out.pairs}))
    carried = {
        Ablation.patch: f"what its source writes on the corrupted input ({corruption}), at the same"
        " position",
        Ablation.zero: "zero",
        Ablation.mean: "the mean of its source over the tokens of the clean inputs",
    }[options.ablation]
    return {
        "estimand": [
            f"The share of the mean gap in {subject.held_out.metric.name} between the corrupted and"
            " the clean run that the model keeps if only the circuit's edges carry this run, over"
            " documents like those given, with the reference summary as input.",
        ],
        "ablation": [f"An edge outside the circuit carries {carried}."],
        "assumptions": [
            "The corrupted run differs from the clean one in the behaviour and little else: tested"
            " by the line `ablation`.",
            "An edge's score approximates the effect of patching it alone, and effects add up:"
            " tested by the lines `converged` and `exact`, single edges only.",
            "Effects of opposite sign at different positions of a document may cancel: not tested.",
            "The documents are a random sample of those the claim is about: not tested.",
        ],
    }
