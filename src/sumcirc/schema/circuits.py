"""Settings for finding and evaluating a circuit.

A circuit is a set of edges between heads and MLPs. Edges are scored on pairs of a clean document
and a corrupted one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional

from sumcirc.schema.choices import Choice
from sumcirc.schema.data import Source
from sumcirc.schema.lists import lists_of_one
from sumcirc.schema.require import at_least, positive, require


class Method(Choice):
    """Attribution method, which scores edges by their effect on a metric."""

    eap = "eap"  # EAP: one gradient, at the clean input (2310.10348)
    # EAP-IG: gradients between the corrupted and the clean input (2403.17806)
    eap_ig_inputs = "eap-ig-inputs"
    clean_corrupted = "clean-corrupted"  # gradients at the corrupted and the clean input
    eap_ig_activations = "eap-ig-activations"  # gradients between activations, node by node
    relp = "relp"  # relevance patching (2508.21258)
    exact = "exact"  # every edge patched separately
    random = "random"  # random scores, as a baseline


# methods whose scores can be divided by the span of the query that reads a key or value
DIVISIBLE = (Method.eap, Method.eap_ig_inputs, Method.clean_corrupted)
AT_CLEAN = (Method.eap, Method.relp)  # methods that take the gradient at the clean run


class Rule(Choice):
    """Positions of the interpolation steps between the corrupted and the clean input."""

    left = "left"  # includes the corrupted end
    right = "right"  # includes the clean end
    midpoint = "midpoint"
    gauss_legendre = "gauss-legendre"


class CircuitMetric(Choice):
    """Metric that the circuit explains, measured where the summary is predicted."""

    auto = "auto"  # for given pairs with `good` and `bad`: logit_difference, else kl
    kl = "kl"  # KL(clean || patched) of the next token
    nll = "nll"  # -log p of the reference summary
    # right minus counterfactual token, where a fact is stated
    logit_difference = "logit_difference"
    # logit of a wrong fact minus that of the right one, where a fact is stated: of the wire's other
    # event, or with corruption=swap one that the document does not state
    wrong_fact = "wrong_fact"
    surprise = nll  # old word, until 0.2

    @property
    def unit(self) -> str:
        """Unit of the metric, and of the scores of edges."""
        return "logits" if self in LOGITS else "nats"


LOGITS = (CircuitMetric.logit_difference, CircuitMetric.wrong_fact)


class Corruption(Choice):
    """Corrupted document that a document is compared with."""

    # counterfactual for the built-in wire; else swap if half of the documents tried give such a
    # pair, else replace
    auto = "auto"
    counterfactual = "counterfactual"  # the same article with other key facts (data=wire)
    replace = "replace"  # salient sentences replaced by text of other documents
    swap = "swap"  # names, numbers, dates, speakers, nouns in salient sentences swapped for others
    control = "control"  # as much text replaced as by `replace`, but not salient
    shuffled = "shuffled"  # another document
    twin = counterfactual  # old word, until 0.2


class Aggregation(Choice):
    """How an edge's scores on the pairs become the score by which edges are ranked."""

    mean = "mean"  # their mean: effects of opposite sign cancel (2403.17806)
    mean_absolute = "mean-absolute"  # the mean of |score|: they don't cancel (2403.00745)


class EdgeSelection(Choice):
    """Rule that selects the edges of the circuit by their scores."""

    top = "top"  # the edges of largest |score|, as many as `size` says
    threshold = "threshold"  # all edges with |score| of at least `threshold`
    greedy = "greedy"  # from the logits: repeatedly the best edge into a node that is kept already


class Ablation(Choice):
    """Values of the edges outside a circuit."""

    patch = "interchange"  # those of the corrupted run
    zero = "zero"  # zero
    mean = "mean"  # the source's mean over the tokens of all clean inputs


# fractions of the edges used by MIB (2504.13151)
SIZES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


