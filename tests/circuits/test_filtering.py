"""Losses of pairs beside the same numbers from whole passes, one item at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import kl_div

from sumcirc.circuits.inputs.corruption import make_pairs
from sumcirc.circuits.inputs.example_pairs import ExamplePair
from sumcirc.circuits.inputs.filtering import losses
from sumcirc.data.documents import Document
from sumcirc.data.encoding import Encoder


@pytest.fixture(scope="module")
def pairs(encoder: Encoder, documents: list[Document]) -> list[ExamplePair]:
    return make_pairs(encoder, documents, "counterfactual", 5, lambda item: [])[0]


def by_hand(model: Any, pair: ExamplePair, metric: str) -> tuple[float, float]:
    start = pair.clean.prompt_length - 1
    with torch.no_grad():
        clean, corrupted = (
            model(torch.tensor(ids[None])).logits[0, start:].double().log_softmax(-1)
            for ids in (pair.clean.ids, pair.corrupted.ids)
        )
    if metric == "kl":
        return 0.0, float(kl_div(corrupted, clean, log_target=True, reduction="sum") / len(clean))
    good, bad = (
        torch.tensor(answer[start:])[:, None] for answer in (pair.clean.good, pair.clean.bad)
    )
    runs = []
    for run in (clean, corrupted):
        if metric == "nll":
            runs.append(float(-run.gather(1, good).mean()))
            continue
        told = [
            i
            for i in range(len(good))
            if good[i] != bad[i] and (i == 0 or good[i - 1] == bad[i - 1])
        ]
        runs.append(float((run.gather(1, bad) - run.gather(1, good))[told].mean()))
    return runs[0], runs[1]


@pytest.mark.parametrize("metric", ["nll", "kl", "logit_difference"])
def test_losses_are_those_of_whole_passes(
    model: Any, pairs: list[ExamplePair], metric: str
) -> None:
    done: list[int] = []
    found = np.array(losses(model, pairs, metric, 2, done.append)).T
    expected = np.array([by_hand(model, pair, metric) for pair in pairs])
    np.testing.assert_allclose(found, expected, atol=2e-5)
    assert (found[:, 1] > found[:, 0]).all()
    assert done == [2, 2, 1]


def test_the_model_is_left_as_it_was(model: Any, pairs: list[ExamplePair]) -> None:
    model.train()
    try:
        first = losses(model, pairs, "nll", 5)
        assert model.training
        assert np.array_equal(first, losses(model, pairs, "nll", 5))
        assert all(parameter.requires_grad for parameter in model.parameters())
    finally:
        model.eval()
