"""Records of sweeps: they hold numbers alone, give the comparison again, and pages state them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow.parquet
import pytest
import yaml

from docs.record import RECORDS, keep, not_stated
from sumcirc.errors import UserError
from sumcirc.jobs import report
from sumcirc.reporting.comparison import ArmComparison, ComparisonOptions, compare
from sumcirc.reporting.comparison_files import arm_rows, difference_rows, markdown
from sumcirc.reporting.runs import read_runs
from sumcirc.schema import LoggerConfig, LoggerKind, ReportConfig
from tests.support.sweeps import write_sweep

# records of sweeps; those of a page without arms are plain files
KEPT = sorted({file.parents[1] for file in RECORDS.glob("*/*/config.yaml")})


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
        assert command == ["sumcirc", "train", "seed=1", "data.test=own.jsonl"]
        assert body["config"]["data"]["test"] == "own.jsonl"


def test_what_is_there_is_not_replaced(sweep: Path, record: Path) -> None:
    with pytest.raises(UserError, match="exists already"):
        keep(sweep, record)


def test_a_page_that_states_something_else_is_found(record: Path, tmp_path: Path) -> None:
    comparison = compared(record)
    page = markdown(comparison, "sumcirc report", [], tmp_path)
    assert not_stated(page, comparison) == []
    stated = f"{100 * comparison.arms[0].scores['rougeLsum_f1'].mean:.1f} ["
    assert stated in page
    assert not_stated(page.replace(stated, "99.9 ["), comparison)


def test_the_page_of_the_real_model_states_its_records() -> None:
    folder, page = RECORDS / "real-model", (RECORDS.parent / "real-model.md").read_text()
    rows = {"lead-3": "lead-3", "random-3": "random-3", "oracle": "oracle"}
    systems = {
        name: json.loads((folder / f"zero-shot-dialogsum-{name}.json").read_text())["systems"]
        for name in ("prompt", "chat")
    }
    found = {title: systems["prompt"][name] for name, title in rows.items()}
    found |= {
        "prompt `TL;DR:`": systems["prompt"]["base"],
        "chat template": systems["chat"]["base"],
    }
    for title, scores in found.items():
        (row,) = [line for line in page.splitlines() if line.startswith(f"| {title} |")]
        for name in ("rouge1_f1", "rouge2_f1", "rougeL_f1", "entity_recall"):
            mean, low, high = (100 * scores[name][end] for end in ("mean", "low", "high"))
            assert f" {mean:.1f} [{low:.1f}, {high:.1f}] " in row, (title, name)
    losses = {
        (line["arm"], float(line["learning_rate"]), int(line["step"])): line["validation_nll"]
        for line in csv.DictReader((folder / "rates.csv").read_text().splitlines())
    }
    assert len(losses) == 15
    for (arm, rate, step), loss in losses.items():
        stated = f"{float(loss):.3f}"
        shown = f"{rate:.0e}".replace("e-0", "e-")
        row = next((line for line in page.splitlines() if f"| {shown} |" in line), "")
        assert stated in (page if step == 0 else row), (arm, rate, step)


def test_the_page_of_circuits_states_its_records() -> None:
    page = (RECORDS.parent / "real-circuits.md").read_text(encoding="utf-8")
    files = sorted((RECORDS / "real-model").glob("edge-choice-*.json"))
    assert files
    for file in files:
        assert f"records/real-model/{file.name}" in page
        record = json.loads(file.read_text(encoding="utf-8"))
        assert not set(record["chosen_on"]) & set(record["judged_on"])
        assert f"{record['edges']:,} edges" in page
        for name in {row["ranking"]: None for row in record["rows"]}:
            own = [row for row in record["rows"] if row["ranking"] == name]
            for measure in ("faithfulness", "minus_default"):
                if any(measure not in row or not any(row[measure].values()) for row in own):
                    continue  # the default itself, and random circuits
                cells = [
                    f"{row[measure]['mean']:.2f} [{row[measure]['low']:.2f},"
                    f" {row[measure]['high']:.2f}]"
                    for row in own
                ]
                escaped = name.replace("|", "\\|")
                assert f"| {escaped} | {' | '.join(cells)} |" in page, (file.name, name, measure)
        default = [row for row in record["rows"] if row["ranking"] == record["rows"][0]["ranking"]]
        assert ", ".join(f"{row['edges']:,}" for row in default) in page


@pytest.mark.parametrize("record", KEPT, ids=[folder.name for folder in KEPT])
def test_pages_state_what_records_hold(record: Path) -> None:
    page = RECORDS.parent / f"{record.name}.md"
    assert not_stated(page.read_text(encoding="utf-8"), compared(record)) == []
