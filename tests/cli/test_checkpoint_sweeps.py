"""Sweeps over checkpoints: `-m checkpoint=A,B`, the folder of a sweep, what jobs are called."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml

from sumcirc.cli import command
from sumcirc.cli import main as cli
from sumcirc.jobs import evaluate
from sumcirc.sweeps import child
from sumcirc.sweeps.run_states import read_sweep
from sumcirc.tracking.run_directory import RunDirectory
from tests.support.job_server import JobServer

Main = Callable[..., str]

JOB = """
import sys
import sumcirc.jobs.evaluate as evaluate
from sumcirc.cli.main import main
from sumcirc.tracking.session import carry_out
evaluate.check = lambda config: None
def run(config, folder):
    def work(config, directory):
        directory.write_summary({"items": None, "systems": {}})
    carry_out(config, folder, "evaluate", lambda config: None, work)
evaluate.run = run
main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def server() -> Iterator[JobServer]:
    with TemporaryDirectory() as folder, JobServer(Path(folder)) as started:
        yield started


@pytest.fixture
def runs(finished_run: Path) -> list[Path]:
    """Two finished training runs of a sweep, one in another context, beside one that failed."""
    other = finished_run.with_name("tiny-wire-full-s1")
    shutil.copytree(finished_run, other)
    file = other / "config.yaml"
    body = yaml.safe_load(file.read_text())
    body["config"]["data"]["sizes"]["test"] = 7
    file.write_text(yaml.safe_dump(body))
    failed = finished_run.with_name("tiny-wire-full-s2")
    shutil.copytree(finished_run, failed)
    RunDirectory(failed).set_status("failed", reason="x")
    return sorted([finished_run, other])


def composed(verb: str, *words: str) -> list[Any]:
    return command.compose(command.read(verb, words))


@pytest.mark.parametrize("verb", ["evaluate", "circuit"])
def test_each_checkpoint_brings_its_own_settings(verb: str, runs: list[Path]) -> None:
    first, second = (str(run.relative_to(Path.cwd())) for run in runs)
    assert "," in second  # and yet it is one name
    configs = composed(verb, "-m", f"checkpoint={first},{second}", "data.seed=1,2")
    assert [config.checkpoint for config in configs] == [first, first, second, second]
    assert [config.data.sizes.test for config in configs] == [7, 7, 200, 200]
    assert [config.run.name for config in configs] == [
        f"mine_tiny-wire-{run}-s1-wire-seed={seed}-s1"
        for run in ("full", "lora-2,3,5-r16")
        for seed in (1, 2)
    ]
    assert configs[2].run.axes == {"checkpoint": second, "data.seed": 1}
    assert len({config.sweep.name for config in configs}) == 1


def test_the_folder_of_a_sweep_is_all_its_finished_runs(
    runs: list[Path], capfd: pytest.CaptureFixture[str]
) -> None:
    capfd.readouterr()
    configs = composed("evaluate", "checkpoint=runs/mine")
    assert [Path(config.checkpoint).resolve() for config in configs] == runs
    said = capfd.readouterr().out
    assert said == "checkpoint=runs/mine: tiny-wire-full-s2 is left out (failed)\n"


def test_compare_goes_over_what_it_compares(runs: list[Path]) -> None:
    for words in (["checkpoint=runs/mine"], ["-m", f"after={runs[0]},{runs[1]}"]):
        configs = composed("compare", *words)
        assert [[Path(one).resolve() for one in config.after] for config in configs] == [
            [run] for run in runs
        ]
        assert configs[0].run.name == "mine_tiny-wire-full-s1-wire-s1"
    # a list is one job with several models, as before
    (config,) = composed("compare", f"after=[{runs[0]},tiny]")
    assert len(config.after) == 2


def test_the_sweep_runs_and_goes_on(
    runs: list[Path],
    server: JobServer,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(evaluate, "check", lambda config: None)
    monkeypatch.setattr(child, "PROGRAM", server.program(JOB))
    words = ["sweep.name=e", "logger=none", "generation.num_beams=1,2"]
    cli.main(["evaluate", "-m", f"checkpoint={runs[0]}", *words])
    cli.main(["evaluate", "checkpoint=runs/mine", *words])
    states = read_sweep(Path("runs/e"))
    assert {state.state for state in states} == {"done"}
    found = {state.name: RunDirectory(state.folder).read_config()["config"] for state in states}
    sizes = {name: one["data"]["sizes"]["test"] for name, one in found.items()}
    assert sizes["mine_tiny-wire-full-s1-wire-num_beams=2-s1"] == 7
    assert sizes["mine_tiny-wire-lora-2,3,5-r16-s1-wire-num_beams=1-s1"] == 200
    capfd.readouterr()
    cli.main(["evaluate", "checkpoint=runs/mine", *words])
    assert "sweep e: 4 runs, 4 done" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["evaluate", "checkpoint=runs/mine", "hydra/sweeper=basic"], "hydra/sweeper=basic: can't"),
        (["evaluate", "checkpoint=runs/mine", "experiment=demo"], "experiment= has no effect"),
        (["evaluate", "-m", "checkpoint={0},{0}"], "names {0} twice; give each checkpoint once"),
        (["circuit", "-m", "checkpoint=runs/none/x,tiny"], "checkpoint=runs/none/x: "),
        (["compare", "checkpoint=runs/mine/tiny-wire-full-s3"], "checkpoint=runs/mine/tiny-wire"),
    ],
)
def test_what_is_refused(
    words: list[str], part: str, runs: list[Path], capfd: pytest.CaptureFixture[str]
) -> None:
    verb, *words = (word.format(runs[0]) for word in words)
    capfd.readouterr()
    with pytest.raises(SystemExit) as left:
        cli.main([verb, *words, "sweep.name=no", "logger=none"])
    line = capfd.readouterr().err
    assert left.value.code == 2
    assert part.format(runs[0]) in line
    assert line.count("\n") == 1
    assert not Path("runs/no").exists()
