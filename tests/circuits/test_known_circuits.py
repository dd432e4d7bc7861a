"""Methods on models whose circuit is known: two heads set by hand, and a trained sorter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import pearsonr, spearmanr
from transformers import GPT2LMHeadModel

from sumcirc.circuits.attribution.methods import AttributionSettings, attribute
from sumcirc.circuits.edge_selection import prune, top_n
from sumcirc.circuits.edge_sums import DESTINATION_KINDS, destination_kinds
from sumcirc.circuits.graph import Graph
from sumcirc.circuits.inputs.example_pairs import TokenPairs
from sumcirc.circuits.metrics import LogitDifference
from sumcirc.circuits.patching.faithfulness import Evaluator, curve, faithfulness
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.statistics import Bootstrap
from tests.circuits.attribution_cases import (
    Oracle,
    reference_metric,
    reference_model,
    reference_pairs,
    reference_scores,
)
from tests.support.induction import (
    CORRUPTIONS,
    KNOWN_EDGES,
    START,
    TOKENS,
    induction_model,
    induction_pairs,
)
from tests.support.trained_models import SORTER


@dataclass(frozen=True)
class Case:
    model: Any
    pairs: TokenPairs
    metric: LogitDifference

    @property
    def graph(self) -> Graph:
        return Graph(HookedModel(self.model).shape)

    def scores(self, method: str, steps: int = 5) -> NDArray[np.float64]:
        """[sources, destinations], the mean over the pairs."""
        size = 128 if method == "exact" else len(self.pairs)
        found = attribute(
            self.model,
            self.pairs,
            self.metric,
            AttributionSettings(method=method, steps=steps),
            batch_size=size,
        )
        return found.mean.numpy()

    def faithfulness(self, kept: NDArray[np.bool_]) -> float:
        found = faithfulness(self.evaluator(), kept, completeness=False, bootstrap=Bootstrap(1))
        return found.faithfulness.mean

    def evaluator(self) -> Evaluator:
        return Evaluator(self.model, self.pairs, self.metric, batch=len(self.pairs))


# ---- induction, by hand


def induction_case(sharpness: float = 5.0) -> Case:
    pairs, answers, others = induction_pairs(16)
    metric = LogitDifference(pairs.clean.last, answers, others)
    return Case(induction_model(sharpness), pairs, metric)


@pytest.fixture(scope="module")
def induction() -> Case:
    return induction_case()


@pytest.fixture(scope="module")
def induction_exact(induction: Case) -> NDArray[np.float64]:
    return induction.scores("exact")


def known(graph: Graph, without: str | None = None) -> NDArray[np.bool_]:
    kept = np.zeros_like(graph.exists)
    for name, row, column in graph.edge_names():
        kept[row, column] = name in KNOWN_EDGES and name != without
    return kept


def on_top(scores: NDArray[np.float64], graph: Graph) -> set[str]:
    """As many edges of largest |score| as there are known ones."""
    kept = top_n(scores, graph, len(KNOWN_EDGES))
    return {name for name, row, column in graph.edge_names() if kept[row, column]}


def last_probabilities(model: Any, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(ids).logits[:, -1].softmax(-1)


def test_the_model_does_induction(induction: Case) -> None:
    """Whatever stands where: after the second A comes what came after the first."""
    generator = torch.Generator().manual_seed(1)
    for place in range(1, 9):
        tokens = 1 + torch.randperm(TOKENS - 1, generator=generator)[:10]
        ids = torch.cat([torch.tensor([START]), tokens])
        ids[-1] = ids[place]
        assert last_probabilities(induction.model, ids[None])[0, ids[place + 1]] > 0.9


def test_every_corruption_takes_the_answer_away(induction: Case) -> None:
    pairs, good, bad = induction.pairs, induction.metric.good[:, 0], induction.metric.bad[:, 0]
    clean, corrupted = (
        last_probabilities(induction.model, ids)
        for ids in (pairs.clean.input_ids, pairs.corrupted.input_ids)
    )
    for i, name in enumerate(pairs.names):
        assert clean[i, good[i]] > 0.9
        if name.startswith("gone"):
            assert corrupted[i].max() < 0.9
            assert corrupted[i, good[i]] < 0.3
        else:
            assert corrupted[i, bad[i]] > 0.9
    assert {name.split("-")[0] for name in pairs.names} == set(CORRUPTIONS)


# Pearson over all edges as measured: eap-ig-inputs 0.99997, relp 0.966 (and eap 0.951)
@pytest.mark.parametrize(
    ("method", "least"), [("exact", 1 - 1e-9), ("eap-ig-inputs", 0.995), ("relp", 0.95)]
)
def test_known_edges_come_out_on_top(
    induction: Case, induction_exact: NDArray[np.float64], method: str, least: float
) -> None:
    graph = induction.graph
    found = induction_exact if method == "exact" else induction.scores(method)
    assert on_top(found, graph) == KNOWN_EDGES
    here = known(graph)
    # positive, since corruption of each of them hurts, and far above the rest
    assert found[here].min() > 5 * np.abs(found[graph.exists & ~here]).max()
    assert pearsonr(found[graph.exists], induction_exact[graph.exists])[0] > least


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_each_corruption_shows_the_edges_it_changes(corruption: str) -> None:
    """The way of the queries, of the keys or of the values, and the head's output."""
    pairs, answers, others = induction_pairs(8, corruptions=(corruption,))
    case = Case(induction_model(), pairs, LogitDifference(pairs.clean.last, answers, others))
    graph = case.graph
    scores = case.scores("eap-ig-inputs")
    letter = {"keys": "k", "gone": "k", "values": "v", "query": "q"}[corruption]
    expected = {
        "a1.h1->logits",
        *({"input->a0.h2<v>", "a0.h2->a1.h1<k>"} if letter == "k" else {f"input->a1.h1<{letter}>"}),
    }
    assert expected < KNOWN_EDGES
    kept = top_n(scores, graph, len(expected))
    assert {name for name, *place in graph.edge_names() if kept[tuple(place)]} == expected
    assert case.faithfulness(kept) > 0.9


