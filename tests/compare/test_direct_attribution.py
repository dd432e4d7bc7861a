"""Direct attribution beside parts written out one by one, and its sum beside the metric."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sumcirc.compare.direct_attribution import DirectAttribution, direct_attribution
from sumcirc.compare.items.item_set import ItemSet
from sumcirc.data.examples import TokenExample
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.models.architectures import ARCHITECTURES
from sumcirc.models.unwrapping import base_model
from tests.compare.spanned_items import some_items
from tests.support.small_models import (
    adapted,
    exact_norms,
    in_float64,
    scrambled,
    share_of,
    writing,
)

CASES = [(family, with_adapter) for family in ARCHITECTURES for with_adapter in (False, True)]


@cache
def model_of(family: str, with_adapter: bool) -> Any:
    model = exact_norms(in_float64(scrambled(family)))
    return (adapted(model) if with_adapter else model).double().eval()


def total(found: DirectAttribution) -> np.ndarray:
    return found.embedding + found.layers.sum(0) + found.bias + found.entropy


def by_hand(model: Any, item: TokenExample) -> dict[str, Any]:
    """Contributions at one item: every head's output in full, the norm as it is written."""
    hooked = HookedModel(model)
    family = hooked.model.config.model_type
    heads, width = hooked.shape.heads, hooked.shape.head_width
    seen: dict[str, Tensor] = {}

    def see(name: str, module: nn.Module, output: bool) -> Any:
        if output:
            return module.register_forward_hook(lambda m, i, o: seen.__setitem__(name, o[0]))
        return module.register_forward_pre_hook(lambda m, i: seen.__setitem__(name, i[0][0]))

    handles = [
        see("embedding", hooked.blocks[0].whole, False),
        see("final", hooked.final_norm, False),
    ]
    for layer, block in enumerate(hooked.blocks):
        handles.append(see(f"z{layer}", block.attn_out, False))
        handles.append(see(f"projection{layer}", block.attn_out, True))
        handles.append(see(f"mlp{layer}", writing(block)[1], True))
    with torch.no_grad():
        logits = base_model(model)(torch.from_numpy(item.ids)[None]).logits[0]
    for handle in handles:
        handle.remove()

    norm: Any = hooked.final_norm
    centred = "LayerNorm" in type(norm).__name__
    epsilon = norm.eps if hasattr(norm, "eps") else norm.variance_epsilon
    gain = 1 + norm.weight if family.startswith("gemma") else norm.weight
    times = getattr(hooked.model.config, "residual_multiplier", 1.0)
    head: Any = hooked.model.get_output_embeddings()
    rows = np.flatnonzero(item.reads)
    found: dict[str, Any] = {}

    def add(name: str, value: Tensor | float) -> None:
        found[name] = found.get(name, 0.0) + float(value) / len(rows)

    for row in rows:
        good, bad = int(item.good[row]), int(item.bad[row])
        stream, log_p = seen["final"][row], logits[row].log_softmax(0)
        # a logit is its ratio to the unembedding's output, which is kept, times that output
        ratio = logits[row] / head(norm(stream))
        towards = ratio[:, None] * head.weight
        if bad >= 0:
            direction = towards[good] - towards[bad]
            add("metric", logits[row, good] - logits[row, bad])
            add("entropy", 0.0)
        else:
            expected = (log_p.exp()[:, None] * towards).sum(0)
            direction = towards[good] - expected
            add("metric", log_p[good])
            add("entropy", (log_p.exp() * log_p).sum())
        spread = stream - stream.mean() if centred else stream
        sigma = (spread.square().mean() + epsilon).sqrt()

        def through(part: Tensor, sigma: Tensor = sigma, direction: Tensor = direction) -> Tensor:
            part = part - part.mean() if centred else part
            return (gain * part / sigma * direction).sum()

        add("bias", (norm.bias * direction).sum() if centred else 0.0)
        add("embedding", through(seen["embedding"][row]))
        for layer, block in enumerate(hooked.blocks):
            add(f"mlp{layer}", through(times * seen[f"mlp{layer}"][row]))
            whole = seen[f"projection{layer}"][row]
            z = seen[f"z{layer}"][row]
            constant = block.attn_out(torch.zeros_like(z)[None])[0]
            add(f"bias{layer}", through(times * constant))
            for number in range(heads):
                alone = torch.zeros_like(z)
                here = slice(number * width, (number + 1) * width)
                alone[here] = z[here]
                part = block.attn_out(alone[None])[0] - constant
                share = times * share_of(hooked.model, layer, part, whole)
                add(f"head{layer}.{number}", through(share))
    return found


