"""What each measure says of every unit of a model with a planted change.

All scores are those of the package's own functions, as `sumcirc compare`, `sumcirc circuit` and the
selectors use them; a measure that has no value for units of a grain is left out. The higher a
score, the more a unit is said to have to do with the new answers:

    attention KL, entropy change    by head, or the selectors of these names by layer
    drift, CKA                      what a layer adds to the relative change of the residual stream,
                                    and by how much CKA with the base falls in it
    delta norm                      squared norm of the change
    gradient norm                   of the loss on the new answers, in the base
    circuit, circuit delta          EAP-IG of the changed model, and its difference from the base:
                                    sums over the edges of the circuit that a unit reads or writes
    weight patching                 rise of the metric with a unit's change alone in the base; fall
                                    without it in the changed model
    activation patching             rise of the metric with what a unit writes in the changed model
                                    patched into the base; fall with the base's in the changed model
    path attribution                the path score
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.planted.changes import places, weights_of
from benchmarks.planted.circuit_scores import SELECTOR, edge_scores
from benchmarks.planted.models import EXAMPLES, KINDS, Planted
from sumcirc.circuits.discovery import circuit_of
from sumcirc.circuits.edge_sums import by_node, node_names
from sumcirc.compare.patching.components import ATTENTION, MLP, OUTPUT, Component
from sumcirc.compare.patching.donor_activations import Donor
from sumcirc.compare.patching.patching_scores import PatchingSetup
from sumcirc.compare.path.path_attribution import PathAttribution, attribute_path
from sumcirc.compare.path.unit_change import unit_change
from sumcirc.compare.record_differences import most_changed_heads, most_changed_layers
from sumcirc.data.batches import TrainingBatch
from sumcirc.data.examples import ALL
from sumcirc.measures.measuring import measure, prepare_base
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.schema import MODULES, Grain, PathOptions
from sumcirc.selection import circuit as circuits
from sumcirc.selection import differences
from sumcirc.selection.gradients import gradient_norm
from sumcirc.selection.scores import Scores

Values = NDArray[np.float64]

DIRECTIONS = 4  # of a matrix that are units
NODES = 28  # most points along the change
MEMORY = 10**9  # bytes for patching
MEASURES = (
    "attention KL",
    "entropy change",
    "drift",
    "CKA",
    "delta norm",
    "gradient norm",
    "circuit",
    "circuit delta",
    "activation patching, into the base",
    "activation patching, into the changed model",
    "weight patching, into the base",
    "weight patching, into the changed model",
    "path attribution",
)


@dataclass(frozen=True, eq=False)
class Measured:
    """Scores of all units of a model's grain.

    Attributes:
        units: labels of the units.
        plant, decoys: indices of the units that are planted, and that are decoys.
        scores: [units] by measure, in the order of MEASURES.
        converged: whether the integrals of path attribution have converged.
    """

    units: list[str]
    plant: list[int]
    decoys: list[int]
    scores: dict[str, Values]
    converged: bool


def measured(made: Planted, decoys: bool) -> Measured:
    """Measure a model with a planted change.

    Args:
        made: the model.
        decoys: whether its decoys are in it.
    """
    with TemporaryDirectory(prefix="planted-") as folder:
        return _Measuring(made, decoys, Path(folder)).all()


class _Measuring:
    """Measures one model; what several measures need is computed once."""

    def __init__(self, made: Planted, decoys: bool, folder: Path) -> None:
        self.made, self.folder, self.with_decoys = made, folder, decoys
        self.grain = KINDS[made.kind].grain
        self.base, self.model = made.base.model, made.model(decoys=decoys)
        self.before = weights_of(self.base)
        self.layers, self.heads = self.base.config.n_layer, self.base.config.n_head

    def all(self) -> Measured:
        """Return the scores by every measure."""
        found: dict[str, Values] = {}
        for names, scored in (
            (MEASURES[:4], self._differences),
            (MEASURES[4:5], self._norms),
            (MEASURES[5:6], self._gradients),
            (MEASURES[6:8], self._circuits),
            (MEASURES[8:10], self._activations),
            (MEASURES[10:], self._weights),
        ):
            values = scored()
            found |= {name: np.asarray(values[name]) for name in names if name in values}
        carried = [one.place for one in self.made.decoys] if self.with_decoys else []
        return Measured(
            self.units,
            [self.units.index(self._label(one)) for one in self.made.plant],
            [self.units.index(self._label(one)) for one in carried],
            found,
            self.path.converged,
        )

    @cached_property
    def path(self) -> PathAttribution:
        """Path attribution, with each unit kept and removed."""
        options = PathOptions(
            nodes=NODES, neuron_groups=1, directions=DIRECTIONS, effects=self.grain, models=1
        )
        return attribute_path(self.model, self.before, self.made.examples.items, options, EXAMPLES)

    @cached_property
    def units(self) -> list[str]:
        """Labels of all units; directions are those of the matrices that changed."""
        if self.grain is Grain.direction:
            return [one.label for one in self.path.units[self.grain] if one.index is not None]
        return [one.label for one in self._places]

    def _label(self, place: Any) -> str:
        # a change of one direction is the leading one of its matrix
        return place.label + (" direction 0" if self.grain is Grain.direction else "")

    def _of_units(self, labels: list[str], values: Values) -> Values:
        """Return the values of all units in their order; those that have none did not change."""
        known = dict(zip(labels, values.tolist(), strict=True))
        return np.array([known.get(label, 0.0) for label in self.units])

    def _of_scores(self, scores: Scores) -> Values | None:
        """Return the mean scores of a selector, None if it has none for this grain."""
        if self.grain not in (Grain.layer, Grain.module):
            return None
        whole = self.grain is Grain.layer
        if not whole and not scores.tells_modules:
            return None
        return scores.of_targets(list(range(len(MODULES))), whole).mean(-1).ravel()

    def _differences(self) -> dict[str, Values]:
        if self.grain not in (Grain.head, Grain.layer):
            return {}
        probes = self.made.examples.probes
        base = prepare_base(self.base, probes, self.folder)
        record = measure(self.model, probes, base)
        if self.grain is Grain.head:
            heads = most_changed_heads(record, base.record, self.layers * self.heads)
            heads = sorted(heads, key=lambda one: (one.layer, one.head))
            return {
                "attention KL": np.array([one.kl.mean for one in heads]),
                "entropy change": np.array([abs(one.entropy.mean) for one in heads]),
            }
        config = SimpleNamespace(selector=SELECTOR)
        context: Any = SimpleNamespace(
            base=base, config=config, tuned_record=lambda concern: record
        )
        layers = most_changed_layers(record, base.record, self.layers)
        found = {
            "attention KL": self._of_scores(differences.attention_kl(context)),
            "entropy change": self._of_scores(differences.entropy(context)),
            "drift": np.array(
                [one.gained.mean for one in sorted(layers, key=lambda one: one.layer)]
            ),
            "CKA": self._of_scores(differences.drift(context)),
        }
        return {name: values for name, values in found.items() if values is not None}

    def _norms(self) -> dict[str, Values]:
        names = {id(one): name for name, one in self.model.named_parameters()}
        with unit_change(HookedModel(self.model), self.before, 1, DIRECTIONS) as change:
            deltas = [one.detach() - self.before[names[id(one)]] for one in change.parameters]
            squared = change.by_grain(change.scores(deltas))[self.grain]
            labels = [one.label for one in change.units[self.grain]]
        return {"delta norm": self._of_units(labels, squared)}

    def _gradients(self) -> dict[str, Values]:
        if self.grain not in (Grain.layer, Grain.module):
            return {}
        config = SimpleNamespace(selector=SELECTOR)
        context: Any = SimpleNamespace(
            hooked=HookedModel(self.base),
            config=config,
            training_batches=lambda size: [TrainingBatch.of(self.made.examples.items.items)],
        )
        values = self._of_scores(gradient_norm(context))
        return {} if values is None else {"gradient norm": values}

    def _circuits(self) -> dict[str, Values]:
        if self.grain is Grain.direction:
            return {}
        options = SELECTOR.circuit
        base, tuned = edge_scores(self.made, None), edge_scores(self.made, self.with_decoys)
        graph = tuned.graph
        if self.grain is not Grain.head:
            config = SimpleNamespace(selector=SELECTOR)
            of_tuned: Any = SimpleNamespace(config=config, base_circuit=tuned)
            of_both: Any = SimpleNamespace(
                config=config, base_circuit=base, tuned_circuit=lambda: tuned
            )
            found = {
                "circuit": self._of_scores(circuits.circuit(of_tuned)),
                "circuit delta": self._of_scores(circuits.circuit_delta(of_both)),
            }
            return {name: values for name, values in found.items() if values is not None}
        before, after = (one.scores.mean(0, dtype=np.float64) for one in (base, tuned))
        kept, old = (circuit_of(one, graph, options) for one in (after, before))
        shares = [one / np.abs(one).sum() for one in (after, before)]
        heads = [node_names(graph).index(f"a{x.layer}.h{x.index}") for x in self._places]
        sums = (
            by_node(after * kept, graph),
            by_node((shares[0] - shares[1]) * (kept | old), graph),
        )
        names = ("circuit", "circuit delta")
        return {name: (out + into)[heads] for name, (out, into) in zip(names, sums, strict=True)}

    @property
    def _places(self) -> list[Any]:
        return places(self.grain, self.layers, self.heads)

    def _activations(self) -> dict[str, Values]:
        if self.grain is Grain.head:
            sets = [[Component(one.layer, OUTPUT, one.index)] for one in self._places]
        elif self.grain is Grain.layer:
            sets = [
                [Component(one.layer, kind) for kind in (ATTENTION, MLP)] for one in self._places
            ]
        else:
            return {}
        items = self.made.examples.items
        models = {"base": HookedModel(self.base), "changed model": HookedModel(self.model)}
        found = {}
        for into, other, sign in (("base", "changed model", 1), ("changed model", "base", -1)):
            folder = self.folder / other.replace(" ", "-")
            folder.mkdir()
            donor = Donor.record(models[other], items, EXAMPLES, [ALL], folder)
            setup = PatchingSetup(models[into], donor, items, EXAMPLES, ALL, None, MEMORY)
            found[f"activation patching, into the {into}"] = sign * setup.together(sets).mean(1)
        return found

    def _weights(self) -> dict[str, Values]:
        effects = self.path.effects
        assert effects is not None
        labels = [one.label for one in self.path.units[self.grain]]
        kinds = {
            "weight patching, into the base": effects.add,
            "weight patching, into the changed model": effects.remove,
            "path attribution": self.path.scores[self.grain],
        }
        return {name: self._of_units(labels, values.mean(1)) for name, values in kinds.items()}
