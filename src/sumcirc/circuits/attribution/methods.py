"""Which edges matter: attribution of a metric to every edge, document by document.

1. The clean and the corrupted input run through the live model, its adapter attached; each source's
   difference D = corrupted - clean is what an edge would carry if it were patched.
2. Passes at points between the two give the metric's gradient at what each destination reads.
3. An edge's score is the sum over positions of <D of its source, gradient at its destination>: an
   estimate of how much the metric rises when this edge alone is corrupted.

Methods: `eap` (gradient at the clean run; Syed et al. 2023, arXiv 2310.10348), `eap-ig-inputs`
(mean over inputs interpolated between corrupted and clean; Hanna et al. 2024, arXiv 2403.17806),
`clean-corrupted` (mean of the two ends), `eap-ig-activations` (each component's output interpolated
in turn), `relp` (relevance rules in place of derivatives; arXiv 2508.21258), `exact` (every edge
patched alone), `random` (a control).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel

from sumcirc.circuits.attribution.edge_scores import Accumulator, Ends, Weights
from sumcirc.circuits.attribution.exact import exact_scores
from sumcirc.circuits.attribution.memory import attribution_cost, groups
from sumcirc.circuits.attribution.relp import relevance_rules
from sumcirc.circuits.attribution.tracing import Trace, Tracer
from sumcirc.circuits.graph import Graph
from sumcirc.circuits.inputs.pair_batches import Batch, Reader, batches
from sumcirc.circuits.inputs.token_pairs import TokenPairs
from sumcirc.circuits.metrics import Metric
from sumcirc.errors import UserError
from sumcirc.models.hooked_model import HookedModel
from sumcirc.models.modes import frozen

METHODS = (
    *("eap", "eap-ig-inputs", "clean-corrupted", "eap-ig-activations"),
    *("relp", "exact", "random"),
)
RULES = ("left", "right", "midpoint", "gauss-legendre")
AT_CLEAN = ("eap", "relp")  # the gradient is taken at the clean run


@dataclass(frozen=True)
class Scores:
    """Edge scores; positive where corrupting the edge is predicted to raise the metric.

    Attributes:
        ids: the items' names.
        documents: [N, sources, destinations] in the metric's unit; 0 where there is no edge.
        spans: [N, spans, sources, destinations] the share of each span's positions, or None.
    """

    graph: Graph
    ids: list[str]
    documents: Tensor
    spans: Tensor | None = None

    @property
    def mean(self) -> Tensor:
        """[sources, destinations] over documents, each counting alike."""
        return self.documents.mean(0)


def attribute(
    model: PreTrainedModel | PeftModel,
    pairs: TokenPairs,
    metric: Metric,
    *,
    method: str = "eap-ig-inputs",
    steps: int = 5,
    rule: str = "midpoint",
    graph: Graph | None = None,
    batch_size: int = 4,
    memory: int | None = None,
    by_span: bool = False,
    progress: Callable[[int], None] | None = None,
    seed: int = 0,
) -> Scores:
    """Score every edge of the model on every pair.

    The model is left as it was: modes, hooks, parameters' gradients and random state.

    Args:
        model: as it is trained or served; an adapter counts if it is enabled.
        pairs: clean and corrupted inputs.
        metric: a loss of the same items.
        method: see above.
        steps: interpolation steps of the two IG methods.
        rule: where they lie for `eap-ig-inputs`: `left` has the corrupted end and not the clean
            one, `right` the opposite.
        graph: with its own destinations for keys and values; by default one per key/value head.
        batch_size: documents a pass; edges a pass for `exact`. Scores do not depend on it.
        memory: bytes that a pass may take beside the model; fewer documents are taken at once
            where it needs more. None sets no limit; `exact` and `random` know none.
        by_span: also keep the share of each span of `pairs.kinds`.
        progress: called with the number of documents done.
        seed: of `random`.

    Raises:
        UserError: an unknown method or rule, a metric that does not fit the pairs, one that has
            no gradient where the method takes it, or a document that takes more than `memory`.
    """
    _check(pairs, metric, method, steps, rule, batch_size, by_span)
    parts = HookedModel(model)
    graph = Graph(parts.shape) if graph is None else graph
    if graph.shape != parts.shape:
        raise UserError("graph: made for a model of another shape; make it from this model's")
    dtype = torch.promote_types(parts.model.dtype, torch.float32)
    shape = (len(pairs), len(graph.sources), len(graph.destinations))
    if method == "random":
        return Scores(graph, pairs.ids, _random(graph, len(pairs), seed).to(dtype))
    reader = Reader(Tracer(parts, graph), metric, pairs)
    done = progress or (lambda documents: None)
    if method == "exact":
        return Scores(graph, pairs.ids, exact_scores(model, pairs, metric, graph, batch_size, done))
    tracer = reader.tracer
    with frozen(model), tracer.watching():
        documents = torch.zeros(shape, dtype=dtype)
        spans = documents.new_zeros((len(pairs), pairs.spans, *shape[1:])) if by_span else None
        weights = Weights(parts, graph, dtype)
        points = steps if method.startswith("eap-ig") else 2
        cost = None if memory is None else attribution_cost(tracer, pairs, points)
        for batch in batches(
            parts, pairs, groups(pairs, metric, batch_size, cost, memory, weights.fixed), by_span
        ):
            if method == "eap-ig-activations":
                found = _activations(reader, weights, batch, steps, pairs.spans)
            else:
                relp = method == "relp"
                with relevance_rules(parts) if relp else nullcontext():
                    path = _points(method, steps, rule)
                    found = _along(reader, weights, batch, path, pairs.spans, relp)
            documents[batch.items] = found[0].to("cpu")
            if spans is not None and found[1] is not None:
                spans[batch.items] = found[1].to("cpu")
            done(len(batch.items))
    return Scores(graph, pairs.ids, documents, spans)


def _check(
    pairs: TokenPairs,
    metric: Metric,
    method: str,
    steps: int,
    rule: str,
    batch_size: int,
    by_span: bool,
) -> None:
    for what, value, known in (("method", method, METHODS), ("rule", rule, RULES)):
        if value not in known:
            raise UserError(f"circuit.{what}={value}: choose from {', '.join(known)}")
    for what, number in (("steps", steps), ("batch_size", batch_size)):
        if number < 1:
            raise UserError(f"circuit.{what}={number}: must be 1 or more")
    if metric.against_clean and method in AT_CLEAN:
        raise UserError(
            f"circuit.method={method}: takes its gradient at the clean run, where the divergence"
            f" from that run (metric `{metric.name}`) has none, so every score would be 0; take"
            " eap-ig-inputs, or a metric with a reference of its own"
        )
    alone = method == "eap-ig-inputs" and rule == "right" and steps == 1
    if metric.against_clean and alone:
        raise UserError(
            "circuit.steps=1: the only point of rule=right is the clean run, where the divergence"
            f" from that run (metric `{metric.name}`) has no gradient; take more steps"
        )
    if by_span and pairs.kinds is None:
        raise UserError("circuit by_span=true: the pairs have no kinds; say which span a token is")
    if by_span and method in ("exact", "random"):
        raise UserError(f"circuit by_span=true: method `{method}` has no share of a span")


def _points(method: str, steps: int, rule: str) -> list[tuple[float, float]]:
    """Places between corrupted (0) and clean (1) with their weights, corrupted first."""
    if method in AT_CLEAN:
        return [(1.0, 1.0)]
    if method == "clean-corrupted":
        return [(0.0, 0.5), (1.0, 0.5)]
    if rule == "gauss-legendre":
        places, weights = np.polynomial.legendre.leggauss(steps)
        return [(float(x + 1) / 2, float(w) / 2) for x, w in zip(places, weights, strict=True)]
    offset = {"left": 0.0, "right": 1.0, "midpoint": 0.5}[rule]
    return [((k + offset) / steps, 1 / steps) for k in range(steps)]


def _along(
    reader: Reader,
    weights: Weights,
    batch: Batch,
    points: list[tuple[float, float]],
    spans: int,
    frozen_scale: bool,
) -> tuple[Tensor, Tensor]:
    """Scores with gradients at inputs between corrupted and clean.

    A point at either end is that end's run, so it need not run again for the differences.
    """
    clean = corrupted = reference = None
    if reader.metric.against_clean:
        points = [point for point in points if point[0] != 1.0]  # no gradient at the minimum
    if all(place != 1.0 for place, _ in points):
        clean, reference = reader.clean(batch)
    sums = Accumulator(weights, reader.tracer.layout, len(points), frozen_scale)
    for place, weight in points:
        embeddings = torch.lerp(batch.corrupted, batch.clean, place)
        trace, gradients = reader.gradients(batch, embeddings, reference)
        sums.add(trace, gradients, weight)
        if place == 0.0:
            corrupted = _sources(trace)
        elif place == 1.0:
            clean = _sources(trace)
        del trace, gradients
    reader.tracer.trace = Trace()
    if corrupted is None:
        corrupted, _ = reader.look(batch, batch.corrupted)
    assert clean is not None
    ends = Ends(batch.corrupted - batch.clean, batch.mask, clean, corrupted)
    return sums.scores(ends, batch.kinds, spans)


def _sources(trace: Trace) -> Trace:
    """The part of a trace that `differences` reads, without the graph behind it."""
    return Trace(
        heads={layer: one.detach() for layer, one in trace.heads.items()},
        mlps={layer: one.detach() for layer, one in trace.mlps.items()},
    )


def _activations(
    reader: Reader, weights: Weights, batch: Batch, steps: int, spans: int
) -> tuple[Tensor, Tensor]:
    """Scores with the output of one component after the other between corrupted and clean.

    Components are the embedding, every layer's heads together, every MLP; all edges get the
    gradients of every pass. The steps are k/m with k = 1..m.
    """
    tracer = reader.tracer
    clean, reference = reader.clean(batch)
    corrupted, _ = reader.look(batch, batch.corrupted)
    ends = Ends(batch.corrupted - batch.clean, batch.mask, clean, corrupted)
    total: tuple[Tensor, Tensor] | None = None
    components = list(_components(tracer, clean, corrupted))
    for module, start, end in [(None, batch.corrupted, batch.clean), *components]:
        sums = Accumulator(weights, tracer.layout, steps)
        for k in range(1, steps + 1):
            value = torch.lerp(start, end, k / steps)
            embeddings = value if module is None else batch.clean
            tracer.instead = None if module is None else (module, value)
            try:
                trace, gradients = reader.gradients(batch, embeddings, reference)
            finally:
                tracer.instead = None
            sums.add(trace, gradients, 1 / (steps * (len(components) + 1)))
            del trace, gradients
        found = sums.scores(ends, batch.kinds, spans)
        total = found if total is None else (total[0].add_(found[0]), total[1].add_(found[1]))
    assert total is not None
    return total


def _components(
    tracer: Tracer, clean: Trace, corrupted: Trace
) -> Iterator[tuple[torch.nn.Module, Tensor, Tensor]]:
    """Modules whose value is replaced, with its corrupted and its clean one."""
    for layer, block in enumerate(tracer.parts.blocks):
        yield block.attn_out, corrupted.heads[layer], clean.heads[layer]
        yield block.mlp, corrupted.mlps[layer], clean.mlps[layer]


def _random(graph: Graph, items: int, seed: int) -> Tensor:
    """Normal scores, drawn anew for every document."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn((items, *graph.exists.shape), generator=generator, dtype=torch.float64)
    return drawn * torch.from_numpy(graph.exists)
