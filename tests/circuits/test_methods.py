"""Edge scores against the reference's, against autograd, and against what must not matter."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sumcirc.circuits.attribution import methods as attribution
from sumcirc.circuits.attribution.edge_scores import Ends, differences
from sumcirc.circuits.attribution.methods import AttributionSettings, attribute
from sumcirc.circuits.attribution.tracing import AttributionPasses
from sumcirc.circuits.graph import Graph
from sumcirc.circuits.inputs.example_pairs import TokenPairs
from sumcirc.circuits.inputs.pair_batches import batches
from sumcirc.circuits.metrics import Divergence, LogitDifference, NegativeLogLikelihood
from sumcirc.errors import UserError
from sumcirc.models.activations.attention_weights import AttentionWeights
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.models.architectures import ARCHITECTURES
from sumcirc.models.modes import frozen
from sumcirc.schema import Method
from tests.circuits.attribution_cases import (
    Oracle,
    reference_metric,
    reference_model,
    reference_pairs,
    reference_scores,
    relative,
)
from tests.circuits.cases import difference_metric, family_model, some_pairs
from tests.circuits.naive_patching import patched_values
from tests.support.small_models import WITH_GROUPS, small_model

METHODS = [one.value for one in Method]

GPT2 = reference_scores("small_gpt2")


LLAMA = reference_scores("small_llama")


STORED = [key.split("/")[1:3] for key in GPT2 if key.startswith("scores/")]


@pytest.mark.parametrize(("method", "metric"), STORED)
@pytest.mark.parametrize(
    ("dtype", "close"), [(torch.float64, 1e-9), (torch.float32, 1e-4)], ids=["f64", "f32"]
)
def test_equals_the_reference(method: str, metric: str, dtype: torch.dtype, close: float) -> None:
    pairs = reference_pairs(GPT2)
    found = attribute(
        reference_model("small_gpt2", dtype),
        pairs,
        reference_metric(GPT2, metric),
        AttributionSettings(
            method=method.removesuffix("-right").lower(),
            rule="right" if method.endswith("-right") else "left",
        ),
        batch_size=64 if method == "exact" else 4,
    )
    # the reference divides the mean over a batch by the items once more, but not in `exact`
    times = 1 if method == "exact" else len(pairs)
    stored = torch.from_numpy(GPT2[f"scores/{method}/{metric}/f64"]) * times
    assert found.documents.dtype == dtype
    assert found.graph.sources == GPT2["src_nodes"].tolist()
    assert relative(found.mean.double(), stored) < close
    assert (found.documents[:, torch.from_numpy(~GPT2["real_edge_mask"])] == 0).all()


@pytest.mark.parametrize(("method", "metric"), [("EAP-IG-inputs", "kl_all"), ("EAP", "logit_diff")])
def test_equals_the_reference_with_grouped_queries(method: str, metric: str) -> None:
    model, pairs = reference_model("small_llama"), reference_pairs(LLAMA)
    graph = Graph(HookedModel(model).shape, expand_groups=True)
    found = attribute(
        model,
        pairs,
        reference_metric(LLAMA, metric),
        AttributionSettings(method=method.lower(), rule="left"),
        graph=graph,
    )
    assert graph.edges == 262
    stored = torch.from_numpy(LLAMA[f"scores/{method}/{metric}/f64"]) * len(pairs)
    assert relative(found.mean, stored) < 1e-4
    assert model.model.layers[0].self_attn.num_key_value_groups == 2


def test_a_group_has_the_sum_of_its_query_heads() -> None:
    model, pairs = reference_model("small_llama"), reference_pairs(LLAMA)
    metric, shape = reference_metric(LLAMA, "kl_all"), HookedModel(model).shape
    grouped = attribute(model, pairs, metric)
    each = attribute(model, pairs, metric, graph=Graph(shape, expand_groups=True))
    for layer in range(shape.layers):
        for columns in ("key_columns", "value_columns"):
            one = grouped.documents[..., getattr(grouped.graph, columns)(layer)]
            other = each.documents[..., getattr(each.graph, columns)(layer)]
            assert relative(other.unflatten(-1, (-1, shape.group)).sum(-1), one) < 1e-5


@pytest.mark.parametrize("method", ["clean-corrupted", "eap-ig-activations"])
@pytest.mark.parametrize("metric", ["kl_all", "logit_diff"])
def test_equals_the_definition_with_a_copy_of_the_stream_per_destination(
    method: str, metric: str
) -> None:
    model, pairs = reference_model("small_gpt2"), reference_pairs(GPT2)
    losses = reference_metric(GPT2, metric)
    found = attribute(model, pairs, losses, AttributionSettings(method=method, steps=3))
    oracle = Oracle(model)
    for item in (0, 3):
        expected = oracle.scores(pairs, losses, item, method)
        expected *= torch.from_numpy(found.graph.exists)
        assert relative(found.documents[item], expected) < 1e-9


FORMS = [*ARCHITECTURES, "gpt_neox sequential", "gpt2 + lora", "qwen3 + lora", "gpt_neox + lora"]


@pytest.mark.parametrize(
    ("form", "expand"),
    [*((form, False) for form in FORMS), *((form, True) for form in WITH_GROUPS)],
)
def test_eap_is_the_derivative_of_patching_each_edge(form: str, expand: bool) -> None:
    """Patching runs the norm and the projection as they are: no closed form is shared."""
    model, pairs = family_model(form), some_pairs()
    metric = difference_metric(pairs)
    hooked = HookedModel(model)
    graph = Graph(hooked.shape, expand)
    found = attribute(model, pairs, metric, AttributionSettings(method="eap"), graph=graph)
    reader = AttributionPasses(hooked, graph, metric, pairs)
    rows, columns = np.nonzero(graph.exists)
    chosen = np.random.default_rng(0).permutation(len(rows))[:60]
    with frozen(model):
        weights = AttentionWeights(hooked, graph.expand_groups, torch.float64)
        for batch in batches(hooked, pairs, torch.arange(len(pairs)).split(1)):
            clean, _ = reader.clean(batch)
            corrupted, _ = reader.sources(batch, batch.corrupted)
            change = batch.corrupted - batch.clean
            written = differences(weights, graph, Ends(change, batch.mask, clean, corrupted))
            size = torch.zeros(len(chosen), dtype=torch.float64, requires_grad=True)
            added = size[:, None, None] * written[rows[chosen], 0]
            here = torch.from_numpy(columns[chosen])
            values = patched_values(reader, weights, batch, here, added, None)
            (slopes,) = torch.autograd.grad(values.sum(), size)
            scores = found.documents[int(batch.items)][rows[chosen], columns[chosen]]
            close = 1e-9 if form.split()[0] in ("gpt2", "gpt_neox") else 1e-4
            # transformers keeps RMSNorm and rotary embeddings in float32
            assert relative(scores, slopes) < max(close, 1e-6 if "neox" in form else 0)
            assert float(slopes.abs().max()) > 1e-4


@pytest.mark.parametrize(
    ("form", "method"),
    [
        *((f"{family} + lora", "eap-ig-inputs") for family in ("gpt2", "qwen3", "gpt_neox")),
        *(("gpt2 + lora", method) for method in ("relp", "exact")),
    ],
)
def test_an_adapter_counts_as_if_it_were_merged(form: str, method: str) -> None:
    model, pairs = family_model(form), some_pairs()
    metric = difference_metric(pairs)
    attached = attribute(model, pairs, metric, AttributionSettings(method=method), batch_size=64)
    with model.disable_adapter():
        disabled = attribute(
            model, pairs, metric, AttributionSettings(method=method), batch_size=64
        )
    base = attribute(
        copy.deepcopy(model).unload(),
        pairs,
        metric,
        AttributionSettings(method=method),
        batch_size=64,
    )
    merged = model.merge_and_unload()
    expected = attribute(merged, pairs, metric, AttributionSettings(method=method), batch_size=64)
    close = 1e-9 if form == "gpt2 + lora" else 1e-5
    assert relative(attached.documents, expected.documents) < close
    assert relative(disabled.documents, base.documents) < close
    assert relative(attached.documents, base.documents) > 0.05


@pytest.mark.parametrize("method", [method for method in METHODS if method != "random"])
def test_neither_batch_size_nor_padding_side_matters(method: str) -> None:
    model = family_model("gpt2")

    def scores(pairs: TokenPairs, size: int) -> Tensor:
        metric = difference_metric(pairs)
        return attribute(
            model, pairs, metric, AttributionSettings(method=method, steps=2), batch_size=size
        ).documents

    right = scores(some_pairs(), 1)
    for pairs, size in ((some_pairs(), 3), (some_pairs(left=True), 3), (some_pairs(left=True), 2)):
        found = scores(pairs, size)
        assert found.isfinite().all()
        assert relative(found, right) < 1e-9


@pytest.mark.parametrize("family", ["llama", "gpt_neox"])
def test_left_padding_with_rotary_embeddings(family: str) -> None:
    model = family_model(family)
    found = [
        attribute(model, pairs, Divergence(pairs.attention_mask), batch_size=3).documents
        for pairs in (some_pairs(), some_pairs(left=True))
    ]
    assert relative(found[1], found[0]) < 1e-5


def test_items_keep_their_places() -> None:
    model, pairs = family_model("gpt2"), some_pairs()
    metric = difference_metric(pairs)
    found = attribute(model, pairs, metric, batch_size=2)
    assert found.ids == ["one", "two", "three"]
    for i in range(3):
        alone = TokenPairs.from_tensors(
            pairs.clean.input_ids[[i]],
            pairs.corrupted.input_ids[[i]],
            pairs.attention_mask[[i]],
            ["x"],
        )
        good, bad = torch.tensor([3 + i]), torch.tensor([6 + i])
        one = attribute(model, alone, LogitDifference(alone.clean.last, good, bad))
        assert relative(found.documents[[i]], one.documents) < 1e-9
    torch.testing.assert_close(found.mean, found.documents.mean(0))


def test_spans_add_up() -> None:
    model, pairs = family_model("qwen3"), some_pairs(left=True)
    metric = Divergence(pairs.attention_mask)
    found = attribute(model, pairs, metric)
    assert found.spans is not None
    assert found.spans.shape == (3, 2, *found.documents.shape[1:])
    whole = attribute(model, replace(pairs, clean=replace(pairs.clean, spans={})), metric)
    assert whole.spans is None
    assert relative(found.documents, whole.documents) < 1e-6
    rest = found.documents - found.spans.sum(1)  # of tokens that belong to no span
    assert float(rest.abs().max()) > 1e-6
    first = pairs.clean.spans["first"] | (pairs.clean.labels() < 0)
    clean = replace(pairs.clean, spans={**pairs.clean.spans, "first": first})
    everywhere = replace(pairs, clean=clean)
    full = attribute(model, everywhere, metric)
    assert full.spans is not None
    assert relative(full.spans.sum(1), whole.documents) < 1e-6


@pytest.mark.parametrize("together", [1, 10])
def test_how_many_destinations_are_multiplied_at_once_changes_nothing(
    together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Layer by layer, and two layers at once, which leaves the logits for themselves."""
    model, pairs = family_model("llama"), some_pairs()
    metric, settings = difference_metric(pairs), AttributionSettings(method="eap")
    expected = attribute(model, pairs, metric, settings).documents
    monkeypatch.setattr("sumcirc.circuits.attribution.edge_scores.TOGETHER", together)
    found = attribute(model, pairs, metric, settings).documents
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12 * float(expected.abs().max()))


