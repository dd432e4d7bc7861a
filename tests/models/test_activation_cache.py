"""Every hook point of every family equals a naive computation; replacements count; hooks go."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from sumcirc.errors import UserError
from sumcirc.models.activations.activation_cache import ActivationCache, HookPoint
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.models.activations.hooks import AttentionInputs
from sumcirc.models.architectures import ARCHITECTURES
from tests.support.small_models import (
    POST_NORM,
    VOCABULARY,
    WINDOW,
    adapted,
    columns,
    in_float64,
    scrambled,
)

TOKENS = torch.arange(2 * 7).reshape(2, 7) * 17 % VOCABULARY
LEFT = torch.ones_like(TOKENS).index_fill_(1, torch.tensor([0, 1]), 0)
LEFT[1] = 1  # the first document is padded on the left
FORMS = [*ARCHITECTURES, "gpt_neox sequential", "gpt2 + lora", "qwen3 + lora"]
INSIDE_ATTENTION = {HookPoint.QUERY, HookPoint.KEY, HookPoint.VALUE, HookPoint.PATTERN}


def model_of(form: str) -> HookedModel:
    family, *rest = form.split(" ", 1)
    changes = {"use_parallel_residual": False} if rest == ["sequential"] else {}
    model = in_float64(scrambled(family, **changes))
    return HookedModel(adapted(model).double() if rest == ["+ lora"] else model)


def points(model: HookedModel) -> list[HookPoint]:
    """All points of the model whose activations are tensors."""
    fused = len(model.projections) == 1
    wrong = ("query_", "key_", "value_") if fused else ("qkv_",)
    absent = {HookPoint.ATTENTION}
    if not normed_after(model):
        absent.add(HookPoint.ATTENTION_SCALE)
    return [point for point in HookPoint if point not in absent and not point.startswith(wrong)]


def normed_after(model: HookedModel) -> bool:
    """Whether a norm follows attention and MLP."""
    return model.model.config.model_type in POST_NORM


@torch.no_grad()
def everything(model: HookedModel, mask: Tensor | None = None) -> ActivationCache:
    with model.caching(model.every(*points(model))) as cache:
        model.unembedding(model.hidden(mask, input_ids=TOKENS))
    return cache


def positions(mask: Tensor | None) -> Tensor:
    every = torch.ones_like(TOKENS) if mask is None else mask
    return (every.cumsum(1) - 1).clamp(min=0)


def norm(module: Any, stream: Tensor) -> Tensor:
    """Written out: LayerNorm has `eps` and a bias, RMSNorm `variance_epsilon`; Gemma adds 1."""
    if isinstance(module, torch.nn.Identity):
        return stream
    if "Gemma" in type(module).__name__:
        scale = (stream.square().mean(-1, keepdim=True) + module.eps).rsqrt()
        return stream * scale * (1 + module.weight)
    if hasattr(module, "variance_epsilon"):
        scale = (stream.square().mean(-1, keepdim=True) + module.variance_epsilon).rsqrt()
        return stream * scale * module.weight
    centred = stream - stream.mean(-1, keepdim=True)
    scale = (centred.square().mean(-1, keepdim=True) + module.eps).rsqrt()
    return centred * scale * module.weight + module.bias


def rotated(model: HookedModel, layer: int, heads: Tensor, mask: Tensor | None) -> Tensor:
    """Rotary position embeddings of [B, heads, T, head width], pair by pair."""
    config = model.model.config
    if config.model_type == "gpt2":
        return heads
    if config.model_type == "smollm3" and layer % 2 == 1:
        return heads
    parameters = config.rope_parameters
    if config.model_type == "gemma3_text":
        parameters = parameters[config.layer_types[layer]]
    width = int(heads.shape[-1] * parameters.get("partial_rotary_factor", 1.0))
    turned, half = heads.clone(), width // 2
    for pair in range(half):
        frequency = parameters["rope_theta"] ** (-2 * pair / width)
        angle = (positions(mask)[:, None] * frequency).float().double()
        first, second = heads[..., pair], heads[..., pair + half]
        turned[..., pair] = first * angle.cos() - second * angle.sin()
        turned[..., pair + half] = second * angle.cos() + first * angle.sin()
    return turned


def visible(model: HookedModel, layer: int, mask: Tensor | None) -> Tensor:
    """[B, 1, T, T] by position: earlier real tokens and the token itself."""
    length = TOKENS.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    if model.model.config.model_type.startswith("gemma") and layer % 2 == 0:
        causal = causal.triu(1 - WINDOW)
    return causal[None, None] & (True if mask is None else mask.bool()[:, None, None])


@torch.no_grad()
def naive(model: HookedModel, mask: Tensor | None) -> dict[tuple[HookPoint, int], Tensor]:
    """Every activation from the weights alone, one step after the other."""
    found: dict[tuple[HookPoint, int], Tensor] = {}
    size, inner = model.shape, model.model
    config: Any = inner.config
    stream = model.embedding.weight[TOKENS]  # type: ignore[index]
    stream = stream * getattr(config, "embedding_multiplier", 1.0)
    if config.model_type.startswith("gemma"):
        stream = stream * torch.tensor(size.width**0.5)  # a buffer in float32
    share = getattr(config, "residual_multiplier", 1.0)
    scaling = size.head_width**-0.5
    if config.model_type == "granite":
        scaling = config.attention_multiplier
    elif config.model_type.startswith("gemma"):
        scaling = config.query_pre_attn_scalar**-0.5
    found[HookPoint.EMBEDDING, 0] = stream
    if inner.config.model_type == "gpt2":
        stream = stream + inner.transformer.wpe.weight[positions(mask)]
    for layer, block in enumerate(model.blocks):
        found[HookPoint.RESIDUAL, layer] = found[HookPoint.ATTENTION_INPUT, layer] = stream
        normed = norm(block.norm_attention, stream)
        found[HookPoint.ATTENTION_NORM, layer] = normed
        outputs = [linear(normed) for linear in block.qkv]
        for point, output in zip(model.projections, outputs, strict=True):
            found[point, layer] = output
            found[HookPoint(point.replace("projection", "input")), layer] = normed
        query, key, value = (
            torch.einsum("btd,hdw->bhtw", normed, one.weight) + one.bias[None, :, None]
            for one in columns(model, layer)
        )
        if block.head_norms:
            pairs = zip(block.head_norms, (query, key), strict=True)
            if config.model_type == "olmo2":  # all heads together
                query, key = (
                    norm(n, x.transpose(1, 2).flatten(2))
                    .unflatten(2, (x.shape[1], -1))
                    .transpose(1, 2)
                    for n, x in pairs
                )
            else:
                query, key = (norm(n, x) for n, x in pairs)
        query, key = (rotated(model, layer, x, mask) for x in (query, key))
        named = (HookPoint.QUERY, query), (HookPoint.KEY, key), (HookPoint.VALUE, value)
        found |= {(point, layer): one for point, one in named}
        key, value = (x.repeat_interleave(size.group, 1) for x in (key, value))
        scores = query @ key.mT * scaling
        if config.model_type == "gemma2":
            cap = config.attn_logit_softcapping
            scores = cap * torch.tanh(scores / cap)
        scores = scores.masked_fill(~visible(model, layer, mask), -1e300)
        found[HookPoint.PATTERN, layer] = scores.softmax(-1)
        heads = (found[HookPoint.PATTERN, layer] @ value).transpose(1, 2).flatten(2)
        found[HookPoint.HEAD_OUTPUTS, layer] = heads
        added = block.attn_out(heads)
        if normed_after(model):
            epsilon = config.rms_norm_eps
            scale = (added.square().mean(-1, keepdim=True) + epsilon).rsqrt()
            found[HookPoint.ATTENTION_SCALE, layer] = scale
        added = share * norm(block.norm_attention_output, added)
        found[HookPoint.ATTENTION_OUTPUT, layer] = added
        middle = stream if size.parallel else stream + added
        found[HookPoint.MLP_INPUT, layer] = middle
        found[HookPoint.MLP_NORM, layer] = norm(block.norm_mlp, middle)
        found[HookPoint.NEURONS, layer] = neurons(block.mlp, found[HookPoint.MLP_NORM, layer])
        written = share * norm(
            block.norm_mlp_output, block.mlp_out(found[HookPoint.NEURONS, layer])
        )
        found[HookPoint.MLP_OUTPUT, layer] = written
        stream = stream + added + written
    found[HookPoint.RESIDUAL, size.layers] = stream
    found[HookPoint.FINAL_NORM, 0] = norm(model.final_norm, stream)
    logits = inner.get_output_embeddings()(found[HookPoint.FINAL_NORM, 0])
    logits = logits / getattr(config, "logits_scaling", 1.0)
    if config.model_type.startswith("gemma"):
        cap = config.final_logit_softcapping
        logits = cap * torch.tanh(logits / cap)
    found[HookPoint.LOGITS, 0] = logits
    return found


def neurons(mlp: Any, normed: Tensor) -> Tensor:
    if hasattr(mlp, "gate_up_proj"):
        gate, up = mlp.gate_up_proj(normed).chunk(2, -1)
        return torch.nn.functional.silu(gate) * up
    if "Gemma" in type(mlp).__name__:
        gate = torch.nn.functional.gelu(mlp.gate_proj(normed), approximate="tanh")
        return gate * mlp.up_proj(normed)
    if hasattr(mlp, "gate_proj"):
        return torch.nn.functional.silu(mlp.gate_proj(normed)) * mlp.up_proj(normed)
    first = mlp.c_fc if hasattr(mlp, "c_fc") else mlp.dense_h_to_4h
    tanh = "tanh" if hasattr(mlp, "c_fc") else "none"
    return torch.nn.functional.gelu(first(normed), approximate=tanh)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_activations_are_those_of_a_naive_computation(form: str, padded: bool) -> None:
    model, mask = model_of(form), LEFT if padded else None
    found, expected = everything(model, mask), naive(model, mask)
    assert set(found) == set(expected)
    real = torch.ones_like(TOKENS).bool() if mask is None else mask.bool()
    # transformers computes RMSNorms and rotary embeddings in float32
    close = 1e-10 if form.startswith("gpt2") else 2e-5
    for key, value in expected.items():
        assert found[key].shape == value.shape, key
        here = (x.transpose(1, 2) if key[0] in INSIDE_ATTENTION else x for x in (found[key], value))
        one, other = (x[real] for x in here)
        assert (one - other).abs().max() <= close * other.abs().max(), key


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "qwen3", "granite", "olmo2", "gemma2"])
@torch.no_grad()
def test_what_takes_the_place_of_an_activation_is_used(family: str) -> None:
    """An activation of another text gives that text's logits if all that follows reads it."""
    model = model_of(family)
    other = TOKENS.flip(0) + 1
    own, theirs = (model.hidden(None, input_ids=ids) for ids in (TOKENS, other))
    with model.caching(model.every(*points(model))) as cache:
        model.unembedding(model.hidden(None, input_ids=other))
    assert ((HookPoint.ATTENTION_SCALE, 0) in cache) == normed_after(model)
    for (point, layer), value in cache.items():
        if point is HookPoint.ATTENTION_SCALE:
            with (
                pytest.raises(ValueError, match="can't be replaced"),
                model.hooks([((point, layer), lambda own, value=value: value)]),
            ):
                model.hidden(None, input_ids=TOKENS)
            continue
        with model.hooks([((point, layer), lambda own, value=value: value)]):
            normed = model.hidden(None, input_ids=TOKENS)
            logits = model.unembedding(normed)
        if point is HookPoint.LOGITS:
            assert torch.equal(logits, value)
            continue
        assert not torch.allclose(normed, own), (point, layer)
        whole = {(HookPoint.FINAL_NORM, 0), (HookPoint.RESIDUAL, layer), (HookPoint.EMBEDDING, 0)}
        if (point, layer) in whole:
            torch.testing.assert_close(normed, theirs, rtol=0, atol=1e-10)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@torch.no_grad()
