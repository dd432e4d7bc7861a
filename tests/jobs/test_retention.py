"""`evaluation.retention` in train and evaluate: the same numbers from both, and where they go."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sumcirc.reporting.arms import make_arms
from sumcirc.reporting.checkpoints import groups_of, tables
from sumcirc.reporting.comparison import ComparisonOptions, compare
from sumcirc.reporting.page.blocks import TableBlock
from sumcirc.reporting.page.build import make_page
from sumcirc.reporting.runs import ReportRun
from sumcirc.tracking.run_records import RunRecords
from sumcirc.tracking.wandb_values import result_values
from tests.support.command_server import CommandServer

KINDS = ("full", "lora")


def summary(folder: Path) -> dict[str, Any]:
    (file,) = folder.glob("runs/*/*/summary.json")
    return json.loads(file.read_text())


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory, news_files: dict[str, Path]) -> list[str]:
    """Words that name two corpora: documents of the data, of which some are drawn, and a text."""
    other = tmp_path_factory.mktemp("texts") / "other.txt"
    other.write_text("Something else that a model may know. " * 200)
    patterns = f"[{news_files['validation']},{other}]"
    return [f"evaluation.retention={patterns}", "evaluation.retention_documents=9"]


@pytest.fixture(scope="module")
def trained(
    commands: CommandServer,
    small_run: list[str],
    texts: list[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Path]:
    found = {}
    for kind in KINDS:
        folder = tmp_path_factory.mktemp(kind)
        options = [f"adaptation={kind}", "evaluation.at_end=true", "optimizer.learning_rate=0.02"]
        done = commands.run("train", *small_run, *options, *texts, cwd=folder, figures=False)
        assert done.code == 0, done.output
        (found[kind],) = folder.glob("runs/*/*")
        assert "other texts: what the model forgets" in done.output
        assert "evaluation.retention other: 1 of 1 texts are cut to the 128 tokens" in done.output
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_training_and_evaluation_measure_the_same(
    kind: str, commands: CommandServer, trained: dict[str, Path], tmp_path: Path
) -> None:
    """Alone, without summaries and without reading data.test."""
    words = ("evaluation.summaries=false", "data.test=/nowhere.jsonl", "logger=none")
    done = commands.run(
        "evaluate", f"checkpoint={trained[kind]}", *words, cwd=tmp_path, figures=False
    )
    assert done.code == 0, done.output
    expected = json.loads((trained[kind] / "summary.json").read_text())
    found = summary(tmp_path)
    assert (found["systems"], found["items"]) == ({}, None)
    assert list(found["retention"]) == ["validation", "other"]
    assert expected["systems"]["trained"]
    for name, values in found["retention"].items():
        assert values["kl"]["mean"] > 0.01
        assert values["systems"]["base"]["nll"]["mean"] > 1.0
        assert_close(values, expected["retention"][name])
    assert found["retention"]["other"]["tokens"] == 127  # of a context of 128
    (run,) = tmp_path.glob("runs/*/*")
    assert not (run / "documents.parquet").exists()
    rows = RunRecords(run).read_all().retention
    assert [row["corpus"] for row in rows] == ["validation"] * 9 + ["other"]
    change = [row["nll"] - row["base_nll"] for row in rows[:9]]
    assert sum(change) / 9 == pytest.approx(found["retention"]["validation"]["nll_change"]["mean"])
    logged = result_values(RunRecords(run).summary)
    assert logged["retention/validation/kl"] == found["retention"]["validation"]["kl"]["mean"]
    assert logged["retention/validation/kl/low"] < logged["retention/validation/kl"]
    assert "retention/other/base/perplexity" in logged
    assert "retention/other/base/perplexity/low" not in logged  # of one text there is no interval


def assert_close(one: Any, other: Any) -> None:
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_close(one[key], other[key])
    else:
        assert one == (pytest.approx(other, rel=1e-5) if isinstance(one, float) else other)


def test_page_and_comparisons(
    commands: CommandServer, trained: dict[str, Path], tmp_path: Path
) -> None:
    page = make_page([RunRecords(trained["lora"])], None, "sumcirc report r")
    shown = [block.table for section in page.sections for block in section.blocks
             if isinstance(block, TableBlock) and "texts" in block.table.headings]  # fmt: skip
    assert [row[:2] for table in shown for row in table.rows] == [
        ["validation", "9"],
        ["other", "1"],
    ]
    runs = [ReportRun(trained[kind]) for kind in KINDS]
    arms, _ = make_arms(runs)
    (control,) = [arm.label for arm in arms if not arm.full]
    compared = compare(runs, [], ComparisonOptions(against=(control,)))
    assert {"retention_change", "retention_kl"} <= set(compared.inside)
    (found,) = compared.of(control, "retention_kl")
    values = [[row["kl"] for row in run.retention] for run in runs]
    differences = [one - other for one, other in zip(*values, strict=True)]
    assert found.estimate.mean == pytest.approx(sum(differences) / 10)
    for kind, path in trained.items():
        done = commands.run(
            *("evaluate", f"checkpoint={path}", "evaluation.summaries=false", "logger=none"),
            *("sweep.name=s", f"run.name={kind}"),
            cwd=tmp_path,
            figures=False,
        )
        assert done.code == 0, done.output
    scored = [ReportRun(tmp_path / "runs/s" / kind) for kind in KINDS]
    (group,) = groups_of(scored, lambda _: pytest.fail("no circuits"))
    first, second = tables(group)
    assert first.headings[1:] == ["nll of other texts, change, nats", "KL on other texts, nats"]
    assert second.rows[0][1:] == ["-", "-"]
    assert second.rows[1][2].startswith(f"{-sum(differences) / 10:+.3f}")


def test_a_model_that_was_trained_from_nothing_known(
    commands: CommandServer, gpt2_folder: Path, texts: list[str], tmp_path: Path
) -> None:
    words = ("evaluation.summaries=false", "logger=none", "data=files")
    model = f"model.path={gpt2_folder}"
    done = commands.run("evaluate", model, *words, *texts, cwd=tmp_path, figures=False)
    assert done.code == 0, done.output
    values = summary(tmp_path)["retention"]["validation"]
    assert list(values["systems"]) == ["base"]
    assert not values.keys() & {"kl", "nll_change"}
    assert "perplexity of base" in done.output
    (run,) = tmp_path.glob("runs/*/*")
    assert ReportRun(run).inside == {}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["evaluation.retention=none.txt"], "evaluation.retention=none.txt: no such file"),
        (["evaluation.summaries=false"], "evaluation.summaries=false: then only"),
    ],
)
def test_mistakes_are_one_line(
    commands: CommandServer,
    trained: dict[str, Path],
    tmp_path: Path,
    words: list[str],
    message: str,
) -> None:
    given = ["evaluation.retention=[]", *words] if "none" not in words[0] else words
    at = f"checkpoint={trained['lora']}"
    done = commands.run("evaluate", at, "logger=none", *given, cwd=tmp_path, figures=False)
    assert done.code == 2
    assert f"sumcirc: {message}" in done.output


def test_training_refuses_texts_that_it_would_not_measure(
    commands: CommandServer, small_run: list[str], texts: list[str], tmp_path: Path
) -> None:
    done = commands.run("train", *small_run, *texts, cwd=tmp_path, figures=False)
    assert done.code == 2
    assert "evaluation.at_end=false leaves out; leave one of them out" in done.output
