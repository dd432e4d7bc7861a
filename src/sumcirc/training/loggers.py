"""Lightning's loggers for CSV, TensorBoard, MLflow, and any other by `_target_`.

They get the values of metrics.csv under the same names. A resumed run continues in the same place.
"""

from __future__ import annotations

import inspect
import itertools
import logging
import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger, WandbLogger
from pytorch_lightning.loggers.logger import Logger

from sumcirc.errors import UserError
from sumcirc.schema import LoggerConfig, TrainConfig
from sumcirc.schema.instantiation import LOGGERS, build, subclass
from sumcirc.storage.hub import one_line
from sumcirc.storage.writing import MetricsFile
from sumcirc.tracking.measure_records import read_metrics
from sumcirc.tracking.run_directory import RunDirectory
from sumcirc.tracking.session import plain
from sumcirc.tracking.sweep_axes import flat_settings

# packages that a logger imports; the extra of this package has the logger's name
NEEDED = {"tensorboard": ("tensorboard",), "mlflow": ("mlflow", "sqlalchemy", "alembic")}
DATABASE = "mlflow.db"


def check_loggers(config: LoggerConfig) -> None:
    """Check that the chosen loggers can be made, without making them.

    Args:
        config: settings of the loggers.

    Raises:
        UserError: a package isn't installed, or `logger.extra` names no logger or arguments that it
            doesn't take.
    """
    for name, packages in NEEDED.items():
        missing = [package for package in packages if find_spec(package) is None]
        if getattr(config, name) and missing:
            raise UserError(
                f"logger={name}: the package {missing[0]} is not installed;"
                f" pip install 'sumcirc[{name}]'"
            )
    for name, spec in config.extra.items():
        setting = f"logger.extra.{name}"
        if not isinstance(spec, dict) or "_target_" not in spec:
            raise UserError(f"{setting}: needs `_target_`, the class to make")
        kind = subclass(f"{setting}._target_", str(spec["_target_"]), Logger, LOGGERS)
        if issubclass(kind, WandbLogger):
            raise UserError(f"{setting}._target_={spec['_target_']}: is logger=wandb; use that")
        given = {key: value for key, value in spec.items() if key != "_target_"}
        try:
            inspect.signature(kind).bind(**given)
        except TypeError as error:
            raise UserError(f"{setting}: {kind.__name__}: {error}") from None


def make_loggers(config: TrainConfig, run: RunDirectory, step: int | None) -> dict[str, Logger]:
    """Return the chosen loggers other than that of W&B, by name.

    Args:
        config: configuration of the run.
        run: the run directory.
        step: step of the checkpoint from which the run continues; None if it starts from step 0.

    Raises:
        UserError: a logger can't be made, or MLflow's server can't be reached.
    """
    options = config.logger
    made: dict[str, Logger] = {}
    if options.csv:
        made["csv"] = _csv(run)
    if options.tensorboard:
        made["tensorboard"] = _tensorboard(run, step)
    if options.mlflow:
        made["mlflow"] = _mlflow(config, run)
    for name, spec in options.extra.items():
        setting = f"logger.extra.{name}"
        made[setting] = build(setting, spec, LOGGERS)
        if step is None:
            made[setting].log_hyperparams(flat_settings(plain(config)))
    return made


def _csv(run: RunDirectory) -> Logger:
    logger = CSVLogger(run.path, name="csv", version="", flush_logs_every_n_steps=1)
    # Lightning would delete it with a warning; `ContinueLoggers` writes its rows again
    Path(logger.log_dir, "metrics.csv").unlink(missing_ok=True)
    return logger


def _tensorboard(run: RunDirectory, step: int | None) -> Logger:
    folder = run.path / "tensorboard"
    # readers drop earlier values from this step on, which are logged again
    resumed: dict[str, Any] = {"purge_step": step or 0} if folder.exists() else {}
    return TensorBoardLogger(run.path, folder.name, "", default_hp_metric=False, **resumed)


def _mlflow(config: TrainConfig, run: RunDirectory) -> Logger:
    # nothing leaves the machine unless a server is named
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # without notes about a new database or experiment
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    logging.getLogger("pytorch_lightning.loggers.mlflow").setLevel(logging.ERROR)
    from pytorch_lightning.loggers import MLFlowLogger

    database = f"sqlite:///{(Path(config.runs_dir).expanduser() / DATABASE).resolve()}"
    uri = config.logger.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or database
    status: Any = run.status() if run.status_file.exists() else {}
    known = status.get("mlflow_run")
    try:
        logger = MLFlowLogger(
            config.logger.project,
            run_name=config.run.name,
            tracking_uri=uri,
            tags={"sweep": config.sweep.name, "model": config.model.name},
            run_id=known,
        )
        made = _run_id(logger)
        if known is None:
            logger.log_hyperparams(flat_settings(plain(config)))
    except Exception as error:  # of many kinds, from MLflow, its database or the network
        remedy = "logger.tracking_uri names its server or database, logger=none logs only to files"
        which = "starts no run" if known is None else f"can't continue its run {known}"
        raise UserError(f"logger=mlflow: MLflow {which} ({one_line(error)}); {remedy}") from error
    if status and known is None:
        run.set_status(status["state"], mlflow_run=made)
    return logger


def _run_id(logger: Any) -> str:
    """Return the id of a logger's MLflow run, which is created with its experiment if need be."""
    from mlflow.exceptions import MlflowException  # pyright: ignore[reportMissingImports]

    try:
        return logger.run_id
    except MlflowException as error:
        # two jobs of a sweep both began without the experiment, and the other one created it
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        return logger.run_id


class ContinueLoggers(pl.Callback):
    """Brings loggers to the state from which training starts or continues.

    After a checkpoint was loaded, values of the time before are logged again where they are
    missing: a CSV file is written anew, and TensorBoard gets those of the checkpoint's own step,
    since some of them may have been logged after the checkpoint was written. An MLflow run, which
    Lightning closes after the first validation, is marked as running.

    The trainer must call it after the callback that truncates metrics.csv.

    Args:
        loggers: the loggers by name, as `make_loggers` returns them.
        metrics: the run's metrics.csv.
    """

    def __init__(self, loggers: Mapping[str, Any], metrics: MetricsFile) -> None:
        self._loggers = loggers
        self._metrics = metrics

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Log what is missing.

        Args:
            trainer: ignored.
            pl_module: ignored.
            checkpoint: the loaded state.
        """
        for name, first in {"csv": 0, "tensorboard": checkpoint["global_step"]}.items():
            if name in self._loggers:
                self._log_from(self._loggers[name], first)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Mark an MLflow run as running.

        Args:
            trainer: ignored.
            pl_module: ignored.
        """
        if "mlflow" in self._loggers:
            mlflow = self._loggers["mlflow"]
            mlflow.experiment.update_run(mlflow.run_id, status="RUNNING")

    def _log_from(self, logger: Logger, first: int) -> None:
        rows = [row for row in read_metrics(self._metrics.path) if row[0] >= first]
        for step, group in itertools.groupby(rows, key=lambda row: row[0]):
            logger.log_metrics({name: value for _, name, value in group}, step)