def test_patterns_and_head_outputs_are_replaced_head_by_head(family: str) -> None:
    """A head that attends to itself alone writes its own value."""
    model = model_of(family)
    keys = model.every(HookPoint.VALUE, HookPoint.HEAD_OUTPUTS)

    def to_itself(pattern: Tensor) -> Tensor:
        pattern = pattern.clone()
        pattern[:, 1] = torch.eye(pattern.shape[-1], dtype=pattern.dtype)
        return pattern

    with model.hooks([((HookPoint.PATTERN, 1), to_itself)]), model.caching(keys) as cache:
        model.hidden(None, input_ids=TOKENS)
    heads = cache[HookPoint.HEAD_OUTPUTS, 1].unflatten(-1, (model.shape.heads, -1))
    value = cache[HookPoint.VALUE, 1][:, 1 // model.shape.group]
    torch.testing.assert_close(heads[:, :, 1], value)
    plain = everything(model)[HookPoint.HEAD_OUTPUTS, 1].unflatten(-1, (model.shape.heads, -1))
    torch.testing.assert_close(heads[:, :, 0], plain[:, :, 0])


@torch.no_grad()
def test_functions_run_in_order_and_contexts_nest() -> None:
    model, key = model_of("mistral"), (HookPoint.MLP_OUTPUT, 1)
    plain = everything(model)[key]
    attention = (HookPoint.ATTENTION, 0)
    calls: list[str] = []

    def note(name: str) -> Any:
        return lambda given: calls.append(name)

    with (
        model.hooks([(key, lambda x: x + 1), (key, lambda x: 2 * x), (attention, note("outer"))]),
        model.caching([key]) as after,
    ):
        with model.hooks([(attention, note("inner")), (key, lambda x: x - 3)]):
            model.hidden(None, input_ids=TOKENS)
        torch.testing.assert_close(after[key], 2 * (plain + 1))  # registered before the last one
        calls.append("between")
        model.hidden(None, input_ids=TOKENS)
    assert calls == ["outer", "inner", "between", "outer"]
    with (
        model.hooks([(key, lambda x: x + 1)]),
        model.hooks([(key, lambda x: 2 * x)], first=True),
        model.caching([key]) as cache,
    ):
        model.hidden(None, input_ids=TOKENS)
    torch.testing.assert_close(cache[key], 2 * plain + 1)


@torch.no_grad()
def test_two_models_are_hooked_at_the_same_time() -> None:
    first = model_of("gpt2")
    second = HookedModel(copy.deepcopy(first.model))
    alone = everything(first)[HookPoint.PATTERN, 0]
    seen: list[str] = []
    hooks = (
        model.hooks([((HookPoint.QUERY, 0), lambda query, name=name: seen.append(name))])
        for name, model in (("first", first), ("second", second))
    )
    with next(hooks), next(hooks):
        first.hidden(None, input_ids=TOKENS)
        second.hidden(None, input_ids=TOKENS)
    assert seen == ["first", "second"]
    assert torch.equal(everything(second)[HookPoint.PATTERN, 0], alone)


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_hooks_are_gone_after_an_exception(implementation: str) -> None:
    model = model_of("llama")
    model.model.set_attn_implementation(implementation)
    expected = model.hidden(None, input_ids=TOKENS)

    def broken(given: Any) -> None:
        raise RuntimeError("broken")

    for point in (HookPoint.ATTENTION, HookPoint.KEY, HookPoint.NEURONS, HookPoint.RESIDUAL):
        with (
            pytest.raises(RuntimeError, match="broken"),
            model.ungrouped(),
            model.caching(model.every(*points(model))),
            model.hooks([((point, 1), broken)]),
        ):
            model.hidden(None, input_ids=TOKENS)
        assert not any(
            module._forward_hooks or module._forward_pre_hooks for module in model.model.modules()
        )
        assert model.model.config._attn_implementation == implementation
        assert [block.attention.num_key_value_groups for block in model.blocks] == [2, 2, 2]
    assert torch.equal(model.hidden(None, input_ids=TOKENS), expected)


def test_attention_that_is_never_seen_is_refused() -> None:
    model = model_of("gpt2")
    with (
        pytest.raises(UserError, match=r"attention of layers \[1\] of this `gpt2`.*can't be seen"),
        model.hooks([((HookPoint.QUERY, 1), lambda query: None)]),
    ):
        pass


def test_a_point_of_other_linears_is_refused() -> None:
    for family, point in (("gpt2", HookPoint.KEY_INPUT), ("llama", HookPoint.QKV_PROJECTION)):
        model = model_of(family)
        with pytest.raises(ValueError, match=f"hook point {point}"), model.caching([(point, 0)]):
            pass


@torch.no_grad()
def test_what_is_kept_of_an_activation() -> None:
    model = model_of("gpt2")
    whole = everything(model)
    keys = model.every(HookPoint.MLP_OUTPUT)
    with model.caching(keys, keep=lambda values: values[:, 3:]) as cache:
        model.hidden(None, input_ids=TOKENS)
    assert set(cache) == set(keys)
    stacked = cache.stacked(HookPoint.MLP_OUTPUT)
    assert stacked.shape == (3, 2, 4, model.shape.width)
    for layer in range(3):
        assert torch.equal(stacked[layer], whole[HookPoint.MLP_OUTPUT, layer][:, 3:])
    second = whole.documents(slice(1, 2))
    assert torch.equal(second[HookPoint.QUERY, 2], whole[HookPoint.QUERY, 2][1:])


def test_detached_activations_have_no_graph() -> None:
    model = model_of("gpt2")
    with model.caching(model.every(HookPoint.NEURONS, HookPoint.KEY)) as cache:
        model.hidden(None, input_ids=TOKENS)
    assert all(value.requires_grad for value in cache.values())
    found = cache.detached([HookPoint.KEY])
    assert set(found) == set(model.every(HookPoint.KEY))
    assert not any(value.requires_grad for value in found.values())


@pytest.mark.parametrize("family", ["llama", "qwen2", "phi3", "olmo2", "gemma3_text"])
@torch.no_grad()
def test_groups_can_be_taken_apart(family: str) -> None:
    """Each query head has its own keys and values; nothing changes until one is replaced."""
    model = model_of(family)
    plain = everything(model)
    with model.ungrouped():
        apart = everything(model)
    for point in (HookPoint.KEY, HookPoint.VALUE):
        expected = plain[point, 1].repeat_interleave(model.shape.group, 1)
        torch.testing.assert_close(apart[point, 1], expected, rtol=0, atol=2e-6)
    logits = (one[HookPoint.LOGITS, 0] for one in (apart, plain))
    torch.testing.assert_close(*logits, rtol=0, atol=2e-6)
    size = model.shape
    fused = len(model.projections) == 1  # values come last
    point = HookPoint.QKV_PROJECTION if fused else HookPoint.VALUE_PROJECTION
    first = 2 * size.heads * size.head_width if fused else 0

    def without_first(values: Tensor) -> Tensor:
        values = values.clone()
        values[..., first : first + size.head_width] = 0
        return values

    with model.ungrouped(), model.hooks([((point, 1), without_first)]):
        heads = everything(model)[HookPoint.HEAD_OUTPUTS, 1]
    own, others = heads[..., : size.head_width], heads[..., size.head_width :]
    assert (own == 0).all()
    torch.testing.assert_close(others, plain[HookPoint.HEAD_OUTPUTS, 1][..., size.head_width :])


@pytest.mark.parametrize("family", ARCHITECTURES)
@pytest.mark.parametrize("layer", [0, 2, 3])
@torch.no_grad()
def test_a_pass_from_a_later_block_on(family: str, layer: int) -> None:
    """Of the last positions, with keys and values of those before from the whole pass."""
    model, start = model_of(family), 4
    whole = everything(model)

    def attend(layer: int, given: AttentionInputs) -> Tensor:
        before = (whole[point, layer][:, :, :start] for point in (HookPoint.KEY, HookPoint.VALUE))
        key, value = (
            torch.cat([one, own], 2)
            for one, own in zip(before, (given.key, given.value), strict=True)
        )
        return replace(given, key=key, value=value, mask=None).outputs()

    hooks = model.at_every_layer(HookPoint.ATTENTION, attend)[layer:]
    stream = whole[HookPoint.RESIDUAL, layer][:, start:]
    with model.hooks(hooks), model.caching([(HookPoint.RESIDUAL, layer)]) as cache:
        found = model.hidden_from(layer, stream, start)
    torch.testing.assert_close(found, whole[HookPoint.FINAL_NORM, 0][:, start:], rtol=0, atol=1e-5)
    assert torch.equal(cache[HookPoint.RESIDUAL, layer], stream)
    assert all("forward" not in vars(block.whole) for block in model.blocks)


def test_causal_attention_within_a_window() -> None:
    draw = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(2, heads, 6, 8, generator=draw, dtype=torch.float64) for heads in (4, 2, 2)
    )
    for window in (None, 2):
        given = AttentionInputs(query[:, :, 2:], key, value, None, 0.3, window)
        rows = torch.arange(2, 6)[:, None] - torch.arange(6)
        seen = (rows >= 0) & (rows < (window or 9))
        masked = AttentionInputs(query[:, :, 2:], key, value, seen[None, None], 0.3)
        expected = masked.pattern() @ value.repeat_interleave(2, 1)
        torch.testing.assert_close(given.outputs().transpose(1, 2), expected)
