"""Path scores divided by edge: against finite differences and patched runs, in float64."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

from sumcirc.compare.path import attention_tangent
from sumcirc.compare.path.edge_writes import EdgePasses
from sumcirc.compare.path.path_attribution import PathAttribution, attribute_path
from sumcirc.compare.path.unit_change import unit_change
from sumcirc.errors import UserError
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.schema import CompareOptions, Grain, PathOptions
from tests.compare.edited import (
    base_of,
    changed_everywhere,
    logits,
    same_state,
    some_items,
    state,
    weights_in_memory,
    with_adapter,
)
from tests.compare.naive_edges import DenseModel
from tests.compare.naive_path import (
    low_rank_change,
    named,
    of_head,
    of_neurons,
    whole_change,
)
from tests.support.small_models import POST_NORM, small_model

OPTIONS = PathOptions(nodes=14, neuron_groups=3, directions=0, effects=None, edges=True)
AMOUNT = 0.4
CASES = [
    *((family, "whole") for family in ("gpt2", "llama", "gpt_neox", "granite", "gemma3_text")),
    *((family, "lora") for family in ("gpt2", "qwen3", "phi3")),
    ("llama", "dora"),
]


def tuned(family: str, kind: str) -> tuple[Any, Any, Any, Any]:
    """The model before and after, weights before for whole models, and the dense change."""
    base = base_of(family)
    if kind == "whole":
        after = changed_everywhere(base, 0.02)
        return base, after, weights_in_memory(base), whole_change(base, after)
    after = with_adapter(base, kind == "dora")
    return base, after, None, low_rank_change(base, after)


def shared_by(family: str, layer: int, group: int) -> Any:
    """The rows of a group's keys and values."""

    def select(name: str, delta: torch.Tensor) -> Any:
        mask, own = torch.zeros_like(delta), slice(8 * group, 8 * group + 8)
        if delta.ndim < 2:
            return 0.0
        if named(family, layer, "qkv_proj.weight")(name, delta):  # 32 rows of queries, 16 of keys
            mask[32:48][own] = mask[48:][own] = 1.0
        elif named(family, layer, "k_proj.weight", "v_proj.weight")(name, delta):
            mask[own] = 1.0
        return mask

    return select


