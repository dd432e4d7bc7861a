"""Settings for comparing two models."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Optional

from sumcirc.schema.choices import Choice, renamed
from sumcirc.schema.lists import lists_of_one
from sumcirc.schema.require import at_least, positive, require


class Analysis(Choice):
    """Analyses of `sumcirc compare`."""

    differences = "differences"  # attention, residual stream, neurons, next tokens, change's lens
    direct = "direct"  # contributions of heads and MLPs to the metric
    attention = "attention"  # attention between spans of the text
    logit_lens = "logit_lens"  # what the residual stream predicts after each layer
    patching = "patching"  # components patched from one model into the other
    delta_scaling = "delta_scaling"  # weight changes scaled and removed, by layer and module
    path = "path"  # the gain attributed to parts of the weight change, along the change
    masks = "masks"  # masks over the weight change, learned: which few units keep the gain
    surgery = delta_scaling  # old word, until 0.2


class ItemMetric(Choice):
    """Metric on which two models are compared."""

    # documents: log-probability of the reference summary; prompts: logit of the good answer minus
    # that of the bad one
    auto = "auto"
    # documents: logit of a wrong fact minus that of the right one, where the reference states a
    # fact; wrong is that of the wire's other event, or for other data one that the document does
    # not state (as with circuit.corruption=swap)
    wrong_fact = "wrong_fact"


class Direction(Choice):
    """Direction of patching between the two models."""

    sufficiency = "sufficiency"  # components of `after` patched into `before`
    necessity = "necessity"  # components of `before` patched into `after`


class Grain(Choice):
    """How the weight change is divided into units."""

    layer = "layer"  # layers, embedding, last norm with unembedding
    module = "module"  # modules of a layer, its norms, its biases
    head = "head"  # heads and groups of neurons
    direction = "direction"  # singular directions of each matrix


class MaskGrain(Choice):
    """Units over which masks are learned: those of `Grain` that have weights of their own."""

    layer = "layer"  # layers, embedding, last norm with unembedding
    module = "module"  # modules of a layer, its norms, its biases
    head = "head"  # heads and groups of neurons


class Shares(Choice):
    """What the sizes of sets of units are shares of."""

    weights = "weights"  # weights that changed
    units = "units"  # units


# kinds of components that are patched; compare/patching/components.py defines them
PARTS = (
    *("output", "query", "key", "value", "pattern"),  # of a head
    *("attention", "mlp", "residual"),  # of a layer
    "unembedding",
)
OLD_PARTS = {"readout": "unembedding"}  # old words, until 0.2
REPHRASE, FACTS = "rephrase", "facts"  # built-in sets of prompts


@dataclass
class PathOptions:
    """Settings of path attribution."""

    nodes: int = 126  # largest number of points along the change at which gradients are taken
    neuron_groups: int = 8  # groups into which an MLP's neurons are divided
    directions: int = 8  # leading singular directions of each matrix
    # units that are also kept and removed one by one, and best first; null: none
    effects: Optional[Grain] = Grain.layer
    # models that may be run for Shapley values: of all subsets, or of drawn orders where they don't
    # suffice
    models: int = 64
    # interactions of pairs of these units also where not all subsets are run; takes up to n (n - 1)
    # more models for n units
    interactions: bool = False
    # scores also along the training trajectory, from checkpoint to checkpoint of the run `after`,
    # with up to `nodes` points between two checkpoints
    trajectory: bool = False
    # divide the scores by edge: into which inputs the change of each part writes
    edges: bool = False

    def __post_init__(self) -> None:
        at_least(self, "compare.path.", 14, "nodes")
        at_least(self, "compare.path.", 1, "neuron_groups", "models")
        at_least(self, "compare.path.", 0, "directions")


@dataclass
class MaskOptions:
    """Settings of learned masks over the weight change."""

    grain: MaskGrain = MaskGrain.module  # units that are ranked
    neuron_groups: int = 8  # groups into which an MLP's neurons are divided, if `grain` is `head`
    shares: Shares = Shares.weights  # what sizes are shares of
    # sizes of the sets by which rankings are judged
    sizes: list[float] = field(default_factory=lambda: [0.05, 0.1, 0.2, 0.4, 0.7])
    seeds: int = 3  # trainings, each with its own draws of documents and sizes
    steps: int = 60  # steps of a training
    documents: int = 2  # documents of a step
    learning_rate: float = 0.1  # of the scores
    temperature: float = 0.5  # of the relaxed set: the smaller, the nearer to 0 and 1
    graft_size: float = 0.2  # size of the mask of grafting
    # of grafting: cost of size above graft_size, in shares of the gain for each share of the change
    penalty: float = 2.0
    random: int = 10  # random rankings, matched in weights and in norm each
    # measure also how well plain texts (compare.text) are predicted with each set's change alone
    retention: bool = False

    def __post_init__(self) -> None:
        lists_of_one(self)
        self.grain = MaskGrain.of(self.grain, "compare.masks.grain")
        at_least(
            self, "compare.masks.", 1, "neuron_groups", "seeds", "steps", "documents", "random"
        )
        positive(self, "compare.masks.", "learning_rate", "temperature", "penalty")
        require(
            bool(self.sizes)
            and sorted(set(self.sizes)) == self.sizes
            and self.sizes[0] > 0
            and self.sizes[-1] < 1,
            f"compare.masks.sizes={self.sizes}: must be rising numbers between 0 and 1, such as"
            " [0.1,0.4]",
        )
        require(
            0 < self.graft_size < 1,
            f"compare.masks.graft_size={self.graft_size}: must lie between 0 and 1",
        )

    @property
    def units(self) -> Grain:
        """Units of the change that `grain` names."""
        return Grain[self.grain.name]


@dataclass
class CompareOptions:
    """Settings for comparing two models."""

    # analyses to run, by default all but `masks`, which trains
    analyses: list[Analysis] = field(
        default_factory=lambda: [one for one in Analysis if one is not Analysis.masks]
    )
    metric: ItemMetric = ItemMetric.auto
    items: int = 32  # documents of data.test, or prompts; also the number of texts for perplexity
    batch_size: int = 4  # items processed at once
    memory_budget: float = 4.0  # GB for activations, in addition to the model
    positions: Optional[str] = None  # patched positions; null: `read`, or `last` for prompts
    sources: Optional[str] = None  # positions whose keys and values are patched; null: all
    directions: list[Direction] = field(default_factory=lambda: list(Direction))
    parts: list[str] = field(
        default_factory=lambda: ["output", "value", "mlp", "residual", "unembedding"]
    )  # of PARTS
    # patched together: [[output.3.1,mlp.4],...]
    sets: list[list[str]] = field(default_factory=list)
    top: int = 5  # number of best components whose sets and pairs are patched together
    random_sets: int = 5  # random sets of each size, as a baseline
    lambdas: list[float] = field(
        default_factory=lambda: [0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5]
    )  # factors by which the weight change is scaled
    # JSONL, CSV or Parquet of plain text for perplexity; null: data.test
    text: Optional[str] = None
    path: PathOptions = field(default_factory=PathOptions)
    masks: MaskOptions = field(default_factory=MaskOptions)

    def __post_init__(self) -> None:
        lists_of_one(self)
        self.parts = [renamed(name, OLD_PARTS) for name in self.parts]
        self.sets = [[renamed(name, OLD_PARTS) for name in names] for names in self.sets]
        at_least(self, "compare.", 1, "items", "batch_size", "random_sets")
        at_least(self, "compare.", 0, "top")
        positive(self, "compare.", "memory_budget")
        for name in ("analyses", "directions", "parts"):
            value = getattr(self, name)
            require(
                bool(value) and len(set(value)) == len(value),
                f"compare.{name}: name each once, and one at least",
            )
        require(
            not self.path.edges or Analysis.path in self.analyses,
            "compare.path.edges=true: divides path scores; add path to compare.analyses",
        )
        for name in self.parts:
            require(
                name in PARTS, f"compare.parts: `{name}` is unknown; choose from {', '.join(PARTS)}"
            )
        require(all(self.sets), f"compare.sets={self.sets}: name a part in each set")
        require(
            bool(self.lambdas)
            and all(map(math.isfinite, self.lambdas))
            and sorted(set(self.lambdas)) == self.lambdas,
            f"compare.lambdas={self.lambdas}: must be rising numbers such as [0,0.5,1]",
        )

    @property
    def follows(self) -> bool:
        """Whether path attribution also follows the training trajectory."""
        return Analysis.path in self.analyses and self.path.trajectory

    @property
    def memory(self) -> int:
        """The setting `memory_budget` in bytes."""
        return int(1e9 * self.memory_budget)
