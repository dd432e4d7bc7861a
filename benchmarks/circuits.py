"""What finding a circuit costs beside the passes that it can't do without.

    python benchmarks/circuits.py [--quick] [--device cuda] [--model FOLDER [--tokens T ...]]

GPT-2 small's shape, 4 pairs of 128 tokens and 1 pair of 512, KL at the 16 positions that predict
the last tokens. EAP-IG on inputs with m=5 midpoints (32,491 edges scored), against its floor: one
corrupted and one clean forward pass, and m passes forward and backward to the token embeddings, no
gradient of a parameter, the metric's positions alone unembedded. A patched forward pass of a random
circuit (5 % of all edges, not pruned), against a plain one with logits at the same positions. The
scores by span (six spans of equal length), against plain scores: time and memory. And the memory
that 4 pairs of 1,024 tokens take over the 4 GB that they are given. Of a local model: one pair of T
tokens, the same comparisons.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from measurement import (
    Lap,
    one_figure,
    parser,
    peak,
    prepare,
    ratio,
    rounds_of,
    timed,
    write_result,
)
from subjects import GPT2_SMALL, LocalModel, Subject, load
from torch import Tensor

from sumcirc.circuits.attribution.methods import AttributionSettings, EdgeScores, attribute
from sumcirc.circuits.edge_selection import top_n
from sumcirc.circuits.graph import Graph
from sumcirc.circuits.inputs.example_pairs import TokenPairs
from sumcirc.circuits.metrics import Divergence
from sumcirc.circuits.patching.patched_run import PatchedRun
from sumcirc.circuits.spans.scores import SpanScores, attribute_spans
from sumcirc.circuits.spans.units import SpanPairs
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.models.modes import frozen, inference

CLAIM = (
    "EAP-IG (m=5) takes at most 1.3 of the time and 1.5 of the memory of the passes that it needs,"
    " a patched forward pass at most 2 of a plain one, scores by span at most 2 of plain scores"
)
SIZES = ((4, 128), (1, 512))  # documents, tokens
STEPS = 5
READ = 16  # positions of the metric
SHARE = 0.05  # of all edges in the circuit
SPANS = 6
AT_MOST = {"attribution": 1.3, "memory": 1.5, "patched": 2.0, "budget": 1.0, "spans": 2.0}
AT_MOST_LOCAL = {"attribution": 1.15, "memory": 1.3, "patched": 1.3, "spans": 2.0}
LONG, BUDGET = (4, 1024), 4e9  # pairs of GPT-2's whole context, and the memory they may take


class Case:
    """Random pairs of one size, and both sides of each comparison on them."""

    def __init__(self, model: Any, documents: int, length: int, device: str) -> None:
        self.model, self.device = model, device
        self.parts = HookedModel(model)
        generator = torch.Generator().manual_seed(documents)
        vocabulary = model.config.vocab_size
        self.clean, self.corrupted = (
            torch.randint(0, vocabulary, (documents, length), generator=generator) for _ in range(2)
        )
        self.corrupted[:, -READ:] = self.clean[:, -READ:]  # the summary is the same
        positions = torch.zeros(documents, length, dtype=torch.bool)
        positions[:, -READ - 1 : -1] = True
        self.metric = Divergence(positions)
        names = [str(i) for i in range(documents)]
        mask = torch.ones_like(self.clean)
        self.pairs = TokenPairs.from_tensors(self.clean, self.corrupted, mask, names)
        self.positions = positions.to(device)
        self.inputs = [ids.to(device) for ids in (self.clean, self.corrupted)]
        graph = Graph(self.parts.shape)
        draws = np.random.default_rng(0).random(graph.exists.shape)
        self.circuit = top_n(draws, graph, graph.edges_in(SHARE))

    @cached_property
    def run(self) -> PatchedRun:
        """Made when it is first used: it holds all that the corrupted run writes."""
        return PatchedRun(self.model, *self.inputs)

    def attribution(self, rule: str = "midpoint", steps: int = STEPS) -> EdgeScores:
        """Scores of all edges; at `left` the first point is the corrupted run itself."""
        batch = len(self.pairs)
        return attribute(
            self.model,
            self.pairs,
            self.metric,
            AttributionSettings(steps=steps, rule=rule),
            batch_size=batch,
        )

    def by_span(self) -> SpanScores:
        """Scores of all edges by span."""
        number = torch.arange(self.clean.shape[1]) * SPANS // self.clean.shape[1]
        masks = {str(i): (number == i).expand_as(self.clean) for i in range(SPANS)}
        pairs = replace(self.pairs, clean=replace(self.pairs.clean, spans=masks))
        units, batch = SpanPairs.of(pairs), len(pairs)
        return attribute_spans(self.model, pairs, self.metric, units, batch_size=batch)

    def within(self, memory: float) -> dict[str, Any]:
        """Peak memory over the budget."""
        used = peak(
            self.device,
            lambda: attribute(
                self.model,
                self.pairs,
                self.metric,
                AttributionSettings(steps=STEPS),
                memory=int(memory),
            ),
        )
        share = used / memory
        return {"ratio": share, "ratio_cpu": share, "megabytes": used / 1e6}

    def floor(self, steps: int = STEPS) -> None:
        """The passes alone, with the same metric."""
        items = torch.arange(len(self.pairs))
        with frozen(self.model):
            with torch.no_grad():
                clean, corrupted = (self.parts.embedding(ids) for ids in self.inputs)
                self._hidden(corrupted)
                reference = self.metric.reference(self._logits(self._hidden(clean)))
            for k in range(steps):
                point = torch.lerp(corrupted, clean, (k + 0.5) / steps).requires_grad_()
                logits = self._logits(self._hidden(point))
                torch.autograd.grad(self.metric.values(logits, items, reference).sum(), point)

    def _hidden(self, embeddings: Tensor) -> Tensor:
        return self.parts.backbone(inputs_embeds=embeddings, use_cache=False).last_hidden_state

    def _logits(self, hidden: Tensor) -> Tensor:
        return self.parts.unembedding(hidden[self.positions])

    def patched(self) -> None:
        """Logits of the circuit."""
        self.run.logits(self.circuit, self.positions)

    def plain(self) -> None:
        """Logits of the model."""
        with inference(self.model):
            hidden = self.parts.backbone(self.inputs[0], use_cache=False).last_hidden_state
            self._logits(hidden)

    def compare(
        self, floor: Callable[[], Any], rounds: int, **sides: Callable[[], Any]
    ) -> dict[str, dict[str, Any]]:
        """How many times as long as the floor each side takes, in turns, and the seconds."""
        laps: dict[str, list[Lap]] = {name: [] for name in (*sides, "floor")}
        for _ in range(rounds):
            for name, work in (*sides.items(), ("floor", floor)):
                laps[name].append(timed(self.device, work)[1])
        fastest = {name: min(lap.wall for lap in laps[name]) for name in laps}
        return {
            name: {
                **ratio(laps[name], laps["floor"]),
                "seconds": fastest[name],
                "seconds_floor": fastest["floor"],
                "rounds": rounds,
            }
            for name in sides
        }

    def memory(self) -> dict[str, Any]:
        """Peak memory over the floor's."""
        ours, floor = (peak(self.device, work) for work in (self.attribution, self.floor))
        return one_figure(ours, floor)

    def memory_by_span(self) -> dict[str, Any]:
        """Peak memory over that of plain scores."""
        ours, plain = (peak(self.device, work) for work in (self.by_span, self.attribution))
        return one_figure(ours, plain)


