"""Weights & Biases offline: what was really logged, read back with `wandb leet inspect`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sumcirc.cli import command
from sumcirc.errors import UserError
from sumcirc.schema import LoggerConfig, LoggerKind, WandbMode, configuration
from sumcirc.tracking.session import plain
from sumcirc.tracking.wandb import (
    check_login,
    is_logged_in,
    is_online,
    log_folder,
    log_results,
    wandb_run,
    wants_artifact,
)
from tests.support.logged import inspect, records
from tests.support.processes import Processes, wait_until

SUMMARY = {
    "trainable_parameters": 294_912,
    "model": "tiny",
    "items": "abc",
    "seconds": {"train": 12.5},
    "systems": {
        "trained": {"rouge1_f1": {"mean": 0.4, "low": 0.3, "high": 0.5, "n": 20}},
        "lead-3": {"rouge1_f1": {"mean": 0.2, "low": 0.1, "high": 0.3, "n": 20}},
    },
}
SAMPLES = [
    {"id": "a", "document": "Long.", "reference": "Short.", "trained": "Mine."},
    {"id": "b", "document": "“é”", "reference": "x", "trained": ""},
]


@pytest.fixture(autouse=True)
def _no_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    for name in ("DATA", "CACHE", "CONFIG"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / "wandb_home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.chdir(tmp_path)


def start(folder: Path, config: LoggerConfig | None = None, **changes: Any) -> Any:
    values: dict[str, Any] = {
        "name": "lora-2,3,5-r16-s1",
        "group": "bakeoff",
        "job_type": "train",
        "tags": ["tiny", "wire"],
        "settings": {"seed": 1},
        "run_id": "abcd1234",
    }
    return wandb_run(config or LoggerConfig(), folder, **(values | changes))


def outcome(folder: Path) -> dict[str, Any]:
    """Return a run's outcome, once W&B's service has written it (after `finish` has returned)."""
    (file,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    until = time.monotonic() + 30
    while True:
        found = json.loads(inspect(file, "--summary"))
        if found["exit_code"] is not None or time.monotonic() > until:
            return found
        time.sleep(0.2)


def the_run(folder: Path) -> dict[str, Any]:
    return next(record["run"] for record in records(folder) if record["type"] == "run")


def holds(found: Any, wanted: Any) -> bool:
    """Whether `wanted` is there; W&B leaves out empty mappings, and 1.0 becomes 1."""
    if isinstance(wanted, Mapping):
        return all(holds(found.get(key, {}), value) for key, value in wanted.items())
    return found == wanted


def test_a_run_offline_without_an_account(tmp_path: Path) -> None:
    configuration.register()
    words = ["sweep.name=bakeoff", "adaptation=lora", "adaptation.layers=[2,3,5]", "seed=3"]
    settings = plain(command.compose(command.read("train", words))[0])
    config = LoggerConfig(tags=["mine"], project="p")
    with start(tmp_path, config, settings=settings) as logger:
        for step, loss in ((10, 3.0), (20, 2.0), (30, 2.5)):
            logger.log_metrics({"train/loss": loss, "validation/loss": loss + 1}, step)
        logger.log_metrics({"learning_rate": 0.5}, 30)
        log_results(logger, SUMMARY, SAMPLES)
        assert logger.experiment.offline

    run = the_run(tmp_path)
    assert (run["run_group"], run["job_type"]) == ("bakeoff", "train")
    assert run["display_name"] == "lora-2,3,5-r16-s1"
    assert (run["run_id"], run["project"]) == ("abcd1234", "p")
    assert run["tags"] == ["tiny", "wire", "mine"]

    found = outcome(tmp_path)
    assert holds(found["config"], settings), "resolved, and nothing left out"
    assert found["config"]["adaptation"]["layers"] == [2, 3, 5]
    assert found["config"]["adaptation"]["rank"] == 16
    assert found["config"]["optimizer"]["learning_rate"] == pytest.approx(1e-2)
    assert found["config"]["seed"] == 3
    assert found["exit_code"] == 0

    summary = found["summary"]
    assert summary["train/loss"] == {"min": 2.0}
    assert summary["validation/loss"] == {"min": 3.0}
    assert summary["learning_rate"] == 0.5
    assert summary["test/trained/rouge1_f1"] == 0.4
    assert summary["test/trained/rouge1_x100"] == 40
    assert summary["test/lead-3/rouge1_x100"] == 20
    assert "test/trained/rouge1_f1/low" not in summary, "it is in the table"
    assert summary["trainable_parameters"] == 294_912
    assert summary["time/train"] == 12.5

    history = [record["history"]["item"] for record in records(tmp_path) if "history" in record]
    losses = {
        item["trainer/global_step"]: item["train/loss"] for item in history if "train/loss" in item
    }
    assert losses == {10: 3.0, 20: 2.0, 30: 2.5}

    assert summary["samples"]["nrows"] == 2
    tables = "wandb/offline-*/files/media/table"
    table = json.loads(next(tmp_path.glob(f"{tables}/samples_*.json")).read_text())
    assert table["columns"] == ["id", "document", "reference", "trained"]
    assert table["data"][1] == ["b", "“é”", "x", ""]
    table = json.loads(next(tmp_path.glob(f"{tables}/test/scores_*.json")).read_text())
    assert table["columns"] == ["system", "score", "mean", "low", "high", "documents"]
    assert table["data"][0] == ["trained", "rouge1_x100", 40, 30, 50, 20]


def test_everything_lies_in_the_run_directory(tmp_path: Path) -> None:
    folder = tmp_path / "runs/sweep/run"
    folder.mkdir(parents=True)
    with start(folder):
        pass
    assert {path.name for path in tmp_path.iterdir()} <= {"runs", "wandb_home"}
    assert list(folder.glob("wandb/offline-run-*/run-abcd1234.wandb"))


def test_curves_have_the_optimizer_step_as_axis(tmp_path: Path) -> None:
    with start(tmp_path) as logger:
        logger.log_metrics({"probes/entropy": 1.0}, 5)
    metrics = [record["metric"] for record in records(tmp_path) if "metric" in record]
    axes = {
        metric.get("name") or metric.get("glob_name"): metric.get("step_metric")
        for metric in metrics
    }
    assert axes["*"] == "trainer/global_step"
    assert axes["validation/loss"] == "trainer/global_step"


def test_curves_of_layers_and_intervals_are_not_in_the_summary(tmp_path: Path) -> None:
    """A model of 30 layers has some three hundred of them."""
    with start(tmp_path) as logger:
        for step in (1, 2):
            logger.log_metrics(
                {
                    **{"attention/js": 0.1, "attention/js/layer_00": 0.2},
                    **{"residual/cka/embedding": 0.5},
                    **{"summaries/rouge1_f1": 0.25, "summaries/rouge1_f1/low": 0.2},
                },
                step,
            )
    kept = {name for name in outcome(tmp_path)["summary"] if not name.startswith("_")}
    assert kept == {
        *("attention/js", "summaries/rouge1_f1", "summaries/rouge1_x100", "trainer/global_step")
    }
    history = [record["history"]["item"] for record in records(tmp_path) if "history" in record]
    assert history[0]["attention/js/layer_00"] == 0.2
    assert history[0]["summaries/rouge1_x100"] == 25


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, UserError])
def test_a_run_is_finished_when_the_job_fails(tmp_path: Path, error: type[BaseException]) -> None:
    import wandb

    def job() -> None:
        with start(tmp_path) as logger:
            logger.log_metrics({"train/loss": 1.0}, 1)
            raise error("x")

    with pytest.raises(error):
        job()
    assert wandb.run is None
    found = outcome(tmp_path)
    assert found["exit_code"] == 1
    assert found["summary"]["train/loss"] == {"min": 1.0}


def test_runs_of_one_process_stay_apart(tmp_path: Path) -> None:
    """A multirun: one after the other, and one while another is open."""
    folders = [tmp_path / name for name in "abc"]
    for folder in folders:
        folder.mkdir()
    with start(folders[0], run_id="first000", settings={"seed": 1}) as first:
        first.log_metrics({"train/loss": 1.0}, 1)
    with (
        start(folders[1], run_id="second00", settings={"seed": 2}) as second,
        start(folders[2], run_id="third000", settings={"seed": 3}) as third,
    ):
        second.log_metrics({"train/loss": 2.0}, 1)
        third.log_metrics({"train/loss": 3.0}, 1)
    found = [outcome(folder) for folder in folders]
    assert [the_run(folder)["run_id"] for folder in folders] == ["first000", "second00", "third000"]
    assert [entry["config"]["seed"] for entry in found] == [1, 2, 3]
    assert [entry["summary"]["train/loss"]["min"] for entry in found] == [1, 2, 3]


def test_a_killed_run_keeps_what_it_logged(processes: Processes, tmp_path: Path) -> None:
    """W&B's own process writes it while the run goes on, not when it ends."""
    script = """
import signal
from pathlib import Path
from sumcirc.schema import LoggerConfig
from sumcirc.tracking.wandb import wandb_run
with wandb_run(LoggerConfig(), Path("."), name="x", group="g", job_type="train", tags=[],
               settings={}, run_id="abcd1234") as logger:
    logger.log_metrics({"train/loss": 7.0}, 3)
    signal.pause()
"""
    process = processes.start(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        environment={"PYTHONPATH": os.pathsep.join(sys.path)},
    )

    def size() -> int:
        return sum(file.stat().st_size for file in tmp_path.glob("wandb/offline-run-*/run-*.wandb"))

    read = -1

    def history() -> list[float]:
        nonlocal read
        if size() == read:
            return []
        read = size()
        try:
            found = [one["history"]["item"] for one in records(tmp_path) if "history" in one]
        except (ValueError, subprocess.CalledProcessError):  # there is no file yet
            return []
        return [item["train/loss"] for item in found]

    wait_until(history, process)
    process.kill()
    process.communicate()
    read = -1
    assert history() == [7.0]


