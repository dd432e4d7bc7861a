"""The loss against transformers' own logits; what is decayed, scheduled and saved."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from sumcirc.data.batch_order import Division
from sumcirc.data.batches import TrainingBatch, TrainingStream
from sumcirc.data.encoding import EncodedCorpus
from sumcirc.data.examples import TokenExample
from sumcirc.errors import UserError
from sumcirc.models.adapters import adapt
from sumcirc.models.architectures import ARCHITECTURES
from sumcirc.models.unembedding import unembedding_of
from sumcirc.schema import Adaptation, AdaptationConfig, OptimizerConfig, Schedule
from sumcirc.training.module import SummarizationModule, summary_loss
from sumcirc.training.optimizers import parameter_groups, plain_name
from tests.data.test_batches import pair
from tests.support.small_models import VOCABULARY, small_model

LORA = AdaptationConfig(kind=Adaptation.lora, rank=4)


def pairs() -> list[TokenExample]:
    """Sequences of unequal lengths and summaries; 0, the pad and end token, is in them too."""
    found = []
    for one in (pair(0, 31, 7), pair(1, 12, 1), pair(2, 25, 12)):
        ids = np.append(one.ids[:-1] * 7 % VOCABULARY, 0)
        found.append(TokenExample.predicting(one.id, ids, one.prompt_length))
    return found


def naive_loss(model: Any, sequences: list[TokenExample]) -> float:
    """Item by item, unpadded, with the logits of the whole model."""
    total, count = 0.0, 0
    for one in sequences:
        ids = torch.from_numpy(one.ids).long()
        log_probabilities = model(input_ids=ids[None]).logits[0].double().log_softmax(-1)
        for position in range(one.prompt_length, len(ids)):
            total -= log_probabilities[position - 1, ids[position]].item()
            count += 1
    return total / count


@pytest.mark.parametrize("family", ARCHITECTURES)
@pytest.mark.parametrize("width", [None, 32, 90])
def test_loss_equals_the_naive_one_whatever_the_padding(family: str, width: int | None) -> None:
    model = small_model(family).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)  # logits that differ
        expected = naive_loss(model, pairs())
        batch = TrainingBatch.of(pairs(), width)
        found = summary_loss(model.base_model, unembedding_of(model), batch).item()
    assert abs(expected - math.log(VOCABULARY)) > 1e-3
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_gradients_equal_those_of_the_labelled_model(family: str) -> None:
    """transformers' own loss, with labels of -100 on prompt and pads and an attention mask."""
    ours, theirs = small_model(family).double(), small_model(family).double()
    sequences = pairs()
    batch = TrainingBatch.of(sequences, 40)
    summary_loss(ours.base_model, ours.get_output_embeddings(), batch).backward()
    labels = torch.full_like(batch.input_ids, -100)
    mask = torch.zeros_like(batch.input_ids)
    for row, one in enumerate(sequences):
        labels[row, one.prompt_length : len(one)] = torch.from_numpy(one.ids[one.prompt_length :])
        mask[row, : len(one)] = 1
    theirs(input_ids=batch.input_ids, attention_mask=mask, labels=labels).loss.backward()
    found = dict(ours.named_parameters())
    for name, parameter in theirs.named_parameters():
        assert torch.allclose(found[name].grad, parameter.grad, atol=1e-7), name


@pytest.mark.parametrize(
    ("batch_size", "accumulate", "world"), [(8, 1, 1), (4, 2, 1), (1, 8, 1), (2, 2, 2), (1, 1, 16)]
)
def test_gradient_of_a_step_is_that_of_the_mean_over_its_tokens(
    batch_size: int, accumulate: int, world: int
) -> None:
    """As Lightning (divides by the batches of a step) and DDP (averages over processes) make it."""
    data = EncodedCorpus.of(
        pair(i, 40 - i, 1 + 5 * (i % 4)) for i in range(13)
    )  # the second step has 5 items
    for one in data:
        one.ids[:] = one.ids * 7 % VOCABULARY
    whole = list(TrainingStream(data, Division(8 * (1 + (world == 16))), 2, seed=0))
    streams = [
        list(TrainingStream(data, Division(batch_size, accumulate, rank, world), 2, seed=0))
        for rank in range(world)
    ]
    for step, expected in enumerate(whole):
        ours, theirs = small_model("gpt2").double(), small_model("gpt2").double()
        trained = SummarizationModule(ours, OptimizerConfig(), 10)
        trained.trainer = SimpleNamespace(  # type: ignore[assignment]
            accumulate_grad_batches=accumulate, world_size=world
        )
        for stream in streams:
            for index in range(step * accumulate, (step + 1) * accumulate):
                loss = trained.training_step(stream[index], index)
                (loss / accumulate / world).backward()
        summary_loss(theirs.base_model, theirs.get_output_embeddings(), expected).backward()
        found = dict(ours.named_parameters())
        for name, parameter in theirs.named_parameters():
            assert torch.allclose(found[name].grad, parameter.grad, rtol=1e-9, atol=1e-12), name
        total, tokens = float(trained._loss_sum), trained._loss_tokens
        assert tokens == len(expected.labels)
        direct = summary_loss(theirs.base_model, theirs.get_output_embeddings(), expected)
        assert total / tokens == pytest.approx(direct.item(), rel=1e-6)