def naive(family: str, dense: DenseModel, senders: list[str], ids: torch.Tensor) -> torch.Tensor:
    """What each sender writes, [senders, T, width]."""
    hooked, found = dense.hooked, []
    grouped = hooked.shape.group > 1
    for label in senders:
        if label == "input":
            name = next(one for one in dense.change if one.endswith(TABLES))
            plain = copy.deepcopy(hooked.embedding)
            plain.weight.data = dense.change[name]
            found.append(plain(ids)[0].detach() * hooked.multipliers.embedding)
        elif label == "positions":
            found.append(dense.change["transformer.wpe.weight"][: ids.shape[1]])
        elif " by " in label:
            layer, head = map(int, label.split()[0][1:].split(".h"))
            one = dense.heads(layer, shared_by(family, layer, head // hooked.shape.group))
            found.append(one[head])
        elif label.startswith("a"):
            layer, head = map(int, label[1:].split(".h"))
            found.append(dense.written(layer, "attention", of_head(family, layer, head, grouped)))
        else:
            everything = of_neurons(family, int(label[1:]), range(hooked.shape.neurons))
            found.append(dense.written(int(label[1:]), "mlp", everything))
    return torch.stack(found)


TABLES = ("wte.weight", "embed_tokens.weight", "embed_in.weight")


@pytest.mark.parametrize(
    ("family", "kind", "blocked"),
    [*((*case, False) for case in CASES), ("gpt2", "whole", True), ("gemma3_text", "whole", True)],
)
def test_every_edge_is_what_a_finite_difference_does_there(
    family: str, kind: str, blocked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocked: attention by blocks of two queries, and edges by a single position at once."""
    if blocked:
        monkeypatch.setattr(attention_tangent, "ROWS", 2 * 4 * 12)
        monkeypatch.setattr("sumcirc.compare.path.edge_writes.at_once", lambda _: 1)
    base, after, weights, change = tuned(family, kind)
    items = some_items()
    hooked = HookedModel(after)
    with unit_change(hooked, weights, 3, 0) as live:
        passes = EdgePasses(hooked, live)
        labels = [sender.label for sender in passes.senders]
        live.scale(AMOUNT)
        passes.read()
        for batch in list(items.batches(1))[:2]:
            found = passes.unpacked(passes.differentiate(batch)[1])[0]
            item = items.items[batch.places[0]]
            dense = DenseModel(base, change, AMOUNT, batch.input_ids)
            known = [
                row
                for row, label in enumerate(labels)
                if not (" by " in label and family in POST_NORM)  # whose norm the oracle lacks
            ]
            written = naive(family, dense, [labels[row] for row in known], batch.input_ids)
            expected = (
                dense.read(item, written)
                * passes.graph.exists[[passes.senders[row].source for row in known]]
            )
            scale = np.abs(expected).max()
            np.testing.assert_allclose(found[known], expected, atol=1e-6 * scale)
            for row, label in zip(expected, [labels[row] for row in known], strict=True):
                assert np.abs(row).max() > 1e-3 * scale, label
            columns = np.abs(expected).max(0)[passes.graph.exists[passes.senders[0].source]]
            assert (columns > 1e-5 * scale).sum() >= 0.9 * len(columns)


def by_label(found: PathAttribution, grain: Grain) -> dict[str, Any]:
    return {
        unit.label: scores
        for unit, scores in zip(found.units[grain], found.scores[grain], strict=True)
    }


@pytest.mark.parametrize(
    ("family", "kind"), [*CASES, ("gpt_neox", "lora"), ("gemma3_text", "lora")]
)
def test_edges_add_up_to_their_senders(family: str, kind: str) -> None:
    _, after, weights, _ = tuned(family, kind)
    found = attribute_path(after, weights, some_items(), OPTIONS)
    plain = attribute_path(
        after, weights, some_items(), PathOptions(14, neuron_groups=3, directions=0, effects=None)
    )
    edges = found.edges
    assert edges is not None
    assert plain.edges is None
    scale = np.abs(found.gain).max()
    for grain, values in plain.scores.items():
        np.testing.assert_allclose(found.scores[grain], values, atol=1e-9 * scale)
    heads, modules = by_label(found, Grain.head), by_label(found, Grain.module)
    expected: dict[str, Any] = {}
    for name, score in heads.items():
        kind_of, _, place = name.split()[0].partition(".")
        if kind_of not in ("head", "key_value", "neurons"):
            continue
        layer, index = place.split(".")
        letter = {"head": "h", "key_value": "g"}.get(kind_of)
        label = f"m{layer}" if letter is None else f"a{layer}.{letter}{index}"
        expected[label] = expected.get(label, 0) + score
    sums: dict[str, Any] = {}
    for sender, values in zip(edges.senders, edges.values.sum(2).T, strict=True):
        label = sender.label.split(" by ")[-1]
        label = "embedding" if label in ("input", "positions") else label
        sums[label] = sums.get(label, 0) + values
    of_embedding = sums.pop("embedding", 0) + edges.rest.get("unembedding", 0)
    assert sums.keys() == expected.keys()
    for label, values in sums.items():
        np.testing.assert_allclose(values, expected[label], atol=1e-9 * scale, err_msg=label)
    if kind == "whole":
        np.testing.assert_allclose(of_embedding, modules["embedding"], atol=1e-9 * scale)
        tied = after.get_output_embeddings().weight is after.get_input_embeddings().weight
        assert ("unembedding" in edges.rest) == tied
    else:
        assert not edges.rest
    total = edges.values.sum((1, 2)) + sum(edges.rest.values())
    np.testing.assert_allclose(total, found.gain, atol=5e-5 * scale)
    assert not edges.values[:, ~edges.exists].any()
    np.testing.assert_allclose(edges.by_source.sum((1, 2)), edges.values.sum((1, 2)))
    assert edges.moved.shape == edges.exists.shape


def test_the_unembedding_of_a_tied_embedding_is_a_row_of_its_own() -> None:
    """Measured by a model whose unembedding alone has the change."""
    base, after, weights, _ = tuned("gpt2", "whole")
    only = copy.deepcopy(base)
    for one in (base, after, only):
        one.lm_head.weight = torch.nn.Parameter(one.lm_head.weight.detach().clone())
        one.config.tie_word_embeddings = False
    untied = attribute_path(after, weights_in_memory(base), some_items(), OPTIONS)
    _, after, weights, _ = tuned("gpt2", "whole")
    tied = attribute_path(after, weights, some_items(), OPTIONS)
    assert untied.edges is not None
    assert tied.edges is not None
    assert "unembedding" not in untied.edges.rest
    np.testing.assert_allclose(
        tied.edges.rest["unembedding"] + tied.edges.rest["final"],
        untied.edges.rest["final"],
        atol=1e-12,
    )
    np.testing.assert_allclose(tied.edges.values, untied.edges.values, atol=1e-12)


@pytest.mark.parametrize("kind", ["whole", "lora", "dora"])
def test_nothing_is_left_changed(kind: str) -> None:
    base = small_model("llama")
    after = changed_everywhere(base) if kind == "whole" else with_adapter(base, kind == "dora")
    weights = weights_in_memory(base) if kind == "whole" else None
    after = after.float().train()
    next(after.modules()).eval()
    for number, parameter in enumerate(after.parameters()):
        parameter.requires_grad_(number % 2 == 0)
        parameter.grad = torch.full_like(parameter, 0.5) if number % 3 == 0 else None
    kept, drawn, own = state(after), torch.get_rng_state(), logits(after)
    attention = after.config._attn_implementation
    attribute_path(after, weights, some_items(), OPTIONS)
    assert torch.equal(drawn, torch.get_rng_state())
    assert after.config._attn_implementation == attention
    for number, parameter in enumerate(after.parameters()):
        if number % 3 == 0:
            assert parameter.grad is not None
            assert bool((parameter.grad == 0.5).all())
        else:
            assert parameter.grad is None
    assert torch.equal(own, logits(after))
    assert not any(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in after.modules())
    same_state(kept, state(after))


def test_a_late_change_writes_to_late_readers_only() -> None:
    base = base_of("llama")
    after = copy.deepcopy(base)
    with torch.no_grad():
        after.model.layers[1].self_attn.v_proj.weight[:8] += 0.1
    found = attribute_path(after, weights_in_memory(base), some_items(), OPTIONS)
    edges = found.edges
    assert edges is not None
    assert [sender.label for sender in edges.senders] == [
        f"a1.h{head} by a1.g{head // 2}" for head in range(4)
    ]
    names = np.array(edges.graph.destinations)
    assert names[edges.exists.any(0)].tolist() == ["m1", "logits"]
    np.testing.assert_allclose(edges.values.sum((1, 2)), found.gain, rtol=1e-5)
    assert not edges.values[:, 2:].any()  # heads of the other group


def test_what_can_not_be_divided_is_refused() -> None:
    base = base_of("olmo2")
    with pytest.raises(UserError, match=r"edges=true: a `olmo2` norms .* of all heads together"):
        attribute_path(changed_everywhere(base), weights_in_memory(base), some_items(), OPTIONS)
    quantized = small_model("llama")
    quantized.is_quantized = True
    with pytest.raises(UserError, match=r"edges=true: the linears of a model with model.quantize"):
        attribute_path(with_adapter(quantized, False), None, some_items(), OPTIONS)
    with pytest.raises(UserError, match=r"edges=true: divides path scores; add path to"):
        CompareOptions(analyses=["direct"], path=PathOptions(edges=True))  # type: ignore[list-item]
