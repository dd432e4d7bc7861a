"""The installed command starts as documented: every verb, and all that starts further processes.

Commands here run in interpreters of their own, unlike those of the command server.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sumcirc.cli import main as cli
from tests.support.command_server import CommandServer
from tests.support.landscapes import write_example
from tests.support.processes import SCRIPT, Processes, offline

# one step of training and a page; a verb takes those of its groups
DATA = ["data.sizes.train=8", "data.sizes.validation=4", "data.sizes.test=4"]
QUICK = [*DATA, "logger=none", "trainer.threads=1"]
TRAIN = ["trainer.max_steps=1", "trainer.batch_size=4", "callbacks=none", *QUICK]
FEW = ["evaluation.bootstrap=100", "generation.max_new_tokens=4"]
UNSCORED = [*TRAIN, "evaluation.at_end=false"]
TWO = ["trainer.strategy=ddp", "trainer.devices=2"]


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A folder with a name that needs quotes, and files named like libraries that are imported."""
    folder = tmp_path / """a b,c='d"$e"""
    folder.mkdir()
    for name in ("datasets", "statistics", "sumcirc", "wandb"):
        (folder / f"{name}.py").write_text("raise SystemExit('imported from the current folder')")
    return folder


def states(folder: Path) -> dict[str, str]:
    files = folder.glob("*/status.json")
    return {file.parent.name: json.loads(file.read_text())["state"] for file in files}


def test_two_processes_in_any_folder(processes: Processes, hostile: Path) -> None:
    """SLURM's variables are those of a job of one task, which starts its processes itself."""
    task = {"SLURM_JOB_ID": "1", "SLURM_JOB_NAME": "x", "SLURM_NNODES": "1"}
    task |= {"SLURM_NTASKS": "1", "SLURM_NTASKS_PER_NODE": "1", "SLURM_PROCID": "0"}
    place = """it's "here\""""
    words = ["train", *UNSCORED, *TWO, "sweep.name=s", "run.name=r", f"runs_dir={place}"]
    code, output = processes.run(*words, cwd=hostile, environment=task)
    assert code == 0, output
    assert "MEMBER: 2/2" in output
    assert states(hostile / place / "s") == {"r": "done"}
    assert not (hostile / "runs").exists()


def test_a_sweep_in_any_folder(processes: Processes, hostile: Path) -> None:
    words = ["train", "-m", *UNSCORED, "seed=1,2", "sweep.name=s", "sweep.jobs=2"]
    code, output = processes.run(*words, cwd=hostile)
    assert code == 0, output
    assert set(states(hostile / "runs/s").values()) == {"done"}
    assert len(states(hostile / "runs/s")) == 2


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["processes", "basic"])
def test_a_sweep_of_two_processes_each(processes: Processes, hostile: Path, launcher: str) -> None:
    words = ["train", "-m", *UNSCORED, *TWO, "seed=1,2", "sweep.name=s"]
    code, output = processes.run(*words, f"hydra/launcher={launcher}", cwd=hostile)
    assert code == 0, output
    assert set(states(hostile / "runs/s").values()) == {"done"}
    printed = [file.read_text() for file in hostile.glob("runs/s/*/output.txt")]
    assert ["MEMBER: 2/2" in text for text in printed] == [True, True]


@pytest.mark.slow
def test_two_processes_that_torchrun_starts(processes: Processes, tmp_path: Path) -> None:
    torchrun = [SCRIPT.parent / "torchrun", "--standalone", "--nproc-per-node=2", "--no-python"]
    command = [*torchrun, SCRIPT, "train", *UNSCORED, *TWO]
    where = {"cwd": tmp_path, "environment": offline(tmp_path / "cache")}
    refused = processes.start(command, **where)
    assert "sumcirc: sweep.name=: is not set, and WORLD_SIZE=2 says" in refused.communicate()[0]
    assert refused.returncode != 0
    assert not (tmp_path / "runs").exists()
    started = processes.start([*command, "sweep.name=s"], **where)
    output, _ = started.communicate()
    assert started.returncode == 0, output
    assert list(states(tmp_path / "runs/s").values()) == ["done"]


def test_every_verb(commands: CommandServer, tmp_path: Path) -> None:
    """`pretrain` gets so few steps that it ends in its own refusal: it takes minutes to learn."""
    run = "runs/s/r"
    words = {
        "train": [*TRAIN, *FEW, "adaptation=lora", "logger=wandb", "sweep.name=s", "run.name=r"],
        "evaluate": [f"checkpoint={run}", "sweep.name=e", *FEW, *QUICK],
        "circuit": [
            *(f"checkpoint={run}", "sweep.name=c", "circuit.documents=2", "circuit.resamples=2"),
            *("circuit.sizes=[0.1]", *QUICK),
        ],
        "compare": [
            *(f"after={run}", "sweep.name=d", "compare.items=2", "compare.parts=[mlp]"),
            *("compare.top=1", "compare.random_sets=1", *QUICK),
        ],
        "pairs": ["out=pairs.jsonl", "documents=2", "filter=false", *DATA],
        "report": [run, "logger=none"],
        "dashboard": [run],
        "placement": [str(write_example(tmp_path / "example")), "score=[0,1,2]"],
        "select": ["selector=middle", "adaptation.rank=2", "sweep.name=f", *QUICK],
        "status": [run],
        "pretrain": [
            *("out=made", "layers=1", "heads=1", "width=16", "context=64", "vocabulary=300"),
            *("articles=20", "steps=1", "echo_steps=1", "batch_size=2"),
        ],
    }
    assert words.keys() == cli.VERBS.keys() | cli.READERS.keys()
    for verb, given in words.items():
        done = commands.run(verb, *given, cwd=tmp_path)
        assert done.code == (2 if verb == "pretrain" else 0), f"{verb}: {done.output}"
    assert "sumcirc: echo_steps=1: repetition was not learnt" in done.output
    assert {state for sweep in "secdf" for state in states(tmp_path / "runs" / sweep).values()} == {
        "done"
    }
