"""Attention measures beside a naive computation from eager attention matrices, on every family."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from scipy.special import entr, rel_entr
from torch import Tensor

from sumcirc.data.examples import NONE
from sumcirc.measures import attention
from sumcirc.measures.attention import SPANS, Rows, attention_measures
from sumcirc.models.activations.activation_cache import HookPoint
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.models.activations.hooks import AttentionInputs
from sumcirc.models.architectures import ARCHITECTURES
from sumcirc.models.loading import load_model
from sumcirc.schema import ModelConfig
from tests.support.small_models import VOCABULARY, small_model

LENGTHS = (40, 23, 31)  # tokens of the documents of a batch
STARTS = (26, 12, 9)  # where each summary starts


def sharp(family: str, seed: int = 0, **changes: Any) -> Any:
    """A random model whose attention is far from uniform."""
    model = small_model(family, seed, layers=2, **changes)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and "emb" not in name:
                parameter.mul_(8)
    return model


def batch(side: str) -> tuple[Tensor, Tensor, Rows]:
    """Tokens, attention mask and rows; padded on one side."""
    length = max(LENGTHS)
    ids, mask = torch.zeros(3, length, dtype=torch.long), torch.zeros(3, length, dtype=torch.long)
    kinds = torch.full((3, length), NONE)
    index, real = torch.zeros(3, 24, dtype=torch.long), torch.zeros(3, 24, dtype=torch.bool)
    sink = torch.zeros(3, dtype=torch.long)
    for i, (size, start) in enumerate(zip(LENGTHS, STARTS, strict=True)):
        offset = length - size if side == "left" else 0
        ids[i, offset : offset + size] = torch.arange(1, size + 1) * 37 % VOCABULARY
        mask[i, offset : offset + size] = 1
        spans = [1, *[0] * (start - 4), 1, 1, 1, *[2] * (size - start)]
        kinds[i, offset : offset + size] = torch.tensor(spans)
        rows = torch.arange(start - 1, size - 1) + offset
        index[i] = rows[-1]
        index[i, : len(rows)] = rows
        real[i, : len(rows)] = True
        sink[i] = offset
    count = int(real.sum(1).max())
    index, real = index[:, :count], real[:, :count]
    return (
        ids,
        mask,
        Rows(index, real, kinds, sink, *(f(0).tolist() for f in (index.amin, index.amax))),
    )


def every_row(length: int, documents: int) -> Rows:
    """All positions of unpadded documents, the first included."""
    index = torch.arange(length).expand(documents, -1)
    kinds, sink = torch.zeros_like(index), torch.zeros(documents, dtype=torch.long)
    return Rows(
        index, torch.ones_like(index, dtype=torch.bool), kinds, sink, *[list(range(length))] * 2
    )


def watched(model: Any, ids: Tensor, mask: Tensor | None) -> list[AttentionInputs]:
    """Arguments of every layer's attention."""
    hooked, found = HookedModel(model), []

    def see(layer: int, given: AttentionInputs) -> None:
        found.append(given)

    with hooked.hooks(hooked.at_every_layer(HookPoint.ATTENTION, see)), torch.no_grad():
        model(ids, attention_mask=mask, position_ids=positions(ids, mask))
    return found


def seen(model: Any, ids: Tensor, mask: Tensor | None) -> list[tuple[Any, ...]]:
    """Query, key, mask and scaling of every layer."""
    return [(one.query, one.key, one.mask, one.scaling) for one in watched(model, ids, mask)]


def measured(
    query: Tensor,
    key: Tensor,
    rows: Rows,
    scaling: float,
    mask: Tensor | None = None,
    base: tuple[Tensor, Tensor] | None = None,
    **options: bool,
) -> dict[str, Tensor]:
    """The measures of attention with these queries and keys."""
    return attention_measures(
        AttentionInputs(query, key, key, mask, scaling), rows, base, **options
    )


