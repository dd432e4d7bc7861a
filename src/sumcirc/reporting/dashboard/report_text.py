"""The text of the W&B report: which runs there are, and how `sumcirc report` compared them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sumcirc.reporting.arms import control_title
from sumcirc.reporting.dashboard.logged_runs import Material
from sumcirc.reporting.data_counts import data_counts_of
from sumcirc.reporting.kinds import Table
from sumcirc.reporting.tables import markdown_table
from sumcirc.reporting.views.arm_tables import score_cell
from sumcirc.tracking.score_names import SCORES


@dataclass(frozen=True)
class Part:
    """A section of the W&B report.

    Attributes:
        heading: heading of the section.
        paragraphs: paragraphs of text.
        markdown: blocks of Markdown, below the paragraphs.
        commands: shell commands, below the blocks.
    """

    heading: str
    paragraphs: tuple[str, ...] = ()
    markdown: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()


def story(material: Material, measure: str) -> list[Part]:
    """Return the sections of text with which the W&B report begins.

    Args:
        material: the runs and the data that they logged.
        measure: name of the score that the table of arms shows.
    """
    verbs: dict[str, int] = {}
    for run in material.runs:
        verbs[run.verb] = verbs.get(run.verb, 0) + 1
    counted = ", ".join(f"{count} of sumcirc {verb}" for verb, count in verbs.items())
    runs = f"W&B runs of {', '.join(material.groups)}: {counted}."
    left_out = (f"Not among them: {'; '.join(material.left_out)}.",) if material.left_out else ()
    data = data_counts_of([(run.path.name, run.data) for run in material.runs])
    parts = [Part("What was run", (runs, *data, *left_out))]
    found = material.comparison
    if found is None:
        words = "Not compared yet; the command below makes the table of arms, with controls."
        return [*parts, Part("The arms in figures", (words,), commands=("sumcirc report SWEEP",))]
    metric = found["options"]["metric"]
    table = arm_table(found["arms"], measure if _scored(found["arms"], measure) else metric)
    caption = (
        f"{found['documents']} test documents; intervals of"
        f" {100 * found['options']['confidence']:g} % over seeds and documents; claims are made"
        f" for {SCORES[metric]} only."
    )
    parts.append(
        Part(
            "The arms in figures",
            (caption, *found["in_words"], *found["notes"]),
            (markdown_table(table),),
            (found["command"],),
        )
    )
    return parts


def arm_table(arms: Sequence[Mapping[str, Any]], measure: str) -> Table:
    """Return a table of the arms with their scores, sizes and validation losses.

    Args:
        arms: the list `arms` in comparison.json.
        measure: name of the score to show.
    """
    headings = ["arm", "seeds", SCORES[measure], "trainable", "validation loss", "remarks"]
    rows = []
    for arm in arms:
        score, loss = arm["scores"].get(measure), arm["lowest_validation_loss"]
        ends = [score[end] for end in ("mean", "low", "high")] if score else []
        rows.append(
            [
                control_title(arm["arm"]),
                ",".join(arm["seeds"]),
                score_cell(ends[0], ends[1], ends[2], measure) if score else "",
                f"{arm['trainable_parameters']:,.0f}",
                "" if loss is None else f"{loss:.3f}",
                "; ".join(arm["remarks"]),
            ]
        )
    return Table("the arms", headings, rows, frozenset({"seeds", "remarks"}))


def _scored(arms: Sequence[Mapping[str, Any]], measure: str) -> bool:
    return any(measure in arm["scores"] for arm in arms)
