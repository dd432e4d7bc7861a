"""The activation-difference lens on norms and unembeddings whose answer is known."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sumcirc.measures.lens import promoted_tokens
from tests.support.small_models import small_model

WIDTH, VOCABULARY = 8, 30


class RootMeanSquareNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(normal(WIDTH, seed=5).abs() + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def layer_norm() -> nn.LayerNorm:
    norm = nn.LayerNorm(WIDTH)
    with torch.no_grad():
        norm.weight.copy_(normal(WIDTH, seed=1).abs() + 0.5)
        norm.bias.copy_(100 * normal(WIDTH, seed=2))
    return norm


def unembedding(bias: bool = False) -> nn.Linear:
    linear = nn.Linear(WIDTH, VOCABULARY, bias=bias)
    with torch.no_grad():
        linear.weight.copy_(normal(VOCABULARY, WIDTH, seed=3))
        if bias:
            linear.bias.copy_(1000 * normal(VOCABULARY, seed=4))
    return linear


def test_lens_is_gain_then_unembedding_without_biases() -> None:
    norm, head = layer_norm(), unembedding(bias=True)
    difference = normal(3, WIDTH, seed=6)
    x = difference.double()
    x = x - x.mean(-1, keepdim=True)
    x = x / (x.square().mean(-1, keepdim=True) + norm.eps).sqrt() * norm.weight.double()
    values = (x @ head.weight.double().T).detach().numpy()
    found = promoted_tokens(difference, norm, head, lambda token: f"<{token}>", 4)
    for tokens, expected in zip(found, values, strict=True):
        order = np.argsort(-expected)
        assert [t["id"] for t in tokens] == [*order[:4], *order[::-1][:4]]
        assert [t["token"] for t in tokens] == [f"<{t['id']}>" for t in tokens]
        np.testing.assert_allclose(
            [t["value"] for t in tokens],
            expected[[t["id"] for t in tokens]],
            atol=5e-4,  # biases of 1000 were taken off in fp32
        )


def test_root_mean_square_norm_keeps_the_mean() -> None:
    norm, head = RootMeanSquareNorm(), unembedding()
    difference = normal(1, WIDTH, seed=6) + 2
    expected = head(norm(difference))[0].detach()
    (tokens,) = promoted_tokens(difference, norm, head, str, VOCABULARY)
    assert len(tokens) == VOCABULARY
    np.testing.assert_allclose(
        [t["value"] for t in tokens], expected[[t["id"] for t in tokens]], rtol=1e-5
    )


def test_a_planted_direction_is_read() -> None:
    norm, head = nn.LayerNorm(WIDTH), unembedding()
    row = head.weight.detach()[17] - head.weight.detach()[17].mean()
    with torch.no_grad():
        head.weight[17] *= 3
    found = promoted_tokens(torch.stack([0.01 * row, -50 * row]), norm, head, str, 1)
    assert (found[0][0]["id"], found[1][-1]["id"]) == (17, 17)
    assert found[0][0]["value"] > 0 > found[1][-1]["value"]


def test_no_difference_promotes_nothing() -> None:
    found = promoted_tokens(torch.zeros(2, WIDTH), layer_norm(), unembedding(True), str, 5)
    assert found == [[], []]


def test_signs_are_kept_and_ties_go_by_id() -> None:
    head = unembedding()
    with torch.no_grad():
        head.weight.zero_()
        head.weight[[9, 4, 21], 0] = 1.0
        head.weight[[3], 0] = -1.0
    difference = torch.zeros(1, WIDTH)
    difference[0, 0] = 1.0
    (tokens,) = promoted_tokens(difference, nn.LayerNorm(WIDTH), head, str, 5)
    assert [t["id"] for t in tokens] == [4, 9, 21, 3]
    assert [t["value"] > 0 for t in tokens] == [True, True, True, False]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_takes_biases_off_before_rounding(dtype: torch.dtype) -> None:
    norm, head = layer_norm(), unembedding()
    difference = normal(1, WIDTH, seed=6)
    (full,) = promoted_tokens(difference, norm, head, str, 3)
    half = copy.deepcopy(norm).to(dtype), copy.deepcopy(head).to(dtype)
    (found,) = promoted_tokens(difference.to(dtype), *half, str, 3)
    assert [t["id"] for t in found] == [t["id"] for t in full]
    np.testing.assert_allclose(
        [t["value"] for t in found], [t["value"] for t in full], rtol=0.03, atol=0.02
    )
    assert half[0].weight.dtype == dtype


def test_what_is_found_is_json() -> None:
    found = promoted_tokens(normal(2, WIDTH), layer_norm(), unembedding(), chr, 2)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "llama"])
def test_on_a_real_model_no_gradient_is_left(family: str) -> None:
    model = small_model(family)
    head = model.get_output_embeddings()
    norm = {"gpt2": "ln_f", "gpt_neox": "final_layer_norm", "llama": "norm"}[family]
    final_norm = getattr(model.base_model, norm)
    difference = normal(3, 32)
    found = promoted_tokens(difference, final_norm, head, str, 6)
    expected = head(final_norm(difference) - final_norm(torch.zeros(1, 32)))
    assert [[t["id"] for t in tokens[:6]] for tokens in found] == expected.topk(6).indices.tolist()
    assert all(parameter.grad is None for parameter in model.parameters())
