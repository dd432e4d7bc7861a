"""Plain texts with the change of sets alone, against models with masks put into them by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sumcirc.compare.masks.learned_masks import check_counts, learn_masks
from sumcirc.errors import UserError
from sumcirc.schema import MaskGrain, MaskOptions
from tests.compare.edited import logits, same_state, state, tokens
from tests.compare.masked import changes, masked, predicted, selected
from tests.compare.test_learned_masks import KINDS, two

TEXTS = [tokens(4 + 3 * number, 90 + number).tolist() for number in range(8)]


def read(model: Any, base: Any, text: list[int]) -> tuple[float, float]:
    """Negative log-likelihood and KL from the base of one text, from all logits at once."""
    with torch.no_grad():
        p, q = (one(torch.tensor([text])).logits[0, :-1].log_softmax(-1) for one in (model, base))
    nll = -p.gather(1, torch.tensor(text[1:])[:, None]).mean()
    return float(nll), float((q.exp() * (q - p)).sum(-1).mean())


@pytest.mark.parametrize(("family", "low_rank"), KINDS)
def test_texts_are_those_of_weights_edited_by_hand(family: str, low_rank: bool) -> None:
    base, after, weights = two(family, low_rank)
    change, units = changes(base, after, low_rank), selected(family, low_rank)
    grain = MaskGrain.module if low_rank else MaskGrain.layer
    options = MaskOptions(grain, 3, sizes=[0.3, 0.6], seeds=1, steps=1, random=1)
    items, kept, own = predicted(after), state(after), logits(after)
    found = learn_masks(after, weights, items, options, batch_size=2, texts=TEXTS)
    same_state(kept, state(after))
    assert torch.equal(own, logits(after))
    forgotten, judged = found.forgetting, found.judged
    assert forgotten is not None
    assert forgotten.nll.shape == forgotten.kl.shape == (len(judged.rankings), 2, len(TEXTS))
    sets = {
        frozenset(members): (i, j)
        for i, some in enumerate(judged.sets)
        for j, members in enumerate(some)
    }
    assert len(sets) > 2
    for members, place in sets.items():
        inside = {found.units[member].label for member in members}
        mask = {label: float(label in inside) for label in units}
        model = masked(base, change, units, mask)
        expected = np.array([read(model, base, text) for text in TEXTS]).T
        np.testing.assert_allclose(forgotten.nll[place], expected[0], rtol=1e-6)
        np.testing.assert_allclose(forgotten.kl[place], expected[1], rtol=1e-4, atol=1e-9)
    ends = np.array([[*read(base, base, text), *read(after, base, text)] for text in TEXTS]).T
    np.testing.assert_allclose(forgotten.before, ends[0], rtol=1e-6)
    np.testing.assert_allclose(forgotten.after_nll, ends[2], rtol=1e-6)
    np.testing.assert_allclose(forgotten.after_kl, ends[3], rtol=1e-4)
    assert forgotten.after_kl.min() > 1e-5


def test_too_few_texts_are_refused() -> None:
    check_counts(16, 8)
    words = r"^compare.masks.retention=true: there is 1 plain text, .* 8 at least; give more in"
    with pytest.raises(UserError, match=words):
        check_counts(16, 1)
    with pytest.raises(UserError, match=r"^masks: there are 15 items; .* takes 16 at least;"):
        check_counts(15, 1)
    _, after, weights = two(*KINDS[0])
    options = MaskOptions(MaskGrain.layer, seeds=1, steps=1, random=1)
    with pytest.raises(UserError, match=words.replace("is 1 plain text", "are 7 plain texts")):
        learn_masks(after, weights, predicted(after), options, texts=TEXTS[:7])
