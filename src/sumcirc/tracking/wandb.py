"""The only module that talks to Weights & Biases.

A run is offline unless the user is logged in or sets `logger.mode=online`. Offline files are in the
run directory; `make sync` uploads them. A resumed run keeps its id.
"""

from __future__ import annotations

import netrc
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from sumcirc.errors import UserError
from sumcirc.schema import TAG_LENGTH, JobConfig, LoggerConfig, WandbMode
from sumcirc.tracking.run_directory import RunDirectory
from sumcirc.tracking.session import plain
from sumcirc.tracking.sweep_axes import sweep_axes
from sumcirc.tracking.wandb_failures import Lasting
from sumcirc.tracking.wandb_values import (
    NAMES,
    arm_columns,
    circuit_values,
    compared_tables,
    compared_values,
    difference_columns,
    image_files,
    result_values,
    score_rows,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    import wandb
    from PIL.Image import Image
    from pytorch_lightning.loggers import WandbLogger

TABLE_ROWS = 10_000  # the most rows that W&B accepts in one table

# host names of the public server; `wandb login` may have stored a key under any of them
CLOUD = ("api.wandb.ai", "api.forge.coreweave.com")


def is_online(config: LoggerConfig) -> bool:
    """Return whether runs send their values to the W&B server while they run.

    Args:
        config: mode of logging; `auto` means online if `WANDB_MODE=online`, or if it isn't set and
            the user is logged in.
    """
    if config.mode is not WandbMode.auto:
        return config.mode is WandbMode.online
    if os.environ.get("WANDB_MODE"):
        return os.environ["WANDB_MODE"] == "online"
    return is_logged_in()


def is_logged_in() -> bool:
    """Return whether W&B credentials are stored on this machine; makes no network request."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    server = urlsplit(_server()).netloc
    try:
        known = netrc.netrc(os.environ.get("NETRC"))
    except (OSError, netrc.NetrcParseError):
        return False
    return any(known.authenticators(host) for host in (CLOUD if server in CLOUD else (server,)))


def _server() -> str:
    """Return W&B's server: from the environment, from W&B's settings file, or the default."""
    import wandb

    return os.environ.get("WANDB_BASE_URL") or str(wandb.setup().settings.base_url)


def check_login(config: LoggerConfig) -> None:
    """Raise an error if runs are to log online but the user is not logged in.

    Raises:
        UserError: runs are to log online, but no W&B credentials are stored on this machine.
    """
    if config.wandb and is_online(config) and not is_logged_in():
        said = "logger.mode=online" if config.mode is WandbMode.online else "WANDB_MODE=online"
        raise UserError(
            f"{said}: no W&B login found; run `wandb login`, or use logger.mode=offline"
        )


@contextmanager
def started(
    config: LoggerConfig,
    folder: Path,
    *,
    name: str,
    group: str,
    job_type: str,
    tags: Sequence[str],
    settings: Mapping[str, Any],
    run_id: str | None,
) -> Iterator[wandb.Run | None]:
    """Start a W&B run, yield it, and finish it on exit, also after an error.

    Without W&B among the loggers no run is started, and None is yielded.

    Args:
        config: project, entity, mode and tags.
        folder: run directory; W&B's files go to its `wandb/`.
        name: name of the W&B run.
        group: name of the sweep; W&B groups runs by it.
        job_type: the verb, such as `train`.
        tags: tags of the run, in addition to those in `config`.
        settings: the resolved configuration, as plain containers.
        run_id: W&B's id of the run, which a resumed run keeps; None lets W&B choose one.

    Raises:
        UserError: `logger.mode=online` without a login, or W&B can't start the run.
    """
    if not config.wandb:
        yield None
        return
    check_login(config)
    online = is_online(config)
    import wandb

    # several runs in a process stay separate; a killed run loses only its last half second
    behaviour = wandb.Settings(
        reinit="create_new", silent=True, console="off", x_transaction_log_flush_interval=0.5
    )
    try:
        run = wandb.init(
            project=config.project,
            entity=config.entity,
            name=name,
            id=run_id,
            group=group,
            job_type=job_type,
            tags=list(dict.fromkeys(tag[:TAG_LENGTH] for tag in (*tags, *config.tags))),
            dir=folder,
            mode="online" if online else "offline",
            config={**settings, "sweep_axes": sweep_axes(settings)},
            resume="allow" if online else None,
            settings=behaviour,
        )
    except wandb.Error as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"logger=wandb: W&B can't start the run ({reason});"
            " logger.mode=offline logs without a server, logger=none not at all"
        ) from error
    exit_code = 1
    lasting: Any = Lasting(run)
    try:
        yield lasting
        exit_code = 0
    finally:
        lasting.finish(exit_code=exit_code)


@contextmanager
def wandb_run(config: LoggerConfig, folder: Path, **described: Any) -> Iterator[WandbLogger | None]:
    """Start a W&B run as `started` does, and yield a Lightning logger for it.

    The x axis of its curves is the optimizer step. Without W&B among the loggers, None is yielded.

    Args:
        config: project, entity, mode and tags.
        folder: run directory.
        described: the keyword arguments of `started`.
    """
    with started(config, folder, **described) as run:
        if run is None:
            yield None
            return
        from sumcirc.tracking.metric_names import STEP, SUMMARIES
        from sumcirc.tracking.wandb_logger import RunLogger

        run.define_metric(STEP, hidden=True)
        run.define_metric("*", step_metric=STEP)
        for metric, kind in SUMMARIES.items():
            run.define_metric(metric, step_metric=STEP, summary=kind)
        yield RunLogger(run)


def wandb_job(
    config: JobConfig, directory: RunDirectory, job_type: str, *tags: str
) -> AbstractContextManager[WandbLogger | None]:
    """Return a context manager that starts and finishes the W&B run of a job (see `wandb_run`).

    The W&B run is named after the job's run, grouped by the sweep and tagged with the model's name.

    Args:
        config: configuration of the job.
        directory: the job's run directory.
        job_type: the verb, such as `train`.
        tags: further tags of the W&B run.
    """
    if config.logger.wandb:
        directory.set_status(directory.status()["state"], wandb_names=NAMES)
    return wandb_run(
        config.logger,
        directory.path,
        name=config.run.name,
        group=config.sweep.name,
        job_type=job_type,
        tags=[config.model.name, *tags],
        settings=plain(config),
        run_id=directory.status().get("wandb_id"),
    )


def log_settings(logger: WandbLogger, settings: Mapping[str, Any]) -> None:
    """Add settings that were determined during the run to its W&B configuration.

    Args:
        logger: Lightning's logger.
        settings: values by name.
    """
    logger.experiment.config.update(dict(settings), allow_val_change=True)


def log_results(
    logger: WandbLogger, summary: Mapping[str, Any], samples: Sequence[Mapping[str, Any]]
) -> None:
    """Log final values as the W&B run's summary, and two tables.

    The table `test/scores` has every score with its interval, `samples` the sample documents.

    Args:
        logger: Lightning's logger.
        summary: contents of summary.json.
        samples: one mapping per document, with its texts and summaries; all have the same keys.
    """
    import wandb

    logger.experiment.summary.update(result_values(summary))
    for name, rows in (("test/scores", score_rows(summary)), ("samples", samples)):
        if rows:
            data: list[Any] = [list(row.values()) for row in rows]
            logger.experiment.log({name: wandb.Table(columns=list(rows[0]), data=data)})


def log_table(
    logger: WandbLogger, step: int, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]
) -> None:
    """Log the rows of one step as a table.

    W&B accepts 10,000 rows per table, so only the first 10,000 rows are logged.

    Args:
        logger: Lightning's logger.
        step: optimizer step.
        name: name of the table.
        columns: names of the columns.
        rows: the rows, each with one value per column.
    """
    import wandb

    from sumcirc.tracking.metric_names import STEP

    data: list[Any] = [list(row) for row in rows[:TABLE_ROWS]]
    table = wandb.Table(columns=list(columns), data=data)
    logger.experiment.log({name: table, STEP: step})


def log_picture(logger: WandbLogger, step: int, name: str, image: Image) -> None:
    """Log a figure of one step as the image `figures/NAME`.

    Args:
        logger: Lightning's logger.
        step: optimizer step.
        name: name of the figure; that of its file at the end of a run.
        image: the figure.
    """
    import wandb

    from sumcirc.tracking.metric_names import STEP

    logger.experiment.log({f"figures/{name}": wandb.Image(image), STEP: step})


def log_figures(logger: WandbLogger, folder: Path, step: int | None = None) -> None:
    """Log every PNG of a folder and its subfolders as the image `figures/NAME`.

    Args:
        logger: Lightning's logger.
        folder: the folder that contains the figures.
        step: the last optimizer step; None for a job that trains nothing.
    """
    from sumcirc.tracking.metric_names import STEP

    images = _images(folder)
    if images:
        logger.experiment.log(images if step is None else {**images, STEP: step})


def log_comparison(
    run: wandb.Run, tables: Mapping[str, Sequence[Mapping[str, Any]]], figures: Path
) -> None:
    """Log tables, and every PNG of a folder, to a W&B run.

    Args:
        run: the W&B run.
        tables: the rows of each table by its name, as in the CSV files; rows of one table have the
            same keys.
        figures: folder that contains the PNG files.
    """
    import wandb

    values: dict[str, Any] = _images(figures)
    shown = {"arms": arm_columns, "differences": difference_columns}
    for name, stored in tables.items():
        rows = [shown.get(name, dict)(row) for row in stored]
        if rows:
            data: list[Any] = [list(row.values()) for row in rows]
            values[name] = wandb.Table(list(rows[0]), data, allow_mixed_types=True)
    run.log(values)


def _images(folder: Path) -> dict[str, Any]:
    import wandb

    return {name: wandb.Image(str(file)) for name, file in image_files(folder).items()}


def log_circuit(
    logger: WandbLogger,
    config: LoggerConfig,
    name: str,
    summary: Mapping[str, Any],
    run: RunDirectory,
) -> None:
    """Log a circuit's final values and figures, and its files as an artifact if enabled.

    Args:
        logger: Lightning's logger.
        config: settings that decide whether artifacts are logged (`wants_artifact`).
        name: name of the run.
        summary: contents of summary.json.
        run: directory of the run.
    """
    logger.experiment.summary.update(circuit_values(summary))
    log_figures(logger, run.figures)
    if wants_artifact(config):
        log_folder(logger, f"{name}-circuits", "circuit", run.circuits)


def log_compared(logger: WandbLogger, summary: Mapping[str, Any], figures: Path) -> None:
    """Log the final values, tables and figures of a comparison of models.

    Values and tables are named `compare/MODEL/...`, figures `figures/...`.

    Args:
        logger: Lightning's logger.
        summary: contents of the comparison's summary.json.
        figures: folder that contains the figures.
    """
    import wandb

    logger.experiment.summary.update(compared_values(summary))
    logged = _images(figures)
    for name, rows in compared_tables(summary).items():
        columns: list[Any] = list(dict.fromkeys(key for row in rows for key in row))
        cells: list[Any] = [[_cell(row.get(key)) for key in columns] for row in rows]
        logged[name] = wandb.Table(columns, cells, allow_mixed_types=True)
    if logged:
        logger.experiment.log(logged)


def _cell(value: Any) -> Any:
    return value["mean"] if isinstance(value, dict) else value


def wants_artifact(config: LoggerConfig) -> bool:
    """Return whether weights and circuit files are logged as artifacts.

    `config.artifact` decides; if it is None, they are logged only by runs that are online.
    """
    return is_online(config) if config.artifact is None else config.artifact


def log_folder(logger: WandbLogger, name: str, kind: str, folder: Path) -> None:
    """Log a folder as an artifact.

    Args:
        logger: Lightning's logger.
        name: name of the artifact; characters that W&B doesn't accept are replaced by `_`.
        kind: type of the artifact, such as `model`.
        folder: the folder to log.
    """
    import wandb

    # run names may contain characters that artifact names must not
    artifact = wandb.Artifact(re.sub(r"[^\w.-]", "_", name), type=kind)
    artifact.add_dir(str(folder))
    logger.experiment.log_artifact(artifact)
