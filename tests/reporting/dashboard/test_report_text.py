"""Words of the report: text from names stays text."""

from __future__ import annotations

import json
from pathlib import Path

from sumcirc.jobs import report
from sumcirc.reporting.arms import control_title
from sumcirc.reporting.dashboard.logged_runs import read_material
from sumcirc.reporting.dashboard.report_text import arm_table, story
from sumcirc.reporting.tables import markdown_table
from sumcirc.schema import LoggerConfig, LoggerKind, ReportConfig
from tests.support.sweeps import config, write_run, write_sweep


def test_without_a_comparison_the_command_is_named(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "s", {(0,): 0.4}, seeds=(1, 2))
    write_run(sweep / "x", config(logger__wandb=False), 0.4)
    first, arms = story(read_material([sweep]), "rougeLsum_f1")
    assert first.paragraphs[0] == "W&B runs of s: 2 of sumcirc train."
    assert "x: was run without logger=wandb" in first.paragraphs[1]
    assert arms.commands == ("sumcirc report SWEEP",)
    assert arms.markdown == ()


def test_the_arms_of_a_comparison(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "s", {"random": 0.4, (0,): 0.6}, noise=0.01)
    report.run(
        ReportConfig(paths=[str(sweep)], logger=LoggerConfig(kind=LoggerKind.none)), tmp_path
    )
    _, arms = story(read_material([sweep]), "rouge1_f1")
    (table,) = arms.markdown
    heading, _, first, second = table.splitlines()
    assert "| ROUGE-1 |" in heading
    found = json.loads((sweep / "comparison/comparison.json").read_text())
    for row, arm in zip((first, second), found["arms"], strict=True):
        score = arm["scores"]["rouge1_f1"]
        assert row.startswith(
            f"| {control_title(arm['arm'])} | 1,2,3 | {100 * score['mean']:.1f} ["
        )
    assert 55 < 100 * found["arms"][0]["scores"]["rouge1_f1"]["mean"] < 65
    assert arms.commands == (f"sumcirc report {sweep}",)
    assert any(
        "layers 0 differs from LoRA on random layers: higher" in text for text in arms.paragraphs
    )
    assert "claims are made for ROUGE-Lsum only" in arms.paragraphs[0]


def test_hostile_names_are_text() -> None:
    hostile = "a|b <script>alert(1)</script> **x** [y](http://z) `c` é\n次"
    arm = {
        **{"arm": hostile, "seeds": ["1"], "scores": {}, "lowest_validation_loss": None},
        **{"trainable_parameters": 10.0, "remarks": []},
    }
    row = markdown_table(arm_table([arm], "rougeLsum_f1")).splitlines()[-1]
    assert row.count(" | ") == 5, "no cell more"
    assert r"\<script\>" in row
    assert r"a\|b" in row
    assert "é 次" in row
