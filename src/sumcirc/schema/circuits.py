"""How a circuit is found and judged."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from sumcirc.schema.data import Source
from sumcirc.schema.lists import lists_of_one
from sumcirc.schema.require import at_least, positive, require


class Method(Enum):
    """Attribution of a metric to edges."""

    eap = "eap"  # one gradient, at the clean input (2310.10348)
    eap_ig_inputs = "eap-ig-inputs"  # gradients between both inputs (2403.17806)
    clean_corrupted = "clean-corrupted"  # gradients at both ends
    eap_ig_activations = "eap-ig-activations"  # gradients between activations, part by part
    relp = "relp"  # relevance patching (2508.21258)
    exact = "exact"  # every edge patched alone
    random = "random"  # a control


class Rule(Enum):
    """Where interpolation steps lie between the corrupted and the clean input."""

    left = "left"  # with the corrupted end
    right = "right"  # with the clean end
    midpoint = "midpoint"
    gauss_legendre = "gauss-legendre"


class CircuitMetric(Enum):
    """What the circuit is to explain, read where the summary is predicted."""

    auto = "auto"  # of given pairs with `good` and `bad` the logit difference, else kl
    kl = "kl"  # KL(clean || patched) of next tokens
    surprise = "surprise"  # -log p of the reference summary
    logit_difference = "logit_difference"  # right token less the twin's, where a fact is told


class Corruption(Enum):
    """What a document is contrasted with."""

    auto = "auto"  # twin on the built-in wire, else replace
    twin = "twin"  # the same article with other key facts (data=wire)
    replace = "replace"  # salient sentences replaced by text of other documents
    swap = "swap"  # names, numbers and dates of salient sentences swapped for others
    control = "control"  # as much text that is not salient replaced
    shuffled = "shuffled"  # another document altogether

    def __str__(self) -> str:
        return self.name  # in file names: out='pairs-${corruption}.jsonl'


# MIB's shares of edges (2504.13151)
SIZES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


@dataclass
class CircuitOptions:
    """How a circuit is found and judged."""

    method: Method = Method.eap_ig_inputs
    steps: int = 5  # interpolation steps
    rule: Rule = Rule.midpoint
    metric: CircuitMetric = CircuitMetric.kl
    corruption: Corruption = Corruption.auto
    documents: int = 32  # pairs, of data.test
    batch_size: int = 4  # pairs at once, fewer where memory_budget asks for it
    memory_budget: float = 8.0  # GB that passes may take beside the model
    size: float = 0.05  # share of all edges in the circuit that is written and drawn
    sizes: list[float] = field(default_factory=lambda: list(SIZES))  # of the faithfulness curve
    random_circuits: int = 3  # of each size, for comparison
    resamples: int = 200  # of the documents, for stability

    def __post_init__(self) -> None:
        lists_of_one(self)
        counts = ("steps", "documents", "batch_size", "random_circuits", "resamples")
        at_least(self, "circuit.", 1, *counts)
        positive(self, "circuit.", "memory_budget")
        check_gradient("circuit.", self.method, self.metric)
        require(
            self.metric is not CircuitMetric.kl
            or self.method is not Method.eap_ig_inputs
            or self.rule is not Rule.right
            or self.steps > 1,
            f"circuit.steps={self.steps}: the only point of circuit.rule=right is the clean run,"
            " where the divergence from that run has no gradient; take more steps",
        )
        require(0 < self.size <= 1, f"circuit.size={self.size}: must be a share such as 0.05")
        require(
            bool(self.sizes)
            and all(0 < size <= 1 for size in self.sizes)
            and self.sizes == sorted(set(self.sizes)),
            f"circuit.sizes={self.sizes}: must be rising shares between 0 and 1",
        )

    @property
    def memory(self) -> int:
        """The budget in bytes."""
        return int(1e9 * self.memory_budget)

    def corruption_of(self, source: Source) -> Corruption:
        """What `auto` stands for on given data."""
        return corruption_of(self.corruption, source, "circuit.corruption")


def check_gradient(section: str, method: Method, metric: CircuitMetric) -> None:
    """Refuse a method that takes its gradient where the metric has none.

    Args:
        section: with its dot, as `circuit.`.
    """
    require(
        metric is not CircuitMetric.kl or method not in (Method.eap, Method.relp),
        f"{section}method={method.value}: takes its gradient at the clean run, where the divergence"
        f" from that run ({section}metric=kl) has none, so every score would be 0; take"
        " eap-ig-inputs, or another metric",
    )


def corruption_of(corruption: Corruption, source: Source, setting: str) -> Corruption:
    """What a corruption stands for on given data.

    Raises:
        UserError: it is for other data; `setting` is named.
    """
    if corruption is Corruption.auto:
        return Corruption.twin if source is Source.wire else Corruption.replace
    require(
        corruption is not Corruption.twin or source is Source.wire,
        f"{setting}=twin: is for data=wire, whose facts are known; for other data take"
        f" {setting}=swap or replace",
    )
    return corruption
