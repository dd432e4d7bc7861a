"""Interactions of pairs of units of the weight change, as a table and as a view.

`effects` arguments are `path.effects` of one tuned model below `after` in summary.json, which
`sumcirc compare` writes. Interactions are shares of the gain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sumcirc.reporting.kinds import Map, NotDrawableError, Table, View
from sumcirc.reporting.tables import interval_column
from sumcirc.reporting.views.nulls import or_nan

Row = Mapping[str, Any]
KINDS = {"shapley": "Shapley interaction", "add": "alone", "remove": "on removal"}
SHARE = "share of the gain"


def interaction_table(effects: Row, listed: int) -> Table | None:
    """Return a table of the pairs that interact most, or None if there are no interactions.

    Args:
        effects: effects of units.
        listed: largest number of rows.
    """
    pairs = effects.get("interactions")
    if not pairs:
        return None
    kinds = [kind for kind in KINDS if kind in pairs[0]]
    some = sorted(pairs, key=lambda pair: -abs(pair[kinds[0]]["mean"]))[:listed]
    columns = [[" and ".join(pair["units"]) for pair in some]]
    columns += [interval_column([pair[kind] for pair in some]) for kind in kinds]
    title = (
        f"pairs of {effects['grain']}s: {SHARE} beyond the sum of both (negative: they stand in for"
        " each other,\npositive: they need each other; * differs from zero, FDR 5 %)"
    )
    for kind in kinds:
        title += f"\n{KINDS[kind]}: {counts(pairs, kind)}"
    headings = ["pair", *(KINDS[kind] for kind in kinds)]
    return Table(title, headings, [list(row) for row in zip(*columns, strict=True)])


def counts(pairs: Sequence[Row], kind: str) -> str:
    """Return how many pairs stand in for each other, and how many need each other.

    Args:
        pairs: the pairs.
        kind: kind of the interaction.
    """
    sure = [pair[kind]["mean"] for pair in pairs if pair[kind]["significant"]]
    negative = sum(mean < 0 for mean in sure)
    return (
        f"{negative} of {len(pairs)} pairs stand in for each other,"
        f" {len(sure) - negative} need each other"
    )


def interaction_view(effects: Row) -> View:
    """Return a view with a map of all pairs for each kind of interaction.

    Args:
        effects: effects of units.

    Raises:
        NotDrawableError: there are no interactions.
    """
    pairs = effects.get("interactions")
    if not pairs:
        raise NotDrawableError("interactions of pairs: they were not computed")
    names = list(dict.fromkeys(name for pair in pairs for name in pair["units"]))
    panels: list[Any] = []
    table: list[tuple[Any, ...]] = []
    kinds = [kind for kind in KINDS if kind in pairs[0]]
    for kind in kinds:
        values = np.full((len(names), len(names)), np.nan)
        marked = np.zeros(values.shape, dtype=bool)
        for pair in pairs:
            i, j = (names.index(name) for name in pair["units"])
            values[[i, j], [j, i]] = or_nan(pair[kind]["mean"])
            marked[[i, j], [j, i]] = pair[kind]["significant"]
            ends = (pair[kind][end] for end in ("mean", "low", "high"))
            table.append((kind, *pair["units"], *ends))
        panels.append(
            Map(
                *(values, SHARE, "", True, marked),
                columns=names,
                rows=names,
                x="",
                y="",
                title=KINDS[kind],
            )
        )
    strongest = max(pairs, key=lambda pair: abs(or_nan(pair[kinds[0]]["mean"])))
    return View(
        "Interactions of pairs",
        [panels],
        "What two units do together beyond the sum of both. Negative: they stand in for each other."
        " Positive: they need each other. Dots: differs from zero (FDR 5 %).",
        f"The strongest pair is {' and '.join(strongest['units'])}:"
        f" {strongest[kinds[0]]['mean']:.2f} of the gain.",
        columns=("kind", "unit", "other", "mean", "low", "high"),
        rows=table,
    )
