"""Overlap of the circuits of several runs of `sumcirc circuit`, for reports."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sumcirc.errors import UserError
from sumcirc.schema import CircuitConfig

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sumcirc.circuits.graph import Graph
    from sumcirc.reporting.checkpoints import Overlaps
    from sumcirc.reporting.runs import ReportRun


def overlaps_of(runs: Sequence[ReportRun]) -> Overlaps:
    """Return the overlap of the circuits of runs that scored the same edges on the same data.

    Circuits are selected again on the documents that all runs have, as `sumcirc circuit` does.

    Args:
        runs: runs of `sumcirc circuit`, each with circuits/scores.safetensors.

    Raises:
        RecordError: a file of scores is damaged or missing.
        UserError: circuits are selected by a threshold or by different settings, the runs share
            fewer than two documents, or another version made a run.
    """
    import numpy as np

    from sumcirc.circuits.aggregation import per_document
    from sumcirc.circuits.discovery import selection_of
    from sumcirc.circuits.evolution import evolution
    from sumcirc.circuits.score_files import DocumentScores
    from sumcirc.circuits.sign_filter import sign_filter_of
    from sumcirc.circuits.stability import jaccard
    from sumcirc.reporting.checkpoints import Overlaps
    from sumcirc.statistics import Interval
    from sumcirc.tracking.session import stored_config

    options = [stored_config(run.directory, CircuitConfig).circuit for run in runs]
    if options[0].threshold is not None:
        raise UserError(f"circuit.threshold={options[0].threshold}: is for single circuits")
    choices = {(one.size, one.select, one.aggregation, one.sign_filter) for one in options}
    if len(choices) > 1:
        raise UserError(
            "circuit.size, circuit.select, circuit.aggregation or circuit.sign_filter differs"
            " between the runs"
        )
    files = [run.directory.circuits / "scores.safetensors" for run in runs]
    graph, shared = _shared(files)
    if len(shared) < 2:
        raise UserError(f"the runs share {len(shared)} documents, and 2 are needed")

    def scores() -> Iterator[tuple[int, NDArray[Any]]]:
        for number, file in enumerate(files):
            stored = DocumentScores.read(file)
            place = {name: i for i, name in enumerate(stored.documents)}
            of_shared = stored.scores[[place[name] for name in shared]]
            yield number, per_document(of_shared, options[0].aggregation)

    size = graph.edges_in(options[0].size)
    found = evolution(
        scores(),
        graph,
        size,
        selection_of(options[0]),
        resamples=options[0].resamples,
        sign_filter=sign_filter_of(options[0]),
    )
    first = found.edges.to_first
    ends = zip(first.jaccard, first.low, first.high, strict=True)
    count = len(runs)
    pairs = [jaccard(one, other) for one in found.circuits for other in found.circuits]
    return Overlaps(
        [int(one) for one in found.edges.size],
        [Interval(float(one[0]), float(one[1]), float(one[2]), len(shared)) for one in ends],
        [float(one) for one in first.chance],
        [float(one) for one in found.edges.within],
        [bool(one) for one in first.differs],
        np.array(pairs).reshape(count, count),
    )


def _shared(files: Sequence[Path]) -> tuple[Graph, list[str]]:
    """Return the graph of the scored models, and the documents that all files have, in order."""
    from sumcirc.circuits.score_files import DocumentScores

    first, *others = (DocumentScores.read(file) for file in files)
    known = [set(one.documents) for one in others]
    return first.graph, [name for name in first.documents if all(name in one for one in known)]