def test_the_known_circuit_is_faithful_and_whole(induction: Case) -> None:
    graph, evaluator = induction.graph, induction.evaluator()
    found = faithfulness(evaluator, known(graph), bootstrap=Bootstrap(100))
    assert found.faithfulness.low > 0.9
    assert found.faithfulness.high < 1.1
    assert found.completeness is not None
    assert found.completeness.low > 0.9  # nothing else can do it
    for seed in range(10):
        draws = np.random.default_rng(seed).random(graph.exists.shape)
        control = top_n(draws, graph, len(KNOWN_EDGES))
        assert control.sum() >= len(KNOWN_EDGES)
        value = induction.faithfulness(control)
        assert value < 0.7
        # a control is worth what it has of the known edges by chance: mostly nothing
        shared = control & known(graph)
        worth = induction.faithfulness(shared) if shared.any() else 0.0
        assert value == pytest.approx(worth, abs=0.02)
    for name in KNOWN_EDGES:
        assert induction.faithfulness(known(graph, without=name)) < 0.8


def test_where_attention_is_saturated_only_a_path_of_inputs_sees_queries_and_keys() -> None:
    """At the clean run a sure pattern has hardly a slope, though much hangs on it."""
    case = induction_case(sharpness=9.0)
    graph = case.graph
    exact, path, clean = (case.scores(name) for name in ("exact", "eap-ig-inputs", "eap"))
    assert on_top(exact, graph) == on_top(path, graph) == KNOWN_EDGES
    kinds = destination_kinds(graph)
    for letter in ("query", "key"):
        here = known(graph) & (kinds == DESTINATION_KINDS.index(letter))
        assert path[here] == pytest.approx(exact[here], rel=0.1)
        assert (clean[here] < 0.2 * exact[here]).all()


# ---- relevance through an MLP


def test_relevance_reaches_what_an_mlp_reads() -> None:
    """With scales and ratios constant the last MLP is a matrix, at the last position at least."""
    stored = reference_scores("small_gpt2")
    model, pairs = reference_model("small_gpt2"), reference_pairs(stored)
    metric: Any = reference_metric(stored, "logit_diff")
    scores = attribute(model, pairs, metric, AttributionSettings(method="relp")).documents
    oracle, last = Oracle(model), model.config.n_layer - 1
    weights, graph = oracle.state, Graph(HookedModel(model).shape)

    def linear(change: torch.Tensor, stream: torch.Tensor, norm: str) -> torch.Tensor:
        scale = (stream.var(correction=0) + 1e-5).sqrt()
        return (change - change.mean()) / scale * weights[f"{norm}.weight"]

    with torch.no_grad():
        for item in (0, 3):
            real = pairs.attention_mask[item]
            (clean, read, _), (corrupted, _, _) = (
                oracle.run(weights["wte.weight"][ids[item][real]])
                for ids in (pairs.clean.input_ids, pairs.corrupted.input_ids)
            )
            mlp, stream = model.transformer.h[last].mlp, read[f"m{last}"][-1]
            before = mlp.c_fc(model.transformer.h[last].ln_2(stream))
            ratio = mlp.act(before) / before
            good, bad = metric.good[item, 0], metric.bad[item, 0]
            direction = weights["wte.weight"][bad] - weights["wte.weight"][good]
            for row, name in enumerate(graph.sources[: graph.mlp_reads(last)]):
                change = (corrupted[name] - clean[name])[-1]
                inner = linear(change, stream, f"h.{last}.ln_2") @ mlp.c_fc.weight * ratio
                out = linear(inner @ mlp.c_proj.weight, read["logits"][-1], "ln_f")
                found = float(scores[item, row, graph.mlp_destination(last)])
                assert found == pytest.approx(float(out @ direction), rel=1e-6, abs=1e-12)


