"""`hydra/sweeper=optuna`: a tuned setting for each arm, from runs whose loss is known."""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml

from sumcirc.cli import main as cli
from sumcirc.jobs import train
from sumcirc.sweeps import child
from sumcirc.sweeps.run_states import read_sweep
from tests.support.job_server import JobServer

Main = Callable[..., str]

# the best learning rate is 0.01 for full fine-tuning and 0.001 for LoRA; some rates diverge
JOB = """
import math, sys
import sumcirc.jobs.train as train
from sumcirc.cli.main import main
from sumcirc.errors import UserError
from sumcirc.tracking.session import carry_out, plain
train.check = lambda config: None
def run(config, folder):
    def work(config, directory):
        rate, best = config.optimizer.learning_rate, {"full": -2, "lora": -3}
        if rate > 0.09:
            raise UserError("the loss is nan")
        loss = (math.log10(rate) - best[config.adaptation.kind.value]) ** 2 + 0.1 * config.seed
        rows = [(0, 9.0), (5, 0.0), (10, loss)]
        lines = ["step,metric,value", *(f"{s},validation/loss,{v!r}" for s, v in rows)]
        (directory.path / "metrics.csv").write_text("\\n".join(lines) + "\\n")
        directory.write_summary({"items": None, "systems": {}, "steps": 10,
                                 "trainable_parameters": 1})
    carry_out(config, folder, "train", lambda config: None, work)
train.run = run
main(sys.argv[1:])
"""
RATE = "optimizer.learning_rate=tag(log,interval(1e-4,1e-1))"
SEARCH = ["hydra/sweeper=optuna", "sweep.objective=validation/loss", "logger=none"]


@pytest.fixture(scope="module")
def server() -> Iterator[JobServer]:
    with TemporaryDirectory() as folder, JobServer(Path(folder)) as started:
        yield started


@pytest.fixture
def quick_jobs(monkeypatch: pytest.MonkeyPatch, server: JobServer) -> None:
    monkeypatch.setattr(train, "check", lambda config: None)
    monkeypatch.setattr(child, "PROGRAM", server.program(JOB))
    monkeypatch.setenv("COLUMNS", "200")


def search(*words: str) -> int:
    try:
        cli.main(["train", "-m", *SEARCH, *words, "sweep.name=s"])
    except SystemExit as left:
        return int(left.code or 0)
    return 0


def record() -> dict[str, Any]:
    return json.loads(Path("runs/s/search.json").read_text())


@pytest.mark.usefixtures("quick_jobs", "undrawn")
def test_a_learning_rate_for_each_arm(capfd: pytest.CaptureFixture[str]) -> None:
    import optuna

    words = ["adaptation=full,lora", "seed=1,2", RATE.replace("1e-1", "5e-2")]
    assert search(*words, "hydra.sweeper.n_trials=3", "sweep.jobs=4") == 0
    said = capfd.readouterr().out
    assert "lowest validation/loss of each arm, mean over 2 seeds" in said
    found = record()
    assert set(found["arms"]) == {"adaptation=full", "adaptation=lora"}
    for arm, best in (("adaptation=full", -2), ("adaptation=lora", -3)):
        assert len(found["arms"][arm]) == 3
        for trial in found["arms"][arm]:
            rate = trial["settings"]["optimizer.learning_rate"]
            # the last value, not the lowest, as a mean over the seeds
            expected = (math.log10(rate) - best) ** 2 + 0.15
            assert trial["value"] == pytest.approx(expected)
        lowest = min(trial["value"] for trial in found["arms"][arm])
        assert any(arm in line and f"{lowest:.4f} (" in line for line in said.splitlines())
    runs = read_sweep(Path("runs/s"))
    assert len(runs) == 12
    config = yaml.safe_load((Path(runs[0].folder) / "config.yaml").read_text())["config"]
    assert set(config["run"]["axes"]) == {"adaptation", "optimizer.learning_rate", "seed"}

    # a trial that an interrupted launch left is run with its values; finished ones stay
    study = optuna.load_study(study_name="adaptation=lora", storage="sqlite:///runs/s/optuna.db")
    rate = optuna.distributions.FloatDistribution(1e-4, 5e-2, log=True)
    left = study.ask(fixed_distributions={"optimizer.learning_rate": rate})
    before = {path: path.stat().st_mtime_ns for path in Path("runs/s").glob("*/metrics.csv")}
    assert search(*words, "hydra.sweeper.n_trials=5") == 0
    again = record()
    assert {arm: len(trials) for arm, trials in again["arms"].items()} == {
        "adaptation=full": 5,
        "adaptation=lora": 5,
    }
    for arm, trials in found["arms"].items():
        assert again["arms"][arm][:3] == trials
    rates = [one["settings"]["optimizer.learning_rate"] for one in again["arms"]["adaptation=lora"]]
    assert left.params["optimizer.learning_rate"] in rates
    assert len(set(rates)) == 5  # a restarted sampler does not repeat itself
    assert {path: path.stat().st_mtime_ns for path in before} == before

    # with other settings it would be another search
    capfd.readouterr()
    assert search(*words, "trainer.max_steps=7") == 2
    said = capfd.readouterr().err
    assert "its search was begun with trainer.max_steps=None, now trainer.max_steps=7" in said
    assert said.count("\n") == 1


