"""The circuit on other pairs: another corruption of the same documents, and another task.

- ablation: what the cut edges carry is the circuit's own assumption. The same edges are judged on
  the held-out documents under another corruption. J. Miller et al., Transformer Circuit
  Faithfulness Metrics are not Robust, 2024, arXiv:2407.08734.
- specific: the same search on another task (other pairs) gives another circuit C'. If C' did here
  what C does, C would be a circuit of both. So f(C) - f(C') has to be above 0, both where each is
  kept alone and where each is removed from the model; Li and Subramani, 2605.08348, find that
  removing another task's circuit often hurts as much. Documents that judge here don't choose C'.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sumcirc.circuits.card.lines import LEVEL, Line, enough, told, untested, verdict
from sumcirc.circuits.card.subject import Kept, Subject, difference, run_on, share
from sumcirc.circuits.discovery import circuit_of, score_edges
from sumcirc.circuits.inputs.example_pairs import ExamplePair
from sumcirc.circuits.sign_filter import ranking_scores
from sumcirc.circuits.stability import jaccard
from sumcirc.circuits.tasks import Task, make_task
from sumcirc.errors import UserError


@dataclass(frozen=True)
class OtherPairs:
    """Pairs of another corruption or of another task.

    Attributes:
        name: how they are called, such as `replace` or the name of a file.
        pairs: the pairs; empty if there are none.
        why: the reason why there are none.
    """

    name: str
    pairs: Sequence[ExamplePair] = ()
    why: str = ""


def other_ablation(subject: Subject, other: OtherPairs) -> Line:
    """Judge the circuit on the held-out documents under another corruption.

    Args:
        subject: the circuit.
        other: pairs of the same documents.
    """
    held = {pair.id for pair in subject.held_out.pairs}
    pairs = [pair for pair in other.pairs if pair.id in held]
    if not enough(len(pairs)):
        why = other.why or f"{len(pairs)} of the held-out documents give a pair by {other.name}"
        return untested("ablation", why)
    try:
        task = make_task(subject.model, pairs, subject.options, attributed=False)
    except UserError as error:
        return untested("ablation", f"{other.name}: {error}")
    if task.evaluator.doubt is not None:
        return untested("ablation", f"{other.name}: {task.evaluator.doubt}")
    if not enough(len(task.pairs)):
        return untested("ablation", f"{len(task.pairs)} held-out pairs by {other.name} are usable")
    rest = subject.graph.exists & ~subject.circuit
    label = f"card: circuit under {other.name}"
    kept, removed = run_on(task.evaluator, label, [subject.circuit, rest], subject.counted)
    number, left = share(task.evaluator, kept), share(task.evaluator, removed)
    before = subject.found.faithfulness.faithfulness
    said = (
        f"{other.name} in place of {_corruption(subject)} on {len(task.pairs)} held-out documents:"
        f" {told(number)} (before {told(before)}), all other edges {told(left)}"
    )
    details = {"corruption": other.name, "complement": asdict(left)}
    passed = number.low >= LEVEL and number.high <= 2 - LEVEL
    return Line(
        "ablation", verdict(passed), number, said, passes=4 * len(task.pairs), details=details
    )


def ablation_passes(subject: Subject) -> int:
    """Return the number of passes over one pair of `other_ablation`."""
    return 4 * subject.pairs


def specific(subject: Subject, other: OtherPairs) -> Line:
    """Find the circuit of another task by the same search, and compare what the two do here.

    Args:
        subject: the circuit.
        other: pairs of the other task.
    """
    held = {pair.id for pair in subject.held_out.pairs}
    choosing = [pair for pair in other.pairs if pair.id not in held]
    judging = [pair for pair in other.pairs if pair.id in held]
    if not judging:  # other documents
        choosing, judging = choosing[::2], choosing[1::2]
    if len(choosing) < 2:
        return untested("specific", other.why or f"{other.name}: gives fewer than two pairs")
    options = subject.options
    try:
        task = make_task(subject.model, choosing, options)
    except UserError as error:
        return untested("specific", f"{other.name}: {error}")
    with subject.counted(f"card: attribute {other.name}", len(task.pairs)) as advance:
        scores = score_edges(subject.model, task, options, advance)
    ranking = ranking_scores(scores.documents.double().numpy(), subject.graph, options)
    theirs = circuit_of(ranking, subject.graph, options)
    if not theirs.any():
        return untested("specific", f"{other.name}: its circuit has no edge")
    exists = subject.graph.exists
    here = [theirs, exists & ~theirs, exists & ~subject.circuit]
    alone, removed, own_removed = subject.run(f"card: circuit of {other.name} here", here)
    kept = subject.above(alone)
    cut = difference(subject.evaluator, removed, own_removed)  # f without C' minus f without C
    there = _there(subject, theirs, judging, other.name)
    overlap = jaccard(subject.circuit, theirs)
    said = (
        f"the circuit of {other.name} ({int(theirs.sum()):,} edges, Jaccard index {overlap:.2f})"
        f" does {told(subject.share(alone))} here; removing this circuit costs {told(cut)} more"
        f" than removing that one; {there['said']}"
    )
    details = {
        "other": other.name,
        "jaccard": overlap,
        "alone": asdict(subject.share(alone)),
        "removed": asdict(cut),
        "there": there["details"],
    }
    steps = (options.steps + 2) * len(task.pairs)
    passes = steps + 3 * subject.pairs + 2 * len(judging)
    status = verdict(kept.low > 0 and cut.low > 0)
    return Line("specific", status, kept, said, passes=passes, details=details)


def specific_passes(subject: Subject) -> int:
    """Return about how many passes over one pair `specific` takes."""
    return (subject.options.steps + 2) * len(subject.task.pairs) + 5 * subject.pairs


def _there(
    subject: Subject, theirs: Kept, judging: Sequence[ExamplePair], name: str
) -> dict[str, Any]:
    """Return what both circuits do on the other task's own pairs, as words and as numbers."""
    try:
        task: Task = make_task(subject.model, list(judging), subject.options, attributed=False)
    except UserError as error:
        return {"said": f"there: {error}", "details": None}
    if task.evaluator.doubt is not None:
        return {"said": f"there, {task.evaluator.doubt}", "details": None}
    circuits = [subject.circuit, theirs]
    metrics = run_on(task.evaluator, f"card: both on {name}", circuits, subject.counted)
    ours, own = (share(task.evaluator, metric) for metric in metrics)
    return {
        "said": f"there it does {told(ours)}, that one {told(own)}",
        "details": {"this": asdict(ours), "other": asdict(own), "pairs": len(task.pairs)},
    }


def _corruption(subject: Subject) -> str:
    return ", ".join(sorted({pair.corruption for pair in subject.held_out.pairs}))
