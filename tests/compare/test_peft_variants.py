"""What circuits and surgery make of common kinds of adapter, as docs/howto/own-model.md lists them.

A circuit is held against that of the merged model, which has no adapter; surgery against the base.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from peft import get_peft_model
from torch import Tensor

from sumcirc.circuits.attribution.methods import attribute
from sumcirc.compare.deltas.deltas import scaled, targets_of
from sumcirc.compare.path.path_attribution import attribute_path
from sumcirc.errors import UserError
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.schema import Grain, PathOptions
from tests.circuits.cases import difference_metric, some_pairs
from tests.compare.edited import some_items
from tests.compare.naive_path import in_layer, metric, naive_scores, of_direction, whole_change
from tests.models.peft_kinds import KINDS, disturb
from tests.support.small_models import exact_norms, scrambled

SCALED = ["plain", "rslora", "saved norm", "ADALORA"]
SWITCHED = ["dora", "IA3"]
APART = ["pissa", "bias=all"]
VIRTUAL = ["PROMPT_TUNING", "PREFIX_TUNING"]
IDS = torch.arange(20)[None]

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


def pair(name: str, family: str = "gpt2") -> tuple[Any, Any]:
    """A base and the same with an adapter, in double precision."""
    base = scrambled(family)
    with torch.random.fork_rng():
        torch.manual_seed(2)
        tuned: Any = get_peft_model(copy.deepcopy(base), KINDS[name].config(family))
    disturb(one for one in tuned.parameters() if one.requires_grad)
    return base.double(), tuned.double().eval()


def scores(model: Any) -> Tensor:
    pairs = some_pairs()
    return attribute(model, pairs, difference_metric(pairs)).mean


def logits(model: Any) -> Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits


@pytest.mark.parametrize("name", [*SCALED, *SWITCHED, *APART])
def test_a_circuit_is_that_of_the_merged_model(name: str) -> None:
    base, tuned = pair(name)
    found, own = scores(tuned), scores(base)
    size = float(found.abs().max())
    torch.testing.assert_close(found, scores(tuned.merge_and_unload()), rtol=0, atol=1e-6 * size)
    assert float((found - own).abs().max()) > 0.01 * size


@pytest.mark.parametrize("name", VIRTUAL)
def test_virtual_tokens_have_no_circuit(name: str) -> None:
    _, tuned = pair(name)
    with pytest.raises(
        UserError, match=rf"{name}\) puts virtual tokens .*`sumcirc evaluate` supports"
    ):
        scores(tuned)


@pytest.mark.parametrize("name", [*SCALED, *SWITCHED])
def test_delta_scaling_takes_an_adapter_off(name: str) -> None:
    base, tuned = pair(name)
    targets, own = targets_of(HookedModel(tuned), None), logits(tuned)
    assert not torch.allclose(own, logits(base), atol=1e-3)
    for amount, expected in ((0.0, logits(base)), (1.0, own)):
        with scaled(tuned, None, dict.fromkeys(targets, amount)):
            assert torch.equal(logits(tuned), expected)
    half = scaled(tuned, None, dict.fromkeys(targets, 0.5))
    if name in SCALED:
        with half:
            moved = logits(tuned)
        assert not torch.allclose(moved, own, atol=1e-3)
        assert not torch.allclose(moved, logits(base), atol=1e-3)
    else:
        with pytest.raises(UserError, match=r"lambda=0\.5: .* which can only be on or off"), half:
            pass


@pytest.mark.parametrize("name", APART)
def test_delta_scaling_of_an_adapter_that_leaves_another_base_is_refused(name: str) -> None:
    _, tuned = pair(name)
    with pytest.raises(UserError, match=rf"{name} .*so without the adapter it is not the model"):
        targets_of(HookedModel(tuned), None)


@pytest.mark.parametrize("name", [*SCALED[1:], *SWITCHED, "lora_bias", "VERA"])
def test_path_scores_are_those_of_the_merged_weights(name: str) -> None:
    """The line from the base to the merged model is that along which the adapter is scaled."""
    base, tuned = pair(name)
    found = attribute_path(tuned, None, some_items(), PathOptions(nodes=70, effects=None))
    merged = copy.deepcopy(tuned).merge_and_unload()
    np.testing.assert_allclose(found.before, metric(base, some_items()), rtol=1e-9)
    np.testing.assert_allclose(found.after, metric(merged, some_items()), rtol=1e-7)
    change = {one: delta for one, delta in whole_change(base, merged).items() if delta.any()}
    expected = naive_scores(base, change, some_items(), in_layer("gpt2", 1))
    scale = float(np.abs(found.gain).max())
    np.testing.assert_allclose(found.score("layer 1"), expected, atol=1e-3 * scale)
    matrix = "transformer.h.1.mlp.c_fc.weight"
    first = of_direction(matrix, change[matrix], 0)
    expected = naive_scores(base, change, some_items(), first)
    found_first = found.score("layer 1 mlp.c_fc direction 0")
    np.testing.assert_allclose(found_first, expected, atol=1e-3 * scale)
    sums = found.scores[Grain.direction].sum(0)
    np.testing.assert_allclose(sums, found.gain, atol=1e-3 * scale)


@pytest.mark.parametrize("name", ["embedding", "head", "saved head"])
def test_an_adapter_outside_the_layers_has_a_unit(name: str) -> None:
    base, tuned = pair(name)
    found = attribute_path(tuned, None, some_items(), PathOptions(nodes=70, effects=None))
    part = "embedding" if name == "embedding" else "final"
    assert np.abs(found.score(part)).min() > 0
    np.testing.assert_allclose(found.before, metric(base, some_items()), rtol=1e-9)
    sums = found.scores[Grain.head].sum(0)
    np.testing.assert_allclose(sums, found.gain, atol=1e-2 * np.abs(found.gain).max())


def test_an_adapter_of_a_parameter_has_a_path() -> None:
    base, tuned = pair("parameters", "llama")
    exact_norms(base)
    exact_norms(tuned)
    found = attribute_path(tuned, None, some_items(), PathOptions(nodes=70, effects=None))
    assert {unit.part for unit in found.units[Grain.module]} == {"mlp_in"}
    np.testing.assert_allclose(found.before, metric(base, some_items()), rtol=1e-9)
    np.testing.assert_allclose(found.after, metric(tuned, some_items()), rtol=1e-9)
    sums = found.scores[Grain.head].sum(0)
    np.testing.assert_allclose(sums, found.gain, atol=1e-2 * np.abs(found.gain).max())


@pytest.mark.parametrize("name", ["tokens", "TRAINABLE_TOKENS"])
def test_single_trained_tokens_have_no_path(name: str) -> None:
    _, tuned = pair(name)
    with pytest.raises(UserError, match=r"path attribution and masks do not support; merge it"):
        attribute_path(tuned, None, some_items())
