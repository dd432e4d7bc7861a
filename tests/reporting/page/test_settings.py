"""The table of settings in which runs differ."""

from __future__ import annotations

from pathlib import Path

from sumcirc.reporting.page import runs_section
from sumcirc.reporting.page.blocks import Page, TableBlock
from sumcirc.tracking.run_records import RunRecords
from tests.support.sweeps import config, write_run


def tables(*runs: Path) -> list[TableBlock]:
    page = Page("title")
    runs_section.add_settings(page, [RunRecords(run) for run in runs])
    return [block for section in page.sections for block in section.blocks]  # type: ignore[misc]


def test_each_setting_has_a_row_and_each_run_a_column(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / f"s/r{seed}", config(seed=seed), 0.4).path for seed in (1, 2)]
    (table,) = tables(*runs)
    assert table.table.headings == ["setting", "r1", "r2"]
    assert ["seed", "1", "2"] in table.table.rows


def test_many_runs_are_listed_by_value(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / f"s/r{i}", config(seed=1 + i % 2), 0.4).path for i in range(8)]
    (table,) = tables(*runs)
    assert table.table.headings == ["setting", "value", "runs"]
    assert ["seed", "2", "r1, r3, r5, r7"] in table.table.rows