def test_weights_too_large_to_keep_are_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    model, pairs = family_model("llama"), some_pairs()
    graph = Graph(HookedModel(model).shape, expand_groups=True)
    metric = difference_metric(pairs)
    kept = attribute(model, pairs, metric, batch_size=1, graph=graph)
    monkeypatch.setattr(attribution, "KEPT", 0)
    again = attribute(model, pairs, metric, batch_size=1, graph=graph)
    assert torch.equal(kept.documents, again.documents)


@pytest.mark.parametrize("method", METHODS)
def test_the_model_is_left_as_it_was(method: str) -> None:
    model = family_model("qwen3 + lora").float()
    hooked = HookedModel(model)
    model.train()
    hooked.blocks[1].mlp.eval()
    modes = [module.training for module in model.modules()]
    asking = [parameter.requires_grad for parameter in model.parameters()]
    hooks = [
        len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()
    ]
    random = torch.get_rng_state()
    pairs = some_pairs()
    graph = Graph(hooked.shape, expand_groups=True)
    done: list[int] = []
    with torch.inference_mode():  # as within Lightning's validation
        found = attribute(
            model,
            pairs,
            difference_metric(pairs),
            AttributionSettings(method=method, steps=2),
            graph=graph,
            batch_size=64,
            progress=done.append,
        )
    assert method == "random" or sum(done) == 3
    assert found.documents.isfinite().all()
    assert all(parameter.grad is None for parameter in model.parameters())
    assert [parameter.requires_grad for parameter in model.parameters()] == asking
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random)
    assert hooked.blocks[0].attention.num_key_value_groups == 2
    assert hooks == [
        len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()
    ]


