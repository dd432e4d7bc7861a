"""Metrics against the same thing computed by hand, item by item."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sumcirc.circuits.metrics import Divergence, LogitDifference, Metric, NegativeLogLikelihood
from sumcirc.errors import UserError

WHERE = torch.tensor([[0, 1, 1, 0], [1, 0, 0, 1], [0, 0, 1, 0]]).bool()
LOGITS = torch.randn(3, 4, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
OTHER = torch.randn(3, 4, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
IDS = torch.arange(12).reshape(3, 4) % 7


def read(metric: Metric, logits: Tensor, items: list[int], reference: Tensor | None = None):
    chosen = torch.tensor(items)
    where = metric.positions[chosen]
    found = None if reference is None else metric.reference(reference[chosen][where])
    return metric.values(logits[chosen][where], chosen, found)


def by_hand(item: int, loss) -> float:
    places = WHERE[item].nonzero().flatten().tolist()
    return sum(float(loss(place)) for place in places) / len(places)


def test_divergence_is_kl_of_clean_to_patched() -> None:
    metric = Divergence(WHERE)
    found = read(metric, LOGITS, [0, 1, 2], OTHER)
    for item in range(3):
        p, q = OTHER[item].softmax(-1), LOGITS[item].softmax(-1)
        expected = by_hand(item, lambda t, p=p, q=q: (p[t] * (p[t] / q[t]).log()).sum())
        assert float(found[item]) == pytest.approx(expected, rel=1e-12)
    assert metric.name == "kl_clean_patched"
    assert metric.against_clean
    assert float(read(metric, OTHER, [0, 1, 2], OTHER).abs().max()) < 1e-15


def test_divergence_from_a_given_distribution() -> None:
    given = [OTHER[i][WHERE[i]].log_softmax(-1) for i in range(3)]
    metric = Divergence(WHERE, given)
    assert not metric.against_clean
    assert metric.name == "kl_reference_patched"
    found = read(metric, LOGITS, [2, 0, 0])
    expected = read(Divergence(WHERE), LOGITS, [2, 0, 0], OTHER)
    torch.testing.assert_close(found, expected)
    with pytest.raises(UserError, match=r"kl_reference_patched.*one for every position"):
        Divergence(WHERE, given[::-1])


def test_gradient_of_divergence() -> None:
    logits = LOGITS[WHERE].requires_grad_()
    reference = OTHER[WHERE].log_softmax(-1)
    items = torch.arange(3)
    assert torch.autograd.gradcheck(
        lambda x: Divergence(WHERE).values(x, items, reference), logits, atol=1e-7
    )
    many = logits.detach().repeat(9, 1), reference.repeat(9, 1)  # more rows than one chunk
    found = Divergence(WHERE.repeat(9, 1)).values(many[0], torch.arange(27), many[1])
    once = Divergence(WHERE).values(logits, items, reference).detach()
    torch.testing.assert_close(found, once.repeat(9))


def test_divergence_does_not_underflow() -> None:
    """softmax().log() would give infinity."""
    logits, clean = torch.zeros(3, 4, 7), torch.zeros(3, 4, 7)
    logits[..., 0] = 300.0
    found = read(Divergence(WHERE), logits, [0], clean)
    assert float(found) == pytest.approx(300 * 6 / 7 - math.log(7), rel=1e-5)


@pytest.mark.parametrize("grid", [False, True])
def test_logit_difference(grid: bool) -> None:
    good, bad = torch.tensor([1, 2, 3]), torch.tensor([4, 5, 6])
    if grid:
        good, bad = IDS, (IDS + 1) % 7
    found = read(LogitDifference(WHERE, good, bad), LOGITS, [0, 1, 2])
    for item in range(3):

        def loss(place: int, item: int = item) -> Tensor:
            one = good[item, place] if grid else good[item]
            other = bad[item, place] if grid else bad[item]
            return LOGITS[item, place, other] - LOGITS[item, place, one]

        assert float(found[item]) == pytest.approx(by_hand(item, loss), rel=1e-12)


def test_nll_of_reference_tokens_is_read_one_position_before_them() -> None:
    tokens = torch.roll(WHERE, 1, 1) & (torch.arange(4) > 0)
    tokens[1, 2] = True
    metric = NegativeLogLikelihood(torch.roll(tokens, -1, 1), torch.roll(IDS, -1, 1))
    found = read(metric, LOGITS, [0, 1, 2])
    for item in range(3):
        places = [t for t in range(4) if tokens[item, t]]
        assert metric.positions[item].nonzero().flatten().tolist() == [t - 1 for t in places]
        losses = [-LOGITS[item, t - 1].log_softmax(-1)[IDS[item, t]] for t in places]
        assert float(found[item]) == pytest.approx(float(sum(losses)) / len(losses), rel=1e-12)


def test_half_precision_is_widened_before_the_softmax() -> None:
    for metric in (
        Divergence(WHERE),
        LogitDifference(WHERE, IDS, IDS),
        NegativeLogLikelihood(WHERE, IDS),
    ):
        assert read(metric, LOGITS.bfloat16(), [0, 1], OTHER.bfloat16()).dtype == torch.float32
        assert read(metric, LOGITS, [0, 1], OTHER).dtype == torch.float64


def test_an_item_without_a_position_is_refused() -> None:
    where = WHERE.clone()
    where[1] = False
    with pytest.raises(UserError, match=r"nll: items \[1\]"):
        NegativeLogLikelihood(where, IDS)
