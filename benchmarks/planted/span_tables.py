"""Tables of planted routes: what models state, what heads read, and which measures find it.

A unit is a pair of a head and a span that it reads. AUC and rank are as in `tables`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.planted.models import KINDS, ROUTE
from benchmarks.planted.tables import (
    ALL_UNITS,
    ALONE,
    DECOYS,
    Record,
    accepted,
    cell,
    compared,
    markdown,
)
from sumcirc.statistics import Interval, bootstrap_mean

HEAD = "head"
SPAN_COLUMNS = {
    ALONE: "no decoys",
    ALL_UNITS: "with decoys",
    DECOYS: "against decoys",
    HEAD: "against the head's other spans",
}


def routes(records: Sequence[Record]) -> list[Record]:
    """Return the records of accepted models with a planted route."""
    return [one for kind, how in KINDS.items() if how.route for one in accepted(records, kind)]


def found_by_span(record: Record, measure: str, column: str) -> tuple[float, float]:
    """Return AUC and rank of a model's route by a measure.

    Args:
        record: an accepted model.
        measure: one of SPAN_MEASURES.
        column: one of SPAN_COLUMNS.
    """
    part = record[ALONE if column == ALONE else "with_decoys"]
    spans, scores = part["by_span"]["spans"], np.array(part["by_span"]["scores"][measure])
    compare = np.ones_like(scores, dtype=bool)
    if column in (DECOYS, HEAD):
        compare[:] = False
        compare[part["decoys" if column == DECOYS else "plant"]] = True
    route = part["plant"][0] * len(spans) + spans.index(ROUTE)
    others = [one for one in np.flatnonzero(compare).tolist() if one != route]
    return compared(scores.ravel(), [route], others)


def span_intervals(
    records: Sequence[Record], measure: str, column: str
) -> tuple[Interval, Interval]:
    """Return AUC and rank over the accepted models with a planted route."""
    values = [found_by_span(one, measure, column) for one in routes(records)]
    return bootstrap_mean([one for one, _ in values]), bootstrap_mean([one for _, one in values])


def span_table(records: Sequence[Record]) -> str:
    """Return a table of AUCs, and of the rank among all pairs, with a row for each measure."""
    ranked = f"rank, {SPAN_COLUMNS[ALL_UNITS]}"
    rows = [["measure", *(f"AUC, {words}" for words in SPAN_COLUMNS.values()), ranked]]
    for measure in routes(records)[0][ALONE]["by_span"]["scores"]:
        values = {column: span_intervals(records, measure, column) for column in SPAN_COLUMNS}
        cells = [cell(one, 2) for one, _ in values.values()]
        rows.append([measure, *cells, cell(values[ALL_UNITS][1], 1)])
    return markdown(rows)


def lost_by_cutting(record: Record) -> dict[str, float]:
    """Return the share of the gain that is lost while the head doesn't read a span, by span."""
    truth = record["truth"]
    gain = truth["after"] - truth["before"]
    return {span: (truth["after"] - one) / gain for span, one in truth["without_reading"].items()}


def cut_table(records: Sequence[Record]) -> str:
    """Return a table of the shares of the gain that are lost, with a row for each span."""
    lost = [lost_by_cutting(one) for one in routes(records)]
    rows = [["the head doesn't read", "share of the gain that is lost"]]
    for span in sorted(lost[0], key=lambda span: span != ROUTE):
        rows.append([span, cell(bootstrap_mean([one[span] for one in lost]), 2)])
    return markdown(rows)


STATES = {"before": "base", "plant": "with the plant", "decoys": "with the decoys"}


def facts_table(records: Sequence[Record]) -> str:
    """Return a table of the share of articles in which models state each event's facts.

    Beside it stands the mean log-probability of the second event's.
    """
    facts = [one["facts"] for one in routes(records)]
    columns = ("main event's {}", "second event's {}", "its log p, nats")
    rows = [["model", *(one.format(role) for role in facts[0]["before"] for one in columns)]]
    for state, words in STATES.items():
        values = np.array([[x for two in one[state].values() for x in two] for one in facts])
        rows.append([words, *(cell(bootstrap_mean(column), 2) for column in values.T)])
    return markdown(rows)


def span_tables(records: Sequence[Record]) -> str:
    """Return the tables as Markdown; nothing if there are no models with a planted route."""
    if not routes(records):
        return ""
    parts = {
        "What models state": facts_table(records),
        "What the head reads": cut_table(records),
        "By span": span_table(records),
    }
    return "\n\n".join(f"{name}:\n\n{one}" for name, one in parts.items()) + "\n"
