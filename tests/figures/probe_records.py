"""Probe records of made-up values, and what the tables beside figures say."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np

from sumcirc.tracking.measure_records import ProbeRecord


def made_record(
    step: int, layers: int = 3, heads: int = 2, documents: int = 8, neurons: int = 40
) -> ProbeRecord:
    """A record whose values move away from the base's (step -1) with the logarithm of the step."""
    rng, noise = np.random.default_rng(0), np.random.default_rng(step + 2)
    moved = np.log1p(max(step, 0)) / 10
    depth = np.linspace(0, 1, layers + 1)[:, None]
    entropy = rng.gamma(4, 0.5, (layers, heads, documents))
    entropy += moved * rng.normal(-0.3, 1, (layers, heads, 1))
    streams = (layers + 1, documents)
    values: dict[str, Any] = {
        "attention/entropy": np.abs(entropy + (step > 0) * noise.normal(0, 0.2, entropy.shape)),
        "residual/magnitude": np.exp(4 * depth) * (1 + moved * depth / 50 + np.zeros(streams)),
    }
    if step >= 0:
        values |= {
            "attention/kl_tuned_base": moved * noise.gamma(2, 0.1, entropy.shape),
            "residual/cka": 1 - moved * depth / 3 + 0.01 * moved * noise.normal(size=streams),
            "residual/centered_cosine": 1 - moved * depth**2 / 2 + np.zeros(streams),
            "residual/relative_change": moved * depth + np.zeros(streams),
            "mlp/activation_change": moved * rng.standard_t(3, (layers, neurons)),
            "mlp/activation_change_error": moved * rng.gamma(2, 0.1, (layers, neurons)),
        }
        if documents == 1:
            values["residual/cka"][:] = np.nan
            values["mlp/activation_change_error"][:] = np.nan
    values = {name: np.asarray(value, np.float32) for name, value in values.items()}
    return ProbeRecord(step, [f"document {i}" for i in range(documents)], values)


def rows_of(target: Path) -> list[dict[str, str]]:
    with open(target.with_suffix(".csv"), encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def column(target: Path, name: str) -> np.ndarray:
    return np.array([float(row[name] or "nan") for row in rows_of(target)])


def mean(values: Any) -> float:
    """The mean of what is defined, by hand."""
    defined = [float(value) for value in values if not np.isnan(value)]
    return sum(defined) / len(defined) if defined else float("nan")


def assert_written(target: Path) -> None:
    from PIL import Image

    with Image.open(target.with_suffix(".png")) as image:
        image.verify()
        assert image.format == "PNG"
        assert min(image.size) > 400
    pdf = target.with_suffix(".pdf").read_bytes()
    assert pdf.startswith(b"%PDF-")
    assert pdf.rstrip().endswith(b"%%EOF")
    assert len(rows_of(target)) > 1
