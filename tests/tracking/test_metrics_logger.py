"""Logged scalars become lines of metrics.csv, in the first process alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pytorch_lightning.utilities import rank_zero_only

from sumcirc.storage.writing import MetricsFile
from sumcirc.tracking.measure_records import read_metrics
from sumcirc.tracking.metrics_logger import MetricsLogger


def test_lines_of_a_step(tmp_path: Path) -> None:
    logger = MetricsLogger(MetricsFile(tmp_path / "metrics.csv"))
    logger.log_hyperparams({"a": 1})
    logger.log_metrics({"train/loss": 0.1, "lr": torch.tensor(0.5), "epoch": 3}, step=7)
    logger.log_metrics({"epoch": 3}, step=8)
    logger.log_metrics({"validation/loss": 2}, step=None)
    assert (tmp_path / "metrics.csv").read_text().splitlines() == [
        "step,metric,value",
        "7,train/loss,0.1",
        "7,lr,0.5",
        "0,validation/loss,2.0",
    ]
    assert read_metrics(tmp_path / "metrics.csv")[0] == (7, "train/loss", 0.1)
    assert (logger.name, logger.version) == ("metrics", "")


def test_other_processes_write_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    MetricsLogger(MetricsFile(tmp_path / "metrics.csv")).log_metrics({"a": 1.0}, step=1)
    assert not list(tmp_path.iterdir())
