"""What runs logged to W&B offline, read back with `wandb leet inspect`: names by kind."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from sumcirc.tracking.metric_names import SUMMARIES, MetricKind

MEDIA = {"table-file": MetricKind.table, "image-file": MetricKind.image}


def inspect(file: Path, *options: str) -> str:
    """Return what `wandb leet inspect --json` prints about a .wandb file.

    It starts W&B's program as that command does, without importing wandb each time.
    """
    from wandb.util import get_core_path

    program = [get_core_path(), "leet", "inspect", "--no-observability", "--json", *options]
    done = subprocess.run(
        [*program, "--run-file", file, file.parents[1]], capture_output=True, text=True, check=True
    )
    return done.stdout


def records(folder: Path) -> list[dict[str, Any]]:
    """All records of the one offline run below a run directory's wandb/."""
    (file,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    return [json.loads(line) for line in inspect(file).splitlines()]


def settings_of(found: list[dict[str, Any]]) -> dict[str, Any]:
    """The run's configuration, later changes included."""
    settings: dict[str, Any] = {}
    for record in found:
        part = record.get("run", record).get("config", {})
        settings |= part.get("update", {})
    return settings


def logged_names(found: list[dict[str, Any]]) -> dict[MetricKind, set[str]]:
    """Names that a run gave to W&B, from its records; what W&B adds (`_step`, ...) is left out.

    A value that is only in the summary is one; a curve's last value there is none of its own.
    """
    names: dict[MetricKind, set[str]] = {kind: set() for kind in MetricKind}
    summary: dict[str, Any] = {}
    media: set[str] = set()
    for record in found:
        if "history" in record:
            item = record["history"]["item"]
            parts = {
                key[: -len("._type")]: kind for key, kind in item.items() if key.endswith("._type")
            }
            media |= set(parts)
            for name, kind in parts.items():
                names[MEDIA[kind]].add(name)
            names[MetricKind.curve] |= {key for key in item if _own(key, media)}
        elif "summary" in record:
            summary |= record["summary"].get("update", {})
        elif "artifact" in record and record["artifact"]["type"] != "run_table":
            names[MetricKind.artifact].add(record["artifact"]["name"])
    for key in summary:
        if key in SUMMARIES:
            names[MetricKind.summary] |= {f"{key}.{end}" for end in summary[key]}
        elif _own(key, media) and key not in names[MetricKind.curve]:
            names[MetricKind.summary].add(key)
    return names


def _own(key: str, media: set[str]) -> bool:
    """Whether a key is a value's own: media are spread over keys such as `samples.nrows`."""
    return not key.startswith("_") and not any(key.startswith(f"{name}.") for name in media)
