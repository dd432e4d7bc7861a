"""How well a model and its base predict plain texts, against a plain forward pass in float64."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

from sumcirc.errors import UserError
from sumcirc.evaluation import retention
from sumcirc.evaluation.retention import TextLosses, corpus_values, text_losses
from sumcirc.models.base_beside import BaseBeside
from sumcirc.schema import EvaluationConfig
from tests.support.small_models import scrambled, small_model

FAMILIES = ("gpt2", "gpt_neox", "llama", "granite", "gemma2", "gemma3_text", "olmo2")


def some_texts(lengths: Sequence[int]) -> list[list[int]]:
    draw = np.random.default_rng(0)
    return [draw.integers(1, 400, length).tolist() for length in lengths]


TEXTS = some_texts([9, 40, 2, 23, 40, 3])


def moved(model: Any, size: float = 0.05) -> Any:
    """A copy whose weights are changed at random, as training changes them."""
    found = copy.deepcopy(model)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(1)
        for parameter in found.parameters():
            parameter.add_(torch.randn_like(parameter) * size)
    return found


def naive(model: Any, base: Any, text: Sequence[int]) -> TextLosses:
    """One text by itself, all logits at once, in float64."""
    ids = torch.tensor([list(text)])
    with torch.no_grad():
        p, q = (
            one.double()(ids).logits[0, :-1].log_softmax(-1)
            for one in map(copy.deepcopy, (model, base))
        )
    labels = ids[0, 1:, None]
    kl = (q.exp() * (q - p)).sum(-1).mean()
    nll, base_nll = (-float(one.gather(1, labels).mean()) for one in (p, q))
    return TextLosses(len(text) - 1, nll, base_nll, float(kl))


@pytest.mark.parametrize("family", ["gpt2", "granite", "gemma2"])
def test_a_kept_base_is_what_the_model_was(family: str) -> None:
    """Also where the unembedding changes."""
    base = small_model(family).eval()
    model = copy.deepcopy(base)
    kept = retention.KeptBase(model, TEXTS, 2)
    assert_close(kept.losses(), [naive(base, base, text) for text in TEXTS])
    for source in (moved(base), moved(base, 0.1)):
        model.load_state_dict(source.state_dict())
        assert_close(kept.losses(), [naive(source, base, text) for text in TEXTS])


def assert_close(found: Sequence[TextLosses], expected: Sequence[TextLosses]) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.tokens == theirs.tokens
        for name in ("nll", "base_nll", "kl"):
            ours_value, theirs_value = getattr(ours, name), getattr(theirs, name)
            assert ours_value == pytest.approx(theirs_value, rel=2e-5, abs=1e-7), name


@pytest.mark.parametrize("family", FAMILIES)
def test_every_text_is_measured_as_by_a_plain_forward_pass(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "ELEMENTS", 400 * 7)  # chunks that end inside texts
    base = scrambled(family)
    model = moved(base)
    expected = [naive(model, base, text) for text in TEXTS]
    assert min(one.kl for one in expected if one.kl is not None) > 1e-3
    for batch_size in (1, 4):  # by itself, and padded
        told: list[int] = []
        found = text_losses(model, BaseBeside(model, lambda: base), TEXTS, batch_size, told.append)
        assert_close(found, expected)
        assert sum(told) == len(TEXTS)
    alone = text_losses(model, None, TEXTS, 4)
    assert [one.nll for one in alone] == [one.nll for one in found]
    assert {(one.base_nll, one.kl) for one in alone} == {(None, None)}


def adapted(base: Any, **options: Any) -> Any:
    config = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", **options)
    with torch.random.fork_rng():
        torch.manual_seed(2)
        found = get_peft_model(copy.deepcopy(base), config)
        for name, parameter in found.named_parameters():
            if "lora_" in name or "modules_to_save" in name:
                parameter.data.add_(torch.randn_like(parameter) * 0.1)
    return found


@pytest.mark.parametrize(
    ("options", "loads"),
    [
        ({}, False),
        ({"modules_to_save": ["lm_head"]}, False),
        ({"init_lora_weights": "pissa"}, True),
        ({"bias": "all"}, True),
    ],
)
def test_the_base_of_an_adapter(options: dict[str, Any], loads: bool) -> None:
    """It is the adapter switched off, unless the adapter has rewritten the base."""
    base = scrambled("llama")
    model = adapted(base, **options)
    beside = BaseBeside(model, lambda: base)
    assert beside.is_loaded is loads
    found = text_losses(model, beside, TEXTS, 4)
    merged = copy.deepcopy(model).merge_and_unload()
    assert_close(found, [naive(merged, base, text) for text in TEXTS])


def test_a_model_is_left_as_it_was() -> None:
    model = adapted(small_model("llama"), lora_dropout=0.5)
    model.train()
    model.base_model.model.model.layers[0].eval()
    for parameter in list(model.parameters())[::3]:
        parameter.requires_grad_(False)
    before = {
        "modes": [one.training for one in model.modules()],
        "asking": [one.requires_grad for one in model.parameters()],
        "weights": [one.clone() for one in model.parameters()],
    }
    state = torch.get_rng_state()
    losses = text_losses(model, BaseBeside(model, model.get_base_model), TEXTS, 4)
    assert losses == text_losses(model, BaseBeside(model, model.get_base_model), TEXTS, 4)
    assert torch.equal(torch.get_rng_state(), state)
    assert [one.training for one in model.modules()] == before["modes"]
    assert [one.requires_grad for one in model.parameters()] == before["asking"]
    assert all(one.grad is None for one in model.parameters())
    weights = zip(model.parameters(), before["weights"], strict=True)
    assert all(torch.equal(one, other) for one, other in weights)
    # also when something fails while the base is active
    with pytest.raises(ZeroDivisionError), BaseBeside(model, model.get_base_model).active():
        raise ZeroDivisionError
    assert [one.requires_grad for one in model.parameters()] == before["asking"]


def test_logits_are_computed_for_a_chunk_of_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "ELEMENTS", 400 * 7)
    model = small_model("llama")
    seen: list[int] = []
    model.lm_head.register_forward_hook(lambda _, __, output: seen.append(output.numel()))
    text_losses(model, None, TEXTS, 4)
    checked = 2 * 2 * 400  # on two tokens the model's own logits are compared
    assert sum(seen) == 400 * sum(len(text) - 1 for text in TEXTS) + checked
    assert max(seen) == 400 * 7


def test_a_model_without_change_has_none() -> None:
    model = small_model("gpt2")
    for one in text_losses(model, BaseBeside(model, lambda: model), TEXTS, 2):
        assert (one.base_nll, one.kl) == (one.nll, 0.0)


def test_a_model_that_computes_something_else_is_refused() -> None:
    model = small_model("llama")
    model.register_forward_hook(lambda _, __, output: setattr(output, "logits", output.logits * 2))
    with pytest.raises(UserError, match=r"^evaluation\.retention: the model's own logits differ"):
        text_losses(model, None, TEXTS, 2)
    bigger = small_model("llama", vocab_size=402)
    model = small_model("llama")
    with pytest.raises(UserError, match="has a vocabulary of 400 tokens and its base one of 402"):
        text_losses(model, BaseBeside(model, lambda: bigger), TEXTS, 2)


def test_values_of_a_corpus() -> None:
    draw = np.random.default_rng(3)
    drawn_tokens, values = draw.integers(1, 90, 12).tolist(), draw.random((12, 3)).tolist()
    losses = [TextLosses(n, *one) for n, one in zip(drawn_tokens, values, strict=True)]
    found = corpus_values(losses, EvaluationConfig(bootstrap=200), "trained")
    tokens = np.array([one.tokens for one in losses])
    nll, base, kl = np.array(values).T
    assert (found["documents"], found["tokens"]) == (12, tokens.sum())
    assert list(found["systems"]) == ["base", "trained"]
    for name, of_system in (("trained", nll), ("base", base)):
        scores = found["systems"][name]
        assert scores["nll"]["mean"] == pytest.approx(of_system.mean())
        perplexity = np.exp((of_system * tokens).sum() / tokens.sum())
        assert scores["perplexity"]["mean"] == pytest.approx(perplexity)
    # the resamples of all intervals, drawn again
    picks = np.random.default_rng(0).integers(12, size=(200, 12))
    drawn = (nll * tokens)[picks].sum(1) / tokens[picks].sum(1)
    ends = found["systems"]["trained"]["perplexity"]
    assert [ends["low"], ends["high"]] == pytest.approx(np.exp(np.quantile(drawn, [0.025, 0.975])))
    changes = (nll - base)[picks].mean(1)
    ends = found["nll_change"]
    assert ends["mean"] == pytest.approx((nll - base).mean())
    assert [ends["low"], ends["high"]] == pytest.approx(np.quantile(changes, [0.025, 0.975]))
    assert found["kl"]["mean"] == pytest.approx(kl.mean())
    alone = corpus_values([TextLosses(3, 1.0)], EvaluationConfig(), "base")
    assert list(alone["systems"]) == ["base"]
    assert "kl" not in alone
    assert np.isnan(alone["systems"]["base"]["perplexity"]["low"])