def positions(ids: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return torch.arange(ids.shape[1]).expand(len(ids), -1)
    return (mask.cumsum(1) - 1).clamp(min=0)


def eager(model: Any, ids: Tensor, mask: Tensor | None) -> list[Tensor]:
    """Attention matrices [batch, heads, length, length] of every layer, in float64."""
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    with torch.no_grad():
        out = model(
            ids, attention_mask=mask, position_ids=positions(ids, mask), output_attentions=True
        )
    model.set_attn_implementation(before)
    return [a.double() for a in out.attentions]


def naive(
    matrix: Tensor, rows: Rows, i: int, head: int, other: Tensor | None, window: int
) -> dict[str, float]:
    """Every measure of one document and head, row by row with plain sums."""
    found: dict[str, list[float]] = {}

    def add(name: str, value: float) -> None:
        found.setdefault(name, []).append(value)

    sink = int(rows.sink[i])
    for row in rows.index[i][rows.real[i]].tolist():
        p = matrix[i, head, row].numpy()
        # not where p > 0: in fp32 a sharp head's probabilities of visible keys underflow
        places = np.arange(len(p))
        seen = (places <= row) & (places >= sink) & (places > row - window)
        rest = seen.copy()
        rest[sink] = False
        for ending, keys in (("", seen), ("_no_sink", rest)):
            if not keys.any():
                continue
            q = p[keys] / p[keys].sum()
            entropy = entr(q).sum()
            add(f"entropy{ending}", entropy)
            add(f"effective_keys{ending}", math.exp(entropy))
            if keys.sum() > 1:
                add(f"normalized_entropy{ending}", entropy / math.log(keys.sum()))
        add("mass_sink", p[sink])
        kinds = rows.kinds[i].numpy()
        for number, name in enumerate(SPANS):
            add(f"mass_{name}", p[rest & (kinds == number)].sum())
        if other is not None:
            b = other[i, head, row].numpy()
            add("kl_tuned_base", rel_entr(p[seen], b[seen]).sum())
            add("kl_base_tuned", rel_entr(b[seen], p[seen]).sum())
            add("js", jensenshannon(p, b) ** 2)
    return {name: float(np.mean(values)) for name, values in found.items()}


def compare(
    found: list[dict[str, Tensor]],
    ours: Any,
    rows: Rows,
    theirs: Any = None,
    windows: Sequence[int | None] = (None,) * 9,
    may_underflow: bool = False,
) -> None:
    """Every measure, layer, document and head against the naive one, to 1e-5."""
    for layer, measures in enumerate(found):
        other = None if theirs is None else theirs[layer]
        for i in range(len(rows.index)):
            for head in range(measures["entropy"].shape[1]):
                expected = naive(ours[layer], rows, i, head, other, windows[layer] or 10_000)
                assert set(expected) == set(measures) - {"keys"}
                for name, value in expected.items():
                    if math.isinf(value):
                        assert may_underflow  # eager attention underflows in sharp heads
                        continue
                    got = measures[name][i, head].item()
                    assert got == pytest.approx(value, abs=1e-5, rel=1e-5), (name, layer, i, head)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("family", ARCHITECTURES)
def test_equal_to_naive_on_every_family(family: str, side: str) -> None:
    """Grouped queries, rotary embeddings, both kinds of padding; with divergences from a base."""
    model, base = sharp(family), sharp(family, seed=1)
    ids, mask, rows = batch(side)
    given = mask if side == "left" else None
    ours, theirs = watched(model, ids, given), watched(base, ids, given)
    found = [
        attention_measures(one, rows, (other.query, other.key))
        for one, other in zip(ours, theirs, strict=True)
    ]
    windows = [one.window for one in ours]
    compare(found, eager(model, ids, mask), rows, eager(base, ids, mask), windows)
    # the models differ, and attention is not uniform: a comparison of nothing would pass too
    assert found[0]["kl_tuned_base"].min() > 0.01
    assert found[0]["normalized_entropy"].min() < 0.9


def test_equal_to_naive_on_a_trained_model() -> None:
    """The built-in model of 6 layers; attention as training makes it."""
    model: Any = load_model(ModelConfig(name="tiny", path="tiny")).eval()
    base = copy.deepcopy(model)
    width = model.config.n_embd
    with torch.no_grad():
        for block in base.transformer.h:
            block.attn.c_attn.weight[:, width : 2 * width] *= 0.8  # of the keys
    ids, mask, rows = batch("right")
    base_seen = seen(base, ids, None)
    found = [
        measured(q, k, rows, scale, m, (base_seen[layer][0], base_seen[layer][1]))
        for layer, (q, k, m, scale) in enumerate(seen(model, ids, None))
    ]
    compare(found, eager(model, ids, mask), rows, eager(base, ids, mask), may_underflow=True)


@pytest.mark.parametrize("given", [True, False])
def test_right_padding_with_and_without_a_mask(given: bool) -> None:
    model = sharp("qwen3")
    ids, mask, rows = batch("right")
    found = [
        measured(q, k, rows, scale, m)
        for q, k, m, scale in seen(model, ids, mask if given else None)
    ]
    compare(found, eager(model, ids, mask), rows)


def test_sliding_windows_hide_the_sink() -> None:
    model = sharp("mistral", sliding_window=7)
    ids, mask, rows = batch("right")
    found = [measured(q, k, rows, s, m) for q, k, m, s in seen(model, ids, None)]
    compare(found, eager(model, ids, mask), rows, windows=(7, 7))
    assert found[0]["mass_sink"].max() == 0  # every measured row is past the window
    torch.testing.assert_close(found[0]["entropy"], found[0]["entropy_no_sink"])


def test_every_row_from_the_first() -> None:
    """Row 0 sees one key: its normalised entropy and all without the sink are left out."""
    model = sharp("gpt2")
    ids = torch.arange(1, 61).reshape(2, 30)
    rows = every_row(30, 2)
    found = [measured(q, k, rows, s, m) for q, k, m, s in seen(model, ids, None)]
    compare(found, eager(model, ids, None), rows)


def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    model, base = sharp("llama"), sharp("llama", seed=1)
    ids, _, rows = batch("right")
    q, k, m, scale = seen(model, ids, None)[1]
    other = seen(base, ids, None)[1][:2]
    whole = measured(q, k, rows, scale, m, other, keys_read=True)
    monkeypatch.setattr(attention, "BLOCK", 1)
    by_row = measured(q, k, rows, scale, m, other, keys_read=True)
    for name, value in whole.items():
        torch.testing.assert_close(by_row[name], value, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("side", ["right", "left"])
def test_attention_to_each_key(side: str) -> None:
    model = sharp("qwen2")
    ids, mask, rows = batch(side)
    matrix = eager(model, ids, mask)[0]
    q, k, m, scale = seen(model, ids, mask)[0]
    found = measured(q, k, rows, scale, m, keys_read=True)["keys"]
    for i in range(3):
        expected = matrix[i][:, rows.index[i][rows.real[i]]].mean(1)
        torch.testing.assert_close(found[i].double(), expected, atol=1e-6, rtol=1e-5)


def test_query_rows_alone_are_enough() -> None:
    """What the base store keeps: queries of the measured rows."""
    model = sharp("gpt2")
    ids, _, rows = batch("right")
    q, k, m, scale = seen(model, ids, None)[0]
    alone = attention.rows_of_query(q, rows, q.shape[2])
    assert alone.shape[2] == rows.index.shape[1] < q.shape[2]
    whole, part = (measured(x, k, rows, scale, m) for x in (q, alone))
    assert all(torch.equal(whole[name], part[name]) for name in whole)


@pytest.mark.parametrize("gap", [30.0, 200.0])
def test_a_sink_that_holds_nearly_all(gap: float) -> None:
    """Entropy without the sink is right where the others' weights would underflow beside it."""
    keys = torch.zeros(1, 1, 6, 4)
    keys[0, 0, 0, 0] = gap
    keys[0, 0, 1:, 1] = torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0])
    query = torch.zeros(1, 1, 6, 4)
    query[..., :2] = 1
    index = torch.tensor([[4, 5]])
    kinds = torch.zeros(1, 6, dtype=torch.long)
    rows = Rows(
        index, torch.ones_like(index, dtype=torch.bool), kinds, torch.tensor([0]), [4, 5], [4, 5]
    )
    found = measured(query, keys, rows, 1.0)
    expected = []
    for count in (4, 5):
        p = np.exp(np.arange(count)) / np.exp(np.arange(count)).sum()
        expected.append(-(p * np.log(p)).sum())
    assert found["entropy_no_sink"].item() == pytest.approx(np.mean(expected), abs=1e-6)
    assert 0 <= found["entropy"].item() < 1e-6 * gap
    assert found["mass_sink"].item() == pytest.approx(1.0)


