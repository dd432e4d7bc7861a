"""Run directories: a run's configuration, status, metrics and records as plain files."""

from __future__ import annotations

import fcntl
import os
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from sumcirc import __version__
from sumcirc.errors import UserError
from sumcirc.runtime import quoting
from sumcirc.storage.reading import read_json, read_yaml
from sumcirc.storage.writing import MetricsFile, plain_numbers, write_json, write_text
from sumcirc.tracking.record_format import FORMAT
from sumcirc.tracking.shapes.run_shapes import ConfigFile, Status

PACKAGES = (
    "torch",
    "pytorch-lightning",
    "hydra-core",
    "omegaconf",
    "transformers",
    "peft",
    "datasets",
    "wandb",
    "torchmetrics",
    "rouge-score",
    "tokenizers",
    "numpy",
)

RESUMABLE = {"train"}  # verbs that continue from a checkpoint; others start again
SILENCE = 600.0  # seconds of silence after which a run on another machine counts as interrupted


class RunDirectory:
    """Gives the paths of a run's files, and reads and writes config.yaml, status.json and others.

    README, "A run directory", describes the layout.

    Args:
        path: the run directory; it need not exist.
    """

    STATUS = "status.json"

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.config_file = self.path / "config.yaml"
        self.status_file = self.path / self.STATUS
        self.summary_file = self.path / "summary.json"
        self.ranking_file = self.path / "ranking.json"
        self.documents_file = self.path / "documents.parquet"
        self.retention_file = self.path / "retention.parquet"
        self.samples_file = self.path / "samples.json"
        self.checkpoints = self.path / "checkpoints"
        self.adapter = self.path / "adapter"
        self.initial_adapter = self.path / "initial_adapter"
        self.model = self.path / "model"
        self.merged = self.path / "merged"
        self.figures = self.path / "figures"
        self.probes = self.path / "probes"
        self.circuits = self.path / "circuits"
        self.metrics = MetricsFile(self.path / "metrics.csv")

    @property
    def trained(self) -> Path:
        """The folder that contains the trained adapter or model.

        Raises:
            UserError: the folder doesn't exist, because training did not finish.
        """
        for folder in (self.adapter, self.model):
            if folder.is_dir():
                return folder
        raise UserError(
            f"{self.path}: holds neither adapter/ nor model/, so training did not finish;"
            f" {self.continuation()}"
        )

    @classmethod
    def create(cls, path: Path | str, verb: str, config: Mapping[str, Any]) -> RunDirectory:
        """Return a new run with the state `pending`, and write its config.yaml and status.json.

        If the folder contains an unfinished run of the same verb that can't be resumed, the new run
        replaces it.

        Args:
            path: the new run directory.
            verb: the subcommand that makes the run, such as `train`.
            config: the resolved configuration, as plain containers.

        Raises:
            UserError: the folder contains another run, or can't be written.
        """
        run = cls(path)
        run.check_free(verb)
        if run.status_file.exists():
            run.status_file.unlink()
        run.write_config(verb, config)
        run.set_status("pending", format=FORMAT, verb=verb, resumed=0)
        return run

    def check_free(self, verb: str) -> None:
        """Refuse a directory that holds a running, finished or resumable run.

        Args:
            verb: the verb of the new run.

        Raises:
            UserError: the directory is taken.
        """
        if not self.status_file.exists():
            return
        status = self.status()
        state, other = status["state"], status.get("verb")
        held = f"sweep.name={self.path.parent.name}: {self.path} holds a run of `sumcirc {other}`"
        elsewhere = "choose another sweep.name"
        if state == "running" and self.is_running(status):
            raise UserError(f"{held} that is running; wait for it, or {elsewhere}")
        if state == "done" or other != verb:
            raise UserError(f"{held} already ({state}); {elsewhere}")
        if verb in RESUMABLE:
            raise UserError(f"{held} already ({state}); {self.continuation()}, or {elsewhere}")

    def is_running(self, status: Status) -> bool:
        """Return whether a process is executing the run, judged by the lock on its directory.

        The lock of a process on another machine can't be seen. A run that was started on another
        machine counts as running if it has written to its files in the last `SILENCE` seconds.

        Args:
            status: contents of the run's status.json.
        """
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        # a requeued SLURM job replaces the one that ran before, on whichever machine
        requeued = os.environ.get("SLURM_RESTART_COUNT", "0") != "0"
        if status.get("host") == socket.gethostname() or requeued:
            return False
        files = (self.status_file, self.metrics.path, self.path / "output.txt")
        files = (*files, self.path / "log.txt")
        last = max(file.stat().st_mtime for file in files if file.exists())
        return time.time() - last < SILENCE

    def continuation(self) -> str:
        """Return a phrase for messages with the command that continues an unfinished run.

        It begins "continue with", or "start it again with" if the run can't be resumed.
        """
        if self.status().get("verb") in RESUMABLE:
            return f"continue with `{quoting.command('train', f'resume={self.path}')}`"
        body = self.read_config()
        words = command_of(body["verb"], body["environment"])
        return f"start it again with `{' '.join(map(quoting.word, words))}`"

    @classmethod
    def open(cls, path: Path | str) -> RunDirectory:
        """Return the run directory at `path` after checking that it is one.

        Raises:
            UserError: `path` is not a run directory.
        """
        run = cls(path)
        if not run.path.is_dir():
            raise UserError(f"{path}: no such directory; give a run's directory")
        if not (run.config_file.exists() and run.status_file.exists()):
            raise UserError(
                f"{path}: is no run directory (config.yaml and status.json are not there);"
                " give the directory that `sumcirc train` printed"
            )
        return run

    def write_config(self, verb: str, config: Mapping[str, Any]) -> None:
        """Write config.yaml: the resolved configuration, package versions and the git commit.

        Args:
            verb: the command that makes the run, such as `train`.
            config: the resolved configuration, as plain containers.
        """
        body = {
            "format": FORMAT,
            "verb": verb,
            "config": dict(config),
            "environment": environment(),
        }
        write_text(self.config_file, yaml.safe_dump(body, sort_keys=False, allow_unicode=True))

    def require_same_data(self, found: Mapping[str, str]) -> None:
        """Store hashes of the run's data in status.json, and compare them with stored ones.

        Args:
            found: hash of the documents of each split, by the split's name, or of other texts by
                the name of their setting.

        Raises:
            UserError: the data has changed since the run began.
        """
        before = self.status().get("data", {})
        for split, fingerprint in found.items():
            if before.get(split, fingerprint) != fingerprint:
                setting = split if "." in split else f"data.{split}"
                raise UserError(
                    f"{self.path}: {setting} has other documents than when the run started;"
                    " restore them, or train again with another sweep.name"
                )
        if found.keys() - before.keys():
            self.set_status(self.status()["state"], data={**before, **found})

    def other_versions(self) -> list[str]:
        """Return a text for each package whose version has changed since the run began.

        The text has the form `torch 2.9.0 (began with 2.8.0)`.
        """
        began = self.read_config()["environment"].get("packages", {})
        now = environment()["packages"]
        return [
            f"{name} {now.get(name) or 'none'} (began with {version or 'none'})"
            for name, version in began.items()
            if now.get(name) != version
        ]

    def read_config(self) -> ConfigFile:
        """Read config.yaml: verb, configuration and environment.

        Raises:
            RecordError: the file can't be read, or doesn't have the contents that a run writes.
        """
        return read_yaml(self.config_file, ConfigFile)

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write summary.json with the format number added.

        Args:
            summary: the run's results; NaN and infinities are written as null.
        """
        write_json(self.summary_file, plain_numbers({"format": FORMAT, **summary}))

    def status(self) -> Status:
        """Read status.json: state, reason, times, number of resumes and more.

        Raises:
            RecordError: the file can't be read, or doesn't have the contents that a run writes.
        """
        return read_json(self.status_file, Status)

    def set_status(self, state: str, **fields: Any) -> None:
        """Set the state and further fields in status.json, keeping all other fields.

        Args:
            state: `pending`, `running`, `done` or `failed`.
            fields: further fields to set, by name.
        """
        before: Mapping[str, Any] = self.status() if self.status_file.exists() else {}
        now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        entry = {**before, **fields, "state": state, "updated": now}
        entry.setdefault("created", now)
        if state == "running":
            entry |= {"process": os.getpid(), "host": socket.gethostname(), "reason": None}
        write_json(self.status_file, entry)


def command_of(verb: str, environment: Mapping[str, Any]) -> list[str]:
    """Return the words of the `sumcirc` command that made a run.

    Args:
        verb: the verb that made the run, such as `train`.
        environment: the section `environment` of the run's config.yaml.
    """
    words = [str(word) for word in environment.get("command") or []][1:]
    return ["sumcirc", *(words if words[:1] == [verb] else [verb])]


def runs_inside(folder: Path) -> list[Path]:
    """Return the folders in a sweep's folder that contain a status.json, sorted by path.

    A run whose status.json can't be read is included.

    Args:
        folder: the sweep's folder.

    Raises:
        UserError: the folder can't be read.
    """
    try:
        return sorted(
            path for path in folder.iterdir() if os.path.lexists(path / RunDirectory.STATUS)
        )
    except OSError as error:
        raise UserError(f"{folder}: can't be read ({error.strerror})") from None


def located(name: str, runs_dir: Path | str = "runs") -> Path:
    """Return the path that a user means: `name` itself, else the folder of this name in `runs_dir`.

    Args:
        name: a path, or the name of a sweep.
        runs_dir: folder that contains the sweeps.
    """
    path, inside = Path(name), Path(runs_dir) / name
    return inside if name and not path.exists() and inside.is_dir() else path


def environment() -> dict[str, Any]:
    """Return what is needed to repeat a run: package versions, platform, git commit and command.

    These are the contents of `environment` in config.yaml.
    """
    return {
        "sumcirc": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "commit": git_commit(),
        "command": sys.argv,
    }


def git_commit() -> str | None:
    """Return the commit of the git checkout that contains this package's code.

    `-dirty` is appended if tracked files were changed. None is returned if this file is not tracked
    by git, as in an installed package.
    """
    file = Path(__file__).resolve()
    if _git(file.parent, "ls-files", "--error-unmatch", file.name) is None:
        return None
    # no tag matches, so the result is the commit itself
    return _git(file.parent, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
