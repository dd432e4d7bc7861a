"""Results of evaluating circuits: faithfulness by circuit and size, areas, and controls.

`patching.faithfulness` defines the quantities and computes them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from sumcirc.statistics import Interval
from sumcirc.storage.writing import plain_numbers

REACHED = 0.9  # faithfulness whose smallest circuit is reported


@dataclass(frozen=True)
class Faithfulness:
    """The faithfulness of one circuit C; `patching.faithfulness` defines f, m(C), m(0) and m(G).

    Attributes:
        fraction: requested fraction of all edges, before pruning; None if the circuit was given as
            a mask.
        edges: number of edges of the circuit.
        faithfulness: f(C), the ratio of the means, with an interval from resampled documents; NaN
            where f is not defined.
        kl: mean KL(full || circuit) in nats.
        completeness: 1 - f(complement); None if it wasn't measured.
        metric: [documents] m(C); NaN for documents on which a random circuit was not run.
        by_document: [documents] f of each document alone; None where the document's m(0) - m(G) is
            only rounding error, where the circuit was not run, and where `faithfulness` is not
            defined.
        kl_by_document: [documents] KL(full || circuit) in nats; NaN as in `metric`.
    """

    fraction: float | None
    edges: int
    faithfulness: Interval
    kl: Interval
    completeness: Interval | None
    metric: list[float]
    by_document: list[float | None]
    kl_by_document: list[float]


@dataclass(frozen=True)
class Area:
    """An area (CPR or CMD) over the sizes of circuits.

    Attributes:
        value: the area for the ranked circuits, with its interval.
        random: the areas for random circuits, one per seed.
    """

    value: Interval
    random: list[Interval]


@dataclass(frozen=True)
class FaithfulnessCurve:
    """The faithfulness of circuits of growing size, for one ranking of edges.

    Attributes:
        ablation: what patched edges carry: `interchange`, `zero` or `mean`.
        metric: name of the metric.
        absolute: whether edges are ranked by |score|; otherwise they are ranked by score.
        documents: ids of the documents.
        empty, full: [documents] metric of the empty circuit, m(0), and of the model, m(G).
        points: results of the ranked circuits, the smallest first.
        random: results of random circuits that match those of `points` in the number of edges of
            each kind and layer, one list per seed; each is run on some documents, see `share_of`.
        control: for each size the faithfulness of its random circuits together, with an interval
            from resampled documents and circuits; empty without random circuits.
        cpr: CPR, higher is better; MIB reports it for signed ranking.
        cmd: CMD, lower is better and 0 is best; MIB reports it for absolute ranking.
    """

    ablation: str
    metric: str
    absolute: bool
    documents: list[str]
    empty: list[float]
    full: list[float]
    points: list[Faithfulness]
    random: list[list[Faithfulness]]
    control: list[Interval]
    cpr: Area
    cmd: Area

    def as_json(self) -> dict[str, Any]:
        """Return the curve as dicts, lists, numbers and strings, ready to be written as JSON."""
        return plain_numbers(asdict(self))

    @property
    def reached(self) -> Faithfulness | None:
        """The smallest circuit with a faithfulness of `REACHED` or more; None if none has it."""
        return next((one for one in self.points if one.faithfulness.mean >= REACHED), None)


@dataclass(frozen=True)
class Judgement:
    """The faithfulness of a circuit and of two curves, measured on the same documents.

    Attributes:
        faithfulness: faithfulness and completeness of the circuit.
        control: faithfulness of random circuits that match it, as in `FaithfulnessCurve`; None
            without random circuits.
        above_control: how far the circuit's faithfulness is above `control`, paired by document.
        control_shared: mean fraction of the circuit's edges that these random circuits contain. At
            1 they are the circuit itself, and `control` says nothing about single edges.
        absolute: circuits of growing size, ranked by |score|, with random circuits.
        signed: the same ranked by score, without random circuits.
    """

    faithfulness: Faithfulness
    control: Interval | None
    above_control: Interval | None
    control_shared: float | None
    absolute: FaithfulnessCurve
    signed: FaithfulnessCurve