def test_bf16_is_measured_in_fp32() -> None:
    """Queries and keys as the model rounds them, and no rounding after that."""
    model = sharp("llama").bfloat16()
    ids, _, rows = batch("right")
    q, k, m, scale = seen(model, ids, None)[0]
    assert q.dtype == torch.bfloat16
    found = measured(q, k, rows, scale, m)
    exact = measured(q.float(), k.float(), rows, scale, m)
    assert all(torch.equal(found[name], exact[name]) for name in found)


def test_no_divergence_from_itself() -> None:
    model = sharp("gpt2")
    ids, _, rows = batch("right")
    for q, k, m, scale in seen(model, ids, None):
        found = measured(q, k, rows, scale, m, (q, k))
        for name in ("kl_tuned_base", "kl_base_tuned", "js"):
            assert found[name].max() < 2e-7


def test_divergence_is_directed_and_bounded() -> None:
    model, base = sharp("gpt2"), sharp("gpt2", seed=1)
    ids, _, rows = batch("right")
    q, k, m, scale = seen(model, ids, None)[0]
    other = seen(base, ids, None)[0][:2]
    found = measured(q, k, rows, scale, m, other)
    turned = measured(*other, rows, scale, m, (q, k))
    torch.testing.assert_close(found["kl_tuned_base"], turned["kl_base_tuned"])
    assert not torch.allclose(found["kl_tuned_base"], found["kl_base_tuned"], rtol=0.05)
    assert found["js"].max() <= math.log(2)


def test_a_base_of_another_shape_is_refused() -> None:
    ids, _, rows = batch("right")
    q, k, m, scale = seen(sharp("gpt2"), ids, None)[0]
    with pytest.raises(ValueError, match="base"):
        measured(q, k, rows, scale, m, (q, k[:, :, :-1]))
