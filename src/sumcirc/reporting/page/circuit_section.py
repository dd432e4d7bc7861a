"""The page's section on circuits: their edges, their faithfulness and their change in training."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from sumcirc.reporting.page.blocks import Block, Bullets, Gap, Page, TableBlock, Words, each
from sumcirc.reporting.page.plotly_charts import chart, charts, panel_charts
from sumcirc.reporting.views import circuit_card, circuit_change, circuit_curves, circuit_spans
from sumcirc.reporting.views.circuit_graphs import edge_table, graph_of_file
from sumcirc.reporting.views.training_curves import CIRCUIT, over_steps
from sumcirc.tracking.run_records import RunRecords
from sumcirc.tracking.shapes.circuit_shapes import CircuitChangeFile, EvolutionFile
from sumcirc.tracking.shapes.span_shapes import SpansFile

INTRO = (
    "The edges between nodes of the model (heads, MLPs, the embedding, the logits) that carry the"
    " summary, by their attribution scores. A score says how much corrupting an edge (giving it"
    " what it carries on a counterfactual, a document with the decisive words exchanged) changes"
    " the metric; it is computed with EAP-IG (edge attribution patching with integrated"
    " gradients) unless the run chose another method. A circuit is worth what its faithfulness is:"
    " 1 means that it does alone what the model does."
)
ASSUMED = "What is estimated, and assumed"
UNTESTED = (
    "While a model trains, circuits are judged on the pairs that chose their edges, so they have no"
    " card. This tests the last one on other pairs: sumcirc circuit checkpoint={run}"
)


def add(page: Page, runs: Sequence[RunRecords]) -> None:
    """Add the section on circuits that were tracked in training or found by `sumcirc circuit`.

    Trained runs without a circuit are added to the page's gaps.

    Args:
        page: page to which the section is added.
        runs: runs to show.
    """
    page.add("circuit", "Circuit", INTRO, each(runs, blocks))
    examined = {_examined(run) for run in runs}
    for run in runs:
        tracked = bool(run.circuits) or run.path.resolve() in examined
        if run.trains and run.done and not tracked:
            command = f"sumcirc circuit checkpoint={shlex.quote(str(run.path))}"
            page.gaps.append(Gap(f"{run.name}: its circuit was not tracked", command))


def blocks(run: RunRecords) -> list[Block]:
    """Return the charts and tables that can be made from a run's records of circuits.

    Args:
        run: the run.
    """
    found: list[Block] = []
    views = [view for file, content in run.circuits if (view := graph_of_file(file, content))]
    if views:
        names = [f"{view.panel.title}: {view.panel.size} edges" for view in views]
        found += [
            chart(views[-1], views[:-1], names),
            TableBlock(edge_table(views[-1].panel), folded=True),
        ]
    if run.faithfulness is not None:
        edges = run.summary.get("edges")
        drawn = charts(partial(circuit_curves.faithfulness, run.faithfulness, edges))
        found += drawn or [Words("No circuit has a faithfulness: see the notes of the run.")]
    if run.spans is not None:
        found += span_blocks(run.spans)
    found += card_blocks(run)
    found += charts(partial(over_steps, run.metrics, CIRCUIT))
    if run.circuit_change is not None:
        found += comparison(run.circuit_change)
    return found + (evolution(run.evolution) if run.evolution is not None else [])


def span_blocks(record: SpansFile) -> list[Block]:
    """Return sentences, maps and tables on a circuit by span.

    Args:
        record: the content of spans.json.
    """
    first, second, *others = circuit_spans.span_tables(record)
    folded = [TableBlock(table, folded=True) for table in (first, second)]
    return [
        Bullets("The circuit by span", circuit_spans.spans_said(record)),
        *panel_charts(partial(circuit_spans.spans_view, record)),
        *folded,
        *(TableBlock(table) for table in others),
    ]


def card_blocks(run: RunRecords) -> list[Block]:
    """Return a run's cards with what they assume, or why circuits of training have none."""
    found: list[Block] = []
    against = run.config.get("against") or "against"
    for record, title in (
        (run.card, "Card of the circuit"),
        (run.against_card, f"Card of the circuit of {against}"),
    ):
        if record is not None:
            table = circuit_card.card_table(
                record, f"{title}: {circuit_card.counted(record)}", sources=True
            )
            found += [TableBlock(table), Bullets(ASSUMED, circuit_card.assumptions(record))]
    if run.trains and run.circuits:
        found.append(Words(UNTESTED.format(run=shlex.quote(str(run.path)))))
    return found


def comparison(record: CircuitChangeFile) -> list[Block]:
    """Return a chart, a sentence and tables on how the circuits of two models differ."""
    tables = [TableBlock(table, folded=True) for table in circuit_change.change_tables(record)]
    said = Words(circuit_change.change_said(record))
    drawn = panel_charts(partial(circuit_change.change, record), circuit_change.PANELS)
    return [said, *drawn, *tables]


def evolution(record: EvolutionFile) -> list[Block]:
    """Return charts and sentences on how a circuit changed in training.

    The charts show how the sets of edges and of nodes changed, and between which layers edges
    joined or left the circuit.

    Args:
        record: the content of evolution.json.
    """
    found: list[Block] = []
    for what in ("edges", "nodes"):
        part = {"steps": record["steps"], what: record[what]}
        drawn = charts(partial(circuit_curves.evolution, part))
        found += [*drawn, Words(circuit_curves.said(part, what))] if drawn else []
    views = [circuit_curves.transition(one) for one in record["transitions"]]
    names = [view.heading for view in views]
    return [*found, chart(views[-1], views[:-1], names, "Between")] if views else found


def _examined(run: RunRecords) -> Path | None:
    """Return the path of the checkpoint that `sumcirc circuit` examined; None for other runs."""
    checkpoint = run.config.get("checkpoint")
    return Path(str(checkpoint)).resolve() if run.verb == "circuit" and checkpoint else None
