"""A workplace of their own for tests of the command line, and ways to run a command."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from sumcirc.cli import main as cli
from sumcirc.jobs import train
from sumcirc.tracking.run_directory import RunDirectory
from sumcirc.tracking.session import plain, running

Main = Callable[..., str]


@pytest.fixture(autouse=True)
def _logging() -> Iterator[None]:
    """Undo what Hydra does to the loggers of the process that it takes for its own."""
    loggers = [logging.getLogger(name) for name in ("", "hydra", "HYDRA", "hydra._internal.hydra")]
    before = [(logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    yield
    for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
        for handler in set(logger.handlers) - set(handlers):
            handler.close()
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)
    for logger in map(logging.getLogger, logging.root.manager.loggerDict):
        logger.disabled = False


@pytest.fixture(autouse=True)
def _workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SUMCIRC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")  # `launch` sets it for good
    for name in ("SUMCIRC_TRACEBACK", "WANDB_API_KEY", "WANDB_MODE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


@pytest.fixture
def refused(capfd: pytest.CaptureFixture[str]) -> Main:
    """Runs a command that must be refused; gives its one line."""

    def run(*arguments: str) -> str:
        with pytest.raises(SystemExit) as left:
            cli.main(arguments)
        error = capfd.readouterr().err
        assert left.value.code == 2, error
        assert error.startswith("sumcirc: "), error
        assert error.count("\n") == 1, error
        assert not list(Path.cwd().rglob("status.json"))
        assert not Path("runs").exists()
        assert not Path("outputs").exists()
        return error

    return run


@pytest.fixture
def shown(capfd: pytest.CaptureFixture[str]) -> Main:
    """Runs a command that only shows something; gives what it printed."""

    def run(*arguments: str) -> str:
        with suppress(SystemExit):
            cli.main(arguments)
        captured = capfd.readouterr()
        assert captured.err == ""
        assert not Path("runs").exists()
        return captured.out

    return run


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, Path]]:
    """Stands in for training: collects the configuration and folder of each job."""
    found: list[tuple[Any, Path]] = []
    monkeypatch.setattr(train, "check", lambda config: None)
    monkeypatch.setattr(train, "run", lambda config, folder: found.append((config, folder)))
    return found


@pytest.fixture
def finished_run(jobs: list[tuple[Any, Path]], tmp_path: Path) -> Path:
    """A run directory of a training run, under a name as runs have it."""
    cli.main(["train", "sweep.name=mine", "adaptation=lora", "adaptation.layers=[2,3,5]"])
    config, folder = jobs.pop()
    assert folder == tmp_path / "runs/mine/tiny-wire-lora-2,3,5-r16-s1"
    with running(RunDirectory.create(folder, "train", plain(config))):
        pass
    return folder
