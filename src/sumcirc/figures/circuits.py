"""Figures of one circuit: its nodes and edges by layer, and a map of node scores."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sumcirc.figures.drawing import (
    COLOURS,
    NotDrawableError,
    draw_grid,
    new_figure,
    part_column,
    save,
)

# two of Okabe and Ito's colours, blue and vermilion, which no one takes for each other
NEGATIVE, POSITIVE = COLOURS[0], COLOURS[1]
# a head's inputs: where an edge arrives at its lower rim, and the line's dashes
INPUTS = {"q": (-0.12, "-"), "k": (0.0, (0, (4, 1.5))), "v": (0.12, (0, (1, 1.2)))}

_HEAD, _GROUP, _MLP = (
    re.compile(r"a(\d+)\.h(\d+)"),
    re.compile(r"a(\d+)\.g(\d+)"),
    re.compile(r"m(\d+)"),
)
_STEM = 1.6  # width between the left and the right heads, where embedding, MLPs and logits stand
_WIDEST = 4.2  # points, of the largest edge
_THINNEST = 0.5


@dataclass(frozen=True)
class _Drawn:
    """An edge to draw: its ends, the input it goes to (or none), its score."""

    source: str
    destination: str
    into: str
    score: float


MOST_EDGES = 150  # in a picture that can still be read


def draw_circuit(
    edges: Iterable[tuple[str, str, float]],
    target: Path,
    layers: int,
    heads: int,
    title: str = "",
    unit: str = "",
    group: int = 1,
) -> None:
    """Draw a circuit layer by layer from the embedding at the bottom to the logits at the top.

    Heads stand by their number at both sides of a stem of MLPs; nodes that aren't in the circuit
    are small dots. An edge goes upward; its colour tells the sign of its score, its width and
    darkness the size, its line and the place where it arrives whether a head reads it as query, key
    or value. The area of a node goes with the sum of |score| of its edges in the circuit.

    Args:
        edges: of the circuit: source (`input`, `a0.h1`, `m2`), destination (`a3.h1<q>`, `m3`,
            `logits`) and score; 50 to 200 can be read.
        layers, heads: of the model.
        unit: of scores, such as `nats`.
        group: query heads that share a key/value head; an edge into a group's key (`a3.g0<k>`) is
            drawn to each of its heads in the circuit, with its score divided among them.

    Raises:
        NotDrawableError: no edge, or one between nodes that such a model doesn't have.
        UserError: the files can't be written.
    """
    listed = [(source, destination, float(score)) for source, destination, score in edges]
    places = _places(layers, heads)
    drawn = _drawn(listed, places, group)
    figure = new_figure(max(0.56 * (heads + _STEM) + 1.4, 6.2), max(0.74 * (layers + 1) + 1.9, 4.4))
    axes = figure.add_subplot()
    largest = max(abs(edge.score) for edge in drawn) or 1.0
    # the largest are drawn last and lie on top
    for edge in sorted(drawn, key=lambda edge: abs(edge.score)):
        _draw_edge(axes, edge, places, abs(edge.score) / largest)
    _draw_nodes(axes, drawn, places)
    _label(axes, layers, heads)
    _legend(figure, drawn, largest, unit)
    kinds = f"{len(listed)} edge{'s' * (len(listed) != 1)}, {len(_totals(drawn))} nodes"
    figure.suptitle(f"{title}: {kinds}" if title else kinds, fontsize=10)
    save(figure, target, ("source", "destination", "score"), listed)


def draw_node_scores(
    heads: NDArray[Any],
    target: Path,
    label: str,
    mlp: Sequence[float] | NDArray[Any] | None = None,
    title: str = "",
) -> None:
    """Map of node scores by layer and head, with the MLPs in a column of their own.

    Scores without a negative one are coloured by their square root, since those of a few nodes
    exceed most others by far; with one, the scale is linear and white is 0.

    Args:
        heads: [layers, heads]; NaN is drawn grey.
        label: of the colour bar, with the unit.
        mlp: [layers].

    Raises:
        NotDrawableError: no value is finite.
        UserError: the files can't be written.
    """
    from matplotlib.colors import PowerNorm

    values = np.asarray(heads, dtype=np.float64)
    count = values.shape[1]
    if mlp is not None:
        values = np.column_stack([values, np.asarray(mlp, dtype=np.float64)])
    if not np.isfinite(values).any():
        raise NotDrawableError("node scores: none is finite; score the circuit again")
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    limit = max(abs(low), abs(high)) or 1.0
    signed = low < 0
    colours = "RdBu_r" if signed else "viridis"
    figure, axes = draw_grid(values, colours, (-limit if signed else 0.0, limit), label)
    if not signed:
        axes.images[0].set_norm(PowerNorm(0.5, 0.0, limit))
    if mlp is not None:
        part_column(axes, count, "MLP")
    if title:
        figure.suptitle(title, fontsize=10)
    layers = range(len(values))
    rows = [(f"a{i}.h{j}", i, j, values[i, j]) for i in layers for j in range(count)]
    if mlp is not None:
        rows += [(f"m{i}", i, "", values[i, count]) for i in layers]
    save(figure, target, ("node", "layer", "head", "score"), rows)


def _places(layers: int, heads: int) -> dict[str, tuple[float, float]]:
    """Where every node stands: a layer is 1 high, its MLP half a layer above its heads."""
    left = (heads + 1) // 2
    middle = left - 0.5 + _STEM / 2 - 0.5
    places = {"input": (middle, -0.75), "logits": (middle, layers + 0.1)}
    for layer in range(layers):
        for head in range(heads):
            places[f"a{layer}.h{head}"] = (head + (_STEM if head >= left else 0.0), float(layer))
        places[f"m{layer}"] = (middle, layer + 0.5)
    return places


def _drawn(
    edges: list[tuple[str, str, float]], places: Mapping[str, Any], group: int
) -> list[_Drawn]:
    if not edges:
        raise NotDrawableError("the circuit has no edges to draw; choose a larger size")
    inside = {source for source, _, _ in edges}
    drawn = []
    for source, destination, score in edges:
        name, _, rest = destination.partition("<")
        ends, found = [name], _GROUP.fullmatch(name)
        if found:
            first = int(found[2]) * group
            members = [f"a{found[1]}.h{first + i}" for i in range(group)]
            ends = [head for head in members if head in inside] or members
        into = rest.removesuffix(">")
        for end in ends:
            if source not in places or end not in places or into not in ("", *INPUTS):
                raise NotDrawableError(
                    f"circuit: there is no edge {source}->{destination} in a model of this size"
                )
            drawn.append(_Drawn(source, end, into, score / len(ends)))
    return drawn


def _totals(drawn: list[_Drawn]) -> dict[str, float]:
    """Sum of |score| over each node's edges."""
    totals: dict[str, float] = {}
    for edge in drawn:
        for node in (edge.source, edge.destination):
            totals[node] = totals.get(node, 0.0) + abs(edge.score)
    return totals


