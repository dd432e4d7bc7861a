"""Settings for the selection of layers or modules that get an adapter."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Optional

from sumcirc.schema.choices import Choice
from sumcirc.schema.circuits import (
    Aggregation,
    CircuitMetric,
    CircuitOptions,
    Corruption,
    Method,
    check_gradient,
)
from sumcirc.schema.lists import lists_of_one
from sumcirc.schema.require import at_least, require


class SelectorName(Choice):
    """Rule that chooses the layers or modules (docs/selecting.md)."""

    all = "all"
    fixed = "fixed"
    first = "first"
    middle = "middle"
    last = "last"
    random = "random"
    circuit = "circuit"
    circuit_delta = "circuit_delta"
    attention_kl = "attention_kl"
    entropy = "entropy"
    drift = "drift"
    cka_redundancy = "cka_redundancy"
    page = "page"
    fisher = "fisher"
    gradient_norm = "gradient_norm"
    loraga = "loraga"
    resnorm = "resnorm"
    eva = "eva"
    plop = "plop"
    kappa = "kappa"
    delta_energy = "delta_energy"
    extrapolated = "extrapolated"
    own = "own"


class Preset(Choice):
    """Layers named by earlier work on 12-layer models."""

    paper = "paper"  # 2, 3, 5
    observed = "observed"  # 9, 10, 11
    hybrid = "hybrid"  # 5, 10, 11


@dataclass
class SelectorConfig:
    """Selector for `adaptation.layers=auto` (conf/selector)."""

    name: Optional[SelectorName] = None
    # layers (or modules) to choose; null: a quarter of them. Ignored by `all`, so that it can be
    # shared by the arms of a sweep
    count: Optional[int] = None
    seed: Optional[int] = None  # seed of `random`; null: the run's seed
    preset: Optional[Preset] = None  # layers for `fixed`, by name
    layers: Optional[list[int]] = None  # layers for `fixed`
    score: Optional[str] = None  # for `own`: a function, as MODULE.FUNCTION
    documents: int = 32  # documents of data.train by which selectors choose
    # documents per batch in `page`, `gradient_norm`, `loraga`, `resnorm` and `eva`
    batch_size: int = 4
    resamples: int = 500  # bootstrap resamples, for intervals and for how often a target is chosen
    method: Method = Method.eap_ig_inputs  # attribution method for the circuit
    metric: CircuitMetric = CircuitMetric.kl
    corruption: Corruption = Corruption.auto
    # how an edge's scores on the pairs become one
    aggregation: Aggregation = Aggregation.mean
    # model compared with the base: a run directory, an adapter or a folder; null: a probe run
    after: Optional[str] = None
    # optimizer steps of the probe run (LoRA on all layers; all weights for `delta_energy`); 0: no
    # probe run
    probe_steps: int = 50

    def __post_init__(self) -> None:
        lists_of_one(self)
        if self.name is None:
            given = [one.name for one in fields(self) if getattr(self, one.name) != one.default]
            require(
                not given, f"selector.{''.join(given[:1])}: nothing is selected; give selector=NAME"
            )
            return
        at_least(self, "selector.", 1, "count", "documents", "batch_size")
        at_least(self, "selector.", 0, "seed", "probe_steps")
        at_least(self, "selector.", 2, "resamples")
        circuits = self.name in (SelectorName.circuit, SelectorName.circuit_delta)
        if circuits and self.metric is CircuitMetric.kl:
            check_gradient("selector.", self.method)
        if self.name is not SelectorName.own:
            require(
                self.score is None,
                f"selector.score={self.score}: is for selector=own, not for"
                f" selector={self.name.value}",
            )
        if self.name is SelectorName.fixed:
            require(
                self.preset is None or self.layers is None,
                f"selector.layers={self.layers}: selector.preset names the layers too; leave one"
                " of them out",
            )
            require(
                self.count is None,
                f"selector.count={self.count}: the layers of selector=fixed are given; leave it"
                " out",
            )
            layers = self.layers
            require(
                layers is None or (bool(layers) and len(set(layers)) == len(layers)),
                f"selector.layers={layers}: must name one layer or more, each once",
            )
            return
        for name in ("preset", "layers"):
            value = getattr(self, name)
            require(
                value is None,
                f"selector.{name}={getattr(value, 'value', value)}: is for selector=fixed, not for"
                f" selector={self.name.value}",
            )

    @property
    def circuit(self) -> CircuitOptions:
        """Settings for finding the circuit by which the selector chooses."""
        return CircuitOptions(
            method=self.method,
            metric=self.metric,
            corruption=self.corruption,
            aggregation=self.aggregation,
            documents=self.documents,
        )
