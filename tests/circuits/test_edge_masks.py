"""Learned masks over edges: the run and its gradient by hand, and a planted set of edges."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sumcirc.circuits.masks.learning import EdgeMaskSettings, learn_edges, masking_cost
from sumcirc.circuits.masks.masked_pass import MaskedPass
from sumcirc.circuits.patching.patched_run import PatchedRun, source_means
from sumcirc.errors import UserError
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.models.modes import frozen
from tests.circuits.cases import difference_metric, family_model, some_pairs
from tests.circuits.naive_intervention import (
    MODELS,
    documents,
    gpt2_by_hand,
    random_circuit,
    shaken,
)


def masked(run: PatchedRun, factors: Tensor, positions: Tensor) -> Tensor:
    with frozen(run.model.model):
        return MaskedPass(run, factors).logits(positions)


def test_factors_and_their_gradient_by_hand() -> None:
    """GPT-2 written out, with shares of edges, differentiated by autograd as it stands."""
    model = shaken("gpt2")
    clean, corrupted, mask = documents()
    run = PatchedRun(model, clean, corrupted, mask)
    exists = torch.from_numpy(run.graph.exists)
    draw = torch.rand(exists.shape, generator=torch.Generator().manual_seed(0)).double()
    with torch.no_grad():
        _, patched = gpt2_by_hand(model, corrupted, mask, run.graph.exists, torch.zeros(99))
    gradients, logits = [], []
    for by_hand in (True, False):
        factors = (draw * exists).requires_grad_()
        if by_hand:
            whole, _ = gpt2_by_hand(model, clean, mask, factors, patched)
            found = whole[mask.bool()]
        else:
            found = masked(run, factors, mask)
        generator = torch.Generator().manual_seed(1)
        weights = torch.randn(found.shape, generator=generator, dtype=found.dtype)
        gradients += torch.autograd.grad((found * weights).sum(), factors)
        logits.append(found.detach())
    torch.testing.assert_close(logits[1], logits[0], rtol=0, atol=1e-10)
    assert gradients[0][exists].abs().min() > 0
    torch.testing.assert_close(gradients[1][exists], gradients[0][exists], rtol=1e-8, atol=1e-9)
    assert not gradients[1][~exists].any()


@pytest.mark.parametrize(("family", "changes"), MODELS)
def test_every_family(family: str, changes: dict[str, Any]) -> None:
    """Factors of 0 and 1 are a circuit's run; the gradient is that of finite differences."""
    model = shaken(family, **changes)
    clean, corrupted, mask = documents("left")
    run = PatchedRun(model, clean, corrupted, mask)
    kept = random_circuit(run.graph, 0.5)
    expected = run.logits(kept, mask.bool())
    found = masked(run, torch.from_numpy(kept.astype(float)), mask)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)

    def loss(factors: Tensor) -> Tensor:
        return masked(run, factors, mask).square().mean()

    generator = torch.Generator().manual_seed(0)
    start = torch.rand(kept.shape, generator=generator, dtype=torch.float64).requires_grad_()
    (slope,) = torch.autograd.grad(loss(start), start)
    # along the gradient's signs, so that the rounding of norms in float32 is small beside it
    draws = torch.rand(kept.shape, generator=generator, dtype=torch.float64)
    direction = slope.sign() * draws
    step = 1e-3 * direction
    with torch.no_grad():
        change = loss(start + step) - loss(start - step)
    along = float((slope * direction)[torch.from_numpy(run.graph.exists)].sum())
    assert float(change) / 2e-3 == pytest.approx(along, rel=2e-3)


