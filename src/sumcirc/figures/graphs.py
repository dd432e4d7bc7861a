"""A circuit drawn layer by layer, from the embedding at the bottom to the logits at the top.

Heads are placed by their number at both sides of a column of MLPs. Nodes outside the circuit are
small dots. Edges go upward. The colour of an edge shows the sign of its score, and its width and
darkness show |score|. The dashes of an edge and the position where it ends show whether a head
reads it as query, key or value. The area of a node grows with the sum of |score| of its edges in
the circuit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sumcirc.reporting.kinds import PALETTE, NodeGraph, places

Edge = tuple[str, str, str, float]
# blue and vermilion, which colour-blind readers can distinguish
NEGATIVE, POSITIVE = PALETTE[0], PALETTE[1]
# inputs of a head: where an edge ends at the head's lower rim, and the line's dashes
INPUTS = {"q": (-0.12, "-"), "k": (0.0, (0, (4, 1.5))), "v": (0.12, (0, (1, 1.2)))}

_HEAD = re.compile(r"a\d+\.h\d+")
_WIDEST = 4.2  # width of the largest edge in points
_THINNEST = 0.5


def graph_size(panel: NodeGraph, several: bool) -> tuple[float, float]:
    """Return the width and height of a circuit in inches.

    Args:
        panel: the circuit.
        several: not used. All functions that return a panel's size have the same signature.
    """
    return max(0.56 * (panel.heads + 1.6) + 1.4, 6.2), max(0.74 * (panel.layers + 1) + 1.9, 4.4)


def draw_graph(axes: Any, panel: NodeGraph, width: float, height: float) -> None:
    """Draw a circuit and the legend of its edges.

    Args:
        axes: matplotlib axes in which the circuit is drawn.
        panel: the circuit.
        width, height: not used. All functions that draw a panel have the same signature.
    """
    where = places(panel.layers, panel.heads)
    largest = max(abs(score) for *_, score in panel.edges) or 1.0
    # the largest are drawn last, on top
    for edge in sorted(panel.edges, key=lambda edge: abs(edge[3])):
        _draw_edge(axes, edge, where, abs(edge[3]) / largest)
    _draw_nodes(axes, panel.edges, where)
    _label(axes, panel.layers, panel.heads)
    _legend(axes, panel, largest)


def _totals(edges: Sequence[Edge]) -> dict[str, float]:
    """Return, for each node, the sum of |score| over its edges."""
    totals: dict[str, float] = {}
    for source, destination, _, score in edges:
        for node in (source, destination):
            totals[node] = totals.get(node, 0.0) + abs(score)
    return totals


def _draw_edge(
    axes: Any, edge: Edge, where: Mapping[str, tuple[float, float]], strength: float
) -> None:
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path as Line

    source, end, into, score = edge
    (x, y), (end_x, end_y) = where[source], where[end]
    aside, dashes = INPUTS.get(into, (0.0, "-"))
    end_x += aside
    rise = end_y - y
    # lines along the column of MLPs, or in one head's column, would cover each other: they curve,
    # more for longer lines, half of them to each side
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
            edgecolor=_shade(score, strength),
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
    """Return the colour that stands for the score's sign, paler for a smaller `strength`."""
    from matplotlib.colors import to_rgb

    share = 0.45 + 0.55 * np.sqrt(strength)
    return tuple(1 - share * (1 - part) for part in to_rgb(POSITIVE if score > 0 else NEGATIVE))


def _draw_nodes(axes: Any, edges: Sequence[Edge], where: Mapping[str, tuple[float, float]]) -> None:
    totals = _totals(edges)
    largest = max(totals.values()) or 1.0
    outside = np.array([place for name, place in where.items() if name not in totals])
    if len(outside):
        axes.scatter(*outside.T, s=4, color="0.8", zorder=0)
    for name, total in totals.items():
        x, y = where[name]
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
    where = places(1, heads)
    axes.set_xticks([where[f"a0.h{head}"][0] for head in range(heads)], map(str, range(heads)))
    axes.set_xlabel("head")
    axes.tick_params(length=0, labelsize=8)
    axes.spines[:].set_visible(False)
    axes.set(xlim=(-0.7, heads - 1 + 1.6 + 0.7), ylim=(-1.15, layers + 0.55))
    for layer in range(0, layers, 2):
        axes.axhspan(layer - 0.25, layer + 0.75, color="0.965", linewidth=0, zorder=-1)


def _legend(axes: Any, panel: NodeGraph, largest: float) -> None:
    """Add the entries of the legend as lines without points; the figure draws the legend."""
    entries: list[tuple[str, dict[str, Any]]] = []
    for share in (1.0, 0.25, 0.05):
        text = f"|score| {share * largest:.2g} {panel.unit}".rstrip()
        entries.append((text, {"color": "0.3", "linewidth": _width(share)}))
    for colour, sign, text in ((POSITIVE, 1, "score above 0"), (NEGATIVE, -1, "score below 0")):
        if any(score * sign > 0 for *_, score in panel.edges):
            entries.append((text, {"color": colour, "linewidth": 2}))
    for letter, text in (("q", "into a query"), ("k", "into a key"), ("v", "into a value")):
        if any(into == letter for _, _, into, _ in panel.edges):
            dashes = INPUTS[letter][1]
            entries.append((text, {"color": "0.3", "linewidth": 1.3, "linestyle": dashes}))
    for text, look in entries:
        axes.plot([], [], label=text, **look)
