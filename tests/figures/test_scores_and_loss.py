"""Loss and scores of a run are drawn from its records."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from sumcirc.figures.views import draw
from sumcirc.reporting.views.system_scores import run_rows, score_bars
from sumcirc.reporting.views.training_curves import LOSS, over_steps
from sumcirc.tracking.run_records import RunRecords
from tests.support.sweeps import config, write_run


def rows_of(file: Path) -> list[dict[str, str]]:
    with open(file) as lines:
        return list(csv.DictReader(lines))


def test_loss_curves(tmp_path: Path, drawn: list[Any]) -> None:
    run = RunRecords(write_run(tmp_path / "r", config(), 0.4, losses=[(0, 3.0), (9, 2.0)]).path)
    draw(over_steps(run.metrics, LOSS), tmp_path / "loss.png")
    validation = [row for row in rows_of(tmp_path / "loss.csv") if row["curve"] == "validation"]
    assert [(row["step"], float(row["value"])) for row in validation] == [("0", 3.0), ("9", 2.0)]
    (axes,) = drawn[0].axes
    assert {line.get_label() for line in axes.lines} == {"training", "validation"}
    assert axes.get_ylim()[0] == 0


def test_scores_of_systems(tmp_path: Path, drawn: list[Any]) -> None:
    interval = {"mean": 0.25, "low": 0.125, "high": 0.375, "n": 50}
    names = ("rouge1_f1", "rouge2_f1", "rougeL_f1", "rougeLsum_f1", "length")
    scores = dict.fromkeys(names, interval)
    summary = {"systems": {"lead-3": scores, "a <b>name</b>": scores}}
    draw(score_bars(run_rows(summary, "r")), tmp_path / "scores.png")
    rows = rows_of(tmp_path / "scores.csv")
    assert len(rows) == 2 * 3
    assert rows[0] == {
        **{"system": "lead-3", "score": "ROUGE-1"},
        **{"mean": "25.0", "low": "12.5", "high": "37.5"},
    }
    (axes,) = drawn[0].axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ["lead-3", "a <b>name</b>"]