def test_learned_edges_carry_the_model_where_the_start_does_not() -> None:
    """From a ranking that puts useless edges first, a few steps find edges with a smaller KL."""
    model, pairs = family_model("llama"), some_pairs()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    asking = [one.requires_grad for one in model.parameters()]
    positions = difference_metric(pairs).positions
    graph = PatchedRun(model, *pairs.cut(torch.arange(3), torch.device("cpu"))).graph
    start = np.random.default_rng(0).random(graph.exists.shape)
    settings = EdgeMaskSettings(
        steps=60, pairs=2, learning_rate=0.3, least=0.2, most=0.4, temperature=0.5
    )
    state = torch.random.get_rng_state()
    found = learn_edges(model, pairs, positions, start, settings)
    again = learn_edges(model, pairs, positions, start, settings)
    assert np.array_equal(found.scores, again.scores)
    assert torch.equal(state, torch.random.get_rng_state())
    assert found.losses[-15:].mean() < 0.6 * found.losses[:15].mean()
    assert sorted(found.scores[graph.exists]) == list(range(1, graph.edges + 1))
    assert ((found.budgets >= 0.2) & (found.budgets <= 0.4)).all()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert asking == [one.requires_grad for one in model.parameters()]
    assert all(one.grad is None for one in model.parameters())


def test_the_start_is_the_given_ranking_and_the_first_loss_is_its_own() -> None:
    """With a single tiny step the ranking stays; the loss is that of the relaxed set by hand."""
    model, pairs = family_model("gpt2"), some_pairs()
    items = torch.arange(3)
    run = PatchedRun(model, *pairs.cut(items, torch.device("cpu")))
    positions = difference_metric(pairs).positions
    start = np.random.default_rng(0).normal(size=run.graph.exists.shape)
    settings = EdgeMaskSettings(steps=1, pairs=3, learning_rate=1e-9, least=0.3, most=0.3)
    found = learn_edges(model, pairs, positions, start, settings)
    order = np.argsort(-np.abs(start[run.graph.exists]), kind="stable")
    assert np.array_equal(np.argsort(-found.scores[run.graph.exists]), order)
    edges = run.graph.edges
    ranks = np.empty(edges)
    ranks[order] = np.arange(edges, 0, -1)
    chance = (ranks - 0.5) / edges
    scores = np.log(chance / (1 - chance)) / 0.25
    low, high = -99.0, 99.0
    for _ in range(200):  # the threshold by bisection
        middle = (low + high) / 2
        if (1 / (1 + np.exp(middle - scores))).sum() > 0.3 * edges:
            low = middle
        else:
            high = middle
    factors = np.zeros(run.graph.exists.shape)
    factors[run.graph.exists] = 1 / (1 + np.exp(low - scores))
    clean = run.logits(run.graph.exists, positions).log_softmax(-1)

    def divergence(other: Tensor) -> float:
        return float((clean.exp() * (clean - other.log_softmax(-1))).sum(-1).mean())

    masked_kl = divergence(masked(run, torch.from_numpy(factors), positions))
    empty_kl = divergence(run.logits(np.zeros_like(run.graph.exists), positions))
    assert found.losses[0] == pytest.approx(masked_kl / empty_kl, rel=1e-9)
    # a pair at a time, by a small limit of memory: the same loss
    hooked = HookedModel(model)
    tight = masking_cost(hooked, run.graph)(9, 1)
    alone = learn_edges(model, pairs, positions, start, settings, memory=tight)
    assert alone.losses[0] == pytest.approx(found.losses[0], rel=1e-9)


def test_what_is_refused() -> None:
    model, pairs = family_model("gpt2"), some_pairs()
    positions = difference_metric(pairs).positions
    run = PatchedRun(model, *pairs.cut(torch.arange(3), torch.device("cpu")))
    scores = np.ones(run.graph.exists.shape)
    with pytest.raises(UserError, match=r"memory_budget=0.0001: item `one` of 9 tokens needs"):
        learn_edges(model, pairs, positions, scores, memory=100_000)
    with pytest.raises(UserError, match="are NaN or infinite"):
        learn_edges(model, pairs, positions, scores * np.nan)
    with pytest.raises(UserError, match="must be positive"):
        EdgeMaskSettings(steps=0)
    with pytest.raises(UserError, match="budgets rise"):
        EdgeMaskSettings(least=0.4)
    means = source_means(model, pairs.clean.input_ids)
    other = PatchedRun(model, pairs.clean.input_ids, ablation="mean", means=means)
    with pytest.raises(UserError, match="need a corrupted run"):
        MaskedPass(other, torch.zeros(run.graph.exists.shape))
