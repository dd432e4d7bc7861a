"""A budget of memory changes how many documents are taken at once, and nothing else."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from sumcirc.circuits.attribution import edge_scores as accumulation
from sumcirc.circuits.attribution import memory
from sumcirc.circuits.attribution.memory import attribution_cost, groups
from sumcirc.circuits.attribution.methods import AttributionSettings, attribute
from sumcirc.circuits.attribution.tracing import AttributionPasses
from sumcirc.circuits.discovery import score_edges
from sumcirc.circuits.graph import Graph
from sumcirc.circuits.inputs.example_pairs import ExamplePair, TokenPairs
from sumcirc.circuits.metrics import Divergence
from sumcirc.circuits.patching.faithfulness import Evaluator
from sumcirc.circuits.tasks import make_task
from sumcirc.data.examples import TokenExample
from sumcirc.errors import UserError
from sumcirc.models.activations.attention_weights import AttentionWeights
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.models.modes import frozen
from sumcirc.schema import CircuitOptions
from tests.circuits.cases import difference_metric, family_model, some_pairs
from tests.support.small_models import VOCABULARY, adapted, small_model


def long_pairs(length: int) -> TokenPairs:
    ids = torch.arange(2 * length).reshape(2, length) * 17 % VOCABULARY
    return TokenPairs.from_tensors(ids, ids.flip(0), torch.ones_like(ids), ["first", "second"])


def long_example_pairs(length: int) -> list[ExamplePair]:
    """Two pairs, of which the second is the longer; half of each is predicted."""
    found = []
    for name, count in (("one", length // 2), ("two", length)):
        ids = np.arange(count) * 17 % VOCABULARY
        corrupted = ids.copy()
        corrupted[: count // 2] = (ids[: count // 2] + 1) % VOCABULARY
        sides = [TokenExample.predicting(name, one, count // 2) for one in (ids, corrupted)]
        found.append(ExamplePair(*sides, corruption="swap"))
    return found


@pytest.mark.parametrize("method", ["eap-ig-inputs", "eap-ig-activations", "relp"])
def test_positions_taken_at_once_do_not_matter(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, pairs = family_model("gpt2"), some_pairs(left=True)
    metric = difference_metric(pairs)
    found = []
    for at_once in (1 << 20, 1):
        monkeypatch.setattr(accumulation, "AT_ONCE_ON_CPU", at_once)
        found.append(attribute(model, pairs, metric, AttributionSettings(method=method, steps=2)))
    assert found[0].spans is not None
    assert found[1].spans is not None
    largest = found[0].documents.abs().max()
    assert (found[0].documents - found[1].documents).abs().max() < 1e-12 * largest
    assert (found[0].spans - found[1].spans).abs().max() < 1e-12 * largest


@pytest.mark.parametrize(
    ("family", "attention", "lora"),
    [("gpt2", "sdpa", False), ("gpt2", "eager", False), ("qwen3", "sdpa", True)],
)
def test_a_long_pass_is_foretold_from_short_ones(family: str, attention: str, lora: bool) -> None:
    model = small_model(family, attn_implementation=attention)
    model = adapted(model) if lora else model
    hooked, pairs = HookedModel(model), long_pairs(128)
    passes = AttributionPasses(hooked, Graph(hooked.shape), Divergence(pairs.attention_mask), pairs)
    with frozen(model):
        # what does not grow with the pass is left out of both
        cost = attribution_cost(passes, pairs, 0)
        beside = attribution_cost_without_passes(passes, pairs)
        for length in (96, 128):
            expected = memory._saved(passes, pairs, length)
            found = cost(length, 0) / memory.SLACK - beside * length
            assert found == pytest.approx(expected, rel=0.03)


def attribution_cost_without_passes(passes: AttributionPasses, pairs: TokenPairs) -> float:
    """Bytes a token of what attribution holds beside a pass."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "_saved", lambda *_: 0)
        return attribution_cost(passes, pairs, 0)(1000, 0) / memory.SLACK / 1000


def test_a_budget_splits_batches_and_changes_no_score() -> None:
    model, pairs = family_model("gpt2"), some_pairs()
    metric = Divergence(pairs.attention_mask)
    whole = attribute(model, pairs, metric, batch_size=3)
    hooked = HookedModel(model)
    passes = AttributionPasses(hooked, Graph(hooked.shape), metric, pairs)
    with frozen(model):
        cost = attribution_cost(passes, pairs, 5)
    tight = cost(9, 9)
    sizes = [
        [len(items) for items in groups(pairs, metric, 3, cost, budget)]
        for budget in (tight, 2 * tight, 3 * tight)
    ]
    assert sizes == [[1, 1, 1], [2, 1], [3]]
    fixed = AttentionWeights(hooked, dtype=torch.float64).kept_bytes
    fixed += accumulation.at_once(torch.device("cpu"))
    alone = attribute(model, pairs, metric, batch_size=3, memory=tight + fixed)
    assert (alone.documents - whole.documents).abs().max() < 1e-9 * whole.documents.abs().max()


def test_a_document_that_does_not_fit_is_named_with_what_it_needs() -> None:
    model, pairs = small_model("gpt2"), long_pairs(100)
    metric = Divergence(pairs.attention_mask)
    with pytest.raises(UserError) as refused:
        attribute(model, pairs, metric, memory=1000)
    named = re.search(
        r"item `(first|second)` of 100 tokens .*=([\d.]+) or more", str(refused.value)
    )
    assert named
    attribute(model, pairs, metric, memory=int(1e9 * float(named[2])))


def test_a_task_is_refused_with_a_budget_that_suffices_for_all_of_it() -> None:
    """Attribution needs more than the passes before it, and is asked about first."""
    model, pairs = small_model("gpt2"), long_example_pairs(100)
    with pytest.raises(UserError) as refused:
        make_task(model, pairs, CircuitOptions(memory_budget=1e-6))
    named = re.search(r"item `two` of 100 tokens .*=([\d.]+) or more", str(refused.value))
    assert named
    needed = float(named[1])
    tokens = TokenPairs.of(pairs)
    patching = memory.patching_cost(HookedModel(model), Graph(HookedModel(model).shape))
    assert 1e9 * needed > patching(100, 50)
    options = CircuitOptions(memory_budget=needed)
    task = make_task(model, pairs, options, keep_all=True)
    assert len(score_edges(model, task, options).ids) == 2
    # two hundredths less are too little, except where nothing is attributed
    less = CircuitOptions(memory_budget=needed - 0.02)
    with pytest.raises(UserError, match="memory_budget"):
        make_task(model, pairs, less, keep_all=True)
    with pytest.raises(UserError, match="memory_budget"):
        attribute(model, tokens, task.metric, memory=less.memory)
    assert len(make_task(model, pairs, less, keep_all=True, attributed=False).pairs) == 2


def test_faithfulness_keeps_to_the_budget_too() -> None:
    model, pairs = family_model("gpt2"), some_pairs(left=True)
    metric = Divergence(pairs.attention_mask)
    whole = Evaluator(model, pairs, metric)
    cost = memory.patching_cost(HookedModel(model), whole.graph)
    split = Evaluator(model, pairs, metric, memory=cost(9, 9))
    assert len(split._groups) == 3
    half = whole.graph.exists.copy()
    half[::2] = False
    for one, other in zip(whole.run([half])[0].metric, split.run([half])[0].metric, strict=True):
        assert one == pytest.approx(other, rel=1e-9)
    with pytest.raises(UserError, match="memory_budget"):
        Evaluator(model, pairs, metric, memory=10)
