"""`logger` is a list: each logger gets the names and values of metrics.csv, and is resumed."""

from __future__ import annotations

import csv
import json
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from sumcirc.errors import UserError
from sumcirc.schema import LoggerConfig
from sumcirc.tracking.measure_records import read_metrics
from tests.support.command_server import CommandServer

Values = set[tuple[str, int, float]]

MLFLOW = all(find_spec(name) for name in ("mlflow", "sqlalchemy", "alembic"))
needs_mlflow = pytest.mark.skipif(not MLFLOW, reason="needs sumcirc[mlflow]")
TENSORBOARD = pytest.mark.skipif(
    find_spec("tensorboard") is None, reason="needs sumcirc[tensorboard]"
)
EXTRA = "logger.extra.mine={_target_: pytorch_lightning.loggers.CSVLogger, save_dir: mine}"


def logged(run: Path) -> Values:
    """The values in metrics.csv as (metric, step, value)."""
    return {(name, step, value) for step, name, value in read_metrics(run / "metrics.csv")}


def in_csv(folder: Path) -> list[tuple[str, int, float]]:
    """The values in the file of Lightning's CSVLogger."""
    with (folder / "metrics.csv").open() as file:
        return [
            (name, int(row["step"]), float(cell))
            for row in csv.DictReader(file)
            for name, cell in row.items()
            if name != "step" and cell
        ]


def in_tensorboard(run: Path) -> list[tuple[str, int, float]]:
    """The values in the event files, as TensorBoard reads them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    names = events.Tags()["scalars"]
    return [(name, item.step, item.value) for name in names for item in events.Scalars(name)]


def untimed(values: Values) -> Values:
    """The values that don't depend on the clock."""
    return {value for value in values if not value[0].startswith("time/")}


def rounded(values: Any) -> Values:
    """The values as float32, in which TensorBoard stores them."""
    import numpy as np

    return {(name, step, float(np.float32(value))) for name, step, value in values}


