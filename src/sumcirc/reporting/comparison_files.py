"""Writes a comparison as files: arms.csv, differences.csv, comparison.json, comparison.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sumcirc.reporting.comparison import ArmComparison, ArmResult, Difference
from sumcirc.reporting.tables import markdown_table
from sumcirc.reporting.views.arm_tables import in_words, remarks, tables
from sumcirc.runtime.quoting import markdown as escape
from sumcirc.storage.writing import csv_text, plain_numbers, write_json, write_text
from sumcirc.tracking.score_names import SCORES

METHOD = """\
Seeds and documents are crossed random factors: every run scores the same documents. The margin of
an interval combines the variance over runs and the variance over documents, each with the quantile
of Student's t for its own degrees of freedom (Banerjee 1960), so it holds for few seeds and for
arms with unequal variances. p-values are two-sided and agree with the intervals. Differences are
taken on the same documents, and paired by seed if both arms have the same seeds. p-values are
corrected by Holm's method over the arms that are compared with one control, measure by measure;
arms of fewer than three seeds are not tested. What could have been shown is the smallest difference
that 80 % of such sweeps show after the correction, with variances averaged over the arms. A claim
is made for one measure only. "No difference was shown" does not mean that there is none: few seeds
show only large differences. The time to a loss is the training time in proportion to the steps."""

DIFFERENCE_COLUMNS = (
    *("arm", "against", "control", "measure", "difference", "low", "high"),
    *("error", "p", "p_holm", "detectable", "documents", "least_seeds", "paired_by_seed"),
    *("verdict", "remarks"),
)


def write_comparison(
    comparison: ArmComparison, folder: Path, command: str, figures: Sequence[Path]
) -> None:
    """Write arms.csv, differences.csv, comparison.json and comparison.md.

    Args:
        comparison: comparison of the arms.
        folder: folder to which the files are written.
        command: shell command that makes this comparison, which is written to the files.
        figures: paths of images inside `folder` that comparison.md shows.

    Raises:
        UserError: the folder can't be written.
    """
    arms = arm_rows(comparison)
    differences = difference_rows(comparison)
    write_text(folder / "arms.csv", _csv(list(arms[0]), arms))
    write_text(folder / "differences.csv", _csv(DIFFERENCE_COLUMNS, differences))
    write_json(folder / "comparison.json", plain_numbers(as_json(comparison, command)))
    write_text(folder / "comparison.md", markdown(comparison, command, figures, folder))


def as_json(comparison: ArmComparison, command: str) -> dict[str, Any]:
    """Return the content of comparison.json, with the runs and settings of every arm.

    Unknown numbers are NaN.

    Args:
        comparison: comparison of the arms.
        command: shell command that makes the comparison.
    """
    return {
        "command": command,
        "options": asdict(comparison.options),
        "items": comparison.items,
        "documents": comparison.documents,
        "loss": comparison.loss,
        "arms": [_arm(result) for result in comparison.arms],
        "differences": difference_rows(comparison),
        "baselines": comparison.baselines,
        "left_out": [
            {"run": str(item.path), "reason": item.reason} for item in comparison.left_out
        ],
        "notes": comparison.notes,
        "in_words": in_words(comparison),
    }


def _arm(result: ArmResult) -> dict[str, Any]:
    arm = result.arm
    return {
        "arm": arm.label,
        "runs": [str(run.path) for run in arm.runs],
        "seeds": arm.seeds,
        "layers": [run.layers for run in arm.runs],
        "settings": dict(arm.settings),
        "trainable_parameters": arm.trainable_parameters,
        "learning_rate": arm.learning_rate,
        "steps": arm.steps,
        "train_seconds": result.seconds,
        "cost": asdict(result.cost),
        "lowest_validation_loss": result.loss,
        "reach": asdict(result.reach),
        "remarks": result.remarks,
        "scores": {measure: asdict(found) for measure, found in result.scores.items()},
        "inside": {measure: asdict(found) for measure, found in result.inside.items()},
    }


def arm_rows(comparison: ArmComparison) -> list[dict[str, Any]]:
    """Return the rows of arms.csv, one for each arm, with times in seconds.

    Scores are fractions that are not multiplied by 100.

    Args:
        comparison: comparison of the arms.
    """
    rows = []
    for result in comparison.arms:
        arm, reach = result.arm, result.reach
        row: dict[str, Any] = {
            "arm": arm.label,
            "seeds": " ".join(arm.seeds),
            "runs": len(arm.runs),
            "trainable_parameters": arm.trainable_parameters,
            "learning_rate": arm.learning_rate,
            "steps": " ".join(map(str, arm.steps)),
            "train_seconds": result.seconds,
            **asdict(result.cost),
            "lowest_validation_loss": result.loss,
            "loss": comparison.loss,
            "runs_that_reached_loss": reach.runs,
            "steps_to_loss": reach.steps,
            "seconds_to_loss": reach.seconds,
        }
        for measure in comparison.measures:
            found = result.scores.get(measure)
            row[measure] = found.mean if found else None
            row[f"{measure}_low"] = found.low if found else None
            row[f"{measure}_high"] = found.high if found else None
            row[f"{measure}_documents"] = found.documents if found else 0
        for measure in comparison.inside:
            found = result.inside.get(measure)
            row[measure] = found.mean if found else None
            row[f"{measure}_low"] = found.low if found else None
            row[f"{measure}_high"] = found.high if found else None
        row["remarks"] = "; ".join(result.remarks)
        rows.append(row)
    return rows


def difference_rows(comparison: ArmComparison) -> list[dict[str, Any]]:
    """Return the rows of differences.csv, one for each arm, control and score.

    Args:
        comparison: comparison of the arms.
    """
    return [_difference(found, comparison) for found in comparison.differences]


def _difference(found: Difference, comparison: ArmComparison) -> dict[str, Any]:
    estimate = found.estimate
    claimed = found.measure == comparison.options.metric
    return {
        "arm": found.arm.label,
        "against": found.against,
        "control": found.control.label,
        "measure": found.measure,
        "difference": estimate.mean,
        "low": estimate.low,
        "high": estimate.high,
        "error": estimate.error,
        "p": estimate.p_value,
        "p_holm": found.corrected,
        "detectable": found.detectable,
        "documents": estimate.documents,
        "least_seeds": estimate.seeds,
        "paired_by_seed": found.paired,
        "verdict": found.verdict(comparison.alpha) if claimed else None,
        "remarks": "; ".join(found.remarks),
    }


def markdown(comparison: ArmComparison, command: str, figures: Sequence[Path], folder: Path) -> str:
    """Return a comparison in Markdown: command, findings, tables, figures and method.

    Args:
        comparison: comparison of the arms.
        command: shell command that makes the comparison.
        figures: paths of the images to show.
        folder: folder of the Markdown file, to which the images' paths are made relative.
    """
    metric = SCORES[comparison.options.metric]
    runs = sum(len(result.arm.runs) for result in comparison.arms)
    parts = [
        f"# Comparison of {len(comparison.arms)} arms, {runs} runs",
        f"    {command}",
        f"Claims are made for {metric}; scores are times 100.",
        _bullets(in_words(comparison)),
        *(f"**{escape(table.title)}**\n\n{markdown_table(table)}" for table in tables(comparison)),
        _section("Not directly comparable", remarks(comparison)),
        _section("Left out", [f"{item.path.name}: {item.reason}" for item in comparison.left_out]),
        _section("To note", comparison.notes),
        *(f"![{file.stem.replace('_', ' ')}]({file.relative_to(folder)})" for file in figures),
        f"## How\n\n{METHOD}",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _section(title: str, lines: Sequence[str]) -> str:
    return f"## {title}\n\n{_bullets(lines)}" if lines else ""


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {escape(line)}" for line in lines)


def _csv(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    plain = (plain_numbers(row) for row in rows)
    return csv_text(columns, ([row[name] for name in columns] for row in plain))