def test_the_model_is_left_as_it_was_when_a_pass_fails() -> None:
    class Broken(LogitDifference):
        def by_position(self, *arguments: Any) -> Tensor:
            raise RuntimeError("broken")

    model, pairs = family_model("llama"), some_pairs()
    model.train()
    metric = Broken(pairs.clean.last, torch.ones(3).long(), torch.ones(3).long())
    with pytest.raises(RuntimeError, match="broken"):
        attribute(model, pairs, metric, graph=Graph(HookedModel(model).shape, True))
    assert all(module.training for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())
    assert model.model.layers[0].self_attn.num_key_value_groups == 2


def test_random_scores_are_a_seeded_control() -> None:
    model, pairs = family_model("gpt2"), some_pairs()
    metric = Divergence(pairs.attention_mask)
    first, again, other = (
        attribute(model, pairs, metric, AttributionSettings(method="random", seed=seed)).documents
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert (first[0] != first[1]).any()
    exists = torch.from_numpy(Graph(HookedModel(model).shape).exists)
    assert (first[:, ~exists] == 0).all()
    assert (first[:, exists] != 0).all()


def test_content_tokens_of_a_reference() -> None:
    """Only the positions before them are read, and both IG ends and the metric are consistent."""
    model, pairs = family_model("gpt2"), some_pairs()
    tokens = torch.zeros_like(pairs.attention_mask)
    tokens[:, 4] = True
    targets = torch.roll(pairs.clean.input_ids, -1, 1)
    metric = NegativeLogLikelihood(torch.roll(tokens, -1, 1), targets)
    found = attribute(model, pairs, metric, AttributionSettings(rule="gauss-legendre", steps=6))
    assert (found.documents.abs().amax((1, 2)) > 0).all()


def test_half_precision() -> None:
    pairs = some_pairs()
    metric = difference_metric(pairs)
    model = family_model("llama")
    exact = attribute(model, pairs, metric).mean.float()
    found = attribute(model.bfloat16(), pairs, metric)
    assert found.documents.dtype == torch.float32
    assert relative(found.mean, exact) < 0.1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "acdc"}, "circuit.method=acdc: choose from"),
        ({"rule": "up"}, "circuit.rule=up: choose from"),
        ({"steps": 0}, "steps=0"),
        ({"method": "eap"}, "every score would be 0"),
        ({"method": "relp"}, "every score would be 0"),
        ({"rule": "right", "steps": 1}, "only point of circuit.rule=right is the clean run"),
    ],
)
def test_mistakes_in_settings(settings: dict[str, Any], message: str) -> None:
    model, pairs = small_model("gpt2"), some_pairs()
    with pytest.raises(UserError, match=message):
        attribute(model, pairs, Divergence(pairs.attention_mask), AttributionSettings(**settings))


def test_mistakes_in_metric_and_graph() -> None:
    model, pairs = small_model("gpt2"), some_pairs()
    metric = Divergence(pairs.attention_mask)
    with pytest.raises(UserError, match="reads padding in item `two`"):
        attribute(model, pairs, Divergence(torch.ones(3, 9)))
    with pytest.raises(UserError, match="made for"):
        attribute(model, pairs, Divergence(torch.ones(3, 5)))
    with pytest.raises(UserError, match="another shape"):
        attribute(model, pairs, metric, graph=Graph(HookedModel(small_model("llama")).shape))
