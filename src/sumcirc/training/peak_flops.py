"""Peak operations per second of a GPU, by which model FLOPs utilization is divided."""

from __future__ import annotations

import re
import warnings

import torch
from lightning_fabric.utilities.throughput import get_available_flops

TF32 = "tf32"

# Dense rates, without 2:4 sparsity, per GPU. Lightning's table doesn't recognize these names, takes
# the chip for a smaller one (L40 for L4), or lists the rate with sparsity (H200) or that of two
# GPUs (H100 NVL), which would halve the utilization. From NVIDIA's data sheets of each chip, whose
# rates of tensor cores with sparsity are halved. A name has to contain all words of an entry; the
# first entry that fits counts.
_DENSE: dict[tuple[str, ...], dict[torch.dtype | str, float]] = {
    ("h200", "nvl"): {torch.bfloat16: 835.5e12, TF32: 417.5e12, torch.float32: 60e12},
    ("h200", "pcie"): {torch.bfloat16: 835.5e12, TF32: 417.5e12, torch.float32: 60e12},
    ("h200",): {torch.bfloat16: 989.4e12, TF32: 494.7e12, torch.float32: 66.9e12},
    ("gh200",): {torch.bfloat16: 989.4e12, TF32: 494.7e12, torch.float32: 66.9e12},
    ("h100", "nvl"): {torch.bfloat16: 835.5e12, TF32: 417.5e12, torch.float32: 60e12},
    ("b200",): {torch.bfloat16: 2250e12, TF32: 1100e12, torch.float32: 75e12},
    ("l40s",): {torch.bfloat16: 362e12, TF32: 183e12, torch.float32: 91.6e12},
    ("l40",): {torch.bfloat16: 181e12, TF32: 90.5e12, torch.float32: 90.5e12},
}


def peak_flops(device: torch.device, dtype: torch.dtype) -> float | None:
    """Return a device's peak floating-point operations per second for dense matrices.

    Args:
        device: the device.
        dtype: type in which matrices are multiplied. For float32, the rate of TF32 is returned if
            torch is set to use it.

    Returns:
        Operations per second; None for CPUs, for GPUs that are not known, and for a part of a GPU
        (MIG), for which the tables would give the rate of the whole.
    """
    if device.type != "cuda":
        return None
    words = re.findall(r"[a-z0-9]+", torch.cuda.get_device_name(device).lower())
    if "mig" in words:
        return None
    for name, rates in _DENSE.items():
        if all(word in words for word in name):
            return rates.get(_computed_in(dtype))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the table lacks a device
        return get_available_flops(device, dtype) or None


def _computed_in(dtype: torch.dtype) -> torch.dtype | str:
    """Return the type whose rate applies: tensor cores run float16 and bfloat16 equally fast."""
    if dtype is torch.float16:
        return torch.bfloat16
    if dtype is torch.float32 and torch.get_float32_matmul_precision() != "highest":
        return TF32
    return dtype
