"""Tests that a dry run measures real steps of the run, of the sizes that it reports."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sumcirc.data.batch_order import Division
from sumcirc.data.batches import TrainingStream
from sumcirc.runtime.memory import process_peak
from sumcirc.training import module as modeling
from sumcirc.training.step_costs import measure_steps, step_sizes
from tests.support.small_training import prepared, small_config

Files = dict[str, Path]


@pytest.mark.parametrize("accumulate", [1, 3])
def test_the_sizes_are_those_of_the_batches(
    gpt2_folder: Path, news_files: Files, tmp_path: Path, accumulate: int
) -> None:
    config = small_config(gpt2_folder, news_files, tmp_path, trainer={"accumulate": accumulate})
    _, data = prepared(config)
    division = Division(config.trainer.batch_size, accumulate)
    steps, _ = data.steps(1)
    stream = TrainingStream(data.encoded["train"], division, steps, data.seed)
    batches = [batch.input_ids.numel() for batch in stream if batch.loss_tokens]
    sizes = step_sizes(data, division, steps)
    assert len(sizes) == steps
    assert sizes.sum() == sum(batches)
    if accumulate == 1:
        assert sizes.tolist() == batches


def test_the_mean_and_the_largest_step_are_measured(
    gpt2_folder: Path, news_files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config(gpt2_folder, news_files, tmp_path)
    model, data = prepared(config)
    trained: list[int] = []
    original = modeling.summary_loss

    def recorded(backbone: object, unembedding: object, batch: object) -> object:
        trained.append(batch.input_ids.numel())  # type: ignore[attr-defined]
        return original(backbone, unembedding, batch)  # type: ignore[arg-type]

    monkeypatch.setattr(modeling, "summary_loss", recorded)
    before = process_peak()
    costs = measure_steps(config, model, data, tmp_path / "scratch")
    sizes = step_sizes(data, Division(config.trainer.batch_size), min(data.steps(1)))
    mean, largest = costs.tokens
    assert trained == [mean, mean, largest], "the first one warms up"
    assert largest == sizes.max()
    assert abs(mean - sizes.mean()) == np.abs(sizes - sizes.mean()).min()
    assert min(costs.seconds) > 0
    assert costs.device == "process"
    assert costs.memory >= before > 0