def test_what_was_trained_as_an_artifact(tmp_path: Path) -> None:
    """A run's name holds commas, which the name of an artifact must not."""
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter/weights.safetensors").write_text("weights")
    with start(tmp_path) as logger:
        log_folder(logger, "lora-2,3,5-r16-s1", "model", tmp_path / "adapter")
    artifacts = [record["artifact"] for record in records(tmp_path) if "artifact" in record]
    assert [(entry["name"], entry["type"]) for entry in artifacts] == [
        ("lora-2_3_5-r16-s1", "model")
    ]
    assert [part["path"] for part in artifacts[0]["manifest"]["contents"]] == [
        "weights.safetensors"
    ]


def test_artifacts_by_default_only_where_they_are_uploaded() -> None:
    assert not wants_artifact(LoggerConfig())
    assert wants_artifact(LoggerConfig(mode=WandbMode.online))
    assert wants_artifact(LoggerConfig(artifact=True))
    assert not wants_artifact(LoggerConfig(mode=WandbMode.online, artifact=False))


def test_a_long_name_is_cut_to_a_tag(tmp_path: Path) -> None:
    with start(tmp_path, tags=["x" * 99, "wire", "wire"]):
        pass
    assert the_run(tmp_path)["tags"] == ["x" * 64, "wire"]


