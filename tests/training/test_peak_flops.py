"""Model FLOPs utilization on GPUs that this machine lacks, by the names their drivers give."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sumcirc.models.loading import load_model
from sumcirc.schema import ModelConfig
from sumcirc.training.cost import CostMeter
from sumcirc.training.peak_flops import peak_flops

GPU = torch.device("cuda", 0)


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> Any:
    def name(device_name: str) -> None:
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: device_name)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (9, 0))
        monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device=None: 1)

    return name


@pytest.mark.parametrize(
    ("name", "bf16"),
    [
        ("NVIDIA H200", 989.4e12),
        ("NVIDIA H200 NVL", 835.5e12),
        ("NVIDIA GH200 480GB", 989.4e12),
        ("NVIDIA H100 80GB HBM3", 989.4e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H100 NVL", 835.5e12),
        ("NVIDIA B200", 2250e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA L4", 121e12),
        ("Tesla T4", None),  # has no bfloat16
        ("NVIDIA H200 MIG 1g.18gb", None),
        ("NVIDIA H20", None),
        ("Some GPU of 2031", None),
    ],
)
def test_peak_is_the_dense_rate_of_the_named_chip(
    named: Any, name: str, bf16: float | None
) -> None:
    named(name)
    assert peak_flops(GPU, torch.bfloat16) == bf16


def test_float32_runs_at_the_rate_that_torch_is_set_to(named: Any) -> None:
    named("NVIDIA H200")
    assert torch.get_float32_matmul_precision() == "highest"
    assert peak_flops(GPU, torch.float32) == 66.9e12
    assert peak_flops(GPU, torch.float16) == 989.4e12
    assert peak_flops(GPU, torch.int64) is None
    try:
        torch.set_float32_matmul_precision("high")
        assert peak_flops(GPU, torch.float32) == 494.7e12
    finally:
        torch.set_float32_matmul_precision("highest")


def test_a_cpu_has_no_peak() -> None:
    assert peak_flops(torch.device("cpu"), torch.float32) is None


def test_a_run_records_its_utilization(named: Any, gpt2_folder: Path) -> None:
    named("NVIDIA H200")
    meter = CostMeter(load_model(ModelConfig(path=str(gpt2_folder))))
    meter.on_load_checkpoint(
        SimpleNamespace(is_global_zero=True),  # type: ignore[arg-type]
        SimpleNamespace(),  # type: ignore[arg-type]
        {"cost": {"flops": 10**15, "tokens": 7, "seconds": 4.0, "memory": {}, "whole": True}},
    )
    trainer: Any = SimpleNamespace(
        world_size=1, precision="bf16-mixed", strategy=SimpleNamespace(root_device=GPU)
    )
    found = meter.record(trainer)
    assert found["mfu"] == pytest.approx(10**15 / 4 / 989.4e12)
    trainer.precision = "64-true"
    assert "mfu" not in meter.record(trainer)
