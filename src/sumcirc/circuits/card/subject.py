"""The circuit that a card is about, and the runs by which it is tested."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sumcirc.circuits.discovery import CircuitResult
from sumcirc.circuits.graph import Graph
from sumcirc.circuits.patching.evaluator import Evaluator
from sumcirc.circuits.patching.patched_run import ALL
from sumcirc.circuits.tasks import Task
from sumcirc.runtime.progress import Counted, silent
from sumcirc.schema import CardOptions, CircuitOptions
from sumcirc.statistics import Bootstrap, Interval

Values = NDArray[np.float64]
Kept = NDArray[np.bool_]

BOOTSTRAP = Bootstrap()


@dataclass(frozen=True, eq=False)
class Subject:
    """A circuit with the pairs that chose its edges and the pairs that judge it.

    Attributes:
        model: the model, with or without an adapter.
        task: the pairs that chose the edges.
        held_out: the pairs that judge.
        found: the circuit with its figures on `held_out`.
        options: the settings by which it was found.
        card: settings of the tests.
        counted: shows the progress of a test, as `runtime.progress.counted` does.
    """

    model: Any
    task: Task
    held_out: Task
    found: CircuitResult
    options: CircuitOptions
    card: CardOptions
    counted: Counted = silent

    @property
    def graph(self) -> Graph:
        """The model's graph."""
        return self.found.scores.graph

    @property
    def circuit(self) -> Kept:
        """[sources, destinations] True at the circuit's edges."""
        return self.found.circuit

    @property
    def evaluator(self) -> Evaluator:
        """Runs circuits on the pairs that judge."""
        return self.held_out.evaluator

    @property
    def pairs(self) -> int:
        """Number of pairs that judge."""
        return len(self.held_out.pairs)

    @property
    def own(self) -> Values:
        """[pairs] the metric of the circuit's run."""
        return np.array(self.found.faithfulness.metric, dtype=np.float64)

    def ranked(self) -> list[tuple[int, int]]:
        """Return the circuit's edges as (row, column), the largest |score| first."""
        return self._by_size(self.circuit)

    def others(self) -> list[tuple[int, int]]:
        """Return the edges outside the circuit in the same order."""
        return self._by_size(self.graph.exists & ~self.circuit)

    def _by_size(self, kept: Kept) -> list[tuple[int, int]]:
        rows, columns = np.nonzero(kept)
        sizes = np.abs(self.found.aggregated[rows, columns])
        order = np.argsort(-sizes, kind="stable")
        return [(int(rows[i]), int(columns[i])) for i in order]

    def edge_name(self, edge: tuple[int, int]) -> str:
        """Return an edge's name, `source->destination`."""
        return f"{self.graph.sources[edge[0]]}->{self.graph.destinations[edge[1]]}"

    def run(self, label: str, circuits: Sequence[Kept], some: slice = ALL) -> list[Values]:
        """Run circuits on the pairs that judge.

        Args:
            label: what is done, for the display of progress.
            circuits: matrices [sources, destinations], True at kept edges.
            some: the pairs, in the order of their length, on which they are run.

        Returns:
            The metric of each circuit, [pairs]; NaN for other pairs than `some`.
        """
        return run_on(self.evaluator, label, circuits, self.counted, some)

    def share(self, metric: Values) -> Interval:
        """Return the faithfulness of a run, from its metric on the pairs that judge."""
        return share(self.evaluator, metric)

    def above(self, metric: Values) -> Interval:
        """Return by how much the circuit is more faithful than another run, paired by document."""
        return difference(self.evaluator, self.own, metric)


def run_on(
    evaluator: Evaluator,
    label: str,
    circuits: Sequence[Kept],
    counted: Counted,
    some: slice = ALL,
) -> list[Values]:
    """Run circuits on an evaluator's pairs, and return the metric of each, [pairs].

    Args:
        evaluator: runs circuits.
        label: what is done, for the display of progress.
        circuits: matrices [sources, destinations], True at kept edges.
        counted: shows the progress.
        some: the pairs, in the order of their length, on which circuits are run.
    """
    if not circuits:
        return []
    pairs = len(range(len(evaluator.pairs))[some])
    with counted(label, len(circuits) * pairs) as advance:
        evaluator.progress = advance
        found = evaluator.run(circuits, [some] * len(circuits))
        evaluator.progress = lambda done: None
    return [one.metric for one in found]


def share(evaluator: Evaluator, metric: Values) -> Interval:
    """Return the faithfulness of a run: the ratio of the means, as in `patching.faithfulness`.

    Args:
        evaluator: holds the metric of the empty circuit and of the model.
        metric: [pairs] the metric of the run.
    """
    return difference(evaluator, metric, evaluator.empty.metric)


def difference(evaluator: Evaluator, one: Values, other: Values) -> Interval:
    """Return the faithfulness of a run minus that of another, paired by document.

    Args:
        evaluator: as in `share`.
        one, other: [pairs] the metric of the two runs.
    """
    gain, whole = one - other, evaluator.full.metric - evaluator.empty.metric
    return BOOTSTRAP.interval(lambda pick: gain[pick].mean(-1) / whole[pick].mean(-1), len(whole))


def spread(edges: Sequence[tuple[int, int]], count: int, seed: int = 0) -> list[tuple[int, int]]:
    """Return a sample of edges that is stratified by their place in the given order.

    The edges are divided into `count` blocks of (nearly) equal size, and one is drawn of each.

    Args:
        edges: edges in the order of the size of their scores.
        count: number of edges to draw; all are returned if there are no more.
        seed: seed of the draws.
    """
    if len(edges) <= count:
        return list(edges)
    random = np.random.default_rng(seed)
    bounds = np.linspace(0, len(edges), count + 1).round().astype(int)
    return [edges[random.integers(low, high)] for low, high in pairwise(bounds)]
