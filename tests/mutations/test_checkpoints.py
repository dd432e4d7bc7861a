"""Checkpoints that are damaged or were changed: training goes on rightly, or says why not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from sumcirc.schema import Adaptation
from sumcirc.tracking.run_directory import RunDirectory
from sumcirc.training.checkpoint import checkpoints
from sumcirc.training.checkpoint_io import AtomicCheckpointIO
from sumcirc.training.trainer import fit
from tests.mutations import containers
from tests.mutations.trials import FEW, MANY, faults
from tests.support.small_training import prepared, small_config, train


@pytest.fixture(scope="module")
def cut_off(
    tmp_path_factory: pytest.TempPathFactory, gpt2_folder: Path, news_files: dict[str, Path]
) -> tuple[Any, RunDirectory]:
    """A run whose last checkpoint is of step 4 of 6."""
    folder = tmp_path_factory.mktemp("checkpoints")
    config = small_config(
        gpt2_folder,
        news_files,
        folder,
        adaptation={"kind": Adaptation.lora, "rank": 2},
        trainer={"keep_checkpoints": -1},
    )
    run = train(config, folder / "run").run
    checkpoints(run.checkpoints)[-1].unlink()
    return config, run


def resume(config: Any, run: RunDirectory) -> None:
    """Train to the end from the last checkpoint, and put its files back."""
    model, data = prepared(config)
    kept, size = run.metrics.path.read_bytes(), len(checkpoints(run.checkpoints))
    try:
        trainer, _ = fit(config, model, data, run, None)
        assert trainer.global_step == 6
    finally:
        run.metrics.path.write_bytes(kept)
        for file in checkpoints(run.checkpoints)[size:]:
            file.unlink()


@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
def test_training_goes_on_or_is_refused(count: int, cut_off: tuple[Any, RunDirectory]) -> None:
    config, run = cut_off
    file = checkpoints(run.checkpoints)[-1]
    assert file.name == "step-000004.ckpt"
    whole = AtomicCheckpointIO().load_checkpoint(file)

    def trial() -> None:
        if checkpoints(run.checkpoints) and checkpoints(run.checkpoints)[-1] == file:
            found = AtomicCheckpointIO().load_checkpoint(file)
            # what is taken is what was written, so that training goes on as it would have
            for name, value in whole["state_dict"].items():
                assert torch.equal(value, found["state_dict"][name])
            assert found["loops"] == whole["loops"]

    resume(config, run)
    found = faults(file, containers.CHECKPOINT, trial, count)
    assert not found, "\n".join(found)


@pytest.mark.slow
def test_a_damaged_checkpoint_stops_no_process(cut_off: tuple[Any, RunDirectory]) -> None:
    config, run = cut_off
    file = checkpoints(run.checkpoints)[-1]
    found = faults(file, containers.CHECKPOINT, lambda: resume(config, run), 40, seed=1)
    assert not found, "\n".join(found)
