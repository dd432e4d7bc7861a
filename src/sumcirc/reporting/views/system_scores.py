"""Tables and views of the scores of several systems on the same documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sumcirc.data.word_tokenizers import ASCII
from sumcirc.reporting.costs import Cost, cost_columns, cost_of
from sumcirc.reporting.kinds import Bar, Bars, Table, View
from sumcirc.reporting.tables import format_score, format_seconds, interval_of, print_tables
from sumcirc.runtime.notices import lines_of_runs
from sumcirc.runtime.terminal import say
from sumcirc.statistics import Interval
from sumcirc.storage.reading import RecordError
from sumcirc.tracking.run_directory import runs_inside
from sumcirc.tracking.run_records import RunRecords
from sumcirc.tracking.score_names import BASE, FAITHFUL, ROUGE, ROUGE_LSUM, TRAINED

UNKNOWN = Cost()
DRAWN = ("rouge1", "rouge2", "rougeLsum")
_LONGEST = 26  # characters of a system's name in a figure


@dataclass(frozen=True)
class SystemRow:
    """The scores and the cost of one system that writes summaries.

    Attributes:
        system: name of the system.
        scores: each score with its interval, by its name, such as `rouge1_f1` (a fraction) and
            `length` (in words). There are scores `facts` and `facts_wrong` if the data lists key
            facts.
        trainable_parameters: number of trained parameters, or None if nothing was trained.
        seconds: training time in seconds, or None if it is unknown.
        words: description of what ROUGE counts as a word.
        cost: operations, rate and peak memory of training.
        scorers: descriptions of the models that score summaries, see `scoring_models`.
    """

    system: str
    scores: Mapping[str, Interval]
    trainable_parameters: int | None = None
    seconds: float | None = None
    words: str = ""
    cost: Cost = UNKNOWN
    scorers: tuple[str, ...] = ()

    @property
    def cells(self) -> list[str]:
        """The text of the cells of this system's row in `score_table`, without facts and cost."""
        parameters, seconds, length = self.trainable_parameters, self.seconds, self.scores["length"]
        return [
            self.system,
            *(format_score(self.scores[f"{name}_f1"]) for name in ROUGE),
            f"{length.mean:.1f}",
            "-" if parameters is None else f"{parameters:,}",
            "-" if seconds is None else format_seconds(seconds),
        ]


def rouge_words(summary: Mapping[str, Any]) -> str:
    """Return a description of what ROUGE counted as a word in a run, from the run's summary.json.

    If summary.json lacks it, the run was made by a version that had only rouge-score's tokenizer.

    Args:
        summary: the content of the run's summary.json.
    """
    return summary["rouge"]["words"] if "rouge" in summary else ASCII.label