# ---- a trained sorter


@pytest.fixture(scope="module")
def sorter() -> Case:
    """Lists of six numbers of which one differs, up to where the sorted lists do."""
    model = GPT2LMHeadModel.from_pretrained(SORTER, dtype=torch.float64).eval()
    random = np.random.default_rng(0)
    clean, corrupted, answers, others = [], [], [], []
    while len(clean) < 24:
        numbers = random.integers(3, size=6)
        changed = numbers.copy()
        changed[random.integers(6)] += random.choice([-1, 1])
        if not ((changed >= 0) & (changed < 3)).all():
            continue
        one, other = np.sort(numbers), np.sort(changed)
        (place,) = np.flatnonzero(one != other)
        clean.append([*numbers.tolist(), *one[:place].tolist()])
        corrupted.append([*changed.tolist(), *one[:place].tolist()])
        answers.append(int(one[place]))
        others.append(int(other[place]))
    pairs = TokenPairs.from_tokens(clean, corrupted)
    metric = LogitDifference(pairs.clean.last, torch.tensor(answers), torch.tensor(others))
    return Case(model, pairs, metric)


@pytest.fixture(scope="module")
def sorter_exact(sorter: Case) -> NDArray[np.float64]:
    return sorter.scores("exact")


def test_the_sorter_sorts(sorter: Case) -> None:
    evaluator = sorter.evaluator()
    assert evaluator.full.metric.max() < -3
    assert evaluator.empty.metric.min() > 3


# Pearson and Spearman as measured, by query, key, value, mlp, logits:
# eap            0.98/0.95 0.76/1.00 0.96/0.98 0.76/0.96 1.00/0.99
# eap-ig-inputs  0.83/0.81 0.68/0.86 0.99/0.93 0.91/0.95 1.00/0.99, 20 steps: within 0.07 of it
# relp           0.95/0.93 0.73/0.66 0.99/0.97 0.92/0.97 1.00/0.98
FLOORS = {
    "eap": ((0.93, 0.9), (0.7, 0.9), (0.9, 0.95), (0.7, 0.9), (0.98, 0.95)),
    "eap-ig-inputs": ((0.78, 0.75), (0.6, 0.8), (0.95, 0.9), (0.8, 0.9), (0.98, 0.95)),
    "relp": ((0.9, 0.85), (0.65, 0.6), (0.95, 0.9), (0.85, 0.9), (0.98, 0.95)),
}


@pytest.mark.parametrize(
    ("method", "steps"), [("eap", 1), ("eap-ig-inputs", 5), ("eap-ig-inputs", 20), ("relp", 1)]
)
def test_scores_of_the_sorter_go_with_patching(
    sorter: Case, sorter_exact: NDArray[np.float64], method: str, steps: int
) -> None:
    graph = sorter.graph
    found = sorter.scores(method, steps)
    kinds = destination_kinds(graph)
    for i, floors in enumerate(FLOORS[method]):
        here = graph.exists & (kinds == i)
        assert np.ptp(found[here]) > 0
        measured = [of(found[here], sorter_exact[here])[0] for of in (pearsonr, spearmanr)]
        assert (measured >= np.array(floors)).all(), (DESTINATION_KINDS[i], measured)


@pytest.mark.parametrize("method", ["exact", "eap-ig-inputs", "relp"])
def test_a_fifth_of_the_edges_sorts(
    sorter: Case, sorter_exact: NDArray[np.float64], method: str
) -> None:
    scores = sorter_exact if method == "exact" else sorter.scores(method)
    found = curve(sorter.evaluator(), scores, fractions=(0.2,), bootstrap=Bootstrap(200))
    assert found.points[0].edges == prune(top_n(scores, sorter.graph, 34), sorter.graph).sum()
    assert found.points[0].faithfulness.low > 0.5  # as measured 0.58 to 0.62
    for seed in range(3):
        draws = np.random.default_rng(seed).random(scores.shape)
        assert sorter.faithfulness(top_n(draws, sorter.graph, 34)) < 0.1
    # edges of the same kinds and layers do nearly as much: the graph is small
    matched = np.mean([controls[0].faithfulness.mean for controls in found.random])
    assert matched < found.points[0].faithfulness.mean
