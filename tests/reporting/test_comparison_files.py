"""Files of a comparison, and its tables in Markdown and in the terminal."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow.parquet
import pytest

from sumcirc.jobs.report import draw_arms, print_arms
from sumcirc.reporting.comparison import ArmComparison, ComparisonOptions, compare
from sumcirc.reporting.comparison_files import write_comparison
from sumcirc.reporting.runs import read_runs
from sumcirc.reporting.views.arm_tables import in_words, tables
from sumcirc.storage.writing import write_table
from tests.support.sweeps import config, write_run, write_sweep


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> ArmComparison:
    folder = tmp_path_factory.mktemp("sweep") / "s"
    write_sweep(folder, {"random": 0.40, "page": 0.70, "full": 0.8}, noise=0.01)
    write_run(folder / "one", config([0]), 0.5)
    write_sweep(folder, {(1,): 0.5}, seeds=(1, 2))
    write_run(folder / "bad", config([2]), 0.5, state="failed", reason="out of memory")
    return compare(*read_runs([folder]), ComparisonOptions())


def test_the_files_say_the_same(comparison: ArmComparison, tmp_path: Path) -> None:
    write_comparison(comparison, tmp_path, "sumcirc report s", [])
    with open(tmp_path / "arms.csv") as file:
        arms = list(csv.DictReader(file))
    with open(tmp_path / "differences.csv") as file:
        differences = list(csv.DictReader(file))
    found = json.loads((tmp_path / "comparison.json").read_text())
    assert [row["arm"] for row in arms] == [arm["arm"] for arm in found["arms"]]
    labels = ["full", "page", "layers 0", "layers 1", "random"]
    assert sorted(row["arm"] for row in arms) == sorted(labels)
    for row, arm in zip(arms, found["arms"], strict=True):
        for measure, score in arm["scores"].items():
            assert float(row[measure]) == score["mean"]
            assert float(row[f"{measure}_low"]) == score["low"]
            assert float(row[f"{measure}_high"]) == score["high"]
            assert score["seeds"] == int(row["runs"])
    assert len(differences) == len(found["differences"]) == 4 * 11
    assert found["left_out"][0]["reason"] == "failed: out of memory"
    single = [row for row in differences if row["arm"] == "layers 0"]
    assert {row["p_holm"] for row in single} == {""}
    assert {(row["arm"], row["least_seeds"]) for row in differences} == {
        *(("full", "3"), ("page", "3"), ("layers 0", "1"), ("layers 1", "2"))
    }
    assert all(float(row["error"]) > 0 for row in differences if row["measure"] == "rougeLsum_f1")
    claimed = {row["measure"] for row in differences if row["verdict"]}
    assert claimed == {"rougeLsum_f1"}


def test_without_differences_the_header_stands(tmp_path: Path) -> None:
    write_sweep(tmp_path / "s", {(0,): 0.4})
    found = compare(*read_runs([tmp_path / "s"]), ComparisonOptions())
    write_comparison(found, tmp_path, "sumcirc report s", draw_arms(found, tmp_path / "figures"))
    assert (tmp_path / "differences.csv").read_text().startswith("arm,against,control,")
    assert not (tmp_path / "figures/differences.png").exists()


def test_faithfulness_of_arms_has_a_table(tmp_path: Path) -> None:
    """Documents without entities have no precision, and an arm that is always right no spread."""
    write_sweep(tmp_path / "s", {"random": 0.4, "page": 0.7})
    for file in tmp_path.glob("s/*/documents.parquet"):
        rows = pyarrow.parquet.read_table(file).to_pylist()
        right = "page" in file.parent.name
        for i, row in enumerate(rows):
            share = 1.0 if right else 0.25 * (i % 4)
            row |= {"entity_precision": share if i % 5 else None, "empty": 0.0}
        write_table(file, rows)
    found = compare(*read_runs([tmp_path / "s"]), ComparisonOptions())
    (table,) = [table for table in tables(found) if "entities" in table.title]
    assert table.headings == ["arm", "seeds", "entities supported", "empty"]
    (page,) = [row[2:] for row in table.rows if "page" in row[0]]
    (random,) = [row[2:] for row in table.rows if "random" in row[0]]
    assert page == ["100.0 [100.0, 100.0]", "0.0 [0.0, 0.0]"]
    assert random[0].startswith(("36", "37", "38"))
    write_comparison(found, tmp_path / "out", "sumcirc report s", [])
    with open(tmp_path / "out" / "arms.csv") as file:
        assert {float(row["empty"]) for row in csv.DictReader(file)} == {0.0}


def test_the_page(comparison: ArmComparison, tmp_path: Path) -> None:
    figures = draw_arms(comparison, tmp_path / "figures")
    write_comparison(comparison, tmp_path, "sumcirc report s", figures)
    page = (tmp_path / "comparison.md").read_text()
    assert "    sumcirc report s\n" in page
    assert "| page | 1,2,3 | " in page
    assert "page differs from LoRA on random layers: higher (+" in page
    assert "layers 0 (one seed): not tested" in page
    assert "layers 1 (two seeds): not tested" in page
    assert "[1] full fine-tuning: another budget: every parameter trains, 17.8 times" in page
    assert "bad: failed: out of memory" in page
    for name in ("parameters", "differences", "validation_loss"):
        assert f"](figures/{name}.png)" in page
        assert (tmp_path / "figures" / f"{name}.png").stat().st_size > 5000
    for line in page.splitlines():
        assert not line.startswith("|") or line.endswith("|")


def test_what_is_not_shown_is_not_called_different(comparison: ArmComparison) -> None:
    (sentence,) = in_words(comparison)
    assert sentence.startswith("ROUGE-Lsum against LoRA on random layers: full fine-tuning differs")
    assert "layers 0 differs" not in sentence


def test_columns_of_tables(comparison: ArmComparison) -> None:
    for table in tables(comparison):
        assert all(len(row) == len(table.headings) for row in table.rows)
    scores, cost, differences = tables(comparison)
    # page and full; layers 0 and 1 have fewer than three seeds
    assert differences.title.endswith("Holm over 2 arms")
    p, verdict = (differences.headings.index(name) for name in ("p", "in words"))
    untested = [row[p] for row in differences.rows if "not tested" in row[verdict]]
    assert untested == ["-", "-"]
    assert all(row[p] != "-" for row in differences.rows if "not tested" not in row[verdict])
    assert "facts" in scores.headings
    assert scores.rows[-1][0] == "(base)"
    assert "learning rate" not in cost.headings
    assert cost.rows[0][:4] == ["full fine-tuning [1]", "1,746,944", "100", "50.0 s"]


def test_no_correction_is_named_where_nothing_is_tested(tmp_path: Path) -> None:
    write_sweep(tmp_path / "s", {"random": 0.4, (0,): 0.9}, seeds=(1, 2))
    *_, differences = tables(compare(*read_runs([tmp_path / "s"]), ComparisonOptions()))
    assert differences.title.endswith("too few seeds to test")


def test_the_terminal_shows_brackets_and_all_parts(
    comparison: ArmComparison, capsys: pytest.CaptureFixture[str]
) -> None:
    print_arms(comparison)
    shown = capsys.readouterr().out
    assert "full fine-tuning [1]" in shown
    for part in ("not directly comparable:", "left out:", "to note:", "in words:"):
        assert part in shown
