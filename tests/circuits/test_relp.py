"""Relevance rules beside gradients, and both beside patching."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sumcirc.circuits.attribution.methods import AttributionSettings, EdgeScores, attribute
from tests.circuits.attribution_cases import (
    Oracle,
    reference_metric,
    reference_model,
    reference_pairs,
    reference_scores,
    relative,
)
from tests.circuits.cases import difference_metric, family_model, some_pairs

GPT2 = reference_scores("small_gpt2")


def correlation(found: EdgeScores, exact: Tensor) -> float:
    edges = torch.from_numpy(found.graph.exists)
    return float(torch.corrcoef(torch.stack([found.mean[edges], exact[edges]]))[0, 1])


def test_estimates_agree_with_patching() -> None:
    model, pairs = reference_model("small_gpt2"), reference_pairs(GPT2)
    metric = reference_metric(GPT2, "logit_diff")
    exact = torch.from_numpy(GPT2["scores/exact/logit_diff/f64"])
    found = {
        method: correlation(
            attribute(model, pairs, metric, AttributionSettings(method=method)), exact
        )
        for method in ("eap", "eap-ig-inputs", "clean-corrupted", "relp", "random")
    }
    print({method: round(value, 3) for method, value in found.items()})
    assert found["eap-ig-inputs"] > 0.5
    assert found["relp"] > 0.3
    assert abs(found["random"]) < 0.15


def test_relevance_rules_keep_values_and_change_gradients() -> None:
    """Also that query edges keep a score: the pattern is not taken for a constant."""
    model, pairs = family_model("qwen3"), some_pairs()
    metric = difference_metric(pairs)
    relp = attribute(model, pairs, metric, AttributionSettings(method="relp"))
    eap = attribute(model, pairs, metric, AttributionSettings(method="eap"))
    assert relative(relp.documents, eap.documents) > 0.05
    queries = relp.documents[..., relp.graph.query_columns(1)]
    assert float(queries.abs().max()) > 0
    logits = relp.graph.destinations.index("logits")
    assert correlation(relp, eap.mean) > 0.2
    assert relp.documents[..., logits].abs().max() > 0


def test_relevance_flows_to_the_sources_of_the_logits_in_full() -> None:
    """With every scale constant the logits are linear in their sources: scores are exact there."""
    model, pairs = reference_model("small_gpt2"), reference_pairs(GPT2)
    metric = reference_metric(GPT2, "logit_diff")
    found = attribute(model, pairs, metric, AttributionSettings(method="relp")).documents[..., -1]
    with torch.no_grad():
        for item in (0, 3):
            real = pairs.attention_mask[item]
            oracle = Oracle(model)
            table = oracle.state["wte.weight"]
            runs = [
                oracle.run(table[ids[item][real]])
                for ids in (pairs.clean.input_ids, pairs.corrupted.input_ids)
            ]
            stream = runs[0][1]["logits"][-1]
            good, bad = metric.good[item, 0], metric.bad[item, 0]
            direction = (table[bad] - table[good]) * oracle.state["ln_f.weight"]
            for row, name in enumerate(runs[0][0]):
                change = (runs[1][0][name] - runs[0][0][name])[-1]
                scale = (stream.var(correction=0) + 1e-5).sqrt()
                expected = ((change - change.mean()) / scale) @ direction
                assert float(found[item, row]) == pytest.approx(float(expected), rel=1e-9)


def test_more_steps_come_closer_and_rules_meet() -> None:
    model, pairs = reference_model("small_gpt2"), reference_pairs(GPT2)
    metric = reference_metric(GPT2, "kl_all")
    truth = attribute(
        model, pairs, metric, AttributionSettings(steps=12, rule="gauss-legendre")
    ).mean
    errors = {
        (rule, steps): relative(
            attribute(model, pairs, metric, AttributionSettings(steps=steps, rule=rule)).mean, truth
        )
        for rule, steps in (
            *(("left", 5), ("right", 5), ("midpoint", 5), ("gauss-legendre", 5)),
            *(("left", 20), ("right", 20)),
        )
    }
    for rule in ("left", "right"):
        assert errors[rule, 20] < 0.5 * errors[rule, 5]
    assert errors["midpoint", 5] < errors["left", 5]
    assert errors["gauss-legendre", 5] < errors["left", 5]
