"""Runs the installed `sumcirc` in forked processes: each is a process that can be killed.

The server has imported everything once, so a command costs what it does, not the seconds that
torch takes to load. It then runs the console script as Python does: `__main__` has no `__spec__`,
and `sys.argv[0]` is the script's path. `python -m tests.support.command_server` reads one JSON
request a line.
"""

from __future__ import annotations

import json
import os
import runpy
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sumcirc.cli.verbs import STARTING
from tests.support.processes import ROOT, SCRIPT, Processes, offline


@dataclass(frozen=True)
class Finished:
    """Exit code (negative: the signal that ended it) and everything that was printed.

    With `apart` what went to standard error is in `error`, and not in `output`.
    """

    code: int
    output: str
    error: str = ""

    @property
    def said(self) -> list[str]:
        """The lines of the output but the first one, which says that a command starts."""
        return [line for line in self.output.strip().splitlines() if not line.endswith(STARTING)]

    @property
    def refusal(self) -> str:
        """The one line in which the command refused its settings."""
        assert self.code == 2, self.output
        assert len(self.said) == 1, self.output
        return self.said[0]


class CommandServer:
    """Client side; use as a context manager."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count = 0

    def __enter__(self) -> CommandServer:
        environment = {
            **offline(self.folder / "cache"),
            "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
            "MPLCONFIGDIR": str(self.folder / "matplotlib"),
        }
        self.processes = Processes()
        self.process = self.processes.start(
            [sys.executable, "-m", "tests.support.command_server"],
            cwd=ROOT,
            environment=environment,
            stdin=subprocess.PIPE,
            stderr=None,
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.processes.end()

    def run(
        self,
        *arguments: str,
        cwd: Path,
        kill_at: str | None = None,
        environment: Mapping[str, str] | None = None,
        processes: int = 1,
        apart: bool = False,
        figures: bool = True,
    ) -> Finished:
        """Run `sumcirc ARGUMENTS`; `kill_at` names a fault of `tests.support.kill_points`.

        Without `figures` none is drawn, which is half the time of a small run.

        With several processes Lightning takes them for ones that a launcher has started; the code
        is the largest of theirs.
        """
        self.count += 1
        log = self.folder / f"{self.count}.log"
        errors = self.folder / f"{self.count}.errors" if apart else log
        request = {
            "arguments": arguments,
            "cwd": str(cwd),
            "log": str(log),
            "errors": str(errors),
            "kill_at": kill_at,
            "environment": dict(environment or {}),
            "processes": processes,
            "figures": figures,
        }
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError("the command server is gone")
        texts = [file.read_text(encoding="utf-8", errors="replace") for file in (log, errors)]
        return Finished(json.loads(answer), texts[0], texts[1] if apart else "")


def serve() -> None:
    """Answer requests until standard input ends."""
    _import_everything()
    for line in sys.stdin:
        request = json.loads(line)
        if request["processes"] > 1:
            request["environment"] |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": _free_port()}
        children = []
        for rank in range(request["processes"]):
            child = os.fork()
            if child == 0:
                _run(request, rank)
            children.append(child)
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        print(json.dumps(max(codes, key=abs)), flush=True)


def _free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def _import_everything() -> None:
    import datasets  # noqa: F401
    import matplotlib.pyplot  # noqa: F401
    import plotly.graph_objects  # noqa: F401
    import transformers.models.gpt2.modeling_gpt2
    import transformers.models.llama.modeling_llama  # noqa: F401

    import sumcirc.cli.main
    import sumcirc.evaluation.results
    import sumcirc.evaluation.summaries
    import sumcirc.jobs.evaluate
    import sumcirc.jobs.report
    import sumcirc.jobs.train
    import sumcirc.models.restoring
    import sumcirc.models.saving
    import sumcirc.training.trainer  # noqa: F401


def _run(request: dict[str, Any], rank: int) -> None:
    os.environ.update(request["environment"])
    sys.path[1:1] = filter(None, request["environment"].get("PYTHONPATH", "").split(os.pathsep))
    if request["processes"] > 1:
        from pytorch_lightning.utilities import rank_zero_only

        os.environ["LOCAL_RANK"] = str(rank)
        rank_zero_only.rank = rank  # which Lightning reads when it is imported
    os.chdir(request["cwd"])
    log, errors = (
        os.open(request[name], os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        for name in ("log", "errors")
    )
    nothing = os.open(os.devnull, os.O_RDONLY)
    for descriptor, target in ((nothing, 0), (log, 1), (errors, 2)):
        os.dup2(descriptor, target)
    code = 1
    try:
        if request["kill_at"]:
            from tests.support.kill_points import FAULTS

            FAULTS[request["kill_at"]]()
        if not request["figures"]:
            from matplotlib.figure import Figure

            import sumcirc.figures.views

            sumcirc.figures.views.figure_of = lambda view: Figure(figsize=(1, 1))
            sumcirc.figures.views.save = lambda *_: None
        sys.argv = [str(SCRIPT), *request["arguments"]]
        runpy.run_path(str(SCRIPT), run_name="__main__")
        code = 0
    except SystemExit as leave:
        code = leave.code if isinstance(leave.code, int) else int(leave.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve()
