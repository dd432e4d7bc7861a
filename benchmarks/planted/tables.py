"""Tables and a picture of how well each measure finds planted changes.

For a model, the units of the plant's kind are ranked by a measure's score:

    AUC    the probability that a unit of the plant has a higher score than another unit; equal
           scores count half
    rank   of the plant's unit with the lowest score, 1 for the highest score; equal scores share
           the mean of their ranks. Two heads can't be better than 2.

Both are means over models, with 95 % bootstrap intervals over models.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from sumcirc.statistics import Interval, bootstrap_mean

Record = dict[str, Any]
Values = NDArray[np.float64]

ALONE, ALL_UNITS, DECOYS = "alone", "all units", "decoys"
COLUMNS = {
    ALONE: "no decoys",
    ALL_UNITS: "with decoys, among all units",
    DECOYS: "with decoys, against decoys",
}


def read(file: Path) -> list[Record]:
    """Return the records of a file of JSON lines; none if it doesn't exist."""
    if not file.exists():
        return []
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def accepted(records: Sequence[Record], kind: str) -> list[Record]:
    """Return the records of accepted models of a kind."""
    return [one for one in records if one["kind"] == kind and one["refused"] is None]


def auc(scores: Values, plant: Sequence[int], others: Sequence[int]) -> float:
    """Return the share of pairs of a planted and another unit in which the planted one is higher.

    Args:
        scores: [units] scores.
        plant, others: indices of the units that are compared.
    """
    ranks = rankdata(scores[[*plant, *others]])[: len(plant)]
    least = len(plant) * (len(plant) + 1) / 2
    return float((ranks.sum() - least) / (len(plant) * len(others)))


def rank(scores: Values, plant: Sequence[int]) -> float:
    """Return the rank of the planted unit with the lowest score, 1 for the highest score."""
    return float(rankdata(-scores)[list(plant)].max())


def found(record: Record, measure: str, column: str) -> tuple[float, float] | None:
    """Return AUC and rank of a model's plant by a measure; None if there is nothing to compare.

    Args:
        record: an accepted model.
        measure: name of the measure.
        column: one of COLUMNS; the rank is that among the plant and the units it is compared with.
    """
    part = record[ALONE if column == ALONE else "with_decoys"]
    if measure not in part["scores"]:
        return None
    scores, plant = np.array(part["scores"][measure]), part["plant"]
    others = part["decoys"]
    if column != DECOYS:
        others = [one for one in range(len(scores)) if one not in plant]
    return compared(scores, plant, others) if others else None


def compared(scores: Values, plant: Sequence[int], others: Sequence[int]) -> tuple[float, float]:
    """Return AUC and rank of planted units among these and some others.

    Args:
        scores: [units] scores.
        plant, others: indices of the units that are compared.
    """
    chosen = scores[[*plant, *others]]
    return auc(scores, plant, others), rank(chosen, range(len(plant)))


def intervals(
    records: Sequence[Record], kind: str, measure: str, column: str
) -> tuple[Interval, Interval] | None:
    """Return AUC and rank over the accepted models of a kind; None if there are none."""
    values = [found(one, measure, column) for one in accepted(records, kind)]
    kept = [one for one in values if one is not None]
    if not kept:
        return None
    return bootstrap_mean([one for one, _ in kept]), bootstrap_mean([one for _, one in kept])


def measures(records: Sequence[Record]) -> list[str]:
    """Return the names of all measures, in the order of the longest list of them."""
    from benchmarks.planted.measures import MEASURES

    known = {name for one in records if one["refused"] is None for name in one[ALONE]["scores"]}
    return [name for name in MEASURES if name in known]


def cell(value: Interval, digits: int) -> str:
    """Return a mean with its interval, if there are enough models for one."""
    if np.isnan(value.low):
        return f"{value.mean:.{digits}f}"
    return f"{value.mean:.{digits}f} [{value.low:.{digits}f}, {value.high:.{digits}f}]"


def kinds(records: Sequence[Record]) -> list[str]:
    """Return the kinds of change, in the order of the records."""
    return list(dict.fromkeys(one["kind"] for one in records))


def counts(records: Sequence[Record]) -> str:
    """Return a table of the models that were made, and why some were discarded."""
    reasons = sorted({one["refused"] for one in records if one["refused"]})
    rows = [["kind", "made", "accepted", *reasons]]
    for kind in kinds(records):
        count = Counter(one["refused"] for one in records if one["kind"] == kind)
        numbers = [count.total(), count[None], *(count[reason] for reason in reasons)]
        rows.append([kind, *map(str, numbers)])
    return markdown(rows)


def table(records: Sequence[Record], column: str, which: int) -> str:
    """Return a table of AUCs (0) or ranks (1), with a row for each measure."""
    rows = [["measure", *kinds(records)]]
    for measure in measures(records):
        row = [measure]
        for kind in kinds(records):
            value = intervals(records, kind, measure, column)
            row.append("-" if value is None else cell(value[which], (2, 1)[which]))
        rows.append(row)
    return markdown(rows)


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Return rows, of which the first has the headings, as a Markdown table."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|---" + "|---:" * (len(rows[0]) - 1) + "|", *lines[1:]])


def tables(records: Sequence[Record]) -> str:
    """Return all tables as Markdown."""
    parts = [counts(records)]
    for which, name in enumerate(("AUC", "Rank")):
        for column, words in COLUMNS.items():
            parts.append(f"{name}, {words}:\n\n{table(records, column, which)}")
    return "\n\n".join(parts) + "\n"


def picture(records: Sequence[Record], file: Path) -> None:
    """Draw the AUC by measure and kind, with intervals.

    Args:
        records: the records.
        file: the PNG file to write.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.lines import Line2D

    names, shown = measures(records), kinds(records)
    figure, axes = pyplot.subplots(
        1, len(shown), figsize=(2.6 * len(shown) + 2.2, 0.32 * len(names) + 1.4), sharey=True
    )
    styles = {ALONE: ("0.6", "o", -0.22), ALL_UNITS: ("C0", "s", 0.0), DECOYS: ("C3", "D", 0.22)}
    for axis, kind in zip(np.atleast_1d(axes), shown, strict=True):
        for column, (color, marker, shift) in styles.items():
            for row, measure in enumerate(names):
                value = intervals(records, kind, measure, column)
                if value is None:
                    continue
                one = value[0]
                ends = np.nan_to_num([one.low, one.high], nan=one.mean)
                axis.plot(ends, [row + shift] * 2, color=color, linewidth=1.2)
                axis.plot(one.mean, row + shift, marker, color=color, markersize=4)
        axis.axvline(0.5, color="0.8", linewidth=0.8, zorder=0)
        axis.set(xlim=(-0.03, 1.03), xlabel="AUC", title=f"{kind} ({len(accepted(records, kind))})")
    first = np.atleast_1d(axes)[0]
    first.set_yticks(range(len(names)), names)
    first.set_ylim(len(names) - 0.5, -0.5)
    handles = [
        Line2D([], [], color=color, marker=marker, markersize=4, label=COLUMNS[column])
        for column, (color, marker, _) in styles.items()
    ]
    figure.legend(handles=handles, loc="lower center", ncols=3, frameon=False)
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    figure.savefig(file, dpi=120)
    pyplot.close(figure)
