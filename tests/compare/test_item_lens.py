"""The logit lens of items beside the items' own metric and the measures of training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sumcirc.compare.item_lens import NAMES, item_lens
from sumcirc.errors import UserError
from sumcirc.models.activations.hooked_model import HookedModel
from tests.compare.spanned_items import some_items
from tests.support.small_models import scrambled

FAMILIES = ["gpt2", "llama", "gpt_neox", "gemma2"]


def naive(model: Any, item: Any, contrasted: bool) -> dict[str, list[float]]:
    """[streams] values of an item, position by position, by transformers' own outputs."""
    hooked = HookedModel(model)  # for the names of its modules
    seen: list[torch.Tensor] = []
    handle = hooked.final_norm.register_forward_pre_hook(lambda m, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        out = model(torch.from_numpy(item.ids)[None], output_hidden_states=True)
    handle.remove()
    found: dict[str, list[float]] = {name: [] for name in NAMES}
    cap = getattr(model.config, "final_logit_softcapping", None)
    for stream in [*out.hidden_states[:-1], seen[0]]:
        metrics, kls, same = [], [], []
        for t in np.flatnonzero(item.reads):
            with torch.no_grad():
                normed = hooked.final_norm(stream[0, t])
                read = model.get_output_embeddings()(normed).double()
            if cap is not None:
                read = cap * torch.tanh(read / cap)
            own = out.logits[0, t].double()
            p, q = torch.softmax(own, 0), torch.softmax(read, 0)
            if contrasted:
                metrics.append(float(read[item.good[t]] - read[item.bad[t]]))
            else:
                metrics.append(float(q[item.good[t]].log()))
            kls.append(float((p * (p / q).log()).sum()))
            same.append(float(p.argmax() == q.argmax()))
        for name, values in zip(NAMES, (metrics, kls, same), strict=True):
            found[name].append(float(np.mean(values)))
    return found


@pytest.mark.parametrize("contrasted", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_depth_as_read_by_hand(family: str, contrasted: bool) -> None:
    model, items = scrambled(family).double().eval(), some_items(contrasted)
    hooked, done = HookedModel(model), list[int]()
    found = item_lens(hooked, items, 2, done.append).values
    assert sum(done) == len(items)
    expected = [naive(model, item, contrasted) for item in items.items]
    for name in NAMES:
        by_hand = np.stack([one[name] for one in expected], -1)
        np.testing.assert_allclose(found[name], by_hand, rtol=1e-6, atol=1e-8, err_msg=name)
    np.testing.assert_allclose(found["metric"][-1], items.values(hooked, 2), atol=1e-12)
    assert (found["kl_model_lens"][-1] == 0).all()


def test_a_model_with_other_logits_is_refused() -> None:
    model = scrambled("gpt2")
    model.config.final_logit_softcapping = 0.5
    with pytest.raises(UserError, match=r"leave logit_lens out of callbacks.watch and compare"):
        item_lens(HookedModel(model), some_items(False), 2)