def test_end_of_text_is_learnt_though_it_pads() -> None:
    model = small_model("gpt2")
    batch = TrainingBatch.of(pairs())
    hidden = model.base_model(batch.input_ids).last_hidden_state
    hidden.retain_grad()
    logits = model.get_output_embeddings()(hidden.flatten(0, 1)[batch.positions])
    logits.retain_grad()
    torch.nn.functional.cross_entropy(logits, batch.labels).backward()
    assert logits.grad is not None
    ends = batch.labels == 0
    assert ends.sum() == 3
    assert (logits.grad[ends, 0] < 0).all()  # its probability is pushed up


def module(model: Any, total: int = 100, **options: Any) -> SummarizationModule:
    made = SummarizationModule(model, OptimizerConfig(**options), total)
    made.trainer = SimpleNamespace(precision="32-true")  # type: ignore[assignment]
    return made


@pytest.mark.parametrize("adapted", [False, True])
@pytest.mark.parametrize("family", ARCHITECTURES)
def test_biases_and_norms_are_not_decayed(family: str, adapted: bool) -> None:
    model = small_model(family)
    if adapted:
        model = adapt(model, LORA)
    made = module(model, weight_decay=0.3).configure_optimizers()["optimizer"]
    decay = {id(p): group["weight_decay"] for group in made.param_groups for p in group["params"]}
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert set(decay) == {id(p) for p in named.values()}
    for name, parameter in named.items():
        plain = name.endswith(".bias") or "norm" in name or "ln_" in name
        assert decay[id(parameter)] == (0.0 if plain else 0.3), name


def test_what_a_matrix_is_does_not_depend_on_how_it_is_sharded() -> None:
    flat = torch.nn.Parameter(torch.zeros(10))
    named = [("a._fsdp_wrapped_module.weight", flat), ("a.bias", torch.nn.Parameter(flat[:3]))]
    groups = parameter_groups(named, {"a.weight"}, 0.1)
    assert [(len(g["params"]), g["weight_decay"]) for g in groups] == [(1, 0.1), (1, 0.0)]
    assert groups[0]["params"][0] is flat
    assert plain_name("_fsdp_wrapped_module.model.a") == "model.a"


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (Schedule.linear, {0: 0.0, 5: 0.5, 10: 1.0, 55: 0.5, 91: 0.1, 100: 0.0}),
        (Schedule.cosine, {0: 0.0, 5: 0.5, 10: 1.0, 40: 0.75, 55: 0.5, 70: 0.25, 100: 0.0}),
        (Schedule.constant, {0: 0.0, 5: 0.5, 10: 1.0, 55: 1.0, 100: 1.0}),
    ],
)
def test_warm_up_and_schedule(schedule: Schedule, expected: dict[int, float]) -> None:
    made = module(small_model("gpt2"), learning_rate=0.02, warmup=0.1, schedule=schedule)
    configured = made.configure_optimizers()
    optimizer, scheduler = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    assert configured["lr_scheduler"]["interval"] == "step"
    found = {}
    for step in range(101):
        found[step] = optimizer.param_groups[0]["lr"]
        optimizer.step()
        scheduler.step()
    for step, share in expected.items():
        assert found[step] == pytest.approx(0.02 * share, abs=1e-9)


def test_optimizer_settings_reach_adamw() -> None:
    made = module(small_model("gpt2"), beta1=0.8, beta2=0.9, epsilon=1e-5).configure_optimizers()
    defaults = made["optimizer"].defaults
    assert isinstance(made["optimizer"], torch.optim.AdamW)
    assert (defaults["betas"], defaults["eps"]) == ((0.8, 0.9), 1e-5)


def test_state_of_an_adapter_is_the_adapter() -> None:
    model: Any = adapt(small_model("gpt2"), LORA)
    state = module(model).state_dict()
    assert len(state) == 2 * 4 * 2  # A and B of four linears in two layers
    assert all("lora_" in name for name in state)


def test_state_of_a_full_model_has_tied_weights_once() -> None:
    model = small_model("gpt2")
    state = module(model).state_dict()
    assert set(state) == {f"model.{name}" for name, _ in model.named_parameters()}
    assert "model.lm_head.weight" not in state


def test_checkpoint_of_another_adaptation_is_refused() -> None:
    made = module(adapt(small_model("gpt2"), LORA))
    other = module(adapt(small_model("gpt2", layers=1), LORA))
    checkpoint = {"state_dict": other.state_dict(), "running_loss": [0.0, 0.0]}
    with pytest.raises(UserError, match=r"another model or adaptation: it lacks .*h\.1.* 7 more"):
        made.on_load_checkpoint(checkpoint)
