"""Charts of circuits: faithfulness beside random ones, and change over training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from sumcirc.reporting.page.charts import (
    COLOURS,
    POSITIVE,
    error_bars,
    figure,
    grid,
    line,
    log_axis,
)
from sumcirc.reporting.page.view import Block, Chart, Slider, Words
from sumcirc.tracking.record_shapes import (
    EvolutionFile,
    FaithfulnessFile,
    Point,
    Track,
    Transition,
)

JUDGED = {
    "circuit/faithfulness": "faithfulness",
    "circuit/cmd": "CMD of the circuit (0 is best)",
    "circuit/cmd_random": "CMD of random circuits",
    "circuit/jaccard_base": "overlap with the base's (Jaccard)",
    "circuit/jaccard_resamples": "overlap of resamples (Jaccard)",
}
TRACKS = {"to_first": "with the base", "to_previous": "with the checkpoint before"}


def faithfulness(found: FaithfulnessFile | None) -> list[Block]:
    """Faithfulness by size of both rankings, with random circuits; of `sumcirc circuit`."""
    if found is None:
        return []
    traces = []
    for colour, (name, label) in zip(
        COLOURS, {"absolute": "by |score|", "signed": "by score"}.items(), strict=False
    ):
        points = _judged(found[name]["points"])
        ends = [[point["faithfulness"][end] for point in points] for end in ("mean", "low", "high")]
        traces.append(_sized([point["edges"] for point in points], ends[0], label, colour, ends))
    for i, series in enumerate(found["absolute"]["random"]):
        points = _judged(series)
        values = [point["faithfulness"]["mean"] for point in points]
        trace = _sized([point["edges"] for point in points], values, "random", COLOURS[5], None)
        traces.append(trace.update(showlegend=i == 0, legendgroup="random"))
    if not any(len(trace.x) for trace in traces):
        return [Words("No circuit has a faithfulness: see the notes of the run.")]
    drawn = figure(
        traces,
        xaxis=log_axis("edges in the circuit", (size for trace in traces for size in trace.x)),
        yaxis={"title": {"text": "faithfulness"}},
        showlegend=True,
    )
    return [
        Chart(
            "Faithfulness by size",
            "What a circuit of so many edges does of what the model does: 0 nothing, 1 all of it."
            " Bars are 95 % intervals over documents. Circuits of random edges of the same size are"
            " the control: a good circuit is far above them.",
            "Faithfulness over the number of edges, of circuits by score and of random ones.",
            drawn,
        )
    ]


def _judged(points: Sequence[Point]) -> list[Point]:
    """Return the circuits that have an edge and a defined faithfulness."""
    return [
        point for point in points if point["edges"] and math.isfinite(point["faithfulness"]["mean"])
    ]


def _sized(sizes: list[int], values: list[float], name: str, colour: str, ends: Any) -> Any:
    return line(
        sizes,
        values,
        name,
        error_y=error_bars(*ends) if ends else None,
        line={"color": colour},
        hovertemplate=f"{name}, %{{x}} edges: %{{y:.3f}}<extra></extra>",
    )


def over_steps(metrics: dict[str, list[tuple[int, float]]]) -> list[Block]:
    """How circuits of a training run were judged at each checkpoint."""
    curves = {label: metrics[name] for name, label in JUDGED.items() if name in metrics}
    if not curves:
        return []
    traces = [
        line(
            [step for step, _ in points],
            [value for _, value in points],
            label,
            line={"color": colour, "dash": "dot" if "random" in label else "solid"},
            hovertemplate=f"step %{{x}}, {label}: %{{y:.3f}}<extra></extra>",
        )
        for colour, (label, points) in zip(COLOURS, curves.items(), strict=False)
    ]
    drawn = figure(
        traces,
        xaxis={"title": {"text": "optimizer step"}},
        yaxis={"title": {"text": "value"}},
        showlegend=True,
    )
    return [
        Chart(
            "The circuit at each checkpoint",
            "Faithfulness of the circuit (1: all that the model does); CMD, the area between its"
            " faithfulness curve and 1, beside that of random circuits; and overlaps.",
            f"Curves over optimizer steps: {', '.join(curves)}.",
            drawn,
        )
    ]


def evolution(found: EvolutionFile | None) -> list[Block]:
    """Overlap of the circuit with the base's and the previous one's, edges and nodes."""
    if found is None:
        return []
    blocks: list[Block] = []
    steps = [_named(step) for step in found["steps"]]
    for what in ("edges", "nodes"):
        track = found[what]
        traces = []
        for colour, (name, label) in zip(COLOURS, TRACKS.items(), strict=False):
            one = track[name]
            traces.append(_overlap(steps, one["jaccard"], label, colour, "solid"))
            if name == "to_first":
                traces.append(_overlap(steps, one["chance"], "by chance", COLOURS[5], "dot"))
        traces.append(_overlap(steps, track["within"], "of resamples", COLOURS[2], "dash"))
        drawn = figure(
            traces,
            xaxis={"title": {"text": "checkpoint"}, "type": "category"},
            yaxis={"title": {"text": "Jaccard index"}, "range": [0, 1.05]},
            showlegend=True,
        )
        title = f"Evolution of the circuit's {what}"
        caption = (
            f"Share of {what} that two circuits have in common. 'Of resamples' is what two samples"
            " of the documents would give if nothing had changed: only an overlap clearly below it"
            " is a change."
        )
        blocks.append(Chart(title, caption, f"{title}, over {len(steps)} checkpoints.", drawn))
        blocks.append(Words(_said(steps, track, what)))
    return blocks + _transitions(found["transitions"])


def _transitions(found: Sequence[Transition]) -> list[Block]:
    """Where edges came and went between checkpoints, by layers of source and destination."""
    if not found:
        return []
    names = [f"{_named(one['step'])} to {_named(one['next_step'])}" for one in found]
    changed = [
        np.add(one["added_by_layer"], one["removed_by_layer"]).astype(float) for one in found
    ]
    highest = max(float(one.max()) for one in changed) or 1.0
    layers = len(changed[-1]) - 1
    sources = ["embedding", *map(str, range(layers))]
    destinations = [*map(str, range(layers)), "logits"]
    frames = []
    for one, cells in zip(found, changed, strict=True):
        beyond = cells > np.asarray(one["noise_by_layer"], dtype=float)
        told = np.stack([one["added_by_layer"], one["removed_by_layer"]], axis=-1).astype(int)
        text = [["•" if sure else "" for sure in row] for row in beyond]
        # a source never comes after its destination, so those cells stay empty
        shown = [[v or None for v in row] for row in cells.tolist()]
        frames.append([{"z": shown, "text": text, "customdata": told.tolist()}])
    hover = "from %{y} to %{x}<br>%{customdata[0]} came, %{customdata[1]} went %{text}"
    last = frames[-1][0]
    heat = grid(
        last["z"],
        (0.0, highest),
        POSITIVE,
        hover,
        x=destinations,
        y=sources,
        text=last["text"],
        texttemplate="%{text}",
        customdata=last["customdata"],
        colorbar={"title": {"text": "edges"}},
    )
    drawn = figure(
        [heat],
        xaxis={"title": {"text": "layer of the destination"}, "type": "category"},
        yaxis={"title": {"text": "layer of the source"}, "type": "category"},
        height=int(np.clip(34 * layers + 160, 320, 820)),
    )
    total = int(changed[-1].sum())
    return [
        Chart(
            "Where edges came and went",
            "Edges that joined or left the circuit between two checkpoints, by layer. A dot marks"
            " more change than 95 % of resamples of the documents show with nothing changed; of"
            " many cells 5 % have one by chance.",
            f"Map of source layer by destination layer; {names[-1]}: {total} edges changed.",
            drawn,
            Slider("Between", names) if len(names) > 1 else None,
            frames,
        )
    ]


def _named(step: int) -> str:
    # the base is stored as step -1
    return "base" if step < 0 else f"step {step:,}"


def _overlap(steps: list[str], values: Any, name: str, colour: str, dash: str) -> Any:
    return line(
        steps,
        values,
        name,
        line={"color": colour, "dash": dash},
        hovertemplate=f"%{{x}}, {name}: %{{y:.3f}}<extra></extra>",
    )


def _said(steps: list[str], track: Track, what: str) -> str:
    differing = [
        step for step, differs in zip(steps, track["to_first"]["differs"], strict=True) if differs
    ]
    rate = track["total_change_rate"]
    moved = "" if rate is None else f" Summed over checkpoints {rate:.0f} % of the {what} changed."
    if not differing:
        return f"At no checkpoint do the {what} differ from the base's beyond noise.{moved}"
    return f"The {what} differ from the base's beyond noise at {', '.join(differing)}.{moved}"
