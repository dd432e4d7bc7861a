"""The penalty on KL(base || model) against its definition, and what a step and a run make of it."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sumcirc.data.batch_order import Division
from sumcirc.data.batches import TrainingStream
from sumcirc.data.encoding import EncodedCorpus
from sumcirc.data.text_batches import TextBatch, TextStream
from sumcirc.errors import UserError
from sumcirc.models.adapters import adapt
from sumcirc.models.base_beside import BaseBeside
from sumcirc.models.flops import TrainingFlops
from sumcirc.models.modes import frozen
from sumcirc.models.unwrapping import base_model
from sumcirc.schema import (
    Adaptation,
    AdaptationConfig,
    KLPenaltyConfig,
    OptimizerConfig,
    Variant,
)
from sumcirc.training import kl_penalty
from sumcirc.training.kl_penalty import KLPenalty
from sumcirc.training.module import SummarizationModule, summary_loss
from tests.data.test_batches import pair
from tests.support.small_models import VOCABULARY, scrambled, small_model

FAMILIES = ("gpt2", "llama", "granite", "gemma2", "gpt_neox")
LORA = AdaptationConfig(kind=Adaptation.lora, rank=4)


def some_texts(*lengths: int) -> list[list[int]]:
    draw = np.random.default_rng(0)
    return [draw.integers(1, VOCABULARY, length).tolist() for length in lengths]


TEXTS = some_texts(9, 40, 2, 23, 3)


def naive(model: nn.Module, base: nn.Module, texts: list[list[int]]) -> torch.Tensor:
    """Text by text, without padding, with the logits of whole models."""
    found = []
    for text in texts:
        ids = torch.tensor([text])
        p, q = (one(input_ids=ids).logits[0, :-1].log_softmax(-1) for one in (model, base))
        found.append((q.exp() * (q - p)).sum(-1).mean())
    return torch.stack(found).mean()


def trained(family: str, adaptation: str) -> tuple[nn.Module, nn.Module]:
    """A model that has moved from its base, and that base, both in float64."""
    base = scrambled(family)
    model = copy.deepcopy(base)
    if adaptation != "full":
        # PiSSA can't start in float64
        variant = Variant[adaptation]
        model = adapt(model, AdaptationConfig(Adaptation.lora, variant, rank=4))
    base, model = base.double(), model.double()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(1)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    return model, base


def penalty_of(model: nn.Module, base: nn.Module, weight: float = 1.0) -> KLPenalty:
    return KLPenalty(BaseBeside(model, lambda: copy.deepcopy(base)), weight)


@pytest.mark.parametrize("adaptation", ["full", "lora", "pissa"])
@pytest.mark.parametrize("family", FAMILIES)
def test_value_and_gradient_are_those_of_the_definition(
    family: str, adaptation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The texts are padded, and the KL is computed for seven positions at a time."""
    monkeypatch.setattr(kl_penalty, "ELEMENTS", 7 * VOCABULARY)
    model, base = trained(family, adaptation)
    other = copy.deepcopy(model)
    model.train()
    penalty = penalty_of(model, base)
    assert penalty.base.is_loaded == (adaptation != "lora")
    found = penalty.divergence(model, TextBatch.of(TEXTS))
    found.backward()
    assert model.training
    expected = naive(other.train(), base.eval(), TEXTS)
    expected.backward()
    assert found.item() == pytest.approx(expected.item(), rel=1e-4)
    assert found.item() > 1e-3
    theirs = dict(other.named_parameters())
    for name, parameter in model.named_parameters():
        expected_gradient = theirs[name].grad
        assert parameter.requires_grad == theirs[name].requires_grad, name
        if expected_gradient is None:
            assert parameter.grad is None, name
        else:
            assert parameter.grad is not None, name
            # the logarithms of probabilities are in float32
            scale = expected_gradient.abs().max().item()
            assert torch.allclose(
                parameter.grad, expected_gradient, rtol=0, atol=1e-5 * scale + 1e-9
            ), name


def test_a_fresh_adapter_has_no_penalty() -> None:
    model = adapt(small_model("gpt2"), LORA).eval()
    found = penalty_of(model, model).divergence(model, TextBatch.of(TEXTS))
    found.backward()
    assert found.item() == pytest.approx(0, abs=1e-6)
    gradients = [one.grad for one in model.parameters() if one.requires_grad]
    assert all(one is not None and one.abs().max() < 1e-6 for one in gradients)


def test_the_base_has_no_dropout() -> None:
    """With dropout the model differs from its base, but the base doesn't differ from itself."""
    model = adapt(small_model("gpt2"), AdaptationConfig(Adaptation.lora, rank=4, dropout=0.5))
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.3
    model.train()
    penalty, batch = penalty_of(model, model), TextBatch.of(TEXTS)
    logits: list[Any] = []
    real = kl_penalty._states

    def kept(one: nn.Module, texts: TextBatch) -> torch.Tensor:
        states = real(one, texts)
        logits.append(states.detach())
        return states

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kl_penalty, "_states", kept)
        values = [penalty.divergence(model, batch).item() for _ in range(2)]
    assert torch.equal(logits[0], logits[2])
    assert not torch.equal(logits[1], logits[3])
    assert values[0] != values[1]


