"""`debug=` and `trainer.extra=`: what they run, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from sumcirc.schema import WATCHERS
from tests.support.command_server import CommandServer, Finished
from tests.support.named_runs import values


def train(
    commands: CommandServer, folder: Path, small_run: Sequence[str], *words: str, figures: bool
) -> Finished:
    """Only the model and the data of `small_run`: what debug= sets is not typed."""
    known = [word for word in small_run if word.startswith(("model.", "data", "logger"))]
    words = (*known, *words, "sweep.name=s", "run.name=r", "trainer.threads=1")
    return commands.run("train", *words, cwd=folder, figures=figures)


def test_smoke_runs_every_watcher_and_draws_every_figure(
    commands: CommandServer, small_run: list[str], tmp_path: Path
) -> None:
    done = train(commands, tmp_path, small_run, "debug=smoke", figures=True)
    assert done.code == 0, done.output
    for step in (0, 4):
        for work in ("attribute by eap-ig-inputs", "judge circuits"):
            assert f"\nstep {step}: {work}: " in done.output
    run = tmp_path / "runs/s/r"
    summary = json.loads((run / "summary.json").read_text())
    assert set(summary["systems"]) >= {"lead-3", "random-3", "oracle", "base", "trained"}
    assert summary["steps"] == 4
    measured = {
        "attention_entropy": "attention/entropy",
        "base_divergence": "attention/kl_tuned_base",
        "activation_drift": "residual/magnitude/layer_00",
        "logit_lens": "logit_lens/kl_model_lens/layer_00",
        "salient_attention": "attention/to_salient",
        "summary_quality": "summaries/rouge1_f1",
        "circuit_tracker": "circuit/edges",
    }
    assert set(measured) == set(WATCHERS)
    for metric in measured.values():
        assert list(values(run, metric)) == [0, 4], metric
    drawn = {file.stem for file in (run / "figures").rglob("*.png")}
    assert drawn >= {
        *("loss", "scores", "entropy_difference", "attention_divergence", "drift", "neurons"),
        *("circuit", "circuit_evolution", "magnitude", "layer_divergence"),
        *("logit_lens", "salient_attention"),
    }


def test_overfit_trains_on_one_batch(
    commands: CommandServer, small_run: list[str], tmp_path: Path
) -> None:
    words = ["debug=overfit", "trainer.batch_size=4", "trainer.max_steps=60"]
    words = [*words, "optimizer.learning_rate=1e-2"]
    done = train(commands, tmp_path, small_run, *words, figures=False)
    assert done.code == 0, done.output
    run = tmp_path / "runs/s/r"
    loss = values(run, "train/loss")
    assert max(loss) == 60
    # on all data the validation loss falls with it
    assert loss[60] < 0.5 * loss[5]
    assert loss[60] < 0.7 * values(run, "validation/loss")[60]


def test_profile_and_other_arguments_of_lightning(
    commands: CommandServer, small_run: list[str], tmp_path: Path
) -> None:
    words = ["debug=profile", "trainer.max_steps=4", "callbacks=none", "trainer.batch_size=4"]
    words = [*words, "trainer.extra={limit_val_batches: 1}", "trainer.extra.deterministic=true"]
    done = train(commands, tmp_path, small_run, *words, figures=False)
    assert done.code == 0, done.output
    run = tmp_path / "runs/s/r"
    report = (run / "fit-profile.txt").read_text()
    assert f"profile: {run}/fit-profile.txt" in done.output
    assert "run_training_batch" in report
    (line,) = [line for line in report.splitlines() if "Strategy.validation_step" in line]
    assert [cell.strip() for cell in line.split("|")][
        3
    ] == "2"  # one of three batches, at step 0 and 4


def test_anomaly_names_the_operation(
    commands: CommandServer, small_run: list[str], tmp_path: Path
) -> None:
    """Nothing is wrong here: every step is logged, and the numbers are those without it."""
    words = ["trainer.max_steps=2", "callbacks=none", "evaluation.at_end=false"]
    done = train(commands, tmp_path, small_run, "debug=anomaly", *words, figures=False)
    assert done.code == 0, done.output
    assert list(values(tmp_path / "runs/s/r", "train/loss")) == [1, 2]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("trainer.extra={limit_val_batch: 2}", "no such argument, did you mean limit_val_batches?"),
        (
            "trainer.extra={max_steps: 2}",
            "trainer.extra.max_steps=2: is set by other settings; give",
        ),
        ("trainer.extra.plugins=[]", "trainer.extra.plugins=[]: can't be changed, since"),
        ("trainer.extra.max_time=soon", "trainer.extra.max_time=soon: refused by Lightning ("),
        ("trainer.extra.profiler=fast", "choose from simple, advanced, pytorch"),
        ("trainer.strategy=deepspeed_stage_2", "DeepSpeed writes checkpoints of its own"),
        ("trainer=fsdp", "add evaluation.at_end=false callbacks=none, and run `sumcirc evaluate`"),
        ("debug=smok", "smok"),
    ],
)
def test_mistakes_are_one_line(
    word: str, message: str, commands: CommandServer, small_run: list[str], tmp_path: Path
) -> None:
    refused = train(commands, tmp_path, small_run, word, figures=False)
    assert refused.code == 2, refused.output
    assert message in refused.output
    assert len(refused.said) == 1
    assert not (tmp_path / "runs").exists()
