"""The reader of run directories, which checks each record against its shape when it is read.

    run = RunRecords.open(folder)
    run.status["state"], run.summary.get("systems"), run.probes

A damaged record raises RecordError, which names the file and key, when it is first accessed;
`read_all` accesses all of them. Code that shows several runs lists those with a RecordError next to
the others. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sumcirc.storage.reading import (
    Number,
    RecordError,
    fitted,
    is_there,
    read_json,
    read_table,
    table_columns,
    table_rows,
)
from sumcirc.tracking.record_format import FORMAT, completed, earlier, format_of
from sumcirc.tracking.run_directory import RunDirectory
from sumcirc.tracking.shapes.circuit_shapes import (
    CardFile,
    CircuitChangeFile,
    EvolutionFile,
    FaithfulnessFile,
    RankingRecord,
    RankingsRecord,
)
from sumcirc.tracking.shapes.run_shapes import ConfigFile, RunConfig, Status, TrainConfig
from sumcirc.tracking.shapes.span_shapes import SpansFile
from sumcirc.tracking.shapes.summary_shapes import (
    DOCUMENT_COLUMNS,
    RETENTION_COLUMNS,
    SUMMARIES,
    Sample,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sumcirc.storage.reading.circuit_file import CircuitFile
    from sumcirc.tracking.measure_records import ProbeRecord


class RunRecords:
    """Reads the records of a run directory, each when it is first accessed.

    An optional record that is missing reads as an empty container or None.

    Attributes:
        directory: gives the paths of the run's files.
        path: the run directory.
        name: name of the run directory.
    """

    def __init__(self, path: Path | str) -> None:
        self.directory = RunDirectory(path)
        self.path = self.directory.path
        self.name = self.path.name

    @classmethod
    def open(cls, path: Path | str) -> RunRecords:
        """Open an existing run, and read its status and configuration.

        Raises:
            UserError: `path` is not a run directory, or its status or configuration is damaged.
        """
        run = cls(RunDirectory.open(path).path)
        _ = run.status, run.config
        return run

    def read_all(self) -> RunRecords:
        """Read every record, so that a damaged one raises an error now; return this object.

        Raises:
            RecordError: a record is damaged.
        """
        self.check()
        _ = (
            self.metrics,
            self.documents,
            self.retention,
            self.samples,
            self.probes,
            self.base_probe,
            self.circuits,
            self.faithfulness,
            self.evolution,
            self.circuit_change,
            self.card,
            self.against_card,
            self.spans,
        )
        for name in self.summary.get("after", {}):
            _ = self.compared(name)
        return self

    @cached_property
    def status(self) -> Status:
        """Contents of status.json."""
        return self.directory.status()

    @property
    def verb(self) -> str:
        """The verb that made the run, such as `train`."""
        return self.status.get("verb", "train")

    @property
    def done(self) -> bool:
        """Whether the run finished."""
        return self.status["state"] == "done"

    @property
    def trains(self) -> bool:
        """Whether the run is a training run."""
        return self.verb == "train"

    @cached_property
    def _config_file(self) -> ConfigFile:
        body = self.directory.read_config()
        shape = TrainConfig if self.trains else RunConfig
        fitted(body["config"], self.directory.config_file, shape, "config")
        return body

    @property
    def config(self) -> dict[str, Any]:
        """The settings in config.yaml, with values for settings introduced after the run was made.

        See `record_format.completed`.
        """
        return completed(self._config_file["config"], self.trains)

    @property
    def environment(self) -> dict[str, Any]:
        """The package versions, machine and command stored in config.yaml."""
        return dict(self._config_file["environment"])

    @cached_property
    def summary(self) -> dict[str, Any]:
        """Contents of summary.json, or an empty dictionary if it is missing.

        Undefined numbers, which the file stores as null, are NaN. If `earlier` gives a warning,
        `notices` begins with it.
        """
        found = self._json("summary.json", SUMMARIES.get(self.verb, dict[str, Any])) or {}
        if found and self.earlier is not None:
            notice = {"text": self.earlier, "warning": True}
            found["notices"] = [notice, *found.get("notices", [])]
        return found

    @property
    def earlier(self) -> str | None:
        """A warning if this version would give other results for the run's settings, or None.

        It is None also for a run whose process died before it wrote config.yaml. See
        `record_format.earlier`.
        """
        format = format_of(self.status)
        if format == FORMAT or not is_there(self.directory.config_file):
            return None
        return earlier(format, self.config)

    def check(self) -> None:
        """Check that status, configuration and summary can be read.

        Raises:
            RecordError: one of them is damaged, or the run is done and has no summary.
        """
        _ = self.status, self.config
        if not self.summary and self.done:
            raise RecordError(self.directory.summary_file, "is not there, though the run is done")

    @property
    def systems(self) -> dict[str, Any]:
        """Test scores by the name of the scored system; empty if the run scored no summaries."""
        return self.summary.get("systems", {})

    @cached_property
    def metrics(self) -> dict[str, list[tuple[int, float]]]:
        """The values in metrics.csv as (step, value), by the name of the metric."""
        from sumcirc.tracking.measure_records import read_metrics

        found: dict[str, list[tuple[int, float]]] = {}
        for step, metric, value in read_metrics(self.directory.metrics.path):
            found.setdefault(metric, []).append((step, value))
        return found

    @cached_property
    def documents(self) -> list[dict[str, Any]]:
        """Rows of documents.parquet, each with a system's summary of a document and its scores."""
        file = self.directory.documents_file
        return read_table(file, DOCUMENT_COLUMNS) if is_there(file) else []

    def scores(
        self, system: str, measures: Sequence[str]
    ) -> tuple[list[str], dict[str, NDArray[np.float64]]]:
        """Return one system's scores by document, from documents.parquet.

        Args:
            system: name of the system.
            measures: names of the scores; those that the file doesn't have are skipped.

        Returns:
            Ids of the documents in the file's order; and by the name of each score, an array
            [documents] in the same order, with NaN where a score is undefined.
        """
        import numpy as np

        file = self.directory.documents_file
        present = [name for name in measures if name in table_columns(file)]
        # without one of ROUGE's columns there is nothing to compare
        shapes = {**dict.fromkeys(present, Number), **DOCUMENT_COLUMNS}
        del shapes["prediction"]  # texts are long
        rows = [row for row in table_rows(file, shapes) if row["system"] == system]
        values = {name: np.array([row[name] for row in rows], dtype=np.float64) for name in present}
        return [row["id"] for row in rows], values

    @cached_property
    def retention(self) -> list[dict[str, Any]]:
        """Rows of retention.parquet: how well a text was predicted; empty if it is missing."""
        file = self.directory.retention_file
        return read_table(file, RETENTION_COLUMNS) if is_there(file) else []

    @cached_property
    def samples(self) -> list[Sample]:
        """The documents in samples.json, with their texts, references and summaries."""
        return self._json("samples.json", list[Sample]) or []

    @cached_property
    def probes(self) -> list[ProbeRecord]:
        """Measure records of the model in training, by step, without that of the base model."""
        return self._probes(self.directory.probes)[0]

    @cached_property
    def base_probe(self) -> ProbeRecord | None:
        """Measure record of the base model, or None if there is none."""
        return self._probes(self.directory.probes)[1]

    def compared(self, name: str) -> tuple[list[ProbeRecord], ProbeRecord | None]:
        """Return the measure records that `sumcirc compare` made for one of the models `after`.

        Args:
            name: name of the model, a key of `after` in summary.json.

        Returns:
            The records of that model; and the record of the model `before`, or None if there is
            none.

        Raises:
            RecordError: a record is damaged, or `name` can't be a file name.
        """
        if "\0" in name:
            raise RecordError(self.directory.summary_file, "is no name of a model", f"after.{name}")
        return self._probes(self.path / "compare" / name)

    @cached_property
    def circuits(self) -> list[tuple[Path, CircuitFile]]:
        """The run's circuits with their paths.

        A training run has one circuit per analysed step, in the order of the steps; a run of
        `sumcirc circuit` has one circuit.
        """
        from sumcirc.storage.reading.circuit_file import read_circuit_file
        from sumcirc.tracking.measure_records import record_files

        folder = self.directory.circuits
        files = [file.with_suffix(".json") for file in record_files(folder)]
        found = [file for file in files if is_there(file)]
        single = folder / "circuit.json"
        found = found or ([single] if is_there(single) else [])
        return [(file, read_circuit_file(file)) for file in found]

    @cached_property
    def faithfulness(self) -> FaithfulnessFile | None:
        """Contents of circuits/faithfulness.json, or None if it is missing."""
        found: FaithfulnessFile | None = self._json("circuits/faithfulness.json", FaithfulnessFile)
        if found is not None:
            _check_curves(found, self.path / "circuits/faithfulness.json")
        return found

    @cached_property
    def evolution(self) -> EvolutionFile | None:
        """Contents of circuits/evolution.json, or None if it is missing."""
        found: EvolutionFile | None = self._json("circuits/evolution.json", EvolutionFile)
        if found is not None:
            _check_evolution(found, self.path / "circuits/evolution.json")
        return found

    @cached_property
    def card(self) -> CardFile | None:
        """Contents of circuits/card.json, or None if it is missing."""
        return self._json("circuits/card.json", CardFile)

    @cached_property
    def against_card(self) -> CardFile | None:
        """Contents of circuits/against-card.json, or None if it is missing."""
        return self._json("circuits/against-card.json", CardFile)

    @cached_property
    def spans(self) -> SpansFile | None:
        """Contents of circuits/spans.json, or None if it is missing."""
        return self._json("circuits/spans.json", SpansFile)

    @cached_property
    def circuit_change(self) -> CircuitChangeFile | None:
        """Contents of circuits/comparison.json, or None if it is missing."""
        return self._json("circuits/comparison.json", CircuitChangeFile)

    def _json(self, name: str, shape: Any) -> Any:
        """Return the contents of a JSON file of the run, or None if there is none."""
        file = self.path / name
        return read_json(file, shape) if is_there(file) else None

    @staticmethod
    def _probes(folder: Path) -> tuple[list[ProbeRecord], ProbeRecord | None]:
        from sumcirc.tracking.measure_records import ProbeRecord, record_file, record_files

        base = record_file(folder, -1)
        files = [base, *record_files(folder)] if is_there(base) else record_files(folder)
        records = [ProbeRecord.read(file) for file in files]
        for record, file in zip(records, files, strict=True):
            for axis, size in record.sizes.items():
                first = records[0].sizes.get(axis, size)
                if axis != "document" and size != first:
                    reason = f"has {size} along the axis {axis}, {files[0].name} has {first}"
                    raise RecordError(file, reason)
        return (records[1:], records[0]) if is_there(base) else (records, None)


