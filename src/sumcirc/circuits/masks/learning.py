"""Learns masks over edges, and from them one ranking that gives circuits of every size.

Each step draws some pairs and a budget b, log-uniform between two shares of the edges, and descends
on

    mean KL(model || run with factors m(s, b)) / mean KL(model || corrupted run)

where m(s, b) is the relaxed set of the scores s (`statistics.relaxed_top_k`), a factor from 0 to 1
for every edge that adds up to b times the number of edges, and the run has these factors
(`masked_pass`). KL is in nats, the mean over the positions that the metric reads. It is 0 for the
model itself, so a mask gains nothing by beating the model.

Scores start from those of an attribution method: those of rank r among E edges (1 for the smallest
|score|) at logit((r - 0.5) / E), so that at temperature 0.25 the first masks are close to that
method's circuits.

Sources: the nested budgets and the relaxed set are those of matryoshka attribution (A. Arora et al.
2026, arXiv:2609.25518, by its public code); masks over edges that are trained on the output are
edge pruning (A. Bhaskar et al. 2024, arXiv:2406.16778), with a start from attribution scores by P.
Mondorf et al. 2025 (arXiv:2510.06811). Their masks are hard-concrete, and for one size.

A relaxed mask can carry an edge in part, which no circuit can. How far the ranking carries over to
circuits has to be measured, on other pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from peft import PeftModel
from scipy.special import logit
from scipy.stats import rankdata
from torch import Tensor
from transformers import PreTrainedModel

from sumcirc.circuits.attribution.memory import Cost, patching_cost, require_room
from sumcirc.circuits.edge_sums import check_shape
from sumcirc.circuits.graph import Graph
from sumcirc.circuits.inputs.example_pairs import TokenPairs
from sumcirc.circuits.masks.masked_pass import MaskedPass
from sumcirc.circuits.metrics import Divergence
from sumcirc.circuits.patching.patched_run import PatchedRun
from sumcirc.circuits.resamples import on_edges
from sumcirc.errors import UserError
from sumcirc.models.activations.attention_weights import AttentionWeights
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.models.modes import frozen
from sumcirc.statistics.noise import no_gap
from sumcirc.statistics.relaxed_top_k import relaxed_set, score_gradient

Values = NDArray[np.float64]


@dataclass(frozen=True)
class EdgeMaskSettings:
    """Settings of the training.

    Attributes:
        steps: number of steps.
        pairs: number of pairs of a step.
        learning_rate: of the scores (Adam).
        temperature: of the relaxed set: the smaller, the nearer to 0 and 1.
        least, most: smallest and largest budget, as shares of all edges.
        seed: seed of the drawn pairs and budgets.
    """

    steps: int = 100
    pairs: int = 4
    learning_rate: float = 0.05
    temperature: float = 0.25
    least: float = 0.005
    most: float = 0.3
    seed: int = 0

    def __post_init__(self) -> None:
        positive = self.steps, self.pairs, self.learning_rate, self.temperature
        if min(positive) <= 0 or not 0 < self.least <= self.most < 1:
            raise UserError(
                f"{self}: steps, pairs, learning_rate and temperature must be positive, and the"
                " budgets rise between 0 and 1"
            )

    @property
    def passes(self) -> int:
        """Number of passes over one pair with gradients."""
        return self.steps * self.pairs


@dataclass(frozen=True, eq=False)
class LearnedEdges:
    """Scores of edges that were learned.

    Attributes:
        scores: [sources, destinations] values from 1 (last edge) to the number of edges (first), by
            whose size circuits are selected.
        losses: [steps] the loss of each step before its update, as a share of the gap.
        budgets: [steps] the budget of each step.
    """

    scores: Values
    losses: Values
    budgets: Values


def learn_edges(
    model: PreTrainedModel | PeftModel,
    pairs: TokenPairs,
    positions: Tensor,
    scores: NDArray[Any],
    settings: EdgeMaskSettings | None = None,
    memory: int | None = None,
    progress: Callable[[int], None] = lambda step: None,
) -> LearnedEdges:
    """Learn a ranking of edges that keeps the model's output, from a ranking by other scores.

    Args:
        model: the model, with or without an adapter; it is restored exactly.
        pairs: clean and corrupted inputs, those on which `scores` were made.
        positions: [pairs, positions] True where next-token distributions are compared, such as
            `Metric.positions`.
        scores: [sources, destinations] scores whose size ranks edges at the start.
        settings: settings of the training; None for the defaults.
        memory: number of bytes that a step may need in addition to the model; fewer pairs are
            processed at once if necessary. None sets no limit.
        progress: called with 1 after each step.

    Raises:
        UserError: a pair needs more than `memory` (the message says how much), corruption doesn't
            change the model's output, or a score isn't finite.
        ValueError: the shape of the scores differs from the graph's.
    """
    settings = EdgeMaskSettings() if settings is None else settings
    hooked = HookedModel(model)
    graph = Graph(hooked.shape)
    learner = _Learner(hooked, graph, pairs, positions, memory, settings)
    start = _start(scores, graph)
    weights = np.full(graph.edges, 1 / graph.edges)
    learned = torch.from_numpy(start.copy())
    optimizer = torch.optim.Adam([learned], lr=settings.learning_rate)
    draw = np.random.default_rng(settings.seed)
    ends = np.log([settings.least, settings.most])
    losses, budgets = [], []
    waiting: list[int] = []
    for _ in range(settings.steps):
        budget, now = float(np.exp(draw.uniform(*ends))), learned.numpy().copy()
        if len(waiting) < min(settings.pairs, len(pairs)):
            waiting = draw.permutation(len(pairs)).tolist()
        places, waiting = waiting[: settings.pairs], waiting[settings.pairs :]
        mask = relaxed_set(now, weights, budget, settings.temperature)
        loss, slopes = learner.loss(mask, places)
        gradient = score_gradient(mask, slopes, weights, budget, settings.temperature)
        learned.grad = torch.from_numpy(gradient)
        optimizer.step()
        losses.append(loss)
        budgets.append(budget)
        progress(1)
    ranks = rankdata(learned.numpy(), method="ordinal").astype(np.float64)
    return LearnedEdges(on_edges(ranks, graph), np.array(losses), np.array(budgets))


def masking_cost(hooked: HookedModel, graph: Graph) -> Cost:
    """Estimate the memory of a step on one pair (`MaskedPass`), without the weights.

    Beside what patching needs, these are the gradients of the sources' differences and, for every
    destination, what it reads, the norm of it and their gradients.

    Args:
        hooked: the model.
        graph: the model's graph.

    Returns:
        A function that maps an item's number of tokens, and the number of positions that the metric
        reads, to the number of bytes.
    """
    patching, item = patching_cost(hooked, graph), hooked.model.dtype.itemsize
    size = hooked.shape
    each = item * size.width * (len(graph.sources) + _COPIES * len(graph.destinations))
    each += item * size.layers * _BLOCK * size.width
    return lambda tokens, read: patching(tokens, read) + int(each * tokens)


_COPIES = 5  # tensors of the size of what a destination reads, kept or made for its gradient
_BLOCK = 32  # numbers a position and width that a block keeps for its gradient


class _Learner:
    """Computes the loss of masks, and its gradient."""

    def __init__(
        self,
        hooked: HookedModel,
        graph: Graph,
        pairs: TokenPairs,
        positions: Tensor,
        memory: int | None,
        settings: EdgeMaskSettings,
    ) -> None:
        self.model, self.graph, self.pairs = hooked, graph, pairs
        self.metric = Divergence(positions)
        self.weights = AttentionWeights(hooked)
        self.at_once = min(settings.pairs, len(pairs))
        if memory is not None:
            cost = masking_cost(hooked, graph)
            require_room(pairs, self.metric, cost, memory)
            longest = int(pairs.attention_mask.sum(1).max()), int(self.metric.counts.max())
            self.at_once = max(1, min(self.at_once, memory // cost(*longest)))
        empty, kl = np.zeros(graph.edges), np.empty(len(pairs))
        for place in range(len(pairs)):
            kl[place], _ = self._sum(empty, [place])
        if no_gap(np.zeros(len(pairs)), kl):
            raise UserError(
                "masks of edges: corruption doesn't change the model's output at these positions;"
                " use other pairs"
            )
        self.gap = float(kl.mean())

    def loss(self, mask: Values, places: list[int]) -> tuple[float, Values]:
        """Return the loss of a mask [edges] on some pairs, and its gradient by the mask."""
        total, slopes = 0.0, np.zeros(len(mask))
        for start in range(0, len(places), self.at_once):
            value, slope = self._sum(mask, places[start : start + self.at_once])
            total, slopes = total + value, slopes + slope
        return total / len(places) / self.gap, slopes / len(places) / self.gap

    def _sum(self, mask: Values, places: list[int]) -> tuple[float, Values]:
        """Return the sum of KL over some pairs and its gradient by the mask [edges]."""
        items, device = torch.tensor(places), self.model.device
        columns = self.pairs.columns(items)
        documents = self.pairs.cut(items, device)
        run = PatchedRun(self.model.model, *documents, self.graph, weights=self.weights)
        read = self.metric.positions[items][:, columns].to(device)
        reference = self.metric.reference(run.logits(self.graph.exists, read))
        factors = torch.from_numpy(on_edges(mask, self.graph)).requires_grad_()
        with frozen(self.model.model):
            logits = MaskedPass(run, factors).logits(read)
            value = self.metric.values(logits, items, reference).sum()
            (slope,) = torch.autograd.grad(value, factors)
        return float(value.detach()), slope.numpy()[self.graph.exists]


def _start(scores: NDArray[Any], graph: Graph) -> Values:
    """Return the scores at which the training starts, [edges]."""
    check_shape(scores, graph)
    sizes = np.abs(np.asarray(scores, dtype=np.float64)[graph.exists])
    if not np.isfinite(sizes).all():
        raise UserError("masks of edges: the scores to start from are NaN or infinite")
    # among equal scores the first edge comes first, as in `edge_selection.top_n`
    ranks = np.empty(len(sizes))
    ranks[np.argsort(-sizes, kind="stable")] = np.arange(len(sizes), 0, -1)
    return np.asarray(logit((ranks - 0.5) / len(sizes)))