def test_none(tmp_path: Path) -> None:
    with start(tmp_path, LoggerConfig(kind=LoggerKind.none)) as logger:
        assert logger is None
    assert not list(tmp_path.iterdir())


# ---- online or not


def test_online_without_a_login_is_refused(tmp_path: Path, monkeypatch: Any) -> None:
    online = LoggerConfig(mode=WandbMode.online)
    with pytest.raises(UserError, match=r"^logger\.mode=online: .*wandb login") as refused:
        check_login(online)
    assert "\n" not in str(refused.value)
    with pytest.raises(UserError, match="wandb login"), start(tmp_path, online):
        pass
    assert not list(tmp_path.iterdir())
    monkeypatch.setenv("WANDB_MODE", "online")
    with pytest.raises(UserError, match=r"^WANDB_MODE=online: "):
        check_login(LoggerConfig())
    check_login(LoggerConfig(mode=WandbMode.offline))
    check_login(LoggerConfig(kind=LoggerKind.none, mode=WandbMode.online))


def test_auto_goes_online_with_a_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    auto = LoggerConfig()
    assert not is_online(auto)
    for host in ("api.forge.coreweave.com", "api.wandb.ai"):
        (tmp_path / "netrc").write_text(f"machine {host} login user password {'0' * 40}\n")
        assert is_logged_in()
        assert is_online(auto)
    assert not is_online(LoggerConfig(mode=WandbMode.offline))
    for other in ("https://wandb.example.org:8080/", "https://wandb.example.org/"):
        monkeypatch.setenv("WANDB_BASE_URL", other)
        assert not is_logged_in(), "the login is for another server"
    monkeypatch.setenv("WANDB_BASE_URL", "https://api.wandb.ai/")
    assert is_logged_in()
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org/")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    assert is_online(auto)
    for mode in ("offline", "disabled", "dryrun"):
        monkeypatch.setenv("WANDB_MODE", mode)
        assert not is_online(auto)
    assert is_online(LoggerConfig(mode=WandbMode.online))


def test_a_spoilt_netrc_is_no_login(tmp_path: Path) -> None:
    (tmp_path / "netrc").write_text("machine\nnonsense here\n")
    assert not is_logged_in()


def script(body: str, **environment: str) -> str:
    """Output of a process that logs: W&B reads some of its environment once in each process."""
    start = """
from pathlib import Path
from sumcirc.errors import UserError
from sumcirc.schema import LoggerConfig, WandbMode
from sumcirc.tracking.wandb import is_logged_in, wandb_run
def start(config):
    return wandb_run(config, Path("."), name="x", group="g", job_type="train", tags=[],
                     settings={}, run_id="abcd1234")
"""
    done = subprocess.run(
        [sys.executable, "-c", start + body],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


REFUSED = """
try:
    with start(LoggerConfig({arguments})):
        pass
except UserError as error:
    print(error)
"""


def test_a_server_that_does_not_answer_is_one_line() -> None:
    text = script(
        REFUSED.format(arguments="mode=WandbMode.online"),
        WANDB_BASE_URL="http://127.0.0.1:9",  # nothing listens there
        WANDB_API_KEY="0" * 40,
        WANDB_INIT_TIMEOUT="2",
    )
    assert text.startswith("logger=wandb: W&B can't start the run (")
    assert "logger.mode=offline" in text
    assert text.count("\n") == 1


def test_the_server_of_the_settings_file(tmp_path: Path) -> None:
    """`wandb login --host` leaves it there."""
    home = tmp_path / "wandb_home"
    home.mkdir()
    (home / "settings").write_text("[default]\nbase_url = https://wandb.example.org:8080\n")
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine api.wandb.ai login user password {'0' * 40}\n")
    assert script("print(is_logged_in())") == "False\n"
    netrc.write_text(f"machine wandb.example.org:8080 login user password {'0' * 40}\n")
    assert script("print(is_logged_in())") == "True\n"