@pytest.mark.parametrize(
    ("texts", "batch_size", "accumulate", "world"),
    [(13, 8, 1, 1), (13, 4, 2, 1), (13, 2, 2, 2), (13, 1, 1, 8), (3, 2, 2, 2)],
)
def test_the_gradient_of_a_step_has_the_mean_over_its_texts(
    texts: int, batch_size: int, accumulate: int, world: int
) -> None:
    """As Lightning (divides by the batches of a step) and DDP (averages over processes) make it.

    13 texts are a step of 8 and one of 5; 3 texts leave some batches without any.
    """
    corpus = some_texts(*range(5, 5 + texts))
    data = EncodedCorpus.of(pair(i, 40 - i, 1 + 5 * (i % 4)) for i in range(16))
    for one in data:
        one.ids[:] = one.ids * 7 % VOCABULARY
    whole = TextStream(corpus, Division(8), seed=3)
    model, base = trained("gpt2", "full")
    weight = 0.7

    def stream(rank: int) -> list[Any]:
        shares = Division(8 // accumulate // world, accumulate, rank, world)
        plain = TextStream(corpus, Division(batch_size, accumulate, rank, world), seed=3)
        return list(TrainingStream(data, shares, 2, seed=0, texts=plain))

    streams = [stream(rank) for rank in range(world)]
    for step in range(2):
        ours, theirs = copy.deepcopy(model), copy.deepcopy(model)
        made = SummarizationModule(
            ours, OptimizerConfig(), 10, kl_penalty=penalty_of(ours, base, weight)
        )
        made.trainer = SimpleNamespace(  # type: ignore[assignment]
            accumulate_grad_batches=accumulate,
            world_size=world,
            strategy=SimpleNamespace(reduce=lambda value, reduce_op: value),
        )
        for one in streams:
            for index in range(step * accumulate, (step + 1) * accumulate):
                loss = made.training_step(one[index], index)
                (loss / accumulate / world).backward()
        (pairs,) = (
            batch
            for number, batch in enumerate(TrainingStream(data, Division(8), 2, seed=0))
            if number == step
        )
        summaries = summary_loss(theirs.base_model, theirs.get_output_embeddings(), pairs)  # type: ignore[operator]
        items = whole.batch(step, 0)
        chosen = [
            items.input_ids[row, : int(count) + 1].tolist()
            for row, count in enumerate(items.counts)
        ]
        assert len(chosen) == min(texts, 8 if step == 0 or texts == 3 else texts - 8)
        kl = naive(theirs, base, chosen)
        (summaries + weight * kl).backward()
        expected = dict(theirs.named_parameters())
        for name, parameter in ours.named_parameters():
            gradient = expected[name].grad
            assert gradient is not None
            assert parameter.grad is not None
            atol = 1e-5 * gradient.abs().max().item()
            assert torch.allclose(parameter.grad, gradient, rtol=0, atol=atol), name
        assert made.running_kl() == pytest.approx(kl.item(), rel=1e-5)


def test_every_text_is_read_once_a_pass_and_a_step_is_a_function_of_its_number() -> None:
    corpus = [[1, 10 + i] for i in range(10)]
    stream = TextStream(corpus, Division(4), seed=1)
    passes = [[stream.batch(3 * turn + step, 0) for step in range(3)] for turn in range(2)]
    read = [[row[1] for batch in one for row in batch.input_ids.tolist()] for one in passes]
    assert sorted(read[0]) == sorted(read[1]) == [ids[1] for ids in corpus]
    assert read[0] != read[1]
    again = TextStream(corpus, Division(4), seed=1).batch(4, 0)
    assert torch.equal(again.input_ids, passes[1][1].input_ids)


@pytest.mark.parametrize("adaptation", ["full", "lora"])
def test_operations_are_those_of_both_models(adaptation: str) -> None:
    """Against torch's counter; the base has no backward pass and no adapter."""
    model, base = trained("gpt2", adaptation)
    model, base = model.float(), base.float()
    for one in (model, base):
        base_model(one).set_attn_implementation("eager")
    penalty, batch = penalty_of(model, base), TextBatch.of(some_texts(24, 24))
    with FlopCounterMode(display=False) as counter:
        penalty.divergence(model, batch).backward()
    shape = (*batch.input_ids.shape, len(batch.positions))
    with penalty.base.active() as found, frozen(found):
        forward = TrainingFlops.of(found)
    counted = TrainingFlops.of(model).batch(*shape) + forward.batch(*shape)
    again = forward.target * len(batch.positions)  # the unembedding, which is computed twice
    assert counter.get_total_flops() == counted + again


def test_bad_settings() -> None:
    with pytest.raises(
        UserError, match=r"^kl_penalty\.weight=0\.1: there is nothing .* add kl_pen"
    ):
        KLPenaltyConfig(weight=0.1)
    with pytest.raises(UserError, match=r"^kl_penalty\.weight=-1"):
        KLPenaltyConfig(texts=["a"], weight=-1)
    with pytest.raises(UserError, match=r"^kl_penalty\.max_length=1"):
        KLPenaltyConfig(texts=["a"], max_length=1)
    assert not KLPenaltyConfig(texts=["a"], weight=0).is_on
    assert not KLPenaltyConfig().is_on
    assert KLPenaltyConfig(texts=["a"]).is_on
