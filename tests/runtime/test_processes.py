"""How the program starts again, which process a run belongs to, and what several leave behind."""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace

import pytest
import torch.distributed
from hydra.core.hydra_config import HydraConfig
from pytorch_lightning.utilities import rank_zero_only

from sumcirc.runtime.processes import (
    VARIABLES,
    distributed,
    is_main_process,
    program,
    started_together,
)


def test_first_process_of_the_first_node_alone_is_the_main_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("NODE_RANK", raising=False)
    assert is_main_process()
    monkeypatch.setenv("NODE_RANK", "1")
    assert not is_main_process()
    monkeypatch.setenv("NODE_RANK", "0")
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    assert not is_main_process()


def test_environment_and_process_group_are_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MASTER_PORT", "12345")
    store = torch.distributed.HashStore()

    @distributed()
    def train() -> None:
        os.environ.update(LOCAL_RANK="0", WORLD_SIZE="2", MASTER_PORT="1")
        torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
        raise RuntimeError("on the way")

    with pytest.raises(RuntimeError, match="on the way"):
        train()
    assert not torch.distributed.is_initialized()
    assert {name: os.environ.get(name) for name in VARIABLES} == {
        **dict.fromkeys(VARIABLES),
        "MASTER_PORT": "12345",
    }


@pytest.mark.parametrize(
    ("spec", "safe_path", "words"),
    [
        (None, False, ["-P", "-m"]),  # a console script
        ("sumcirc.__main__", False, ["-m"]),
        ("sumcirc.__main__", True, ["-P", "-m"]),
        ("pytest.__main__", False, ["-P", "-m"]),  # or a launcher's worker
    ],
)
def test_the_program_imports_from_where_it_did(
    monkeypatch: pytest.MonkeyPatch, spec: str | None, safe_path: bool, words: list[str]
) -> None:
    main = SimpleNamespace(__spec__=spec and SimpleNamespace(name=spec))
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.setattr(sys, "flags", SimpleNamespace(safe_path=safe_path))
    assert program() == (sys.executable, *words, "sumcirc")


def test_lightning_starts_processes_with_our_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever module the interpreter was started with; Lightning would take its name."""
    from pytorch_lightning.strategies.launchers import subprocess_script

    hydra = SimpleNamespace(runtime=SimpleNamespace(output_dir="/a b/it's", cwd="/home/me"))
    monkeypatch.setattr(HydraConfig, "get", lambda: hydra)
    monkeypatch.setattr(HydraConfig, "initialized", lambda: True)
    monkeypatch.setattr(sys, "argv", ["anything", "train", "seed=1"])
    lightnings = subprocess_script._hydra_subprocess_cmd
    with distributed():
        command, folder = subprocess_script._hydra_subprocess_cmd(1)
    assert command == [*program(), "train", "seed=1", r"hydra.run.dir='/a b/it\'s'"]
    assert folder == "/home/me"
    assert subprocess_script._hydra_subprocess_cmd is lightnings


@pytest.mark.parametrize(
    ("variables", "found"),
    [
        ({}, None),
        ({"WORLD_SIZE": "1", "SLURM_STEP_NUM_TASKS": "1"}, None),
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE=2"),
        ({"SLURM_STEP_NUM_TASKS": "4"}, "SLURM_STEP_NUM_TASKS=4"),
        ({"SLURM_NTASKS": "4"}, None),  # of an allocation: in it, one process may run
    ],
)
def test_processes_that_were_started_together(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], found: str | None
) -> None:
    for name in ("WORLD_SIZE", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert started_together() == found