@pytest.mark.usefixtures("quick_jobs")
def test_trials_that_fail_and_other_kinds_of_ranges(capfd: pytest.CaptureFixture[str]) -> None:
    words = ["optimizer.learning_rate=choice(0.1,0.01)", "trainer.batch_size=range(2,9,2)"]
    words += ["hydra.sweeper.sampler=random", "hydra.sweeper.n_trials=4"]
    assert search(*words) == 1  # as any sweep with a failed run
    captured = capfd.readouterr()
    assert "runs are not done" in captured.err
    trials = record()["arms"]["all runs"]
    assert len(trials) == 4
    assert {one["settings"]["optimizer.learning_rate"] for one in trials} == {"0.1", "0.01"}
    for one in trials:
        failed = one["settings"]["optimizer.learning_rate"] == "0.1"
        assert (one["value"] is None) == failed
        assert one["settings"]["trainer.batch_size"] in (2, 4, 6, 8)
    assert "failed)" in captured.out
    rows = list(csv.DictReader(Path("runs/s/search/trials.csv").read_text().splitlines()))
    assert len(rows) == sum(one["value"] is not None for one in trials)
    assert Path("runs/s/search/trials.png").is_file()


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ([*SEARCH, "seed=1,2"], "hydra/sweeper=optuna: no setting has a range to search"),
        (["hydra/sweeper=optuna", RATE], "add sweep.objective=validation/loss"),
        ([*SEARCH[:1], RATE, "sweep.objective=test/loss"], "sweep.objective=test/loss: no run has"),
        ([*SEARCH[:1], RATE, "sweep.objective=rouge1"], "watcher summary_quality, which is not in"),
        ([*SEARCH, RATE, "hydra.sweeper.sampler=x"], "hydra.sweeper.sampler=x: unknown; choose"),
        ([*SEARCH, RATE, "hydra.sweeper.n_trials=0"], "hydra.sweeper.n_trials=0: must be a whole"),
        ([*SEARCH, RATE, "optimizer.schedule=choice(linear,no)"], "optimizer.schedule=no"),
        ([*SEARCH, "optimizer.learning_rate=interval(-1,1)"], "optimizer.learning_rate=-1"),
    ],
)
def test_what_is_refused(words: list[str], part: str, refused: Main) -> None:
    assert part in refused("train", "-m", *words)


def test_a_missing_optuna_is_named(refused: Main, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *_: None)
    assert "pip install 'sumcirc[optuna]'" in refused("train", "-m", *SEARCH, RATE)


def test_the_metric_of_wandb_agents_is_the_objective() -> None:
    file = Path(__file__).resolve().parents[2] / "docs/wandb_sweep.yaml"
    body = yaml.safe_load(file.read_text())
    assert f"sweep.objective={body['metric']['name']}" in body["command"]
