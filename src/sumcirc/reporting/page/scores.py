"""Section: ROUGE of every system on the same documents, with intervals."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from sumcirc.evaluation.results import rows as system_rows
from sumcirc.evaluation.score_table import Row, format_score, format_seconds
from sumcirc.reporting.page.charts import COLOURS, error_bars, figure
from sumcirc.reporting.page.text import isolated
from sumcirc.reporting.page.view import Block, Chart, Gap, Page, Table, Words, each
from sumcirc.reporting.tables import TextTable
from sumcirc.tracking.run_records import RunRecords

METRICS = {"rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rougeL": "ROUGE-L", "rougeLsum": "ROUGE-Lsum"}
INTRO = (
    "ROUGE F1 times 100, with the bootstrap interval over documents in brackets. All systems are"
    " scored on the same documents; lead and random take sentences of the document, oracle those"
    " that match the reference best (what copying sentences could reach)."
)


def add(page: Page, runs: Sequence[RunRecords]) -> None:
    """A table and bars for each scored run."""
    scored = [run for run in runs if run.summary.get("systems")]
    page.add("scores", "Summary quality", INTRO, each(scored, _blocks))
    for run in runs:
        if run.trains and run.status["state"] == "done" and not run.summary.get("systems"):
            command = f"sumcirc evaluate checkpoint={shlex.quote(str(run.path))}"
            page.gaps.append(Gap(f"{run.name}: its summaries were not scored", command))


def _blocks(run: RunRecords) -> list[Block]:
    rows = system_rows(run.summary, run.name)
    facts = any(row.facts for row in rows)
    headings = ["system", *METRICS.values(), *(["facts"] if facts else []), "words"]
    headings += ["trainable", "time"]
    documents = rows[0].scores["rouge1"].n
    table = TextTable(
        f"F1 x 100 on {documents} documents", headings, [_cells(row, facts) for row in rows]
    )
    words = [Words(f"ROUGE counts {rows[0].words}.")] if rows[0].words else []
    return [Table(table), *words, _bars(rows)]


def _cells(row: Row, facts: bool) -> list[str]:
    return [
        row.system,
        *(format_score(row.scores[metric]) for metric in METRICS),
        *(["-" if row.facts is None else format_score(row.facts)] if facts else []),
        "-" if row.length is None else f"{row.length:.1f}",
        "-" if row.trainable_parameters is None else f"{row.trainable_parameters:,}",
        "-" if row.seconds is None else format_seconds(row.seconds),
    ]


def _bars(rows: Sequence[Row]) -> Chart:
    import plotly.graph_objects as go

    traces = []
    for colour, (metric, label) in zip(COLOURS, METRICS.items(), strict=False):
        found = [row.scores[metric] for row in rows]
        ends = [[100 * getattr(one, name) for one in found] for name in ("mean", "low", "high")]
        traces.append(
            go.Scatter(
                x=[isolated(_shortened(row.system)) for row in rows],
                y=ends[0],
                error_y=error_bars(*ends),
                name=label,
                mode="markers",
                marker={"color": colour, "size": 9},
                hovertemplate="%{x}: %{y:.1f}<extra>" + label + "</extra>",
            )
        )
    drawn = figure(
        traces,
        yaxis={"title": {"text": "F1 x 100"}, "rangemode": "tozero"},
        xaxis={"automargin": True},
        scattermode="group",
        scattergap=0.5,
        showlegend=True,
    )
    best = max(rows, key=lambda row: row.scores["rougeLsum"].mean)
    return Chart(
        "Scores of every system",
        "Points are means over documents, bars their 95 % intervals (or the confidence that the run"
        " was given). Bars that overlap do not say that two systems are equal.",
        f"Points with intervals of {len(rows)} systems by {len(METRICS)} ROUGE measures; the"
        f" highest ROUGE-Lsum has {best.system}.",
        drawn,
    )


def _shortened(name: str, most: int = 26) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"
