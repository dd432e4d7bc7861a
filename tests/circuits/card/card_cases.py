"""Circuits with their pairs, for tests of cards: induction by hand, and a small random model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from sumcirc.circuits.attribution.methods import EdgeScores
from sumcirc.circuits.card.subject import Subject
from sumcirc.circuits.discovery import judge, score_edges
from sumcirc.circuits.graph import Graph
from sumcirc.circuits.inputs.example_pairs import ExamplePair
from sumcirc.circuits.tasks import Task, make_task
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.schema import CardOptions, CircuitMetric, CircuitOptions
from tests.support.induction import CORRUPTIONS, KNOWN_EDGES, induction_model, induction_pairs
from tests.support.small_models import VOCABULARY

WRONG_EDGES = {
    "input->a0.h0<v>",
    "a0.h0->a1.h3<v>",
    "a1.h3->logits",
    "input->a1.h0<v>",
    "a1.h0->logits",
}


def induction_examples(
    count: int, seed: int, corruptions: tuple[str, ...] = CORRUPTIONS
) -> list[ExamplePair]:
    """Pairs of the induction model, named by seed and corruption."""
    tokens, good, bad = induction_pairs(count, seed, corruptions)
    return [
        ExamplePair.of(
            f"{seed}-{name}",
            name.split("-")[0],
            [clean.tolist(), corrupted.tolist()],
            {},
            [int(right)],
            [int(wrong)],
        )
        for name, clean, corrupted, right, wrong in zip(
            tokens.names, tokens.clean.input_ids, tokens.corrupted.input_ids, good, bad, strict=True
        )
    ]


def induction_options(count: int = len(KNOWN_EDGES)) -> CircuitOptions:
    """Settings for a circuit of some edges of the induction model."""
    graph = Graph(HookedModel(induction_model()).shape)
    return CircuitOptions(
        metric=CircuitMetric.logit_difference,
        size=count / graph.edges,
        sizes=[0.03, 1.0],
        random_circuits=2,
        resamples=100,
        batch_size=16,
    )


def induction_subject(
    options: CircuitOptions,
    card: CardOptions,
    corruptions: tuple[str, ...] = CORRUPTIONS,
    edges: set[str] | None = None,
    count: int = 24,
) -> Subject:
    """The circuit that scores find on `count` pairs, judged on as many, or a circuit of `edges`."""
    model = induction_model()
    task, held_out = (
        make_task(model, induction_examples(count, seed, corruptions), options) for seed in (0, 1)
    )
    scores = score_edges(model, task, options) if edges is None else scores_of(edges, task, seed=0)
    found = judge(task, scores, options, held_out=held_out)
    return Subject(model, task, held_out, found, options, card)


def scores_of(edges: set[str], task: Task, seed: int) -> EdgeScores:
    """Scores by which some edges lie above all others, whose scores are noise."""
    graph = task.evaluator.graph
    random = np.random.default_rng(seed).random((len(task.pairs), *graph.exists.shape)) * 0.1
    for name, row, column in graph.edge_names():
        random[:, row, column] += name in edges
    ids = [pair.id for pair in task.pairs]
    return EdgeScores(graph, ids, torch.from_numpy(random * graph.exists))


def irrelevant_examples(count: int, seed: int) -> list[ExamplePair]:
    """Pairs that differ in a token which has no part in induction."""
    pairs = induction_examples(count, seed, ("values",))
    found = []
    for pair in pairs:
        ids = pair.clean.ids.copy()
        ids[1] = next(t for t in range(1, 16) if t not in ids)  # what follows the start
        corrupted = replace(pair.corrupted, ids=ids)
        found.append(replace(pair, corrupted=corrupted, corruption="irrelevant"))
    return found


def names_of(kept: NDArray[np.bool_], graph: Graph) -> set[str]:
    """The edges of a circuit by name."""
    return {name for name, row, column in graph.edge_names() if kept[row, column]}


def random_examples(count: int, seed: int) -> list[ExamplePair]:
    """Random tokens of equal length; without answers."""
    generator = torch.Generator().manual_seed(seed)
    clean, corrupted = torch.randint(0, VOCABULARY, (2, count, 7), generator=generator).tolist()
    return [
        ExamplePair.of(f"{seed}-{i}", "own", [one, other], {})
        for i, (one, other) in enumerate(zip(clean, corrupted, strict=True))
    ]
