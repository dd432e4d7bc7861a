"""The best checkpoint and early stopping as users type them, alone and in a resumed run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from sumcirc.training.checkpoint_io import AtomicCheckpointIO
from tests.support.command_server import CommandServer
from tests.support.named_runs import train, values

# a learning rate that rises so far that the loss of the small model rises with it, by half or more
# from one validation to the next
STEEP = ["model.learning_rate=3.0", "trainer.max_steps=24", "scheduler.warmup=0.9"]
BEST = ["trainer.keep_best=validation/loss", "trainer.load_best=true"]
STOP = ["trainer.early_stopping=validation/loss", "trainer.patience=3"]
ROUGE = [
    *("callbacks.watch=[summary_quality]", "callbacks.schedule.points=0", "trainer.patience=2"),
    *("callbacks.schedule.every=3", "callbacks.probes.documents=4"),
    *("trainer.keep_best=rougeLsum", "trainer.early_stopping=rougeLsum", "trainer.load_best=true"),
]


def summary(run: Path) -> dict[str, Any]:
    return json.loads((run / "summary.json").read_text())


def stopping_step(found: dict[int, float], patience: int, sign: int) -> int | None:
    """The step at which EarlyStopping stops; `sign` is -1 where lower is better."""
    best, without = -float("inf"), 0
    for step, value in found.items():
        if sign * value > best:
            best, without = sign * value, 0
        else:
            without += 1
        if without == patience:
            return step
    return None


@pytest.fixture(scope="module")
def stopped(
    commands: CommandServer, small_run: list[str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("stopped")
    done = train(
        commands, folder, [*small_run, *STEEP, *BEST, *STOP, "callbacks.schedule.points=0"]
    )
    assert done.code == 0, done.output
    return folder / "runs/s/r", done.output


def test_training_stops_and_the_best_weights_are_saved(stopped: tuple[Path, str]) -> None:
    run, output = stopped
    losses = {step: loss for step, loss in values(run, "validation/loss").items() if step}
    last = stopping_step(losses, 3, -1)
    assert last is not None
    assert last == list(losses)[-1] < 24
    best = min(losses, key=losses.__getitem__)
    assert best < last
    found = summary(run)
    assert found["steps"] == last
    assert found["stopped"] == {"metric": "validation/loss", "step": last}
    assert found["best"] == {
        **{"metric": "validation/loss", "step": best, "loaded": True},
        "value": pytest.approx(losses[best]),
    }
    assert f"stopped at step {last}: validation/loss did not improve in 3 values" in output
    assert f"the weights of step {best} (validation/loss" in output
    kept = AtomicCheckpointIO().load_checkpoint(run / "checkpoints/best.ckpt")
    assert kept["global_step"] == best
    saved = load_file(run / "model/model.safetensors")
    for name, value in saved.items():
        assert value.equal(kept["state_dict"][f"model.{name}"]), name
    # the last step is measured though it came early
    assert (run / f"probes/step-{last:06d}.safetensors").exists()
    assert json.loads((run / "status.json").read_text())["steps"] == last


@pytest.mark.parametrize("kill_at", ["mid_step", "before_weights_are_saved"])
def test_killed_and_resumed_it_stops_at_the_same_step(
    kill_at: str,
    stopped: tuple[Path, str],
    commands: CommandServer,
    small_run: list[str],
    tmp_path: Path,
) -> None:
    """The run directory is moved in between, as to another disk."""
    reference = stopped[0]
    words = [*small_run, *STEEP, *BEST, *STOP, "callbacks.schedule.points=0"]
    killed = train(commands, tmp_path, words, kill_at=kill_at)
    assert killed.code == -9, killed.output
    run = (tmp_path / "runs/s/r").rename(tmp_path / "moved")
    resumed = commands.run("train", f"resume={run}", cwd=tmp_path, figures=False)
    assert resumed.code == 0, resumed.output
    for metric in ("validation/loss", "train/loss"):
        assert values(run, metric) == values(reference, metric)
    found = [summary(folder) for folder in (run, reference)]
    for name in ("best", "stopped", "steps"):
        assert found[0][name] == found[1][name]
    weights = [(folder / "model/model.safetensors").read_bytes() for folder in (run, reference)]
    assert weights[0] == weights[1]


def test_the_metric_of_a_watcher_decides(
    commands: CommandServer, small_run: list[str], tmp_path: Path
) -> None:
    """With accumulation, where a step has several batches; the last step is kept too if best."""
    words = [*small_run, *ROUGE, "trainer.accumulate=2", "trainer.max_steps=20"]
    done = train(commands, tmp_path, words)
    assert done.code == 0, done.output
    run = tmp_path / "runs/s/r"
    scores = {step: one for step, one in values(run, "summaries/rougeLsum_f1").items() if step}
    last = stopping_step(scores, 2, 1) or 20
    assert list(scores)[-1] == last
    best = max(scores, key=scores.__getitem__)
    found = summary(run)
    assert found["steps"] == last
    assert found["best"]["metric"] == "summaries/rougeLsum_f1"
    assert found["best"]["step"] == best
    assert found["best"]["value"] == pytest.approx(scores[best])


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("trainer.keep_best=loss", "trainer.keep_best=loss: unknown; choose from validation/loss"),
        ("trainer.load_best=true", "trainer.load_best=true: no best checkpoint is kept"),
        ("trainer.patience=0", "trainer.patience=0: must be 1 or more"),
        (
            "trainer.early_stopping=rouge1",
            "trainer.early_stopping=rouge1: is measured by the watcher summary_quality, which is"
            " not in callbacks.watch=",
        ),
    ],
)
def test_mistakes_are_one_line(
    word: str, message: str, commands: CommandServer, small_run: list[str], tmp_path: Path
) -> None:
    refused = train(commands, tmp_path, [*small_run, word])
    assert refused.code == 2
    assert message in refused.output
    assert len(refused.said) == 1
    assert not (tmp_path / "runs").exists()
