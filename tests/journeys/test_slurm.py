"""A sweep on a real SLURM of one node: a job killed, both jobs pre-empted, requeued and resumed.

Needs root, Debian's packages (tests/slurm/up.sh names them) and `pip install 'sumcirc[slurm]'`.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sumcirc.storage.writing import read_last_step
from tests.support.processes import ROOT, Processes, wait_until

NEEDED = ("srun", "sbatch", "slurmctld", "slurmd", "slurmdbd", "munged", "mariadbd")
MISSING = [
    name for name in NEEDED if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") is None
]
PLUGIN = importlib.util.find_spec("submitit") is not None

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(bool(MISSING), reason=f"SLURM is not installed: no {', '.join(MISSING)}"),
    pytest.mark.skipif(not PLUGIN, reason="no submitit: pip install 'sumcirc[slurm]'"),
    pytest.mark.skipif(os.geteuid() != 0, reason="SLURM's daemons are started as root"),
]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    state = tmp_path_factory.mktemp("slurm")
    scripts = ROOT / "tests/slurm"
    try:
        subprocess.run(["bash", scripts / "up.sh", state], check=True, timeout=200)
        os.environ["SLURM_CONF"] = str(state / "slurm.conf")
        yield
    finally:
        subprocess.run(["scancel", "--user=root"], check=False)
        subprocess.run(["bash", scripts / "down.sh", state], check=True, timeout=100)
        os.environ.pop("SLURM_CONF", None)


def start(processes: Processes, folder: Path, *overrides: str) -> subprocess.Popen[str]:
    words = ["train", "-m", "adaptation=lora", "adaptation.rank=4", "seed=1,2", "sweep.name=s"]
    slurm = ["hydra/launcher=submitit_slurm", "hydra.launcher.partition=normal"]
    return processes.sumcirc(*words, *overrides, *slurm, cwd=folder)


def ask(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def statuses(folder: Path) -> list[dict]:
    files = sorted(folder.glob("runs/s/*/status.json"))
    return [json.loads(file.read_text()) for file in files]


def have_logged(folder: Path, step: int) -> bool:
    files = list(folder.glob("runs/s/*/metrics.csv"))
    return len(files) == 2 and all((read_last_step(file) or 0) >= step for file in files)


@pytest.mark.usefixtures("slurm")
def test_pre_empted_jobs_are_requeued_and_resumed(
    processes: Processes, small_run: list[str], tmp_path: Path
) -> None:
    overrides = [
        *(item for item in small_run if not item.startswith(("trainer.max_steps", "logger="))),
        *("trainer.max_steps=500", "trainer.checkpoint_every=20", "logger=wandb", "callbacks=none"),
    ]
    sweep = start(processes, tmp_path, *overrides)
    wait_until(lambda: have_logged(tmp_path, 30), sweep)
    ask("sbatch", "-p", "urgent", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 2")
    wait_until(lambda: {status["state"] for status in statuses(tmp_path)} == {"pending"}, sweep)
    wait_until(lambda: "BeginTime" in ask("squeue", "-h", "-t", "PD", "-o", "%i %R"), sweep)
    for job in ask("squeue", "-h", "-r", "-t", "PD", "-p", "normal", "-o", "%i").split():
        ask("scontrol", "update", f"JobId={job}", "StartTime=now")  # SLURM would wait two minutes
    wait_until(lambda: [status["resumed"] for status in statuses(tmp_path)] == [1, 1], sweep)
    wait_until(lambda: statuses(tmp_path)[0]["state"] == "running", sweep)
    os.kill(statuses(tmp_path)[0]["process"], 9)
    said, _ = sweep.communicate()
    print(said)
    print(ask("sacct", "-D", "-X", "-o", "jobid,partition,state,exitcode,start,end"))
    assert sweep.returncode == 1, said
    assert [status["state"] for status in statuses(tmp_path)] == ["failed", "done"]
    assert statuses(tmp_path)[0]["reason"].startswith("killed by signal 9 (SIGKILL)")
    assert "1 of 2 runs are not done" in said

    again = start(processes, tmp_path, *overrides, "sweep.retry=failed")
    said, _ = again.communicate()
    assert again.returncode == 0, said
    assert [status["state"] for status in statuses(tmp_path)] == ["done", "done"]
    assert have_logged(tmp_path, 500)
