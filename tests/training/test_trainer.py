"""Training in this process: what is logged and when, and that portions and precision are right."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook
from transformers.models.gpt2.modeling_gpt2 import GPT2Attention

from sumcirc.errors import UserError
from sumcirc.schema import Adaptation, Precision
from sumcirc.tracking.run_directory import RunDirectory
from sumcirc.training import module as modeling
from sumcirc.training import trainer as training
from sumcirc.training.checkpoint import checkpoints
from sumcirc.training.checkpoint_io import AtomicCheckpointIO
from sumcirc.training.module import SummarizationModule, TrainingDiverged
from tests.support.small_training import Trained, prepared, small_config, train

Files = dict[str, Path]
LORA = {"kind": Adaptation.lora, "rank": 4}


@pytest.fixture
def losses(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bool, float, int]]:
    """(while training, loss, summary tokens) of every batch, as the module computes them."""
    found: list[tuple[bool, float, int]] = []
    original = modeling.summary_loss

    def recorded(backbone: Any, unembedding: Any, batch: Any) -> torch.Tensor:
        loss = original(backbone, unembedding, batch)
        found.append((torch.is_grad_enabled(), loss.item(), len(batch.labels)))
        return loss

    monkeypatch.setattr(modeling, "summary_loss", recorded)
    return found


def mean(records: list[tuple[bool, float, int]]) -> float:
    """Per summary token."""
    return sum(loss * tokens for _, loss, tokens in records) / sum(n for *_, n in records)


def test_logged_losses_are_means_over_summary_tokens_since_the_last_line(
    gpt2_folder: Path, news_files: Files, tmp_path: Path, losses: list[tuple[bool, float, int]]
) -> None:
    config = small_config(gpt2_folder, news_files, tmp_path, trainer={"accumulate": 2})
    found = train(config, tmp_path / "run")
    steps = [record for record in losses if record[0]]
    assert len(steps) == 12
    expected = {2: mean(steps[:4]), 4: mean(steps[4:8]), 6: mean(steps[8:])}
    assert found.values("train/loss") == pytest.approx(expected, rel=1e-6)
    validated = [record for record in losses if not record[0]]
    each = len(validated) // 3
    means = {3 * i: mean(validated[each * i : each * (i + 1)]) for i in range(3)}
    assert found.values("validation/loss") == pytest.approx(means, rel=1e-6)
    for step, loss in found.values("validation/loss").items():
        assert found.values("validation/perplexity")[step] == pytest.approx(math.exp(loss))
    assert found.values("train/epoch") == {2: 0.4, 4: 0.8, 6: 1.2}
    assert set(found.values("time/tokens_per_second")) == {2, 4, 6}


@pytest.mark.parametrize(
    ("every", "expected"), [(None, [0, 10, 12]), (5, [0, 5, 10, 12]), (100, [0, 12])]
)
def test_validation_is_at_the_start_at_each_interval_and_at_the_end(
    gpt2_folder: Path, news_files: Files, tmp_path: Path, every: int | None, expected: list[int]
) -> None:
    trainer = {"validate_every": every, "max_steps": 12}
    found = train(small_config(gpt2_folder, news_files, tmp_path, trainer=trainer), tmp_path / "r")
    assert list(found.values("validation/loss")) == expected


@pytest.mark.parametrize("folder", ["gpt2_folder", "llama_folder"])
@pytest.mark.parametrize("adaptation", [{}, LORA], ids=["full", "lora"])
def test_training_lowers_the_validation_loss(
    folder: str,
    adaptation: dict[str, Any],
    news_files: Files,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    config = small_config(
        request.getfixturevalue(folder),
        news_files,
        tmp_path,
        trainer={"max_steps": 30, "validate_every": 30},
        optimizer={"learning_rate": 1e-2},
        adaptation=adaptation,
    )
    loss = train(config, tmp_path / "run").values("validation/loss")
    assert loss[30] < loss[0] - (0.2 if adaptation else 2)


@pytest.fixture
def norms() -> Iterator[list[float]]:
    """Norm of the gradient that every optimizer step used."""
    found: list[float] = []

    def record(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        gradients = [p.grad for g in optimizer.param_groups for p in g["params"]]
        found.append(torch.nn.utils.get_total_norm([g for g in gradients if g is not None]).item())

    handle = register_optimizer_step_post_hook(record)
    yield found
    handle.remove()


def test_gradients_are_clipped_to_the_norm(
    gpt2_folder: Path, news_files: Files, tmp_path: Path, norms: list[float]
) -> None:
    config = small_config(gpt2_folder, news_files, tmp_path, optimizer={"clip": 0.01})
    train(config, tmp_path / "run")
    assert norms == pytest.approx([0.01] * 6, rel=1e-3)


def test_no_clipping_when_switched_off(
    gpt2_folder: Path, news_files: Files, tmp_path: Path, norms: list[float]
) -> None:
    train(small_config(gpt2_folder, news_files, tmp_path, optimizer={"clip": 0.0}), tmp_path / "r")
    assert len(norms) == 6
    assert min(norms) > 1


def same_weights(left: Trained, right: Trained, tolerance: float) -> bool:
    ours, theirs = left.weights(), right.weights()
    assert set(ours) == set(theirs)
    return all(torch.allclose(ours[n], theirs[n], rtol=0, atol=tolerance) for n in ours)


def test_steps_are_the_same_however_they_are_accumulated(
    llama_folder: Path, tmp_path: Path, norms: list[float]
) -> None:
    """Summaries of 1 to 30 words and a short last step of each pass; losses, gradients, weights.

    Epsilon keeps Adam from magnifying rounding where a gradient is near 0.
    """
    rows = [
        {
            "document": f"Trains to {['Porto', 'Lisbon', 'Faro'][i % 3]} " + "stood " * (i % 7),
            "summary": "Storm closes roads. " * (10 if i % 5 == 0 else 1),
        }
        for i in range(29)
    ]
    file = tmp_path / "uneven.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = dict.fromkeys(("train", "validation", "test"), file)
    found, used = [], []
    for size in (8, 4, 1):
        trainer = {
            "batch_size": size,
            "accumulate": 8 // size,
            "max_steps": None,
            "max_epochs": 2,
            "log_every": 1,
        }
        config = small_config(
            llama_folder, files, tmp_path, trainer=trainer, optimizer={"epsilon": 1e-4}
        )
        norms.clear()
        found.append(train(config, tmp_path / str(size)))
        used.append(list(norms))
    for other, gradients in zip(found[1:], used[1:], strict=True):
        assert len(gradients) == 8
        assert gradients == pytest.approx(used[0], rel=1e-4)
        assert same_weights(found[0], other, tolerance=1e-6)
        for metric in ("train/loss", "validation/loss"):
            assert other.values(metric) == pytest.approx(found[0].values(metric), abs=1e-5)


@pytest.fixture
def modes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bool, set[bool]]]:
    """(while training, modes of the network's modules) at every loss."""
    found: list[tuple[bool, set[bool]]] = []
    original = modeling.summary_loss

    def recorded(backbone: Any, unembedding: Any, batch: Any) -> torch.Tensor:
        seen = {module.training for module in backbone.modules()}
        found.append((torch.is_grad_enabled(), seen))
        return original(backbone, unembedding, batch)

    monkeypatch.setattr(modeling, "summary_loss", recorded)
    return found


@pytest.mark.parametrize("adaptation", [{}, LORA], ids=["full", "lora"])
def test_training_is_in_training_mode_and_validation_in_evaluation(
    gpt2_folder: Path,
    news_files: Files,
    tmp_path: Path,
    adaptation: dict[str, Any],
    modes: list[tuple[bool, set[bool]]],
) -> None:
    train(small_config(gpt2_folder, news_files, tmp_path, adaptation=adaptation), tmp_path / "run")
    assert [seen for training, seen in modes if training] == [{True}] * 6
    validated = [seen for training, seen in modes if not training]
    assert len(validated) == 9
    assert validated == [{False}] * 9


@pytest.mark.filterwarnings("ignore:.*in eval mode at the start of training")
@pytest.mark.parametrize("adaptation", [{}, LORA], ids=["full", "lora"])
def test_dropout_is_the_models_own_unless_it_is_set(
    gpt2_folder: Path,
    news_files: Files,
    tmp_path: Path,
    adaptation: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The model's is 0.1; 0 trains what the network in evaluation mode would."""
    found = {}
    for dropout in (None, 0.1, 0.0):
        config = small_config(gpt2_folder, news_files, tmp_path, adaptation=adaptation)
        config.model.dropout = dropout
        found[dropout] = train(config, tmp_path / str(dropout))
    monkeypatch.setattr(training, "start_training", lambda model, dropout: model.eval())
    evaluated = train(config, tmp_path / "evaluated")
    assert same_weights(found[None], found[0.1], 0)
    assert not same_weights(found[None], found[0.0], 1e-5)
    assert same_weights(found[0.0], evaluated, 0)


def test_same_seed_same_run_other_seed_other_run(
    gpt2_folder: Path, news_files: Files, tmp_path: Path
) -> None:
    config = small_config(gpt2_folder, news_files, tmp_path)
    first = train(config, tmp_path / "1")
    assert same_weights(first, train(config, tmp_path / "2"), 0)
    config.seed = 2
    assert not same_weights(first, train(config, tmp_path / "3"), 1e-6)


@pytest.mark.parametrize("adaptation", [{}, LORA], ids=["full", "lora"])
def test_bf16_on_the_cpu_keeps_float32_weights(
    gpt2_folder: Path, news_files: Files, tmp_path: Path, adaptation: dict[str, Any]
) -> None:
    plain = small_config(gpt2_folder, news_files, tmp_path, adaptation=adaptation)
    mixed = small_config(
        gpt2_folder,
        news_files,
        tmp_path,
        adaptation=adaptation,
        trainer={"precision": Precision.bf16},
    )
    found = train(mixed, tmp_path / "mixed")
    assert {value.dtype for value in found.weights().values()} == {torch.float32}
    exact = train(plain, tmp_path / "plain").values("train/loss")
    for step, loss in found.values("train/loss").items():
        assert loss == pytest.approx(exact[step], rel=0.02)
        assert loss != exact[step]


@pytest.mark.parametrize("adaptation", [{}, LORA], ids=["full", "lora"])
def test_compiled_network_trains_the_same_weights(
    gpt2_folder: Path,
    news_files: Files,
    tmp_path: Path,
    adaptation: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The graph is traced as for inductor, and then run as it is."""
    compiled = []

    def eager(network: Any) -> Any:
        compiled.append(network)
        return compile_(network, backend="eager")

    compile_ = functools.partial(torch.compile)
    monkeypatch.setattr(torch, "compile", eager)
    sections = {"adaptation": adaptation, "optimizer": {"epsilon": 1e-4}}
    plain = train(small_config(gpt2_folder, news_files, tmp_path, **sections), tmp_path / "plain")
    assert not compiled
    sections["trainer"] = {"compile": True}
    config = small_config(gpt2_folder, news_files, tmp_path, **sections)
    found = train(config, tmp_path / "compiled")
    assert len(compiled) == 1
    assert same_weights(plain, found, 1e-5)


@pytest.mark.parametrize("adaptation", [{}, LORA], ids=["full", "lora"])
def test_activation_checkpointing_computes_twice_and_trains_the_same_weights(
    gpt2_folder: Path,
    news_files: Files,
    tmp_path: Path,
    adaptation: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the model's dropout: what is computed again has the same masks."""
    calls: list[bool] = []
    original = GPT2Attention.forward

    def counted(self: Any, *arguments: Any, **options: Any) -> Any:
        calls.append(self.training)
        return original(self, *arguments, **options)

    monkeypatch.setattr(GPT2Attention, "forward", counted)
    sections: dict[str, Any] = {"adaptation": adaptation, "optimizer": {"epsilon": 1e-4}}
    plain = train(small_config(gpt2_folder, news_files, tmp_path, **sections), tmp_path / "plain")
    once = sum(calls)
    calls.clear()
    sections["trainer"] = {"gradient_checkpointing": True}
    config = small_config(gpt2_folder, news_files, tmp_path, **sections)
    assert same_weights(plain, train(config, tmp_path / "checkpointed"), 1e-6)
    assert sum(calls) == 2 * once


def poison(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """One weight becomes NaN in the batch that follows `step`."""
    original = SummarizationModule.training_step

    def training_step(self: SummarizationModule, batch: Any, index: int) -> torch.Tensor:
        if self.global_step == step:
            with torch.no_grad():
                next(p for p in self.parameters() if p.requires_grad).view(-1)[0] = math.nan
        return original(self, batch, index)

    monkeypatch.setattr(SummarizationModule, "training_step", training_step)


@pytest.mark.parametrize("adaptation", [{}, LORA], ids=["full", "lora"])
@pytest.mark.parametrize("log_every", [1, 100])
def test_loss_that_is_no_number_stops_and_keeps_the_last_good_checkpoint(
    gpt2_folder: Path,
    news_files: Files,
    tmp_path: Path,
    adaptation: dict[str, Any],
    log_every: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    poison(monkeypatch, step=4)
    trainer = {"max_steps": 40, "log_every": log_every, "validate_every": 40}
    config = small_config(gpt2_folder, news_files, tmp_path, trainer=trainer, adaptation=adaptation)
    with pytest.raises(TrainingDiverged, match=r"the loss is nan at step \d+: lower optimizer"):
        train(config, tmp_path / "run")
    run = RunDirectory(tmp_path / "run")
    (kept,) = checkpoints(run.checkpoints)
    assert kept.name == "step-000004.ckpt"
    state = AtomicCheckpointIO().load_checkpoint(kept)["state_dict"]
    assert all(value.isfinite().all() for value in state.values())


def test_weights_that_are_no_numbers_are_never_saved(
    gpt2_folder: Path, news_files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss of the last step was fine, its update was not."""
    original = SummarizationModule.on_train_batch_end

    def spoil(self: SummarizationModule, *arguments: Any) -> None:
        original(self, *arguments)
        if self.global_step == 4:
            with torch.no_grad():
                self.model.lm_head.weight[0, 0] = math.inf

    monkeypatch.setattr(SummarizationModule, "on_train_batch_end", spoil)
    with pytest.raises(TrainingDiverged, match="weights are no longer finite numbers at step 4"):
        train(small_config(gpt2_folder, news_files, tmp_path), tmp_path / "run")
    (kept,) = checkpoints(tmp_path / "run" / "checkpoints")
    assert kept.name == "step-000002.ckpt"


def test_base_whose_loss_is_no_number_is_refused_before_training(
    gpt2_folder: Path, news_files: Files, tmp_path: Path
) -> None:
    config = small_config(gpt2_folder, news_files, tmp_path)
    model, data = prepared(config)
    model.lm_head.weight.data.fill_(math.nan)
    with pytest.raises(TrainingDiverged, match="validation loss is nan at step 0: check model"):
        training.fit(config, model, data, RunDirectory(tmp_path / "run"), None)


@pytest.mark.parametrize("keep", [1, 2, -1])
def test_checkpoints_kept(gpt2_folder: Path, news_files: Files, tmp_path: Path, keep: int) -> None:
    trainer = {"max_steps": 5, "keep_checkpoints": keep}
    config = small_config(gpt2_folder, news_files, tmp_path, trainer=trainer)
    train(config, tmp_path / "run")
    names = ["step-000002.ckpt", "step-000004.ckpt", "step-000005.ckpt"]
    found = [file.name for file in checkpoints(tmp_path / "run" / "checkpoints")]
    assert found == (names if keep == -1 else names[-keep:])


def test_checkpoint_of_an_adapter_is_as_small_as_the_adapter(
    gpt2_folder: Path, news_files: Files, tmp_path: Path
) -> None:
    size = {}
    for name, adaptation in (("full", {}), ("lora", {**LORA, "rank": 1, "layers": [0]})):
        config = small_config(gpt2_folder, news_files, tmp_path, adaptation=adaptation)
        found = train(config, tmp_path / name)
        (file,) = checkpoints(found.run.checkpoints)
        numbers = sum(value.numel() for value in found.weights().values())
        # weights and Adam's two moments, 4 bytes each, and 60 kB of generators and bookkeeping
        assert 12 * numbers < file.stat().st_size < 12 * numbers + 60_000
        size[name] = numbers
        stored = AtomicCheckpointIO().load_checkpoint(file)["state_dict"]
        assert set(stored) == set(found.weights())
    assert size["full"] > 50 * size["lora"]


def test_extra_callbacks_are_built_and_log_to_the_same_file(
    gpt2_folder: Path, news_files: Files, tmp_path: Path
) -> None:
    monitor = {"_target_": "pytorch_lightning.callbacks.LearningRateMonitor"}
    config = small_config(
        gpt2_folder, news_files, tmp_path, callbacks={"extra": {"rates": monitor}}
    )
    training.check_trainer(config)
    found = train(config, tmp_path / "run")
    assert len({name for _, name, _ in found.metrics if name.startswith("lr-AdamW")}) == 2


@pytest.mark.parametrize(
    ("trainer", "message"),
    [
        ({"accelerator": "tpu"}, r"trainer\.accelerator=tpu: unknown; choose from auto, cpu"),
        ({"accelerator": "gpu"}, r"trainer\.accelerator=gpu: no GPU is visible"),
        ({"precision": Precision.fp16}, r"trainer\.precision=fp16: needs a GPU"),
        ({"accelerator": "mps"}, r"trainer\.accelerator=mps: refused by Lightning .*MPSAcc"),
        ({"strategy": "dpp"}, r"trainer\.strategy=dpp: unknown; choose from auto, ddp"),
        # it trains in copies of the process; nothing of theirs would reach the run
        ({"strategy": "ddp_spawn"}, r"trainer\.strategy=ddp_spawn: unknown; choose from auto"),
        ({"devices": [0, 1]}, r"trainer\.devices=\[0, 1\] .*: refused by Lightning on this mach"),
        (
            {"devices": -1},
            r"trainer\.devices=-1 .*: refused .* without them a run takes one device",
        ),
        ({"strategy": "fsdp"}, r"trainer\.strategy=fsdp: .*evaluation\.at_end=false"),
        ({"strategy": "fsdp_cpu_offload"}, r"fsdp_cpu_offload: .*evaluation\.at_end=false"),
    ],
)
def test_machines_that_are_not_there_are_refused(
    gpt2_folder: Path,
    news_files: Files,
    tmp_path: Path,
    trainer: dict[str, Any],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    with pytest.raises(UserError, match=message):
        training.check_trainer(small_config(gpt2_folder, news_files, tmp_path, trainer=trainer))
