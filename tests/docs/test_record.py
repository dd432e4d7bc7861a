"""Records of sweeps hold numbers alone, and give the comparison again."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet
import pytest
import yaml

from docs.record import RECORDS, keep
from sumcirc.errors import UserError
from sumcirc.jobs import report
from sumcirc.reporting.comparison import ArmComparison, ComparisonOptions, compare
from sumcirc.reporting.comparison_files import arm_rows, difference_rows
from sumcirc.reporting.runs import read_runs
from sumcirc.schema import LoggerConfig, LoggerKind, ReportConfig
from tests.support.sweeps import write_sweep

README = RECORDS.parents[2] / "README.md"


def compared(folder: Path) -> ArmComparison:
    return compare(*read_runs([folder]), ComparisonOptions())


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep") / "s"
    write_sweep(folder, {"random": 0.4, (0,): 0.5, "all": 0.6}, noise=0.01)
    for run in folder.iterdir():
        status = json.loads((run / "status.json").read_text())
        (run / "status.json").write_text(json.dumps({**status, "host": "desk", "process": 7}))
        config = yaml.safe_load((run / "config.yaml").read_text())
        own = f"{folder}/texts/own.jsonl"
        words = [f"{folder}/bin/sumcirc", "train", "seed=1", f"data.test='{own}'"]
        words.append(f"kl_penalty.texts=[{folder}/a.txt,b.txt]")
        config["environment"]["command"] = [*words, f"hydra.run.dir='{run}'"]
        config["config"]["data"]["test"] = own
        (run / "config.yaml").write_text(yaml.safe_dump(config))
        summary = json.loads((run / "summary.json").read_text())
        few = {"mean": 0.5, "low": None, "high": None, "n": 6}  # too few documents for an interval
        summary["systems"]["trained"]["date_precision"] = few
        (run / "summary.json").write_text(json.dumps(summary))
    return folder


@pytest.fixture(scope="module")
def record(sweep: Path) -> Path:
    target = sweep.parent / "records/s"
    keep(sweep, target)
    return target


def test_a_record_gives_the_comparison_again(sweep: Path, record: Path) -> None:
    first, again = compared(sweep), compared(record)
    # as text, since nan (a cost that was not recorded) does not equal itself
    assert str(arm_rows(first)) == str(arm_rows(again))
    assert str(difference_rows(first)) == str(difference_rows(again))
    assert first.baselines == again.baselines


def test_a_record_makes_a_report(record: Path, tmp_path: Path) -> None:
    logger = LoggerConfig(kind=LoggerKind.none)
    comparison, page, left_out, _ = report.write(
        ReportConfig(paths=[str(record)], out=str(tmp_path / "out"), logger=logger)
    )
    assert comparison is not None
    assert page.exists()
    assert not left_out
    assert "were not recorded, so copied words are" in page.read_text(encoding="utf-8")
    assert not list(record.rglob("comparison"))


def test_a_record_holds_no_text_and_nothing_of_the_machine(sweep: Path, record: Path) -> None:
    files = [path for path in record.rglob("*") if path.is_file()]
    assert len(files) == 5 * len(list(sweep.iterdir()))
    for file in record.glob("*/documents.parquet"):
        table = pyarrow.parquet.read_table(file)
        texts = {field.name for field in table.schema if str(field.type) == "string"}
        assert texts == {"id", "system"}
        assert set(table["system"].to_pylist()) == {"trained"}
        assert set(table["prediction"].to_pylist()) == {None}
    for file in files:
        content = file.read_bytes()
        assert b"The summary by" not in content
        assert b"desk" not in content
        assert str(sweep).encode() not in content
    for file in record.glob("*/config.yaml"):
        body = yaml.safe_load(file.read_text())
        command = body["environment"]["command"]
        assert command == [
            *("sumcirc", "train", "seed=1", "data.test=own.jsonl"),
            "kl_penalty.texts=[a.txt,b.txt]",
        ]
        assert body["config"]["data"]["test"] == "own.jsonl"


def test_what_is_there_is_not_replaced(sweep: Path, record: Path) -> None:
    with pytest.raises(UserError, match="exists already"):
        keep(sweep, record)
