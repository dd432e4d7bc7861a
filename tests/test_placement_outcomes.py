"""benchmarks/placement_outcomes.py against a plain forward pass, and what a landscape gains."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.helpers import rescale_adapter_scale

from sumcirc import library
from sumcirc.data.documents import Document
from sumcirc.data.encoding import Encoder
from sumcirc.placement.landscape_files import read_landscape, write_landscape
from sumcirc.schema import EncodingConfig
from sumcirc.wire import articles
from tests.support.landscapes import draw, landscape

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    found = importlib.import_module("placement_outcomes")
    monkeypatch.setattr(found, "ARTICLES", 3)
    return found


def adapted() -> tuple[PeftModel, Encoder]:
    """The built-in model with an adapter that changes its predictions."""
    torch.manual_seed(0)
    base, tokenizer = library.load("tiny")
    config = LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True)
    model = get_peft_model(base, config)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.05)
    assert isinstance(model, PeftModel)
    return model.eval(), Encoder(tokenizer, EncodingConfig(), base.config.n_positions)


@torch.no_grad()
def test_losses_are_those_of_a_plain_forward_pass(script: Any) -> None:
    model, encoder = adapted()
    items = [Document(i.id, i.document, (i.summary,)) for i in articles("test", 2, 0)]
    outcomes = script.Outcomes(encoder, items)
    expected = []
    for item in items:
        ids = torch.as_tensor(encoder.example(item).ids).long()[None]
        start = len(encoder.example(item).ids) - len(encoder.summary(item.references[0])) - 1
        logs = model(input_ids=ids).logits[0, :-1].double().log_softmax(-1)
        chosen = logs.gather(1, ids[0, 1:, None])[:, 0]
        expected.append(-float(chosen[start:].mean()))
    assert outcomes.reference_nll(model) == pytest.approx(expected, rel=1e-5)
    losses, divergences = [], []
    for text in outcomes.texts:
        ids = torch.tensor(text)[None]
        logs = model(input_ids=ids).logits[0, :-1].double().log_softmax(-1)
        with model.disable_adapter():
            base = model(input_ids=ids).logits[0, :-1].double().log_softmax(-1)
        losses.append(-float(logs.gather(1, ids[0, 1:, None]).mean()))
        divergences.append(float((base.exp() * (base - logs)).sum(-1).mean()))
    assert len(losses) == 3
    assert min(divergences) > 1e-3
    assert outcomes.forgetting(model) == pytest.approx(
        (np.mean(losses), np.mean(divergences)), rel=1e-4
    )
    with rescale_adapter_scale(model, 0.0):
        assert outcomes.forgetting(model)[1] == pytest.approx(0, abs=1e-6)


def test_the_loss_becomes_a_score_of_the_landscape(script: Any, tmp_path: Path) -> None:
    before = landscape(draw(np.zeros(20), seeds=2, documents=4))
    found = {
        (",".join(map(str, layers)), seed): np.arange(4) + 10.0 * place + seed
        for place, layers in enumerate(before.sets)
        for seed in (1, 2)
    }
    write_landscape(script.with_nll(before, found), [], tmp_path)
    after, _ = read_landscape(tmp_path)
    assert after.scores["nll"][3, 1].tolist() == [32, 33, 34, 35]
    assert np.array_equal(after.scores["facts"], before.scores["facts"])
