"""A sweep with one damaged run: status, report and dashboard list it and show the others."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sumcirc.errors import UserError
from sumcirc.jobs import report
from sumcirc.reporting.dashboard.logged_runs import read_material
from sumcirc.reporting.views.system_scores import sweep_rows
from sumcirc.schema import LoggerConfig, LoggerKind, ReportConfig
from sumcirc.sweeps.run_states import DAMAGED, read_sweep
from tests.support.sweeps import write_sweep

pytestmark = pytest.mark.usefixtures("undrawn")


def truncate(name: str) -> Callable[[Path], None]:
    return lambda run: (run / name).write_bytes((run / name).read_bytes()[:-3])


def fifo(name: str) -> Callable[[Path], None]:
    def damage(run: Path) -> None:
        (run / name).unlink()
        os.mkfifo(run / name)

    return damage


def loop(name: str) -> Callable[[Path], None]:
    def damage(run: Path) -> None:
        (run / name).unlink()
        (run / name).symlink_to(name)

    return damage


def wrong_type(name: str, old: str, new: str) -> Callable[[Path], None]:
    def damage(run: Path) -> None:
        content = (run / name).read_text()
        assert old in content
        (run / name).write_text(content.replace(old, new, 1))

    return damage


CASES: list[tuple[Callable[[Path], None], str]] = [
    (truncate("status.json"), "status.json: is not JSON"),
    (fifo("status.json"), "status.json: is a FIFO, not a file"),
    (loop("status.json"), "status.json: can't be read (Too many levels of symbolic links)"),
    (fifo("config.yaml"), "config.yaml: is a FIFO, not a file"),
    (
        wrong_type("config.yaml", "optimizer:", "optimizer: {learning_rate: x}\n  more:"),
        'config.yaml: `config.optimizer.learning_rate` is "x"',
    ),
    (wrong_type("config.yaml", "verb: train", "verb: [" + "[" * 99_999), "config.yaml: is nested"),
    (truncate("summary.json"), "summary.json: is not JSON"),
    (wrong_type("summary.json", '"mean": 0.1', '"mean": NaN'), "summary.json: `systems.base."),
    (wrong_type("summary.json", '"steps": 100', '"steps": "1"'), 'summary.json: `steps` is "1"'),
    (truncate("documents.parquet"), "documents.parquet: is not a readable Parquet file"),
    (wrong_type("metrics.csv", "6.0", "six"), "metrics.csv: `line 2` could not convert"),
]


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    return write_sweep(tmp_path / "s", {(0,): 0.4, "random": 0.5}, seeds=(1, 2))


@pytest.mark.parametrize(("damage", "reason"), CASES)
def test_the_damaged_run_is_listed_and_the_others_are_shown(
    damage: Callable[[Path], None],
    reason: str,
    sweep: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    damage(sweep / "tiny-0-s1")
    states = {state.name: state for state in read_sweep(sweep)}
    assert len(states) == 4
    if not reason.startswith(("documents", "config", "metrics")):  # `status` reads none of them
        assert states["tiny-0-s1"].state == DAMAGED
        assert str(states["tiny-0-s1"].reason).startswith(reason)
    assert states["tiny-0-s2"].scores
    assert [len(table) for table in sweep_rows(sweep)] in ([4], [5])  # with the base

    options = ReportConfig(paths=[str(sweep)], logger=LoggerConfig(kind=LoggerKind.none))
    comparison, page, _, _ = report.write(options)
    assert comparison is not None
    (item,) = comparison.left_out
    assert item.path.name == "tiny-0-s1"
    assert item.reason.startswith(reason)
    assert sum(len(result.arm.runs) for result in comparison.arms) == 3
    assert page.is_file()

    material = read_material([sweep])
    if not reason.startswith("documents"):
        assert [line for line in material.left_out if line.startswith(f"tiny-0-s1: {reason}")]
    assert {run.path.name for run in material.runs} >= {"tiny-0-s2", "tiny-random-s1"}


def test_a_damaged_run_by_itself_is_refused_in_one_line(sweep: Path) -> None:
    fifo("summary.json")(sweep / "tiny-0-s1")
    options = ReportConfig(paths=[str(sweep / "tiny-0-s1")])
    with pytest.raises(UserError, match=r"summary\.json: is a FIFO") as caught:
        report.write(options)
    assert "\n" not in str(caught.value)


def test_runs_on_other_items_are_left_out_where_most_agree(sweep: Path) -> None:
    wrong_type("summary.json", '"items": "x"', '"items": "y"')(sweep / "tiny-0-s1")
    options = ReportConfig(paths=[str(sweep)], logger=LoggerConfig(kind=LoggerKind.none))
    comparison, _, _, _ = report.write(options)
    assert comparison is not None
    (item,) = comparison.left_out
    assert item.reason == "was scored on other items or words than tiny-0-s2 and most runs"