@dataclass
class CircuitOptions:
    """Settings for finding and evaluating a circuit."""

    method: Method = Method.eap_ig_inputs
    steps: int = 5  # interpolation steps
    rule: Rule = Rule.midpoint
    metric: CircuitMetric = CircuitMetric.kl
    corruption: Corruption = Corruption.auto
    documents: int = 32  # pairs, drawn from data.test
    # fraction of the pairs, divided by document, on which circuits are judged; their edges are
    # chosen on the others. 0: both on all pairs (in-sample)
    held_out: float = 0.5
    batch_size: int = 4  # pairs processed at once; fewer if memory_budget requires it
    memory_budget: float = 8.0  # GB for activations, in addition to the model
    # how an edge's scores on the pairs become one, by whose size edges are selected and ranked
    aggregation: Aggregation = Aggregation.mean_absolute
    # share of the resamples of the pairs in which an edge's mean score has to keep its sign; edges
    # that don't are ranked behind all others. null: no filter
    sign_filter: Optional[float] = None
    select: EdgeSelection = EdgeSelection.top
    size: float = 0.05  # fraction of all edges in the circuit that is written and drawn
    threshold: Optional[float] = None  # least |score| of an edge, for select=threshold
    ablation: Ablation = Ablation.patch
    # of the circuits in the faithfulness curve
    sizes: list[float] = field(default_factory=lambda: list(SIZES))
    # random circuits of each size with as many edges of each kind and layer, as a baseline
    random_circuits: int = 10
    resamples: int = 200  # bootstrap resamples of the pairs, for stability
    # also score, choose and patch edges by the spans of the tokens between which they act
    by_span: bool = False

    def __post_init__(self) -> None:
        lists_of_one(self)
        counts = ("steps", "documents", "batch_size", "random_circuits", "resamples")
        at_least(self, "circuit.", 1, *counts)
        require(
            0 <= self.held_out < 1,
            f"circuit.held_out={self.held_out}: must be a share of the pairs such as 0.5, or 0 to"
            " judge circuits on the pairs that their edges are chosen on",
        )
        positive(self, "circuit.", "memory_budget")
        if self.metric is CircuitMetric.kl:
            check_gradient("circuit.", self.method, self.rule, self.steps)
        if self.by_span:
            check_divisible("circuit.method", self.method)
        positive(self, "circuit.", "threshold")
        by_threshold = self.select is EdgeSelection.threshold
        require(
            not by_threshold or self.threshold is not None,
            "circuit.select=threshold: needs the least |score| of an edge; give"
            " circuit.threshold=VALUE",
        )
        require(
            by_threshold or self.threshold is None,
            f"circuit.threshold={self.threshold}: is for circuit.select=threshold, not for"
            f" circuit.select={self.select}; leave one of them out",
        )
        self._check_sign_filter()
        require(0 < self.size <= 1, f"circuit.size={self.size}: must be a share such as 0.05")
        require(
            bool(self.sizes)
            and all(0 < size <= 1 for size in self.sizes)
            and self.sizes == sorted(set(self.sizes)),
            f"circuit.sizes={self.sizes}: must be rising shares between 0 and 1",
        )

    def _check_sign_filter(self) -> None:
        least = self.sign_filter
        if least is None:
            return
        given = f"circuit.sign_filter={least:g}"
        require(
            0.5 < least <= 1,
            f"{given}: must be a share of resamples above 0.5 and up to 1, such as 0.95",
        )
        require(
            self.documents > 1,
            f"{given}: circuit.documents=1 can't be resampled; use 2 or more, or leave it out",
        )
        require(
            self.aggregation is Aggregation.mean,
            f"{given}: circuit.aggregation={self.aggregation.name} has no sign that an edge could"
            " keep; add circuit.aggregation=mean, or leave the filter out",
        )
        require(
            self.select is not EdgeSelection.threshold,
            f"{given}: ranks edges, which circuit.select=threshold does not use; take"
            " circuit.select=top or greedy",
        )
        require(
            not self.by_span,
            f"{given}: filters plain edges, not edges by span; leave it out, or take"
            " circuit.by_span=false",
        )

    @property
    def memory(self) -> int:
        """The setting `memory_budget` in bytes."""
        return int(1e9 * self.memory_budget)

    def corruption_of(self, source: Source, section: str = "circuit.") -> Corruption:
        """Return the kind of corruption to use for documents from a source; see `corruption_of`."""
        return corruption_of(self.corruption, source, f"{section}corruption", self.metric)


def check_gradient(
    section: str, method: Method, rule: Rule = Rule.midpoint, steps: int = 5
) -> None:
    """Raise an error if a method takes gradients only at the clean input, for `metric=kl`.

    The gradient of that metric is zero there.

    Args:
        section: prefix of the settings, such as `circuit.`.
        method: attribution method.
        rule: positions of the interpolation steps.
        steps: number of interpolation steps.

    Raises:
        UserError: the method and its steps would give every edge the score zero.
    """
    require(
        method not in AT_CLEAN,
        f"{section}method={method}: takes its gradient at the clean run, where the divergence from"
        f" that run ({section}metric=kl) has none, so every score would be 0; use"
        f" {section}method=eap_ig_inputs, or another metric",
    )
    require(
        method is not Method.eap_ig_inputs or rule is not Rule.right or steps > 1,
        f"{section}steps={steps}: the only point of {section}rule=right is the clean run, where the"
        f" divergence from that run ({section}metric=kl) has no gradient; use more steps",
    )


def check_divisible(setting: str, method: Method) -> None:
    """Raise an error if a method's scores can't be divided by span.

    Args:
        setting: name of the setting that is `method`.
        method: attribution method.

    Raises:
        UserError: the method isn't one of `DIVISIBLE`.
    """
    require(
        method in DIVISIBLE,
        f"{setting}={method}: its scores can't be divided by the span of the reading query; take"
        f" {setting}={Method.eap_ig_inputs.name}, or circuit.by_span=false",
    )


def corruption_of(
    corruption: Corruption,
    source: Source,
    setting: str,
    metric: CircuitMetric = CircuitMetric.auto,
) -> Corruption:
    """Return the kind of corruption to use for documents from a source.

    It is the given kind, unless that is `auto`: then it is `counterfactual` for the wire. For other
    documents `auto` stays, since they decide (`circuits.inputs.corruption.settled`), unless the
    metric is `wrong_fact`, which takes `swap`.

    Args:
        corruption: the setting's value.
        source: source of the documents.
        setting: name of the setting, for messages.
        metric: the metric for which documents are corrupted; `auto` if it makes no difference.

    Raises:
        UserError: this kind of corruption can't be made from documents of this source, or does not
            tell the wrong facts that the metric needs.
    """
    if metric is CircuitMetric.wrong_fact and source is not Source.wire:
        require(
            corruption in (Corruption.auto, Corruption.swap),
            f"{setting.removesuffix('corruption')}metric=wrong_fact: needs wrong facts, which"
            f" {setting}={corruption} does not tell; take {setting}=swap, data=wire, or another"
            " metric",
        )
        return Corruption.swap
    if corruption is Corruption.auto:
        return Corruption.counterfactual if source is Source.wire else corruption
    require(
        corruption is not Corruption.counterfactual or source is Source.wire,
        f"{setting}=counterfactual: is for data=wire, whose facts are known; for other data take"
        f" {setting}=swap or replace",
    )
    return corruption
