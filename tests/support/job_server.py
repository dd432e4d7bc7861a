"""Runs jobs of a sweep in forked processes of a server that has imported what they need.

A sweep starts `JobServer.program` for each job: a process of its own as ever, which hands its
words, environment, folder and output to the server, and ends with the code that comes back. It
takes a tenth of the time of a job that imports Hydra. `python -m tests.support.job_server SOCKET`
is the server.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.support.processes import ROOT, Processes, wait_until

CLIENT = """
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect(sys.argv[1])
    request = {"script": sys.argv[2], "words": sys.argv[3:], "cwd": os.getcwd()}
    request["environment"] = dict(os.environ)
    socket.send_fds(server, [b"x"], [1, 2])
    with server.makefile("rw") as stream:
        stream.write(json.dumps(request) + "\\n")
        stream.flush()
        sys.exit(int(stream.readline()))
"""


class JobServer:
    """Client side; use as a context manager.

    Args:
        folder: where its socket is.
    """

    def __init__(self, folder: Path) -> None:
        self.address = folder / "socket"

    def __enter__(self) -> JobServer:
        self.processes = Processes()
        process = self.processes.start(
            [sys.executable, "-m", "tests.support.job_server", self.address],
            cwd=ROOT,
            environment={"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])},
        )
        wait_until(self.address.exists, process)
        return self

    def __exit__(self, *_: object) -> None:
        self.processes.end()

    def program(self, script: str) -> tuple[str, ...]:
        """The command of a job that runs Python code, with the words after it in `sys.argv`."""
        return (sys.executable, "-I", "-S", "-c", CLIENT, str(self.address), script)


def serve(address: str) -> None:
    """Answer requests until the process is killed."""
    import hydra._internal.hydra  # noqa: F401

    import sumcirc.cli.command
    import sumcirc.jobs.train  # noqa: F401
    import tests.support.sweeps  # noqa: F401

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{address}.begun")
        server.listen()
        os.rename(f"{address}.begun", address)  # from now on it can be connected to
        while True:
            connection, _ = server.accept()
            if os.fork() == 0:
                _answer(connection)
            connection.close()
            with suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass


def _answer(connection: socket.socket) -> None:
    """Run a job in this process, which ends."""
    _, descriptors, *_ = socket.recv_fds(connection, 1, 2)
    with connection.makefile("rw") as stream:
        request = json.loads(stream.readline())
        code = _run(request, descriptors)
        stream.write(f"{code}\n")
        stream.flush()
    os._exit(code)


def _run(request: dict[str, Any], descriptors: list[int]) -> int:
    for target, descriptor in enumerate(descriptors, 1):
        os.dup2(descriptor, target)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["cwd"])
    sys.argv = ["-c", *request["words"]]
    try:
        exec(compile(request["script"], "<job>", "exec"), {"__name__": "__main__"})
    except SystemExit as leave:
        return leave.code if isinstance(leave.code, int) else int(leave.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


if __name__ == "__main__":
    serve(sys.argv[1])
