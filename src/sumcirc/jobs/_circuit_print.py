"""What `sumcirc circuit` prints about the circuit that it found."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from sumcirc.runtime.terminal import say

if TYPE_CHECKING:
    from sumcirc.circuits.discovery import CircuitResult
    from sumcirc.circuits.patching.faithfulness_results import FaithfulnessCurve

LISTED_EDGES = 15  # rows of the printed table


def print_circuit(found: CircuitResult, curves: dict[str, Any], summary: dict[str, Any]) -> None:
    """Print the circuit's tables, figures and notices.

    Args:
        found: the circuit.
        curves: the content of faithfulness.json.
        summary: the content of summary.json.
    """
    from sumcirc.reporting.kinds import Table
    from sumcirc.reporting.tables import print_tables
    from sumcirc.reporting.views.circuit_curves import faithfulness_table, mean_of
    from sumcirc.runtime.notices import print_lines

    rows = [
        [f"{source} -> {destination}", f"{score:.4f}"]
        for source, destination, score in found.largest_edges(LISTED_EDGES)
    ]
    title = f"largest of {summary['circuit_edges']} edges in the circuit"
    print_tables(faithfulness_table(curves), Table(title, ["edge", "score"], rows))
    held = summary["held_out_pairs"]
    judged = (
        f", circuits judged on {held} held-out pairs" if held else ", circuits judged in-sample"
    )
    say(f"{summary['pairs']} pairs, metric {summary['metric']}{judged}")
    print_lines(summary["notices"])
    one = found.faithfulness
    # the reason why one is undefined is among the notices
    faithful = _defined(summary["faithfulness"], ".2f")
    say(f"circuit of {one.edges} edges: faithfulness {faithful}, KL {one.kl.mean:.3f} nats")
    if held:
        beside = _defined(summary["in_sample"]["faithfulness"], ".2f")
        say(f"  in-sample, on the {summary['pairs']} pairs that chose its edges: {beside}")
    if summary["control"] is not None:
        matched = _defined(summary["control"], ".2f")
        shared = (
            ""
            if found.control_shared is None
            else (f"; they contain {100 * found.control_shared:.0f} % of its edges")
        )
        say(f"  random circuits with as many edges of each kind and layer: {matched}{shared}")
    if one.completeness is not None:
        say(f"  completeness (1 - faithfulness of all other edges) {_complete(summary)}")
    say(_smallest(summary["reached"], "held-out" if held else "in-sample"))
    # over one size, neither is defined
    for name in ("cpr", "cmd") if len(found.absolute.points) > 1 else ():
        control = mean_of([one["mean"] for one in summary[name]["random"]], ".3f")
        value = _defined(summary[name]["value"], ".3f")
        say(f"{name.upper()} {value}, random {control}{_span(found.absolute)}")
    if "jaccard" in summary:
        stable, why = summary["jaccard"], ""
        if math.isnan(stable["mean"]):
            why = f" ({'all' if found.circuit.any() else 'no'} edges are in the circuit)"
        say(
            f"Jaccard between resamples of the documents {_defined(stable, '.2f')}{why},"
            f" chance level {mean_of([summary['jaccard_chance']], '.3f')}"
        )


def _span(curve: FaithfulnessCurve) -> str:
    """Return words for the sizes that CPR and CMD are areas over, unless they reach to 100 %."""
    first, last = (curve.points[at].fraction or 0.0 for at in (0, -1))
    if last == 1:
        return ""
    return f" (areas over sizes of {100 * first:g} to {100 * last:g} %, not of all)"


def _complete(summary: dict[str, Any]) -> str:
    found = _defined(summary["completeness"], ".2f")
    if "in_sample" in summary:
        found += f", in-sample {_defined(summary['in_sample']['completeness'], '.2f')}"
    return found


def _smallest(reached: dict[str, Any] | None, where: str) -> str:
    from sumcirc.circuits.patching.faithfulness_results import REACHED

    if reached is None:
        return f"{where} faithfulness of {REACHED:g}: not reached by any size of circuit.sizes"
    share = 100 * reached["fraction"]
    return (
        f"{where} faithfulness of {REACHED:g}: reached by {reached['edges']:,} edges ({share:g} %)"
    )


def _defined(interval: dict[str, Any], form: str) -> str:
    from sumcirc.reporting.tables import format_interval

    return "not defined" if math.isnan(interval["mean"]) else format_interval(interval, form)
