"""Attribution of a metric to every edge, document by document.

1. The clean and the corrupted input run through the live model, with its adapter attached; each
   source's difference D = corrupted - clean is what an edge would carry if it were patched.
2. Passes at points between the two give the metric's gradient at what each destination reads.
3. An edge's score is the sum over positions of <D of its source, gradient at its destination>: an
   estimate of how much the metric rises when this edge alone is corrupted.

Methods: `eap` (edge attribution patching, gradient at the clean run; Syed et al. 2023, arXiv
2310.10348), `eap-ig-inputs` (EAP with integrated gradients: mean over inputs interpolated between
corrupted and clean; Hanna et al. 2024, arXiv 2403.17806), `clean-corrupted` (mean of the two ends),
`eap-ig-activations` (each component's output interpolated in turn), `relp` (relevance rules in
place of derivatives; arXiv 2508.21258), `exact` (every edge patched separately), `random` (a
control).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel

from sumcirc.circuits.attribution.edge_scores import Accumulator, Ends, at_once
from sumcirc.circuits.attribution.exact import exact_scores
from sumcirc.circuits.attribution.memory import (
    Cost,
    attribution_cost,
    groups,
    patching_cost,
    require_room,
)
from sumcirc.circuits.attribution.relp import relevance_rules
from sumcirc.circuits.attribution.tracing import SOURCES, AttributionPasses
from sumcirc.circuits.graph import Graph
from sumcirc.circuits.inputs.example_pairs import TokenPairs
from sumcirc.circuits.inputs.pair_batches import EmbeddedPairs, batches
from sumcirc.circuits.metrics import Metric
from sumcirc.errors import UserError
from sumcirc.models.activations.activation_cache import HookPoint
from sumcirc.models.activations.attention_weights import AttentionWeights
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.models.modes import frozen
from sumcirc.schema import AT_CLEAN, Method, Rule, check_gradient

KEPT = 2**30  # bytes of weights kept for all batches; if there are more, they are read again


@dataclass(frozen=True)
class EdgeScores:
    """The scores of all edges on each item, and their means.

    A positive score means that corrupting the edge is estimated to raise the metric.

    Attributes:
        graph: the model's graph, whose edges are scored.
        ids: names of the N items.
        documents: [N, sources, destinations] scores on each item in the metric's unit; 0 where
            there is no edge.
        spans: [N, spans, sources, destinations] contribution of each span's positions to the
            scores; None without spans.
    """

    graph: Graph
    ids: list[str]
    documents: Tensor
    spans: Tensor | None = None

    @property
    def mean(self) -> Tensor:
        """Mean over documents, [sources, destinations]."""
        return self.documents.mean(0)


@dataclass(frozen=True)
class AttributionSettings:
    """Settings of attribution: how the effect of corrupting an edge is estimated.

    Attributes:
        method: one of the methods described at the top of the module.
        steps: number of interpolation steps of `eap-ig-inputs` and `eap-ig-activations`.
        rule: where the interpolation points of `eap-ig-inputs` lie: `left` includes the corrupted
            input but not the clean one, `right` the opposite, `midpoint` and `gauss-legendre`
            neither.
        seed: seed of the scores that the method `random` draws.
    """

    method: Method = Method.eap_ig_inputs
    steps: int = 5
    rule: Rule = Rule.midpoint
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "method", Method.of(self.method, "circuit.method"))
        object.__setattr__(self, "rule", Rule.of(self.rule, "circuit.rule"))

    @property
    def points(self) -> list[tuple[float, float]]:
        """Interpolation points between the corrupted (0) and the clean (1) input, with weights.

        Each entry is (point, weight). The points are in ascending order, and the weights add up to
        1.
        """
        if self.method in AT_CLEAN:
            return [(1.0, 1.0)]
        if self.method is Method.clean_corrupted:
            return [(0.0, 0.5), (1.0, 0.5)]
        if self.rule is Rule.gauss_legendre:
            places, weights = np.polynomial.legendre.leggauss(self.steps)
            return [(float(x + 1) / 2, float(w) / 2) for x, w in zip(places, weights, strict=True)]
        offset = {Rule.left: 0.0, Rule.right: 1.0, Rule.midpoint: 0.5}[self.rule]
        return [((k + offset) / self.steps, 1 / self.steps) for k in range(self.steps)]


def attribute(
    model: PreTrainedModel | PeftModel,
    pairs: TokenPairs,
    metric: Metric,
    settings: AttributionSettings | None = None,
    *,
    graph: Graph | None = None,
    batch_size: int = 4,
    memory: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> EdgeScores:
    """Score every edge of the model on every pair.

    The model is not changed: modes, hooks, parameters' gradients and random state are restored.

    Args:
        model: the model to explain, including its adapter if one is enabled.
        pairs: clean and corrupted inputs. If they have spans (`TokenBatch.spans`), methods that use
            gradients also return each span's contribution to a score.
        metric: the metric to attribute, created for the items of `pairs`.
        settings: the method; EAP-IG on inputs with five midpoints by default.
        graph: graph whose edges are scored; by default it has one key and one value destination per
            key/value head.
        batch_size: number of items per pass; for `exact`, number of edges per pass. Scores do not
            depend on it.
        memory: number of bytes that a pass may need in addition to the model; fewer items are
            processed at once if necessary. None sets no limit; `exact` and `random` ignore it.
        progress: called with the number of newly scored items after each batch; not called for
            `random`.

    Raises:
        UserError: the method or rule is unknown, the metric does not fit the pairs or has no
            gradient where the method takes it, or an item needs more than `memory`.
    """
    settings = settings or AttributionSettings()
    check(metric, settings, batch_size)
    hooked = HookedModel(model)
    graph = graph or Graph(hooked.shape)
    if graph.shape != hooked.shape:
        raise UserError("graph: was made for another shape; make it from this model's shape")
    done = progress or (lambda documents: None)
    if settings.method is Method.random:
        dtype = torch.promote_types(hooked.model.dtype, torch.float32)
        return EdgeScores(graph, pairs.names, _random(graph, len(pairs), settings.seed).to(dtype))
    passes = AttributionPasses(hooked, graph, metric, pairs)
    if settings.method is Method.exact:
        exact = exact_scores(model, pairs, metric, graph, batch_size, done)
        return EdgeScores(graph, pairs.names, exact)
    documents, spans = _by_gradients(passes, pairs, settings, batch_size, memory, done)
    return EdgeScores(graph, pairs.names, documents, spans if pairs.clean.spans else None)


def check(metric: Metric, settings: AttributionSettings, batch_size: int) -> None:
    """Raise an error if the settings of `attribute` can't work.

    Args:
        metric, settings, batch_size: as in `attribute`.

    Raises:
        UserError: a number is below 1, or the metric has no gradient where the method takes it.
    """
    for what, number in (("steps", settings.steps), ("batch_size", batch_size)):
        if number < 1:
            raise UserError(f"circuit.{what}={number}: must be 1 or more")
    if metric.against_clean:
        check_gradient("circuit.", settings.method, settings.rule, settings.steps)


def _by_gradients(
    passes: AttributionPasses,
    pairs: TokenPairs,
    settings: AttributionSettings,
    batch_size: int,
    memory: int | None,
    done: Callable[[int], None],
) -> tuple[Tensor, Tensor]:
    """Return scores [N, sources, destinations] and by span [N, spans, sources, destinations]."""
    model, graph, metric = passes.model, passes.graph, passes.metric
    dtype = torch.promote_types(model.model.dtype, torch.float32)
    with frozen(model.model):
        documents = torch.zeros((len(pairs), *graph.exists.shape), dtype=dtype)
        count = len(pairs.clean.spans)
        spans = documents.new_zeros((len(pairs), count, *graph.exists.shape))
        weights = AttentionWeights(model, graph.expand_groups, dtype, KEPT)
        cost = None if memory is None else cost_of(passes, pairs, settings)
        fixed = weights.kept_bytes + at_once(model.model.device)
        chosen = groups(pairs, metric, batch_size, cost, memory, fixed)
        for batch in batches(model, pairs, chosen):
            if settings.method is Method.eap_ig_activations:
                found = _activations(passes, weights, batch, settings.steps, count)
            else:
                points, relp = points_of(passes, settings), settings.method is Method.relp
                sums = Accumulator(weights, graph, len(points), frozen_scale=relp)
                found = sums.scores(along(passes, batch, settings, sums), batch.labels, count)
            documents[batch.items], spans[batch.items] = (one.to("cpu") for one in found)
            done(len(batch.items))
    return documents, spans


def cost_of(passes: AttributionPasses, pairs: TokenPairs, settings: AttributionSettings) -> Cost:
    """Return the estimated memory of attributing one item, in addition to the fixed memory."""
    points = 2 if settings.method in (*AT_CLEAN, Method.clean_corrupted) else settings.steps
    return attribution_cost(passes, pairs, points)


def require_memory(
    model: PreTrainedModel | PeftModel,
    pairs: TokenPairs,
    metric: Metric,
    settings: AttributionSettings,
    memory: int,
) -> None:
    """Raise an error if attributing an item, or running it as a circuit, needs too much memory.

    Both are estimated before either is done, so the amount that the message names suffices for
    both.

    Args:
        model: the model, with or without an adapter.
        pairs: clean and corrupted inputs.
        metric: the metric, created for the items of `pairs`.
        settings: the method of attribution.
        memory: number of bytes that a pass may need in addition to the model.

    Raises:
        UserError: an item needs more.
    """
    hooked = HookedModel(model)
    graph = Graph(hooked.shape)
    patching = patching_cost(hooked, graph)
    if settings.method in (Method.exact, Method.random):
        require_room(pairs, metric, patching, memory)
        return
    dtype = torch.promote_types(hooked.model.dtype, torch.float32)
    weights = AttentionWeights(hooked, graph.expand_groups, dtype, KEPT)
    fixed = weights.kept_bytes + at_once(hooked.model.device)
    with frozen(hooked.model):
        passes = AttributionPasses(hooked, graph, metric, pairs)
        attribution = cost_of(passes, pairs, settings)
    require_room(
        pairs,
        metric,
        lambda tokens, read: max(patching(tokens, read), attribution(tokens, read) + fixed),
        memory,
    )


def along(
    passes: AttributionPasses,
    batch: EmbeddedPairs,
    settings: AttributionSettings,
    sums: Accumulator,
) -> Ends:
    """Add the gradients at inputs between corrupted and clean to `sums`.

    A point at either end is that end's run, which then isn't repeated for the differences.

    Args:
        passes: runs the passes.
        batch: the items.
        settings: the method, which determines the points.
        sums: where the gradients are added.

    Returns:
        What the sources write in the corrupted and in the clean run.
    """
    relp, points = settings.method is Method.relp, points_of(passes, settings)
    written = (*passes.model.head_points, HookPoint.MLP_OUTPUT)
    clean = corrupted = reference = None
    if all(place != 1.0 for place, _ in points):
        clean, reference = passes.clean(batch)
    for place, weight in points:
        embeddings = torch.lerp(batch.corrupted, batch.clean, place)
        with relevance_rules(passes.model) if relp else nullcontext():
            values, gradients = passes.gradients(batch, embeddings, reference)
        sums.add(values, gradients, weight)
        if place == 0.0:
            corrupted = values.detached(written)
        elif place == 1.0:
            clean = values.detached(written)
        del values, gradients  # an earlier pass must not be kept in memory while the next one runs
    if corrupted is None:
        corrupted, _ = passes.sources(batch, batch.corrupted)
    assert clean is not None
    return Ends(batch.corrupted - batch.clean, batch.mask, clean, corrupted)


def points_of(
    passes: AttributionPasses, settings: AttributionSettings
) -> list[tuple[float, float]]:
    """Return the points at which `along` takes gradients, with their weights.

    Args:
        passes: the passes, whose metric may have no gradient at the clean input.
        settings: the method.
    """
    if passes.metric.against_clean:
        return [point for point in settings.points if point[0] != 1.0]  # the minimum has none
    return settings.points


def _activations(
    passes: AttributionPasses,
    weights: AttentionWeights,
    batch: EmbeddedPairs,
    steps: int,
    spans: int,
) -> tuple[Tensor, Tensor]:
    """Return scores with one component's output at a time between corrupted and clean.

    Components are the embedding, every layer's heads together, and every MLP; all edges get the
    gradients of every pass. The steps are k/m with k = 1..m.
    """
    clean, reference = passes.clean(batch)
    corrupted, _ = passes.sources(batch, batch.corrupted)
    ends = Ends(batch.corrupted - batch.clean, batch.mask, clean, corrupted)
    total: tuple[Tensor, Tensor] | None = None
    components = passes.model.every(*SOURCES)
    for key in (None, *components):
        sums = Accumulator(weights, passes.graph, steps)
        for k in range(1, steps + 1):
            embeddings, replaced = batch.clean, None
            if key is None:
                embeddings = torch.lerp(batch.corrupted, batch.clean, k / steps)
            else:
                replaced = key, torch.lerp(corrupted[key], clean[key], k / steps)
            values, gradients = passes.gradients(batch, embeddings, reference, replaced)
            sums.add(values, gradients, 1 / (steps * (len(components) + 1)))
            del values, gradients
        found = sums.scores(ends, batch.labels, spans)
        total = found if total is None else (total[0].add_(found[0]), total[1].add_(found[1]))
    assert total is not None
    return total


def _random(graph: Graph, items: int, seed: int) -> Tensor:
    """Return normally distributed scores, drawn independently for every document."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn((items, *graph.exists.shape), generator=generator, dtype=torch.float64)
    return drawn * torch.from_numpy(graph.exists)