def client(uri: str) -> Any:
    """A client of an MLflow database."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    from mlflow.tracking import MlflowClient

    return MlflowClient(uri)


@pytest.fixture
def words(small_run: list[str]) -> list[str]:
    """A run of 12 steps with a watcher, and checkpoints after every 4 steps."""
    kept = ("logger=", "trainer.checkpoint_every")
    return [
        *(word for word in small_run if not word.startswith(kept)),
        *("trainer.checkpoint_every=4", "trainer.keep_checkpoints=3", "sweep.name=s"),
        *("callbacks.watch=[base_divergence]", "callbacks.probes.documents=2", "run.name=r"),
    ]


def go_back(run: Path, step: int) -> None:
    """Leave a run as if it had been killed between two checkpoints, the first at `step`."""
    for file in (run / "checkpoints").glob("step-*.ckpt"):
        if int(file.stem.partition("-")[2]) > step:
            file.unlink()
    status = json.loads((run / "status.json").read_text())
    (run / "status.json").write_text(json.dumps(status | {"state": "pending"}))


@TENSORBOARD
def test_files_hold_what_metrics_csv_holds(
    commands: CommandServer, words: list[str], tmp_path: Path
) -> None:
    typed = ["logger=[wandb,csv,tensorboard]", "logger.mode=offline", EXTRA]
    done = commands.run("train", *words, *typed, cwd=tmp_path, figures=False)
    assert done.code == 0, done.output
    run = tmp_path / "runs/s/r"
    expected = logged(run)
    assert {"train/loss", "validation/loss"} <= {name for name, _, _ in expected}
    assert "attention/kl_tuned_base" in {name for name, _, _ in expected}
    assert {value for value in in_csv(run / "csv") if value[0] != "epoch"} == expected
    assert set(in_csv(tmp_path / "mine/lightning_logs/version_0")) == set(in_csv(run / "csv"))
    assert rounded(in_tensorboard(run)) == rounded(expected)
    assert list(run.glob("wandb/offline-run-*"))

    go_back(run, 8)
    done = commands.run("train", f"resume={run}", cwd=tmp_path, figures=False)
    assert done.code == 0, done.output
    before, expected = expected, logged(run)
    assert untimed(expected) == untimed(before)
    assert sorted(in_csv(run / "csv")) == sorted(expected)  # each once
    again = in_tensorboard(run)
    assert rounded(again) == rounded(expected)
    assert len(again) == len(expected)

    # a configuration that somebody sent can't reach other code
    config = run / "config.yaml"
    text = config.read_text()
    assert "_target_: pytorch_lightning.loggers.CSVLogger" in text
    config.write_text(text.replace("pytorch_lightning.loggers.CSVLogger", "shutil.rmtree"))
    go_back(run, 8)
    done = commands.run("train", f"resume={run}", cwd=tmp_path, figures=False)
    assert done.code == 2
    assert "logger.extra.mine._target_=shutil.rmtree: is outside the known" in done.output


@needs_mlflow
# MLflow 3.17 with SQLAlchemy 2.1
@pytest.mark.filterwarnings("ignore:The ..noload.. loader strategy:DeprecationWarning")
def test_a_resumed_run_stays_the_same_mlflow_run(
    commands: CommandServer, words: list[str], tmp_path: Path
) -> None:
    typed = ["logger=mlflow", "logger.project=mine"]
    done = commands.run("train", *words, *typed, cwd=tmp_path, figures=False)
    assert done.code == 0, done.output
    assert "mlflow" not in done.output.lower()
    run = tmp_path / "runs/s/r"
    assert not (run / "wandb").exists()
    store = client(f"sqlite:///{tmp_path / 'runs/mlflow.db'}")

    def check() -> Any:
        (found,) = store.search_runs([store.get_experiment_by_name("mine").experiment_id])
        history = {
            (name, item.step, item.value)
            for name in found.data.metrics
            for item in store.get_metric_history(found.info.run_id, name)
        }
        assert history >= logged(run)
        assert untimed(history) == untimed(logged(run))
        assert (found.info.run_name, found.info.status) == ("r", "FINISHED")
        assert found.data.tags["sweep"] == "s"
        assert found.data.params["trainer.max_steps"] == "12"
        return found.info.run_id

    first = check()
    go_back(run, 8)
    done = commands.run("train", f"resume={run}", cwd=tmp_path, figures=False)
    assert done.code == 0, done.output
    assert check() == first == json.loads((run / "status.json").read_text())["mlflow_run"]


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    from sumcirc.training import loggers

    monkeypatch.setattr(loggers, "find_spec", lambda name: None)
    loggers.check_loggers(LoggerConfig(csv=True))
    for name in ("tensorboard", "mlflow"):
        with pytest.raises(UserError, match=rf"logger={name}: .* 'sumcirc\[{name}\]'"):
            loggers.check_loggers(LoggerConfig(**{name: True}))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"_target_": "os.system"}, "_target_=os.system: is outside the known namespaces"),
        ({"_target_": "pytorch_lightning.loggers.WandbLogger"}, "is logger=wandb; use that"),
        ({"_target_": "pytorch_lightning.loggers.CSVLogger"}, "argument: 'save_dir'"),
        ({"save_dir": "x"}, "needs `_target_`"),
    ],
)
def test_extra_loggers_are_checked(spec: dict[str, str], said: str) -> None:
    from sumcirc.training.loggers import check_loggers

    with pytest.raises(UserError, match=r"^logger\.extra\.a") as raised:
        check_loggers(LoggerConfig(extra={"a": spec}))
    assert said in str(raised.value)


@needs_mlflow
def test_a_database_that_cant_be_used_is_one_line(
    commands: CommandServer, words: list[str], tmp_path: Path
) -> None:
    typed = ["logger=mlflow", "logger.tracking_uri=nonsense://x"]
    done = commands.run("train", *words, *typed, cwd=tmp_path, figures=False)
    assert done.code == 2
    assert "logger=mlflow: MLflow starts no run" in done.output.splitlines()[-1]


@pytest.fixture
def composed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Returns the logger's settings that words give."""
    from sumcirc.cli import command
    from sumcirc.schema import configuration

    monkeypatch.chdir(tmp_path)
    configuration.register()

    def compose(*typed: str) -> Any:
        (found,) = command.compose(command.read("train", list(typed)))
        return found.logger

    return compose


@pytest.mark.parametrize(
    ("typed", "chosen"),
    [
        ((), ["wandb"]),
        (("logger=none",), []),
        (("logger=wandb", "logger.mode=offline"), ["wandb"]),
        (("logger=csv",), ["csv"]),
        (("logger=[wandb,tensorboard]",), ["wandb", "tensorboard"]),
        (("logger=[mlflow,csv]", "logger.tracking_uri=http://127.0.0.1:1"), ["csv", "mlflow"]),
        (("logger=none", "logger.csv=true"), ["csv"]),
        (("logger.csv=true",), ["wandb", "csv"]),
        (("logger.kind=none",), []),
        (("logger=none", "logger.kind=wandb"), ["wandb"]),
    ],
)
def test_words_choose_loggers(composed: Any, typed: tuple[str, ...], chosen: list[str]) -> None:
    names = ("wandb", "csv", "tensorboard", "mlflow")
    options = composed(*typed)
    assert [name for name in names if getattr(options, name)] == chosen


def test_the_old_word_is_answered_with_the_new_one(
    composed: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    composed("logger.kind=none")
    assert "`logger.kind` is called `logger=none` now" in "".join(capsys.readouterr())