@torch.no_grad()
@pytest.mark.parametrize("two_answers", [False, True], ids=["documents", "prompts"])
@pytest.mark.parametrize(("family", "with_adapter"), CASES)
def test_every_part_is_as_written_out(family: str, with_adapter: bool, two_answers: bool) -> None:
    model, items = model_of(family, with_adapter), some_items(two_answers)
    done: list[int] = []
    found = direct_attribution(HookedModel(model), items, 2, done.append)
    assert sum(done) == len(items)
    np.testing.assert_allclose(total(found), found.metric, rtol=0, atol=1e-9)
    np.testing.assert_allclose(found.metric, items.values(HookedModel(model), 3), rtol=0, atol=1e-9)
    layers, heads, _ = found.heads.shape
    for number, item in enumerate(items.items):
        expected = by_hand(model, item)
        for name in ("metric", "embedding", "bias", "entropy"):
            assert getattr(found, name)[number] == pytest.approx(expected[name], abs=1e-9), name
        for layer in range(layers):
            for values, name in ((found.mlps, "mlp"), (found.attention_bias, "bias")):
                assert values[layer, number] == pytest.approx(expected[f"{name}{layer}"], abs=1e-9)
            for head in range(heads):
                wanted = expected[f"head{layer}.{head}"]
                assert found.heads[layer, head, number] == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize(
    ("dtype", "close"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05)], ids=["f32", "bf16"]
)
@pytest.mark.parametrize("two_answers", [False, True])
@pytest.mark.parametrize("family", ARCHITECTURES)
def test_other_precisions_sum_to_the_metric(
    family: str, two_answers: bool, dtype: torch.dtype, close: float
) -> None:
    model = scrambled(family).to(dtype)
    found = direct_attribution(HookedModel(model), some_items(two_answers), 3)
    columns = (found.embedding[None], found.mlps, found.attention_bias, found.entropy[None])
    largest = max(np.abs(part).max() for part in (*columns, found.heads, found.bias))
    assert np.abs(total(found) - found.metric).max() < close * largest


def test_an_unembedding_with_a_bias_and_many_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """More rows than are unembedded at once, and a bias that prefers tokens."""
    monkeypatch.setattr("sumcirc.compare.direct_attribution.READ_AT_ONCE", 4)
    model = scrambled("gpt2").double()
    whole = direct_attribution(HookedModel(model), some_items(False), 5)
    linear = nn.Linear(32, 400, dtype=torch.float64)
    linear.weight = model.lm_head.weight
    linear.bias.data.copy_(torch.linspace(-1, 1, 400))
    model.set_output_embeddings(linear)
    for two_answers in (False, True):
        found = direct_attribution(HookedModel(model), some_items(two_answers), 5)
        np.testing.assert_allclose(total(found), found.metric, rtol=0, atol=1e-9)
    assert np.abs(whole.metric - found.metric).max() > 1e-3


def test_batches_do_not_matter() -> None:
    model, items = model_of("llama", True), some_items(False)
    one, all_at_once = (direct_attribution(HookedModel(model), items, size) for size in (1, 5))
    for name, values in vars(one).items():
        np.testing.assert_allclose(values, getattr(all_at_once, name), rtol=0, atol=1e-12)


def test_adapters_count_only_when_on() -> None:
    model, items = model_of("qwen2", True), some_items(True)
    expected = direct_attribution(HookedModel(model_of("qwen2", False)), items, 5)
    with model.disable_adapter():
        off = direct_attribution(HookedModel(model), items, 5)
    on = direct_attribution(HookedModel(model), items, 5)
    np.testing.assert_allclose(off.heads, expected.heads, rtol=0, atol=1e-12)
    assert np.abs(on.heads - expected.heads).max() > 1e-3


def test_the_model_is_left_as_it_was() -> None:
    model = adapted(scrambled("gpt2"), dropout=0.5)
    items = some_items(False)
    expected = direct_attribution(HookedModel(model), items, 5)
    model.train()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    asking = {name: p.requires_grad for name, p in model.named_parameters()}
    with torch.no_grad():
        found = direct_attribution(HookedModel(model), items, 5)
    assert np.array_equal(found.heads, expected.heads)
    assert all(module.training for module in model.modules())
    assert asking == {name: p.requires_grad for name, p in model.named_parameters()}
    assert all(p.grad is None for p in model.parameters())
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[name])
    for module in model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


def test_a_head_written_to_favour_the_answer_is_seen() -> None:
    """One head's output projection is turned towards the good token: it alone gains."""
    model, items = scrambled("gpt2").double(), some_items(True)
    item = items.items[0]
    row = int(np.flatnonzero(item.reads)[0])
    here = np.arange(len(item.ids)) == row
    good, bad = np.where(here, item.good, -1), np.where(here, item.bad, -1)
    only = ItemSet([TokenExample("one", item.ids, good, bad)])
    before = direct_attribution(HookedModel(model), only, 1).heads[..., 0]
    with torch.no_grad():
        weight = model.transformer.h[2].attn.c_proj.weight  # [in, out], the last layer: no echo
        weight[8:16] += 0.5 * model.lm_head.weight[int(item.good[row])]
    after = direct_attribution(HookedModel(model), only, 1).heads[..., 0]
    change = np.abs(after - before)
    assert np.unravel_index(change.argmax(), change.shape) == (2, 1)