def _draw_edge(
    axes: Any, edge: _Drawn, places: Mapping[str, tuple[float, float]], strength: float
) -> None:
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path as Line

    (x, y), (end_x, end_y) = places[edge.source], places[edge.destination]
    aside, dashes = INPUTS.get(edge.into, (0.0, "-"))
    end_x += aside
    rise = end_y - y
    # along the stem and up one head's column lines would lie on each other: they bulge, the farther
    # they reach the more, half of them to either side
    bulge = 0.0
    if abs(end_x - x) < 0.5:
        side = 1 if (round(2 * y) + round(rise)) % 2 else -1
        bulge = side * min(0.12 + 0.2 * rise, 2.6) if rise > 1.01 else 0.0
    line = Line(
        [
            (x, y),
            (x + bulge, y + 0.45 * rise),
            (end_x + bulge, end_y - 0.45 * rise),
            (end_x, end_y),
        ],
        [Line.MOVETO, Line.CURVE4, Line.CURVE4, Line.CURVE4],
    )
    axes.add_patch(
        PathPatch(
            line,
            fill=False,
            edgecolor=_shade(edge.score, strength),
            linewidth=_width(strength),
            linestyle=dashes,
            alpha=0.85,
            zorder=1 + strength,
            capstyle="butt",
        )
    )


def _width(strength: float) -> float:
    return _THINNEST + (_WIDEST - _THINNEST) * strength


def _shade(score: float, strength: float) -> tuple[float, ...]:
    """The sign's colour, paler for small scores."""
    from matplotlib.colors import to_rgb

    share = 0.45 + 0.55 * np.sqrt(strength)
    return tuple(1 - share * (1 - part) for part in to_rgb(POSITIVE if score > 0 else NEGATIVE))


def _draw_nodes(axes: Any, drawn: list[_Drawn], places: Mapping[str, tuple[float, float]]) -> None:
    totals = _totals(drawn)
    largest = max(totals.values()) or 1.0
    outside = np.array([place for name, place in places.items() if name not in totals])
    if len(outside):
        axes.scatter(*outside.T, s=4, color="0.8", zorder=0)
    for name, total in totals.items():
        x, y = places[name]
        text = name.split(".")[-1]
        axes.scatter(
            x,
            y,
            s=(190 if len(text) < 4 else 520) + 460 * total / largest,
            marker="o" if _HEAD.fullmatch(name) else "s",
            color="0.96" if _HEAD.fullmatch(name) else "#FBF3D5",
            edgecolors="0.25",
            linewidths=0.8,
            zorder=3,
        )
        axes.text(x, y, text, ha="center", va="center", fontsize=6.5, zorder=4)


def _label(axes: Any, layers: int, heads: int) -> None:
    axes.set_yticks(range(layers), [str(layer) for layer in range(layers)])
    axes.set_ylabel("layer")
    places = _places(1, heads)
    axes.set_xticks(
        [places[f"a0.h{head}"][0] for head in range(heads)], list(map(str, range(heads)))
    )
    axes.set_xlabel("head")
    axes.tick_params(length=0, labelsize=8)
    axes.spines[:].set_visible(False)
    axes.set(xlim=(-0.7, heads - 1 + _STEM + 0.7), ylim=(-1.15, layers + 0.55))
    for layer in range(0, layers, 2):
        axes.axhspan(layer - 0.25, layer + 0.75, color="0.965", linewidth=0, zorder=-1)


def _legend(figure: Any, drawn: list[_Drawn], largest: float, unit: str) -> None:
    from matplotlib.lines import Line2D

    handles = []
    for share in (1.0, 0.25, 0.05):
        text = f"|score| {share * largest:.2g} {unit}".rstrip()
        handles.append(Line2D([], [], color="0.3", linewidth=_width(share), label=text))
    for colour, score, text in ((POSITIVE, 1, "score above 0"), (NEGATIVE, -1, "score below 0")):
        if any(edge.score * score > 0 for edge in drawn):
            handles.append(Line2D([], [], color=colour, linewidth=2, label=text))
    for letter, text in (("q", "into a query"), ("k", "into a key"), ("v", "into a value")):
        if any(edge.into == letter for edge in drawn):
            dashes: Any = INPUTS[letter][1]
            handles.append(Line2D([], [], color="0.3", linewidth=1.3, linestyle=dashes, label=text))
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=4,
        frameon=False,
        fontsize=8,
        handlelength=2.8,
    )
