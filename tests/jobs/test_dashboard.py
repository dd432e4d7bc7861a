"""`sumcirc dashboard`: files without network, what is refused, and pushing to a stand-in of W&B."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.sweeps import config, write_run, write_sweep
from tests.support.wandb_server import ENTITY, WandbServer, wandb_server

# any use of a socket, and any process that is started, ends the command
FENCE = """
import socket, subprocess
def refuse(*given, **_):
    raise SystemExit(f"reaches {given}")
for name in ("connect", "connect_ex", "sendto"):
    setattr(socket.socket, name, refuse)
socket.getaddrinfo = subprocess.Popen.__init__ = refuse
"""


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    return write_sweep(tmp_path / "s", {(0, 1): 0.4, "all": 0.5}, seeds=(1, 2))


@pytest.fixture
def server() -> Iterator[WandbServer]:
    with wandb_server() as found:
        yield found


def sumcirc(
    *words: str, cwd: Path, fenced: bool = True, before: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own without an account."""
    code = FENCE * fenced + before
    code += f"\nfrom sumcirc.cli.main import main; main(['dashboard', *{words!r}])"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    home = {f"WANDB_{name}_DIR": str(cwd / ".home") for name in ("DATA", "CACHE", "CONFIG")}
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={
            **kept,
            **home,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "NETRC": str(cwd / "netrc"),
            **environment,
        },
    )


def line_of(done: subprocess.CompletedProcess[str]) -> str:
    """What a mistake is answered with: one line, code 2."""
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("sumcirc: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_without_the_extra(sweep: Path, tmp_path: Path) -> None:
    done = sumcirc(
        str(sweep), cwd=tmp_path, before="import sys; sys.modules['wandb_workspaces']=None"
    )
    assert "pip install 'sumcirc[dashboard]'" in line_of(done)


def test_files_without_network(sweep: Path, tmp_path: Path) -> None:
    pytest.importorskip("wandb_workspaces")
    done = sumcirc("s", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert {path.name for path in (sweep / "dashboard").iterdir()} == {
        "workspace.json",
        "report.json",
    }
    assert "`make sync`): sumcirc dashboard s push=true\n" in done.stdout
    assert "no panels for activation_drift, " in done.stdout
    before = {path: path.read_bytes() for path in (sweep / "dashboard").iterdir()}
    assert sumcirc("s", cwd=tmp_path).returncode == 0
    assert {path: path.read_bytes() for path in (sweep / "dashboard").iterdir()} == before


def test_what_is_refused(sweep: Path, tmp_path: Path) -> None:
    pytest.importorskip("wandb_workspaces")
    assert "nowhere: no such directory" in line_of(sumcirc("nowhere", cwd=tmp_path))
    # W&B's own process, which reads its settings, is spoken to by a socket that is a file
    line = line_of(sumcirc("s", "push=true", cwd=tmp_path, fenced=False))
    assert "push=true: no W&B login found" in line
    for run in sweep.iterdir():
        (run / "wandb/offline-run-1-x").mkdir(parents=True)
    line = line_of(sumcirc("s", "push=true", cwd=tmp_path, WANDB_API_KEY="0" * 40))
    assert "none of the 4 runs of s was uploaded; upload them with `make sync`" in line
    run = write_run(tmp_path / "t/a", config(), 0.4)
    summary = json.loads(run.summary_file.read_text())
    del summary["systems"]["trained"]["facts"]
    run.summary_file.write_text(json.dumps(summary))
    line = line_of(sumcirc("t", "metric=facts", cwd=tmp_path))
    assert "metric=facts: these runs have no such score" in line
    line = line_of(sumcirc("s", "t", cwd=tmp_path))
    assert "the runs are of 2 sweeps" in line
    assert line.endswith("add out=FOLDER\n")
    assert not (sweep / "dashboard").exists()


def test_it_is_sent_and_sent_again(sweep: Path, tmp_path: Path, server: WandbServer) -> None:
    pytest.importorskip("wandb_workspaces")
    (waiting, *_) = sorted(sweep.iterdir())
    (waiting / "wandb/offline-run-1-x").mkdir(parents=True)
    account = {"WANDB_API_KEY": "0" * 40, "WANDB_BASE_URL": server.url}
    for _ in range(2):
        done = sumcirc("s", "push=true", cwd=tmp_path, fenced=False, **account)
        assert done.returncode == 0, done.stderr
        kinds = [view["type"] for view in server.views.values()]
        assert kinds == ["project-view", "runs"], "the second time they are updated"
    assert f"not uploaded yet, so not shown there: {waiting.name}" in done.stdout
    assert f"workspace: {server.url}/{ENTITY}/sumcirc?nw=" in done.stdout
    assert f"report: {server.url}/{ENTITY}/sumcirc/reports/sumcirc-s--" in done.stdout
    for view, name in zip(server.views.values(), ("workspace", "report"), strict=True):
        written = json.loads((sweep / f"dashboard/{name}.json").read_text())
        assert json.loads(view["spec"]) == written["spec"]
        assert view["entityName"] == written["entityName"] == ENTITY
        assert view["displayName"] == written["displayName"]


def test_a_server_that_says_no_is_one_line(
    sweep: Path, tmp_path: Path, server: WandbServer
) -> None:
    pytest.importorskip("wandb_workspaces")
    server.refuse = "permission denied"
    account = {"WANDB_API_KEY": "0" * 40, "WANDB_BASE_URL": server.url}
    done = sumcirc("s", "push=true", "entity=other", cwd=tmp_path, fenced=False, **account)
    assert done.returncode == 2, done.stderr
    assert "W&B refused the dashboard" in done.stderr.splitlines()[-1]
    assert "permission denied" in done.stderr.splitlines()[-1]
    assert (sweep / "dashboard/workspace.json").exists()
    assert not (sweep / "dashboard/pushed.json").exists()