def measure(
    model: Any,
    sizes: Sequence[tuple[int, int]],
    device: str,
    rounds: int,
    left: bool = True,
    patched: bool = True,
    spans: bool = True,
) -> dict[str, dict[str, Any]]:
    """Return the figures of every size.

    Args:
        model: the model.
        sizes: numbers of documents and of tokens.
        device: `cpu` or `cuda`.
        rounds: how often each side runs.
        left: whether to measure the rule that needs one pass fewer, too.
        patched: whether to measure patched passes, too.
        spans: whether to measure scores by span, too.
    """
    figures: dict[str, dict[str, Any]] = {}
    for documents, length in sizes:
        case = Case(model, documents, length, device)
        for work in (case.attribution, case.floor):
            work(steps=1)  # what a process takes once is neither the time nor the memory of a pass
        found = {"memory": case.memory()}
        sides: dict[str, Callable[[], Any]] = {"attribution": case.attribution}
        if left:
            sides["attribution_left"] = lambda c=case: c.attribution("left")
        found |= case.compare(case.floor, rounds, **sides)
        if spans:
            found["spans_memory"] = case.memory_by_span()
            found |= case.compare(case.attribution, rounds, spans=case.by_span)
        if patched:
            for work in (case.patched, case.plain):
                work()
            found |= case.compare(case.plain, 3 * rounds, patched=case.patched)
            found["patched"]["edges"] = int(case.circuit.sum())
        figures |= {f"{name}_{documents}x{length}": figure for name, figure in found.items()}
    return figures


def main() -> None:
    """Measure the ratios, print them, and write them to a file."""
    options = parser(__doc__, local=True).parse_args()
    prepare(options)
    rounds = rounds_of(options, 3, 1)
    shape: Subject = replace(GPT2_SMALL, layers=2) if options.quick else GPT2_SMALL
    at_most = AT_MOST
    if options.model is None:
        model = load(shape, options.device)
        figures = measure(model, SIZES, options.device, rounds)
        long = Case(model, *LONG, options.device)
        figures["budget_{}x{}".format(*LONG)] = long.within(BUDGET)
    else:
        shape, at_most = LocalModel(options.model, max(options.tokens)), AT_MOST_LOCAL
        model = load(shape, options.device)
        sizes = [(1, tokens) for tokens in options.tokens]
        figures = measure(model, sizes, options.device, rounds, left=False)
    for name, figure in figures.items():
        figure |= {"at_most": at_most[name.split("_")[0]], "shape": shape.about()}
    write_result("circuits", options, CLAIM, None, figures)


if __name__ == "__main__":
    main()
