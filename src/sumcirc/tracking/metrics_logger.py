"""A Lightning logger that writes the run directory's metrics.csv."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning_fabric.loggers.logger import rank_zero_experiment
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities import rank_zero_only

from sumcirc.storage.writing import MetricsFile


class MetricsLogger(Logger):
    """Appends every logged scalar to metrics.csv, under the name that it has in Weights & Biases.

    Args:
        file: the run's metrics.csv.
    """

    def __init__(self, file: MetricsFile) -> None:
        super().__init__()
        self._file = file

    @property
    def name(self) -> str:
        """The logger's name."""
        return "metrics"

    @property
    def version(self) -> str:
        """The logger's version: an empty text, since a run directory has only one run."""
        return ""

    @property
    @rank_zero_experiment
    def experiment(self) -> MetricsFile:
        """The metrics file."""
        return self._file

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the configuration is in config.yaml."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append values at an optimizer step to the file, except Lightning's value `epoch`.

        Args:
            metrics: values by name.
            step: optimizer step; None means 0.
        """
        values = {name: float(value) for name, value in metrics.items() if name != "epoch"}
        if values:
            self._file.append(step or 0, values)