def _check_curves(found: FaithfulnessFile, file: Path) -> None:
    """Check that random circuits have the sizes of the ranked ones.

    Raises:
        RecordError: a ranking has more or fewer random circuits in a draw than sizes.
    """
    both: dict[str, RankingsRecord | FaithfulnessFile] = {"": found}
    if "in_sample" in found:
        both["in_sample."] = found["in_sample"]
    for where, rankings in both.items():
        for name in ("absolute", "signed"):
            ranking: RankingRecord = rankings[name]
            count = len(ranking["points"])
            for number, one in enumerate(ranking["random"]):
                if len(one) != count:
                    reason = f"has {len(one)} circuits for {count} sizes"
                    raise RecordError(file, reason, f"{where}{name}.random.{number}")


def _check_evolution(found: EvolutionFile, file: Path) -> None:
    """Check that lists have a value for each checkpoint, and that matrices have one size.

    Raises:
        RecordError: a list or matrix has another size.
    """
    count = len(found["steps"])
    for what, track in (("edges", found["edges"]), ("nodes", found["nodes"])):
        lists = {"within": track["within"], "change_rate": track.get("change_rate")}
        for other in ("to_first", "to_previous", "to_last"):
            lists |= {f"{other}.{name}": one for name, one in track.get(other, {}).items()}
        for name, values in lists.items():
            if not isinstance(values, list):
                continue
            if len(values) != count:
                reason = f"has {len(values)} values for {count} checkpoints"
                raise RecordError(file, reason, f"{what}.{name}")
    size = len(found["transitions"][0]["added_by_layer"]) if found["transitions"] else 0
    for number, one in enumerate(found["transitions"]):
        for name in ("added_by_layer", "removed_by_layer", "noise_by_layer"):
            if size < 2 or [len(row) for row in one[name]] != [size] * size:
                reason = "is no square matrix of the size of the first"
                raise RecordError(file, reason, f"transitions.{number}.{name}")
