"""Writes the results of a comparison as they come, so that a run that is cut off keeps them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sumcirc.compare.findings import Findings
from sumcirc.compare.summary import summarize_analysis, summarize_metric
from sumcirc.models.architectures import Shape
from sumcirc.schema import Analysis
from sumcirc.tracking.measure_records import ProbeRecord, record_file
from sumcirc.tracking.run_directory import RunDirectory


class ResultFiles:
    """The files of a comparison: tables and measure records in `compare/`, and summary.json.

    Results of an unfinished run that this run replaces are removed.

    Args:
        directory: the run directory.
        shape: sizes of the models.
        about: the entries of summary.json besides `after`; they are read at each writing.

    Attributes:
        after: the summary's entry for each tuned model, by name.
    """

    def __init__(self, directory: RunDirectory, shape: Shape, about: Mapping[str, Any]) -> None:
        self.directory, self.shape, self.about = directory, shape, about
        self.after: dict[str, dict[str, Any]] = {}
        shutil.rmtree(directory.path / "compare", ignore_errors=True)
        directory.summary_file.unlink(missing_ok=True)

    def folder(self, name: str) -> Path:
        """Return the folder of a tuned model's tables and measure records.

        Args:
            name: name of the model.
        """
        return self.directory.path / "compare" / name

    def add_metric(self, found: Findings) -> None:
        """Write both models' metric, of a tuned model of which nothing else was written yet.

        Args:
            found: the results so far.
        """
        self.after[found.name] = summarize_metric(found)
        self.write_summary()

    def add(self, found: Findings, analysis: Analysis) -> None:
        """Write the results of an analysis that is finished for one tuned model.

        Args:
            found: the results so far.
            analysis: the analysis.
        """
        found.save(self.folder(found.name), analysis)
        self.after[found.name] |= summarize_analysis(found, analysis, self.shape)
        self.write_summary()

    def add_pair(self, name: str, record: ProbeRecord) -> None:
        """Write the measures of a tuned model compared with another one.

        Args:
            name: name of the pair, `NAME and NAME`.
            record: the measures.
        """
        record.save(record_file(self.folder(name.replace(" ", "-")), record.step))

    def write_summary(self) -> dict[str, Any]:
        """Write summary.json, and return its contents."""
        summary = {**self.about, "after": self.after}
        self.directory.write_summary(summary)
        return summary
