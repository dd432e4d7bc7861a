"""`sumcirc report`: words that are paths, where files go, what is refused, what is imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sumcirc.cli import command
from sumcirc.errors import UserError
from sumcirc.jobs import report
from sumcirc.schema import configuration
from tests.support.command_server import CommandServer
from tests.support.logged import inspect
from tests.support.sweeps import config, write_run, write_sweep


def composed(*words: str) -> Any:
    configuration.register()
    (found,) = command.compose(command.read("report", words))
    return found


def test_words_without_equals_are_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    odd = "a,b-max_steps=5 'x'"
    Path(odd).mkdir()
    found = composed("runs/s", "loss=2.5", odd, "metric=rouge2")
    assert found.paths == ["runs/s", odd]
    assert (found.loss, found.metric) == (2.5, "rouge2")


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("metric=bleu",), "metric=bleu: unknown; choose from rouge1"),
        (("against=[]",), "against=[]"),
        (("loss=-1",), "loss=-1"),
        (("confidence=2",), "confidence=2"),
        (("wanted=0",), "wanted=0"),
        (("wanted=-1",), "wanted=-1"),
        (("wanted=1", "arms=0"), "arms=0"),
        (("arms=6",), "arms=6: is for planning"),
        (("seed=1",), "seed"),
    ],
)
def test_settings_that_are_refused(words: tuple[str, ...], part: str) -> None:
    with pytest.raises(UserError) as refused:
        composed("runs/s", *words)
    assert part in str(refused.value)


def test_nothing_named() -> None:
    with pytest.raises(UserError, match="name a run or a sweep: sumcirc report runs/SWEEP"):
        report.check(composed())


def test_files_go_into_the_sweep(commands: CommandServer, tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "s", {"random": 0.4, (0,): 0.6}, noise=0.01)
    done = commands.run("report", str(sweep), "logger=none", cwd=tmp_path, apart=True)
    assert done.code == 0, done.error
    assert done.error == ""
    words = " ".join(done.output.split())
    assert "layers 0 differs from LoRA on random layers: higher" in words
    names = {path.name for path in (sweep / "comparison").iterdir()}
    assert names == {
        *("arms.csv", "differences.csv", "comparison.json", "comparison.md", "figures"),
        "report.html",
    }
    assert {path.name for path in tmp_path.iterdir()} == {"s"}
    found = json.loads((sweep / "comparison/comparison.json").read_text())
    assert found["command"] == f"sumcirc report {sweep}"
    # the comparison is no run, and made again it is the same
    before = (sweep / "comparison/comparison.json").read_bytes()
    assert commands.run("report", str(sweep), "logger=none", cwd=tmp_path, apart=True).code == 0
    assert (sweep / "comparison/comparison.json").read_bytes() == before


def test_one_run_leaves_the_comparison_of_its_sweep_alone(
    commands: CommandServer, tmp_path: Path
) -> None:
    sweep = write_sweep(tmp_path / "s", {"random": 0.4, (0,): 0.6}, seeds=(1,))
    (one, *_) = sorted(path for path in sweep.iterdir() if path.is_dir())
    done = commands.run("report", str(one), "logger=none", cwd=tmp_path, apart=True)
    assert done.code == 0, done.error
    assert not (sweep / "comparison").exists()
    assert (one / "report.html").exists()
    assert (one / "comparison/comparison.json").exists()


def test_shards_of_a_sweep_from_two_folders(commands: CommandServer, tmp_path: Path) -> None:
    write_sweep(tmp_path / "a", {"random": 0.4, (0,): 0.5}, seeds=(1, 2))
    write_sweep(tmp_path / "b", {"random": 0.4, (0,): 0.5}, seeds=(3,))
    refused = commands.run("report", "a", "b", "logger=none", cwd=tmp_path, apart=True)
    assert refused.code == 2
    assert refused.error.startswith("sumcirc: the runs are of 2 sweeps")
    assert refused.error.endswith("add out=FOLDER\n")
    done = commands.run("report", "a", "b", "out=both", "logger=none", cwd=tmp_path, apart=True)
    assert done.code == 0, done.error
    found = json.loads((tmp_path / "both/comparison.json").read_text())
    assert [arm["seeds"] for arm in found["arms"]] == [["1", "2", "3"]] * 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "s", {(0,): 0.4}, seeds=(1,))
    sweep.chmod(0o500)
    with pytest.raises(UserError, match="out=FOLDER"):
        report.check(composed(str(sweep)))
    sweep.chmod(0o700)


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "s", {(0,): 0.4}, seeds=(1,))
    (sweep / "comparison").write_text("")
    with pytest.raises(UserError, match=r"^out=.*comparison: can't be written \(Not a directory\)"):
        report.check(composed(str(sweep)))


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("nowhere",), "nowhere: no such directory"),
        (
            ("s", "against=[circuit]"),
            "against=[circuit]: circuit: no such arm; choose from random, all",
        ),
        (("s/mixed",), "no such directory"),
        (("mixed",), "were scored on different items"),
        (("s", "wanted=1"), "wanted=1: needs an arm and its control with two seeds or more"),
        (("unscored", "wanted=1"), "wanted=1: plans for arms of training runs, and none"),
    ],
)
def test_a_mistake_is_one_line(
    commands: CommandServer, words: tuple[str, ...], part: str, tmp_path: Path
) -> None:
    write_sweep(tmp_path / "s", {(0,): 0.4}, seeds=(1,))
    write_run(tmp_path / "unscored/a", config(), 0.4, scored=False)
    write_run(tmp_path / "mixed/a", config(), 0.4)
    write_run(tmp_path / "mixed/b", config(seed=2), 0.4, items="y")
    done = commands.run("report", *words, "logger=none", cwd=tmp_path, apart=True)
    assert done.code == 2
    assert done.error.startswith("sumcirc: ")
    assert done.error.count("\n") == 1
    assert part in done.error


def test_the_command_can_be_given_again(tmp_path: Path) -> None:
    import shlex

    write_run(tmp_path / "s t/a", config(), 0.4)
    words = (
        str(tmp_path / "s t"),
        'against=["layers 0,1",all]',
        "loss=2.5",
        "metric=rouge1",
        "wanted=1.5",
        "arms=6",
    )
    first = composed(*words)
    again = composed(*shlex.split(report.command(first))[2:])
    assert again == first


def test_no_torch_is_imported_and_the_tables_reach_wandb(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "s", {"random": 0.4, (0,): 0.6})
    home = {f"WANDB_{name}_DIR": str(tmp_path / "home") for name in ("DATA", "CACHE", "CONFIG")}
    code = """
import sys
from sumcirc.cli.main import main
main(["report", "s"])
assert not {"torch", "transformers", "peft"} & set(sys.modules)
"""
    path = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path, "WANDB_MODE": "offline", **home},
    )
    assert done.returncode == 0, done.stderr
    (file,) = (sweep / "comparison/wandb").glob("offline-run-*/*.wandb")
    records = [json.loads(line) for line in inspect(file).splitlines()]
    shown = json.dumps(records)
    assert '"comparison-s"' in shown
    assert '"job_type": "comparison"' in shown or '"jobType": "comparison"' in shown
    for name in ("arms", "differences", "figures/parameters"):
        assert name in shown
    tables = list((sweep / "comparison/wandb").glob("offline-run-*/files/media/table/*.json"))
    columns = {table.name.split("_")[0]: json.loads(table.read_text()) for table in tables}
    assert [row[0] for row in columns["arms"]["data"]] == ["layers 0", "random"]
    assert len(columns["differences"]["data"]) == 11
