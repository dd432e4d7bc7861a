"""Divergences of next-token distributions against torch's own, and where they are hard."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import kl_div

from sumcirc.measures.divergence import output_divergences


def logits(seed: int, rows: int = 6, vocabulary: int = 500, scale: float = 3.0) -> Tensor:
    return scale * torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(seed))


def exact(tuned: Tensor, base: Tensor) -> dict[str, Tensor]:
    """By torch's kl_div(log q, log p) = KL(p || q) in float64."""
    p, q = (torch.log_softmax(side.double(), -1) for side in (tuned, base))
    m = torch.logaddexp(p, q) - math.log(2)

    def kl(a: Tensor, b: Tensor) -> Tensor:
        return kl_div(b, a, reduction="none", log_target=True).sum(-1)

    return {
        "kl_tuned_base": kl(p, q),
        "kl_base_tuned": kl(q, p),
        "js": (kl(p, m) + kl(q, m)) / 2,
    }


@pytest.mark.parametrize("shift", [0.0, -100.0])  # GPT-2's logits lie around -100
@pytest.mark.parametrize("scale", [0.1, 3.0, 30.0])
def test_divergences_are_those_of_torch(scale: float, shift: float) -> None:
    tuned, base = logits(0, scale=scale) + shift, logits(1, scale=scale) + shift
    found = output_divergences(tuned, base)
    for name, expected in exact(tuned, base).items():
        np.testing.assert_allclose(found[name], expected, rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("by", [1e-2, 1e-3])
def test_small_divergences_keep_their_digits(by: float) -> None:
    base = logits(0)
    tuned = base + by * logits(1, scale=1.0)
    found = output_divergences(tuned, base)
    for name, expected in exact(tuned, base).items():
        assert expected.max() < by**2
        np.testing.assert_allclose(found[name], expected, atol=1e-9, rtol=1e-4, err_msg=name)


def test_directions_differ() -> None:
    tuned, base = logits(0), logits(1)
    found, turned = output_divergences(tuned, base), output_divergences(base, tuned)
    assert torch.equal(found["kl_tuned_base"], turned["kl_base_tuned"])
    assert (found["kl_tuned_base"] - found["kl_base_tuned"]).abs().min() > 1e-3
    np.testing.assert_allclose(found["js"], turned["js"], rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_dtype_is_computed_in_fp32(dtype: torch.dtype) -> None:
    tuned, base = logits(0).to(dtype), logits(1).to(dtype)
    found = output_divergences(tuned, base)
    for name, expected in exact(tuned, base).items():
        assert found[name].dtype == torch.float32
        np.testing.assert_allclose(found[name], expected, rtol=2e-5)


def test_certain_and_opposite() -> None:
    tuned = torch.tensor([[1e4, -1e4, -1e4], [1e4, -1e4, 0.0]])
    base = torch.tensor([[-1e4, 1e4, -1e4], [1e4, -1e4, 0.0]])
    found = output_divergences(tuned, base)
    np.testing.assert_allclose(found["kl_tuned_base"], [2e4, 0])
    np.testing.assert_allclose(found["kl_base_tuned"], [2e4, 0])
    np.testing.assert_allclose(found["js"], [math.log(2), 0], rtol=1e-6)
    assert (found["js"] <= torch.tensor(math.log(2))).all()
    assert found["top1_agreement"].tolist() == [0, 1]


def test_half_of_the_mass_moved() -> None:
    """p = (1, 0), q = (1/2, 1/2): KL = ln 2, JS = 3/4 ln 4/3."""
    found = output_divergences(torch.tensor([[0.0, -200.0]]), torch.tensor([[0.0, 0.0]]))
    assert found["kl_tuned_base"].item() == pytest.approx(math.log(2), rel=1e-6)
    assert found["kl_base_tuned"].item() == pytest.approx(100 - math.log(2), rel=1e-6)
    assert found["js"].item() == pytest.approx(0.75 * math.log(4 / 3), rel=1e-6)


def test_equal_models_do_not_diverge() -> None:
    same = logits(3, rows=200)
    found = output_divergences(same, same)
    shifted = output_divergences(same + 1000, same)  # rounds the logits by up to 3e-5
    for name in ("kl_tuned_base", "kl_base_tuned", "js"):
        assert (found[name] >= 0).all()
        assert found[name].max() < 1e-8
        assert (shifted[name] >= 0).all()
        assert shifted[name].max() < 1e-6
    assert found["top1_agreement"].tolist() == [1] * 200


def test_agreement_is_of_the_most_likely_token() -> None:
    tuned = torch.tensor([[0.0, 2.0, 1.0], [0.0, 2.0, 1.0], [5.0, 4.0, 3.0]])
    base = torch.tensor([[0.0, 9.0, 8.0], [0.0, 1.0, 2.0], [1.0, 0.0, 9.0]])
    assert output_divergences(tuned, base)["top1_agreement"].tolist() == [1, 0, 0]


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3\) and \(2, 1\)"):
        output_divergences(torch.zeros(2, 3), torch.zeros(2, 1))
