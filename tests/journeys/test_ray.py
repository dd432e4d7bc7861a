"""A sweep on a real Ray of one machine: a job that is killed touches no other, and goes on later.

Needs `pip install 'sumcirc[ray]'`, and root: Ray listens on all addresses, so it is kept in a
network namespace that has only loopback.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest

from sumcirc.storage.writing import read_last_step
from tests.support.processes import SCRIPT, Processes, offline, wait_until

LOOPBACK = 'ip link set lo up && exec "$@"'

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None, reason="no Ray: pip install 'sumcirc[ray]'"
    ),
    pytest.mark.skipif(os.geteuid() != 0, reason="a network namespace is made as root"),
    pytest.mark.skipif(
        not (shutil.which("unshare") and shutil.which("ip")),
        reason="unshare and ip (util-linux, iproute2) are not there",
    ),
]


def start(processes: Processes, folder: Path, ray: str, *overrides: str) -> subprocess.Popen[str]:
    words = [
        *("train", "-m", "adaptation=lora", "adaptation.rank=4", "seed=1,2", "sweep.name=s"),
        *("hydra/launcher=ray", "+hydra.launcher.ray.init.num_cpus=2"),
        *(f"+hydra.launcher.ray.init._temp_dir={ray}", *overrides),
        "+hydra.launcher.ray.init.include_dashboard=false",
    ]
    home = {"HOME": str(folder), "RAY_USAGE_STATS_ENABLED": "0"}
    return processes.start(
        ["unshare", "--net", "bash", "-c", LOOPBACK, "bash", SCRIPT, *words],
        cwd=folder,
        environment={**offline(folder / "cache"), **home},
    )


def statuses(folder: Path) -> list[dict]:
    return [json.loads(file.read_text()) for file in sorted(folder.glob("runs/s/*/status.json"))]


def test_a_killed_job_touches_no_other(
    processes: Processes, small_run: list[str], tmp_path: Path
) -> None:
    overrides = [
        *(item for item in small_run if not item.startswith("trainer.max_steps")),
        *("trainer.max_steps=400", "trainer.checkpoint_every=20", "callbacks=none"),
    ]
    # sockets below it must have short names
    with tempfile.TemporaryDirectory(prefix="ray") as ray:
        sweep = start(processes, tmp_path, ray, *overrides)
        first = "runs/s/*-s1/metrics.csv"
        wait_until(
            lambda: any((read_last_step(file) or 0) > 30 for file in tmp_path.glob(first)), sweep
        )
        os.kill(statuses(tmp_path)[0]["process"], signal.SIGKILL)
        said, _ = sweep.communicate()
        assert sweep.returncode == 1, said
        assert [status["state"] for status in statuses(tmp_path)] == ["failed", "done"]
        assert statuses(tmp_path)[0]["reason"].startswith("killed by signal 9 (SIGKILL)")
        assert "1 of 2 runs are not done" in said

        again = start(processes, tmp_path, ray, *overrides, "sweep.retry=failed")
        said, _ = again.communicate()
    assert again.returncode == 0, said
    assert [(status["state"], status["resumed"]) for status in statuses(tmp_path)] == [
        ("done", 1),
        ("done", 0),
    ]
