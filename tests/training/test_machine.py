"""Devices of a run, and the tasks of a SLURM job that it is part of."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch

from sumcirc.errors import UserError
from sumcirc.schema import TrainerConfig
from sumcirc.training.machine import check_machine, device


@pytest.mark.parametrize(
    ("variables", "trainer", "refusal"),
    [
        # one task: Lightning starts the other processes, as it does without SLURM
        ({"SLURM_NTASKS": "1"}, {"devices": 2}, None),
        ({"SLURM_NTASKS": "1"}, {"devices": 1}, None),
        ({"SLURM_NTASKS": "2"}, {"devices": 2}, None),
        ({"SLURM_NTASKS": "2"}, {"devices": 3}, r"trainer\.devices=3 .*--ntasks-per-node=2"),
    ],
)
def test_tasks_of_a_slurm_job(
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    trainer: dict[str, Any],
    refusal: str | None,
) -> None:
    variables |= {"SLURM_NTASKS_PER_NODE": variables["SLURM_NTASKS"], "SLURM_JOB_NAME": "x"}
    variables |= dict.fromkeys(("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID"), "0")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    config = TrainerConfig(accelerator="cpu", **trainer)
    with pytest.raises(UserError, match=refusal) if refusal else nullcontext():
        check_machine(config)


def test_inference_runs_on_the_first_device_of_training(monkeypatch: pytest.MonkeyPatch) -> None:
    assert device(TrainerConfig(accelerator="cpu")) == torch.device("cpu")
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    assert device(TrainerConfig(accelerator="gpu")) == torch.device("cuda", 0)
    assert device(TrainerConfig(devices=[2, 3])) == torch.device("cuda", 2)
    assert device(TrainerConfig(accelerator="cpu")) == torch.device("cpu")
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    assert device(TrainerConfig()) == torch.device("cpu")