def scoring_models(summary: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a description of each model that scored a run's summaries.

    Args:
        summary: the content of the run's summary.json.
    """
    found = []
    for name, one in summary.get("scoring_models", {}).items():
        model = f"{one['model']}{' at ' + one['revision'] if one['revision'] else ''}"
        about = f"by {model} (fingerprint {one['fingerprint'][:12]})"
        if name == "bertscore":
            found.append(f"BERTScore (F1) {about}, layer {one['layer']}")
        else:
            size = one["sentences"]
            premise = "a sentence" if size == 1 else f"{size} sentences"
            found.append(
                "entailed: mean probability that a summary's sentence follows from the best"
                f" premise of {premise} of the document, {about}"
            )
    return tuple(found)


def run_rows(summary: Mapping[str, Any], label: str) -> list[SystemRow]:
    """Return one row for each system in the summary of a run.

    Args:
        summary: the content of the run's summary.json.
        label: name to show for the trained system.
    """
    rows = []
    words, scorers = rouge_words(summary), scoring_models(summary)
    for name, scores in summary["systems"].items():
        found = {key: interval_of(one) for key, one in scores.items()}
        if name == TRAINED:
            seconds = summary.get("seconds", {}).get("train")
            trainable, cost = summary.get("trainable_parameters"), cost_of([summary])
            rows.append(SystemRow(label, found, trainable, seconds, words, cost, scorers))
        else:
            rows.append(SystemRow(name, found, words=words, scorers=scorers))
    return rows


def score_table(rows: Sequence[SystemRow], title: str = "") -> Table:
    """Return a table of scores and cost, one row per system.

    Key facts have a column if any system has a score for them, and so has the cost of training.

    Args:
        rows: the systems' scores and costs.
        title: title of the table.
    """
    headings = ["system", *ROUGE.values(), "words", "trainable", "time"]
    cells = [row.cells for row in rows]
    cost_headings, costs = cost_columns([row.cost for row in rows])
    headings += cost_headings
    for one, cost in zip(cells, costs, strict=True):
        one += cost
    if any("facts" in row.scores for row in rows):
        place = 1 + len(ROUGE)
        headings.insert(place, "facts")
        for row, one in zip(rows, cells, strict=True):
            one.insert(place, format_score(row.scores["facts"]) if "facts" in row.scores else "-")
    return Table(title, headings, cells)


def faithfulness_table(rows: Sequence[SystemRow], title: str = "") -> Table | None:
    """Return a table of how faithful and how degenerate summaries are, one row per system.

    Args:
        rows: the systems' scores and costs.
        title: title of the table.

    Returns:
        The table, with a column for each score that any system has; None if there is no such score,
        as in runs of version 0.1.
    """
    shown = [name for name in FAITHFUL if any(name in row.scores for row in rows)]
    if not shown:
        return None
    cells = [
        [
            row.system,
            *(format_score(row.scores[name]) if name in row.scores else "-" for name in shown),
        ]
        for row in rows
    ]
    return Table(title, ["system", *(FAITHFUL[name] for name in shown)], cells)


def print_scores(rows: Sequence[SystemRow], title: str = "") -> None:
    """Print tables of scores, cost and faithfulness, their scale, and what ROUGE counts as a word.

    Args:
        rows: the systems' scores and costs.
        title: title of the table.
    """
    faithful = faithfulness_table(rows, "entities and degenerate summaries, %")
    print_tables(score_table(rows, title), *([faithful] if faithful else []))
    scaled = (
        "ROUGE (F1) and facts are" if any("facts" in row.scores for row in rows) else "ROUGE is F1"
    )
    say(f"{scaled} x 100")
    for words in dict.fromkeys(row.words for row in rows if row.words):
        say(f"ROUGE counts {words}")
    for scorer in dict.fromkeys(scorer for row in rows for scorer in row.scorers):
        say(scorer)


def score_bars(rows: Sequence[SystemRow]) -> View:
    """Return a view of the ROUGE F1 scores (times 100) of all systems, with their intervals.

    Args:
        rows: the systems' scores and costs.
    """
    bars = []
    for row in rows:
        short = len(row.system) <= _LONGEST
        name = row.system if short else f"{row.system[: _LONGEST - 1]}…"
        for key in DRAWN:
            one = row.scores[f"{key}_f1"]
            ends = (100 * one.mean, 100 * one.low, 100 * one.high)
            bars.append(Bar(name, *ends, series=ROUGE[key]))
    best = max(rows, key=lambda row: row.scores[ROUGE_LSUM].mean)
    return View(
        "Scores of every system",
        [[Bars("F1 x 100 with bootstrap interval", bars)]],
        "Points are means over documents, bars their 95 % intervals (or the confidence that the run"
        " was given). Overlapping bars do not mean that two systems are equal.",
        f"Points with intervals of {len(rows)} systems by {len(DRAWN)} ROUGE measures; the highest"
        f" ROUGE-Lsum has {best.system}.",
        columns=("system", "score", "mean", "low", "high"),
        rows=[(bar.name, bar.series, bar.mean, bar.low, bar.high) for bar in bars],
    )


def _summaries(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    """Return (name, content of summary.json) of a sweep's runs, without damaged or empty files."""
    found = []
    for path in runs_inside(folder) if folder.is_dir() else []:
        try:
            found.append((path.name, RunRecords(path).summary))
        except RecordError:
            continue
    return [(name, summary) for name, summary in found if summary]


def sweep_rows(folder: Path) -> list[list[SystemRow]]:
    """Return one row for each system in the finished runs of a sweep.

    There is one list for each set of items on which runs were scored. Systems that runs share (the
    baselines and the untrained base models) appear once. If such a system has other scores in
    another run, for example because the sweep varies the decoding, there is an additional row that
    names the run. Runs with a damaged summary are left out.

    Args:
        folder: folder of the sweep.
    """
    found: dict[tuple[str | None, str], list[tuple[str, dict[str, Any]]]] = {}
    for name, summary in _summaries(folder):
        if summary.get("systems"):
            key = summary["items"], rouge_words(summary)
            found.setdefault(key, []).append((name, summary))
    tables = []
    for runs in found.values():
        several = len({summary.get("model") for _, summary in runs}) > 1
        shared: dict[str, SystemRow] = {}
        own: list[SystemRow] = []
        for label, summary in runs:
            for row in run_rows(summary, label):
                if row.system == label:
                    own.append(row)
                    continue
                if row.system == BASE and several:
                    row = replace(row, system=f"{BASE} {summary['model']}")
                if shared.setdefault(row.system, row).scores != row.scores:
                    name = f"{row.system} of {label}"
                    shared[name] = replace(row, system=name)
        tables.append([*shared.values(), *own])
    return tables


def sweep_notices(folder: Path) -> list[str]:
    """Return the notices (warnings and remarks) of a sweep's finished runs, each notice once.

    Args:
        folder: folder of the sweep.
    """
    return lines_of_runs([summary for _, summary in _summaries(folder)])
