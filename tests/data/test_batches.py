"""Order, padding and shares of batches; the loss positions that go with them."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import numpy as np
import pytest
import torch

from sumcirc.data.batch_order import POOL, Division, bucketed_order, steps_per_epoch
from sumcirc.data.batches import EvaluationBatches, TrainingBatch, TrainingStream
from sumcirc.data.encoding import EncodedCorpus
from sumcirc.data.examples import TokenExample
from sumcirc.errors import UserError


def pair(index: int, length: int, summary: int = 3) -> TokenExample:
    """A sequence whose tokens tell where they come from; never 0, which pads."""
    return TokenExample.predicting(
        str(index), 1000 * (index + 1) + np.arange(length), length - summary
    )


def pairs(count: int, seed: int = 0) -> EncodedCorpus:
    random = np.random.default_rng(seed)
    return EncodedCorpus.of(
        pair(i, int(length)) for i, length in enumerate(random.integers(5, 60, count))
    )


def items(batch: TrainingBatch) -> list[int]:
    return [int(row[0]) // 1000 - 1 for row in batch.input_ids]


@pytest.mark.parametrize("width", [None, 9, 20])
def test_labels_are_the_summary_tokens_and_positions_stand_before_them(width: int | None) -> None:
    batch = TrainingBatch.of([pair(0, 9, 3), pair(1, 5, 1)], width)
    assert batch.input_ids.shape == (2, width or 9)
    assert batch.labels.tolist() == [1006, 1007, 1008, 2004]
    assert batch.input_ids.flatten()[batch.positions].tolist() == [1005, 1006, 1007, 2003]
    assert batch.tokens == 14
    assert batch.input_ids[1, 5:].eq(0).all()
    assert (batch.input_ids.dtype, batch.labels.dtype) == (torch.int64, torch.int64)


def test_moving_a_batch_keeps_every_part() -> None:
    batch = TrainingBatch.of(pairs(3))
    moved = batch.to(torch.device("meta"))
    assert {moved.input_ids.device, moved.positions.device, moved.labels.device} == {
        torch.device("meta")
    }
    assert moved.tokens == batch.tokens


@pytest.mark.parametrize("buckets", [True, False])
@pytest.mark.parametrize("count", [1, 7, 8, 1000])
def test_one_pass_takes_every_item_once(count: int, buckets: bool) -> None:
    lengths = [len(p) for p in pairs(count)]
    order = bucketed_order(lengths, 8, seed=1, epoch=0, buckets=buckets)
    assert sorted(i for batch in order for i in batch) == list(range(count))
    assert len(order) == steps_per_epoch(count, 8)
    assert sum(len(batch) != 8 for batch in order) == (count % 8 > 0)


def test_order_depends_on_seed_and_epoch_alone() -> None:
    lengths = [len(p) for p in pairs(200)]
    first = bucketed_order(lengths, 8, seed=1, epoch=0)
    np.random.seed(99)
    torch.manual_seed(99)
    assert bucketed_order(lengths, 8, seed=1, epoch=0) == first
    assert bucketed_order(lengths, 8, seed=2, epoch=0) != first
    assert bucketed_order(lengths, 8, seed=1, epoch=1) != first


def test_buckets_save_padding_on_skewed_lengths_and_stay_random() -> None:
    lengths = np.random.default_rng(0).lognormal(4.5, 0.8, 4000).astype(int) + 5

    def padded(buckets: bool) -> float:
        order = bucketed_order(lengths.tolist(), 16, seed=0, epoch=0, buckets=buckets)
        return sum(len(batch) * int(lengths[batch].max()) for batch in order) / lengths.sum()

    assert padded(False) > 2.4  # tokens computed for each real one
    assert padded(True) < 1.1
    means = [lengths[b].mean() for b in bucketed_order(lengths.tolist(), 16, seed=0, epoch=0)]
    # neighbours in time are not neighbours in length, over more batches than one pool
    assert len(means) > 4 * POOL
    assert abs(np.corrcoef(means[:-1], means[1:])[0, 1]) < 0.15


def test_stream_covers_every_item_in_every_epoch() -> None:
    stream = TrainingStream(pairs(21), Division(4), steps=18, seed=3)
    seen = [items(batch) for batch in stream]
    assert len(seen) == len(stream) == 18
    for epoch in range(3):
        taken = Counter(i for batch in seen[6 * epoch : 6 * epoch + 6] for i in batch)
        assert taken == Counter(range(21))
    assert seen[:6] != seen[6:12]


def test_epochs_count_the_current_batch() -> None:
    stream = TrainingStream(pairs(16), Division(2, accumulate=4), steps=4, seed=0)
    assert [stream.epoch for _ in stream] == pytest.approx([(i + 1) / 8 for i in range(16)])


@pytest.mark.parametrize("done", range(0, 13, 3))
def test_stream_continues_from_any_position(done: int) -> None:
    data = pairs(21)
    whole = [items(batch) for batch in TrainingStream(data, Division(4), steps=13, seed=3)]
    stream = TrainingStream(data, Division(4), steps=13, seed=3)
    stream.load_state_dict({"position": done})
    assert [items(batch) for batch in stream] == whole[done:]
    assert list(stream) == []


def test_a_batch_counts_only_once_the_next_is_asked_for() -> None:
    stream = TrainingStream(pairs(20), Division(4), steps=5, seed=0)
    iterator = iter(stream)
    next(iterator)
    assert stream.state_dict() == {"position": 0}
    next(iterator)
    assert stream.state_dict() == {"position": 1}


def uneven(count: int) -> EncodedCorpus:
    """Sequences whose summaries differ in length."""
    random = np.random.default_rng(1)
    return EncodedCorpus.of(
        pair(i, int(length), int(summary))
        for i, (length, summary) in enumerate(
            zip(random.integers(30, 60, count), random.integers(1, 25, count), strict=True)
        )
    )


def divided(
    data: EncodedCorpus, batch_size: int, accumulate: int, world: int, buckets: bool
) -> list[list[TrainingBatch]]:
    """The batches of all processes by optimizer step; three passes over the data."""
    steps = 3 * steps_per_epoch(len(data), batch_size * accumulate * world)
    streams = [
        list(TrainingStream(data, Division(batch_size, accumulate, rank, world), steps, 5, buckets))
        for rank in range(world)
    ]
    assert {len(stream) for stream in streams} == {steps * accumulate}
    return [
        [batch for s in streams for batch in s[n * accumulate : (n + 1) * accumulate]]
        for n in range(steps)
    ]


@pytest.mark.parametrize("buckets", [True, False])
@pytest.mark.parametrize("count", [3, 24, 37, 48])
@pytest.mark.parametrize(
    ("batch_size", "accumulate", "world"),
    [(6, 2, 1), (3, 4, 1), (1, 12, 1), (6, 1, 2), (4, 1, 3), (3, 2, 2), (1, 3, 4)],
)
def test_a_step_has_the_same_items_and_tokens_however_it_is_divided(
    count: int, batch_size: int, accumulate: int, world: int, buckets: bool
) -> None:
    data = uneven(count)
    whole = divided(data, 12, 1, 1, buckets)
    found = divided(data, batch_size, accumulate, world, buckets)
    for (single,), parts in zip(whole, found, strict=True):
        own = [i for part in parts if part.loss_tokens for i in items(part)]
        assert sorted(own) == sorted(items(single))
        assert all(1 <= len(part.input_ids) <= batch_size for part in parts)
        assert {part.step_tokens for part in parts} == {len(single.labels)}
        assert sum(part.loss_tokens for part in parts) == single.loss_tokens == len(single.labels)


@pytest.mark.parametrize("batch_size", [1, 3, 8])
@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("count", [3, 7, 20])
def test_evaluation_takes_every_item_once_in_as_many_batches_each(
    count: int, world: int, batch_size: int
) -> None:
    data = pairs(count)
    shares = [EvaluationBatches(data, batch_size, rank, world) for rank in range(world)]
    assert len({len(share) for share in shares}) == 1
    batches = [batch for share in shares for batch in share]
    assert sorted(i for batch in batches for i in items(batch)) == list(range(count))
    allowed = batch_size + (batch_size == 1 and count % world > 0)
    assert max(len(batch.input_ids) for batch in batches) <= allowed


def test_fewer_items_than_processes_is_refused() -> None:
    with pytest.raises(UserError, match=r"data\.validation: 2 items for 3 processes"):
        EvaluationBatches(pairs(2), 4, 0, 3)


def test_evaluation_may_be_read_again() -> None:
    batches = EvaluationBatches(pairs(9), 4)
    assert [items(b) for b in batches] == [items(b) for b in batches]
    assert len(list(islice(batches, 5))) == len(batches) == 3
