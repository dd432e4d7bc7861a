"""Tables of how two models differ, for the terminal and for the page.

`Row` arguments come from the entry of one tuned model below `after` in summary.json, which
`sumcirc compare` writes. Effects are given as shares of the gap between the models, or in the
metric's unit if that gap may be zero.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sumcirc.reporting.kinds import Table
from sumcirc.reporting.tables import column_form, interval_column, number_column
from sumcirc.reporting.views.lens_curves import lens_table
from sumcirc.reporting.views.mask_views import mask_tables
from sumcirc.reporting.views.path_views import path_tables
from sumcirc.statistics import excludes_zero
from sumcirc.statistics.noise import rounding_of

Row = Mapping[str, Any]
LISTED = 8  # number of rows in a table
ARROW = {"sufficiency": "after's parts into before", "necessity": "before's parts into after"}
# the whole stream, or after it; `readout` is the name in records of earlier versions
NO_PARTS = ("residual", "unembedding", "readout")
SIDES = ("before", "after", "difference")
STARS = "* differs from zero, FDR 5 %"


def same(metric: Row) -> bool:
    """Return whether two models' metrics differ by no more than rounding error.

    Args:
        metric: the metric of both models and the difference, which is `metric` in the summary.
    """
    rounding = rounding_of(metric["before"]["mean"], metric["after"]["mean"])
    ends = [value for name, value in metric["difference"].items() if name != "n"]
    return not any(abs(value) > rounding for value in ends)  # no interval is NaN


def doubtful(found: Row) -> bool:
    """Return whether the interval of the gap between two models includes 0.

    Shares of such a gap would be unreliable.

    Args:
        found: results for the pair of models, from the summary.
    """
    gap = found["metric"]["difference"]
    return not excludes_zero(gap["low"], gap["high"])


def metric_table(metric: Row, unit: str) -> Table:
    """Return a table of both models' metrics and their difference.

    Args:
        metric: the metric of both models and the difference, which is `metric` in the summary.
        unit: unit of the metric.
    """
    names = ("before", "after", "after − before")
    values = interval_column([metric[key] for key in SIDES])
    title = f"the metric ({unit}), 95 % interval over items"
    return _table(title, ("model", "mean"), [names, values])


def tables(found: Row, unit: str, listed: int = LISTED) -> list[Table]:
    """Return the tables of all analyses of a pair of models.

    Args:
        found: results for the pair of models, from the summary.
        unit: unit of the metric.
        listed: largest number of rows in each table.
    """
    effects = unit if doubtful(found) else None
    made = []
    if "differences" in found:
        differences = found["differences"]
        made += [_heads(differences["heads"][:listed]), _layers(differences["layers"][:listed])]
        made += [_lens(differences["lens"])] if differences["lens"] else []
    if found.get("direct"):
        rows = found["direct"][:listed]
        title = f"direct contributions that changed most, in {unit} ({STARS})"
        made.append(_table(title, ("part", *SIDES), [[r["part"] for r in rows], *_sides(rows)]))
    if found.get("attention"):
        rows = found["attention"]
        spans = [f"{row['source']} -> {row['destination']}" for row in rows]
        heads = [f"{row['layer']}.{row['head']}" for row in rows]
        title = f"attention from span to span: the head that changed most ({STARS})"
        made.append(_table(title, ("spans", "head", *SIDES), [spans, heads, *_sides(rows)]))
    if found.get("logit_lens"):
        made.append(lens_table(found["logit_lens"], unit, STARS))
    for direction, one in found.get("patching", {}).items():
        made += _patching(direction, one, effects, listed)
    made += _deltas(found["surgery"], listed) if found.get("surgery") else []
    made += path_tables(found["path"], listed) if found.get("path") else []
    return made + (mask_tables(found["masks"], listed) if found.get("masks") else [])


def _table(title: str, headings: Sequence[str], columns: Sequence[Sequence[str]]) -> Table:
    return Table(title, headings, [list(row) for row in zip(*columns, strict=True)])


def _sides(rows: Sequence[Row]) -> list[list[str]]:
    values = number_column([row[side] for row in rows for side in ("before", "after")])
    return [values[::2], values[1::2], interval_column(rows)]


def _heads(rows: Sequence[Row]) -> Table:
    entropy = [{**row["entropy"], "significant": row["significant"]} for row in rows]
    columns = [
        [f"{row['layer']}.{row['head']}" for row in rows],
        interval_column([row["kl"] for row in rows]),
        interval_column(entropy),
        _ranks(rows),
    ]
    headings = ("head", "attention KL (nats)", "entropy difference (nats)", "rank")
    return _table("heads whose attention changed most", headings, columns)


def _layers(rows: Sequence[Row]) -> Table:
    columns = [
        [str(row["layer"]) for row in rows],
        *(interval_column([row[name] for row in rows]) for name in ("gained", "kl")),
        _ranks(rows),
    ]
    headings = ("layer", "drift gained", "attention KL (nats)", "rank")
    return _table("layers across which the residual stream departs most", headings, columns)


def _ranks(rows: Iterable[Row]) -> list[str]:
    return [
        "-" if math.isnan(row["rank_low"]) else f"{row['rank_low']:.0f} to {row['rank_high']:.0f}"
        for row in rows
    ]


def _lens(found: Sequence[Row]) -> Table:
    """Return a table of promoted and demoted tokens.

    Tokens are written as Python literals, so that spaces and control characters are visible.
    """
    sides = [
        " ".join([repr(row["token"]) for row in found if (row["value"] > 0) is up][:LISTED])
        for up in (True, False)
    ]
    title = "tokens that the change of the last residual stream promotes and demotes (lens)"
    rows = list(zip(("promoted", "demoted"), sides, strict=True))
    return Table(title, ("", "tokens"), rows, frozenset({"tokens"}))


def _patching(direction: str, found: Row, unit: str | None, listed: int) -> list[Table]:
    share = "share of the gap (1: as the other model)" if unit is None else f"effect ({unit})"
    title = f"{direction}: {ARROW[direction]}, {share}"
    agreed = [f"{kind} {one['pearson']:.2f}" for kind, one in found.get("agreement", {}).items()]
    if agreed:
        title += "\nPearson correlation with the estimate of one backward pass, by kind: "
        title += ", ".join(agreed)
    rows = [row for row in found["parts"] if row["kind"] not in NO_PARTS]
    rows = rows if unit is None else [{**row, **row.get("effect", {})} for row in rows]
    rows = sorted(rows, key=lambda row: -abs(row["mean"]))[:listed]
    columns, headings = [[row["part"] for row in rows], interval_column(rows)], ["part", "effect"]
    if unit is None:
        form, headings = column_form(row["mean"] for row in rows), ["part", "score", "attributed"]
        columns.append(number_column([row.get("attributed", math.nan) for row in rows], form))
    made = [_table(title, headings, columns)] if rows else []
    made += _sets(direction, found.get("sets", []))
    if "synergy" in found:
        rows = found["synergy"][:listed]
        columns = [[" and ".join(row["parts"]) for row in rows], interval_column(rows)]
        title = f"{direction}: synergy of two parts (together less each alone)"
        made.append(_table(title, ("parts", "synergy"), columns))
    return made


def _sets(direction: str, rows: Sequence[Row]) -> list[Table]:
    made = []
    own = [row for row in rows if row["kind"] == "own" and row.get("parts")]
    if own:
        columns = [[" ".join(row["parts"]) for row in own], interval_column(own)]
        title = f"{direction}: parts together, as asked"
        made.append(_table(title, ("parts", "score"), columns))
    first = [row for row in rows if row["kind"] == "first" and row.get("parts")]
    if first:
        drawn = [
            [row["mean"] for row in rows if (row["kind"], row["size"]) == ("random", one["size"])]
            for one in first
        ]
        columns = [
            # each has one more part than the one above it
            [("+ " if i else "") + row["parts"][-1] for i, row in enumerate(first)],
            interval_column(first),
            [" to ".join(number_column([min(some), max(some)])) if some else "-" for some in drawn],
        ]
        title = (
            f"{direction}: the first parts together, chosen on one half of the items, judged on the"
            " other"
        )
        made.append(_table(title, ("parts", "score", "as many at random"), columns))
    return made


def _deltas(rows: Sequence[Row], listed: int) -> list[Table]:
    whole = [row for row in rows if row["arm"] == "whole"]
    made = [_scaled("the whole change scaled", [f"{row['amount']:g}" for row in whole], whole)]
    # the parts that matter most first: without them the metric is far from that of after
    removed = [row for row in rows if row["arm"] == "remove" and row["amount"] == 0]
    removed.sort(key=lambda row: -abs(1 - row["mean"]))
    alone = {(row["layer"], row["module"]): row for row in rows if row["arm"] == "only"}
    removed = [row for row in removed if (row["layer"], row["module"]) in alone][:listed]
    if removed:
        names = [row["module"] or f"layer {row['layer']}" for row in removed]
        kept = [alone[row["layer"], row["module"]] for row in removed]
        made.append(_scaled("the change without one part", names, removed))
        made.append(_scaled("the change of one part alone", names, kept))
    return made


def _scaled(title: str, names: Sequence[str], rows: Sequence[Row]) -> Table:
    headings, columns = ["change", "share of the gap"], [list(names), interval_column(rows)]
    if rows and "perplexity" in rows[0]:
        headings.append("perplexity of plain text")
        columns.append(interval_column([row["perplexity"] for row in rows]))
    return _table(title, headings, columns)
