"""Reads from runs' files which data they logged to W&B, and whether the data was uploaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from sumcirc.errors import UserError
from sumcirc.reporting.data_counts import data_counts
from sumcirc.reporting.runs import run_folders
from sumcirc.storage.reading import RecordError, is_there, read_json
from sumcirc.tracking.measure_records import ATTENTION_KL, ENTROPY, FAITHFULNESS, TO_SALIENT
from sumcirc.tracking.metric_names import SUMMARIES, MetricKind
from sumcirc.tracking.run_records import RunRecords
from sumcirc.tracking.shapes.report_shapes import ComparisonFile
from sumcirc.tracking.sweep_axes import sweep_axes
from sumcirc.tracking.wandb_values import (
    NAMES,
    compared_tables,
    image_files,
    summary_values,
    times_100,
)

WATCHER_TABLES = {  # by a curve that is logged together with the table
    ENTROPY: "probes/attention_entropy",
    ATTENTION_KL: "probes/base_divergence",
    TO_SALIENT: "probes/salient_attention",
    FAITHFULNESS: "circuit/top_edges",
}


class Place(Enum):
    """Where a run's logged data is: on W&B's server, only on disk, or in an unknown place."""

    uploaded = "uploaded"
    offline = "offline"
    unknown = "unknown"  # its wandb/ folder does not exist


@dataclass(frozen=True)
class LoggedRun:
    """A run that logged to W&B.

    Attributes:
        path: the run directory.
        verb: the subcommand that made the run, such as `train`.
        axes: the run's value of each setting that the sweep varies (`config.sweep_axes` in W&B).
        names: names of logged curves, summary values, tables and images, by their kind.
        place: whether the logged data was uploaded.
        data: how much of its data was kept, cut and dropped (`data_counts`).
    """

    path: Path
    verb: str
    axes: dict[str, Any]
    names: dict[MetricKind, frozenset[str]]
    place: Place
    data: str = ""


@dataclass(frozen=True)
class Material:
    """The data from which a dashboard is made.

    Attributes:
        entity, project: W&B entity and project of the runs. The entity is None if the runs did not
            set one.
        groups: W&B groups of the runs, each of which is named after a sweep.
        runs: the runs that logged something to W&B.
        comparison: content of the sweep's comparison.json, which `sumcirc report` writes; None
            unless there is exactly one such file.
        left_out: one line for each run or comparison that is left out, with the reason.
    """

    entity: str | None
    project: str
    groups: tuple[str, ...]
    runs: tuple[LoggedRun, ...]
    comparison: ComparisonFile | None
    left_out: tuple[str, ...]

    def logged(self, kind: MetricKind) -> set[str]:
        """Return all names of one kind that at least one run logged.

        Args:
            kind: kind of the names.
        """
        return {name for run in self.runs for name in run.names.get(kind, ())}

    @property
    def trained(self) -> list[LoggedRun]:
        """The runs of `sumcirc train`."""
        return [run for run in self.runs if run.verb == "train"]


def read_material(paths: Sequence[Path]) -> Material:
    """Return the data that runs logged to W&B, read from the runs' own files.

    Args:
        paths: directories of runs and of sweeps.

    Raises:
        UserError: a path contains no runs, none of the runs logged to W&B, or the runs logged to
            different projects.
    """
    folders = list(dict.fromkeys(folder for path in paths for folder in run_folders(path)))
    runs, left_out, targets, groups = [], [], {}, []
    for folder in folders:
        source = RunRecords(folder)
        try:
            source.check()
            logger = source.config.get("logger", {})
            # earlier runs have `kind`
            if not logger.get("wandb", logger.get("kind") == "wandb"):
                left_out.append(f"{folder.name}: was run without logger=wandb")
                continue
            run = _read(source)
        except RecordError as error:
            left_out.append(f"{folder.name}: {error.below(folder)}")
            continue
        if not any(run.names.values()):
            left_out.append(f"{folder.name}: has logged nothing yet")
            continue
        runs.append(run)
        targets.setdefault((logger.get("entity"), logger["project"]), folder)
        groups.append(source.config["sweep"]["name"])
    if not runs:
        raise UserError(
            f"{paths[0]}: none of its runs logged to W&B ({left_out[0]}); run them with"
            " logger=wandb, which needs no account"
        )
    if len(targets) > 1:
        (one, first), (other, second) = list(targets.items())[:2]
        raise UserError(
            f"{first} logged to the project {_target(*one)} and {second} to {_target(*other)};"
            " make a dashboard of each"
        )
    entity, project = next(iter(targets))
    found = []
    for folder in dict.fromkeys(run.path.parent for run in runs):
        try:
            comparison = _comparison(folder)
        except RecordError as error:
            left_out.append(f"comparison: {error.below(folder)}")
            continue
        found += [comparison] if comparison is not None else []
    return Material(
        entity,
        project,
        tuple(dict.fromkeys(groups)),
        (*runs, *(run for run, _ in found)),
        found[0][1] if len(found) == 1 else None,
        tuple(left_out),
    )


def _target(entity: str | None, project: str) -> str:
    return f"{entity}/{project}" if entity else project


def _read(source: RunRecords) -> LoggedRun:
    summary = source.summary
    current = source.status.get("wandb_names") == NAMES
    curves = frozenset(times_100(dict.fromkeys(source.metrics, 0.0)) if current else source.metrics)
    values = set(summary_values(source.verb, summary))
    if not current:
        values = {name for name in values if not name.endswith("_x100")}
    values |= {f"{name}.{how}" for name, how in SUMMARIES.items() if name in curves}
    tables = {table for curve, table in WATCHER_TABLES.items() if curve in curves}
    if current and "summaries/length" in curves and source.config["logger"].get("samples"):
        tables.add("summaries/samples")
    if summary.get("systems"):
        tables |= {"test/scores"} if current else set()
        tables |= {"samples"} if source.samples else set()
    if source.verb == "compare" and summary:
        tables |= set(compared_tables(summary))
    if source.verb == "select" and summary:
        tables.add("selection")
    names = {
        MetricKind.curve: curves,
        MetricKind.summary: frozenset(values),
        MetricKind.table: frozenset(tables),
        # figures are logged last, with the summary
        MetricKind.image: frozenset(image_files(source.directory.figures) if summary else ()),
    }
    layers = summary.get("adapter", {}).get("layers")
    axes = sweep_axes(source.config, layers)
    data = data_counts(summary)
    return LoggedRun(source.path, source.verb, axes, names, _place(source.path), data)


def _comparison(sweep: Path) -> tuple[LoggedRun, ComparisonFile] | None:
    """Return what `sumcirc report` logged for a sweep, and the content of its comparison.json.

    The result is None if there is no such file.
    """
    folder = sweep / "comparison"
    file = folder / "comparison.json"
    if not is_there(file):
        return None
    found: ComparisonFile = read_json(file, ComparisonFile)
    place = _place(folder)
    tables = {"arms", *(["differences"] if found["differences"] else [])}
    names = {
        MetricKind.table: frozenset(tables),
        MetricKind.image: frozenset(image_files(folder / "figures")),
    }
    # without logger=wandb there is no W&B run, and the tables are only in files
    run = LoggedRun(folder, "report", {}, {} if place is Place.unknown else names, place)
    return run, found


def _place(folder: Path) -> Place:
    """Return whether a run's data was uploaded, judging by the files that `wandb` leaves."""
    offline = list(folder.glob("wandb/offline-run-*"))
    if offline:
        done = all(any(one.glob("*.synced")) for one in offline)
        return Place.uploaded if done else Place.offline
    return Place.uploaded if any(folder.glob("wandb/run-*")) else Place.unknown
