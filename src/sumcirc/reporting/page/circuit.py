"""Section: the circuit drawn checkpoint by checkpoint, how faithful it is, and how it changed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sumcirc.reporting.page.charts import figure
from sumcirc.reporting.page.circuit_curves import evolution, faithfulness, over_steps
from sumcirc.reporting.page.view import Block, Chart, Gap, Page, Slider, Table, each
from sumcirc.reporting.tables import TextTable
from sumcirc.storage.reading import RecordError
from sumcirc.storage.reading.circuit_file import CircuitFile
from sumcirc.tracking.run_records import RunRecords

MOST = 200  # edges of a checkpoint: more can't be read, and make the page large
LISTED = 20
INTRO = (
    "The edges between parts of the model (heads, MLPs, the embedding, the logits) that carry the"
    " summary, by their attribution scores; see the caption for what colours mean. A circuit is"
    " worth what its faithfulness is: 1 means that it does alone what the model does."
)
_EDGE = re.compile(r"(input|a\d+\.h\d+|m\d+)->(a\d+\.h\d+<([qkv])>|m\d+|logits)")
_INPUTS = {None: 0, "q": 1, "k": 2, "v": 3}


@dataclass(frozen=True)
class Drawn:
    """A circuit's largest edges: source, destination, input (of `_INPUTS`), score."""

    name: str
    layers: int
    heads: int
    size: int
    edges: list[tuple[str, str, int, float]]


def add(page: Page, runs: Sequence[RunRecords]) -> None:
    """Circuits of runs that tracked them, and of `sumcirc circuit`."""
    page.add("circuit", "Circuit", INTRO, each(runs, _blocks))
    examined = {_examined(run) for run in runs}
    for run in runs:
        tracked = bool(run.circuits) or run.path.resolve() in examined
        if run.trains and run.status["state"] == "done" and not tracked:
            command = f"sumcirc circuit checkpoint={shlex.quote(str(run.path))}"
            page.gaps.append(Gap(f"{run.name}: its circuit was not tracked", command))


def _blocks(run: RunRecords) -> list[Block]:
    found: list[Block] = []
    drawn = [one for one in (_drawn(*found) for found in run.circuits) if one.edges]
    if drawn:
        found += [_chart(drawn), Table(_table(drawn[-1]), folded=True)]
    found += faithfulness(run.faithfulness)
    found += over_steps(run.metrics)
    found += evolution(run.evolution)
    return found


def _examined(run: RunRecords) -> Path | None:
    """The run directory whose circuit a run of `sumcirc circuit` found, if it was one."""
    checkpoint = run.config.get("checkpoint")
    return Path(str(checkpoint)).resolve() if run.verb == "circuit" and checkpoint else None


def _drawn(file: Path, content: CircuitFile) -> Drawn:
    """The largest edges of a circuit.

    Raises:
        RecordError: an edge is none between parts of the model.
    """
    sizes = content["cfg"]
    layers, heads = sizes["n_layers"], sizes["n_heads"]
    where = places(layers, heads)
    kept = [(name, edge["score"]) for name, edge in content["edges"].items() if edge["in_graph"]]
    kept.sort(key=lambda edge: -abs(edge[1]))
    edges = []
    for name, score in kept[:MOST]:
        found = _EDGE.fullmatch(name)
        ends = (found[1], found[2].split("<")[0]) if found else ("", "")
        if found is None or not {*ends} <= where.keys():
            raise RecordError(file, "is no edge of the model; find the circuit again", name[:60])
        edges.append((*ends, _INPUTS[found[3]], float(score)))
    step = file.stem.removeprefix("step-")
    name = f"step {int(step):,}" if step.isdigit() else "circuit"
    return Drawn(name, layers, heads, len(kept), edges)


def places(layers: int, heads: int) -> dict[str, tuple[float, float]]:
    """Where nodes stand: heads at both sides of a stem of embedding, MLPs and logits."""
    left, stem = (heads + 1) // 2, 1.6
    middle = left - 1 + stem / 2
    found = {"input": (middle, -0.75), "logits": (middle, layers + 0.1)}
    for layer in range(layers):
        for head in range(heads):
            found[f"a{layer}.h{head}"] = (head + (stem if head >= left else 0.0), float(layer))
        found[f"m{layer}"] = (middle, layer + 0.5)
    return found


def _chart(drawn: Sequence[Drawn]) -> Chart:
    last = drawn[-1]
    where = places(last.layers, last.heads)
    order = {name: i for i, name in enumerate(where)}
    frames = [
        [(order[source], order[end], into, score) for source, end, into, score in one.edges]
        for one in drawn
    ]
    names = [f"{one.name}: {one.size} edges" for one in drawn]
    cut = f" The {MOST} largest are drawn." if any(one.size > MOST for one in drawn) else ""
    layout = figure(
        [],
        xaxis={"visible": False},
        yaxis={
            "title": {"text": "layer"},
            "tickvals": list(range(last.layers)),
            "showgrid": False,
            "zeroline": False,
        },
        height=min(max(64 * last.layers + 140, 420), 1000),
    )
    source, end, _, score = last.edges[0]
    return Chart(
        "The circuit, layer by layer",
        "Information goes up, from the embedding to the logits; circles at the sides are heads, in"
        " the middle MLPs, dots are nodes outside. Orange edges: corrupting them raises the metric"
        " (a loss); blue: it lowers it; wider: more so. The threshold hides edges of smaller"
        f" |score|. Point at the middle of an edge for its score.{cut}",
        f"Drawing of {last.size} edges at {last.name}; the largest goes from {source} to {end},"
        f" score {score:.3g}. The table lists the largest.",
        layout,
        Slider("Checkpoint", names) if len(drawn) > 1 else None,
        circuit={
            "nodes": [(name, *place) for name, place in where.items()],
            "aside": 0.012 * last.heads,
            "frames": frames,
        },
    )


def _table(one: Drawn) -> TextTable:
    inputs = {number: letter or "-" for letter, number in _INPUTS.items()}
    return TextTable(
        f"the {min(LISTED, len(one.edges))} largest of {one.size} edges, {one.name}",
        ["source", "destination", "input", "score"],
        [
            [source, end, inputs[into], f"{score:+.4g}"]
            for source, end, into, score in one.edges[:LISTED]
        ],
        frozenset({"destination", "input"}),
    )
