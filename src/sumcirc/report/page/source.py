"""The records of one run as the page's sections read them, whatever verb made it."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any

from sumcirc.errors import UserError
from sumcirc.files import read_metrics
from sumcirc.records import ProbeRecord, record_file, record_files
from sumcirc.results import TRAINED
from sumcirc.tracking.run_directory import RunDirectory


class Source:
    """A run directory; what is not there is empty, what can't be read is a UserError."""

    def __init__(self, path: Path) -> None:
        self.directory = RunDirectory.open(path)
        self.path = self.directory.path
        self.name = self.path.name
        self.status = self.directory.status()
        self.verb: str = self.status.get("verb", "train")
        body = self.directory.read_config()
        self.config: dict[str, Any] = body["config"]
        self.environment: dict[str, Any] = body["environment"]

    @cached_property
    def summary(self) -> dict[str, Any]:
        """summary.json; empty for a run that did not finish."""
        return self.json("summary.json") or {}

    @cached_property
    def metrics(self) -> dict[str, list[tuple[int, float]]]:
        """(step, value) by metric."""
        found: dict[str, list[tuple[int, float]]] = {}
        for step, metric, value in read_metrics(self.directory.metrics.path):
            found.setdefault(metric, []).append((step, value))
        return found

    @cached_property
    def probes(self) -> list[ProbeRecord]:
        """Probe records in order of their steps, without the base's."""
        return [ProbeRecord.read(file) for file in record_files(self.directory.probes)]

    @cached_property
    def base_probe(self) -> ProbeRecord | None:
        """The base's own values."""
        file = record_file(self.directory.probes, -1)
        return ProbeRecord.read(file) if file.exists() else None

    @cached_property
    def documents(self) -> list[dict[str, Any]]:
        """Rows of documents.parquet: a system's summary of a document and its scores."""
        import pyarrow
        import pyarrow.parquet

        file = self.directory.documents_file
        if not file.exists():
            return []
        try:
            # read_table would import pandas
            return pyarrow.parquet.ParquetFile(file).read().to_pylist()
        except (OSError, pyarrow.ArrowException) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"{file}: can't be read ({reason}); run it again") from None

    @property
    def trains(self) -> bool:
        """Whether it is a training run."""
        return self.verb == "train"

    @property
    def scored(self) -> bool:
        """Whether its trained model's summaries were scored."""
        return TRAINED in self.summary.get("systems", {})

    def json(self, name: str) -> Any:
        """The content of a JSON file of the run; None where there is none.

        Raises:
            UserError: it can't be read.
        """
        file = self.path / name
        if not file.exists():
            return None
        try:
            return json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"{file}: can't be read ({error}); run it again") from None
