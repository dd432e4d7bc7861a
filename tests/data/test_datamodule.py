"""Steps of a run, counts of its data, and the streams it hands to Lightning."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sumcirc.data.batch_order import Division
from sumcirc.data.datamodule import SummarizationData
from sumcirc.data.encoding import Encoder
from sumcirc.schema import DataConfig, EncodingConfig, SizesConfig, Source, TrainerConfig


def data(
    tokenizer: Any, files: dict[str, Path], train: int = 40, context: int = 128, **trainer: Any
) -> SummarizationData:
    config = DataConfig(
        name="news",
        source=Source.files,
        train=str(files["train"]),
        validation=str(files["validation"]),
        sizes=SizesConfig(train=train),
    )
    encoder = Encoder(tokenizer, EncodingConfig(), context)
    made = SummarizationData(config, TrainerConfig(**trainer), encoder, None, seed=1)
    made.read()
    return made


@pytest.mark.parametrize(
    ("items", "batch_size", "accumulate", "epochs", "world", "expected"),
    [
        (40, 4, 1, 3, 1, (10, 30)),
        (39, 4, 1, 3, 1, (10, 30)),
        (40, 4, 4, 3, 1, (3, 9)),  # as 40 items in batches of 16
        (40, 16, 1, 3, 1, (3, 9)),
        (40, 4, 1, 3, 2, (5, 15)),
        (40, 2, 2, 3, 4, (3, 9)),
        (8, 4, 16, 3, 1, (1, 3)),
    ],
)
def test_steps(
    tokenizer: Any,
    news_files: dict[str, Path],
    items: int,
    batch_size: int,
    accumulate: int,
    epochs: int,
    world: int,
    expected: tuple[int, int],
) -> None:
    found = data(
        tokenizer,
        news_files,
        items,
        batch_size=batch_size,
        accumulate=accumulate,
        max_epochs=epochs,
    )
    assert found.steps(world) == expected


def test_max_steps_wins_over_epochs(tokenizer: Any, news_files: dict[str, Path]) -> None:
    assert data(tokenizer, news_files, batch_size=4, max_steps=7).steps(1) == (10, 7)


def test_counts_name_split_and_reason(tokenizer: Any, news_files: dict[str, Path]) -> None:
    found = data(tokenizer, news_files, train=30, context=40).counts
    assert found["data/train/items"] == 30
    assert found["data/train/not_drawn"] == 10
    assert found["data/train/cut"] == 30
    assert found["data/train/summary_too_long"] == 0
    assert found["data/validation/items"] == 10


def test_loaders_know_their_process(tokenizer: Any, news_files: dict[str, Path]) -> None:
    made = data(tokenizer, news_files, batch_size=4, accumulate=2, max_steps=3)
    made.trainer = SimpleNamespace(world_size=2, global_rank=1)  # type: ignore[assignment]
    stream = made.train_dataloader()
    assert (len(stream), stream.division) == (6, Division(4, 2, rank=1, world_size=2))
    assert sum(len(batch.input_ids) for batch in made.val_dataloader()) == 5
