"""Keep the numbers of a sweep beside the page that states them.

    python -m docs.record runs/bakeoff docs/results/records/bakeoff
    sumcirc report docs/results/records/bakeoff out=FOLDER logger=none    # the comparison again

A record is the sweep's directory without texts and weights: of each run its configuration, status,
summary and validation losses, and the scores of every test document. `sumcirc report` reads it like
the sweep itself. Tests in tests/docs hold the tables of docs/results against docs/results/records.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import yaml

from sumcirc.errors import UserError
from sumcirc.reporting.runs import ReportRun, read_runs
from sumcirc.storage.writing import plain_numbers, write_file, write_json, write_text
from sumcirc.tracking.record_format import format_of
from sumcirc.tracking.run_directory import RunDirectory
from sumcirc.tracking.score_names import TRAINED

RECORDS = Path(__file__).resolve().parent / "results/records"
OF_THE_MACHINE = ("host", "process", "traceback", "wandb_id")  # fields of status.json
LOSS = "validation/loss"


def keep(sweep: Path, target: Path) -> None:
    """Copy what `sumcirc report` reads of the sweep's finished training runs.

    Raises:
        UserError: `target` exists, or the sweep has no run with scores.
    """
    if target.exists():
        raise UserError(f"{target}: exists already; remove it first")
    runs, _ = read_runs([sweep])
    for run in runs:
        _keep_run(run, RunDirectory(target / run.name))


def _keep_run(run: ReportRun, target: RunDirectory) -> None:
    words = [word for word in run.environment["command"] if not word.startswith("hydra.run.dir=")]
    body = {
        "format": format_of(run.status),
        "verb": run.verb,
        "config": _without_folders(run.config),
        "environment": {**run.environment, "command": [_last_part(word) for word in words]},
    }
    write_text(target.config_file, yaml.safe_dump(body, sort_keys=False, allow_unicode=True))
    status = {key: value for key, value in run.status.items() if key not in OF_THE_MACHINE}
    write_json(target.status_file, status)
    write_json(target.summary_file, plain_numbers(run.summary))
    for step, loss in run.losses:
        target.metrics.append(step, {LOSS: loss})
    columns = {
        name: [None if np.isnan(value) else value for value in values.tolist()]
        for name, values in run.values.items()
    }
    count = len(run.ids)
    texts = {"id": run.ids, "system": [TRAINED] * count, "prediction": [None] * count}
    table = pyarrow.table({**texts, **columns})
    write_file(
        target.documents_file,
        lambda file: pyarrow.parquet.write_table(table, file, compression="zstd"),
    )


def _without_folders(value: Any) -> Any:
    """Return the configuration with each absolute path shortened to its last part."""
    if isinstance(value, dict):
        return {key: _without_folders(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_folders(item) for item in value]
    return _last_part(value) if isinstance(value, str) else value


def _last_part(word: str) -> str:
    """Return a word without folders: `path=data.json` for `path='/home/me/data.json'`.

    The paths of a list, as in `texts=[/home/me/a.jsonl,b.jsonl]`, are shortened alike.
    """
    name, equals, value = word.rpartition("=")
    value = value.strip("'")
    if value.startswith("[") and value.endswith("]"):
        parts = [Path(one.strip(" '")) for one in value[1:-1].split(",")]
        if any(part.is_absolute() for part in parts):
            shown = [part.name if part.is_absolute() else str(part) for part in parts]
            return f"{name}{equals}[{','.join(shown)}]"
    return f"{name}{equals}{Path(value).name}" if Path(value).is_absolute() else word


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m docs.record SWEEP FOLDER")
    try:
        keep(Path(sys.argv[1]), Path(sys.argv[2]))
    except UserError as error:
        sys.exit(str(error))
