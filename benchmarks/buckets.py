"""Length buckets against padding to the context, on the lengths of CNN/DailyMail.

    python benchmarks/buckets.py [--quick] [--device cuda]

Both sides train on the same pairs, so on the same number of real tokens: in batches of neighbours
in length, padded to the longest of them (`sumcirc.data.batches`), or in random batches padded to
the context of 1024 tokens. Loss, model and optimizer are the same.

Lengths are drawn from quantiles measured on 992 pairs of CNN/DailyMail 3.0.0 (300 and 192 of its
training split, 500 of its validation split) with GPT-2's tokenizer, and cut to the context as
`data.encoding` cuts. On the CPU the model is GPT-2 small with 4 of its 12 layers, which keeps time
down and leaves the ratio: every layer costs the same.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from measurement import Lap, parser, prepare, ratio, speed, timed, total, write_result
from subjects import GPT2_SMALL, Shape, load

from sumcirc.data.batch_order import bucketed_order
from sumcirc.data.batches import TrainingBatch
from sumcirc.data.examples import TokenExample
from sumcirc.training.module import summary_loss

CLAIM = "length buckets train 1.5 times as many tokens per second as padding to the context"
TARGET = 1.5
SEED = 1
CORPUS = 4000  # pairs that the batches are drawn from

# the 0, 5, 10 ... 100 % quantiles, in tokens
PROMPT = (
    92, 237, 301, 360, 412, 459, 511, 577, 628, 680, 736,
    786, 833, 886, 926, 989, 1072, 1177, 1297, 1529, 2151,
)  # fmt: skip
SUMMARY = (
    13, 27, 31, 34, 37, 39, 41, 44, 46, 49, 51, 53, 55, 57, 59, 62, 64, 67, 70, 81, 145,
)  # fmt: skip


def corpus(shape: Shape) -> list[TokenExample]:
    """Pairs of random tokens with the lengths of CNN/DailyMail."""
    random = np.random.default_rng(SEED)
    grid = np.linspace(0, 1, len(PROMPT))
    prompts, summaries = (
        np.interp(random.random(CORPUS), grid, quantiles).astype(int)
        for quantiles in (PROMPT, SUMMARY)
    )
    pairs = []
    for item, (prompt, summary) in enumerate(zip(prompts, summaries, strict=True)):
        start = int(min(prompt, shape.context - summary))
        ids = random.integers(1, shape.vocabulary, start + int(summary))
        pairs.append(TokenExample.predicting(f"train-{item}", ids, start, truncated=start < prompt))
    return pairs


def sampled(order: list[list[int]], sizes: list[int], count: int) -> list[list[int]]:
    """Batches at evenly spaced quantiles of their number of tokens: short and long as all are."""
    by_size = sorted(order, key=lambda batch: sum(sizes[item] for item in batch))
    return [by_size[int((turn + 0.5) / count * len(by_size))] for turn in range(count)]


def positions(batches: list[TrainingBatch]) -> int:
    """Tokens and pads."""
    return sum(batch.input_ids.numel() for batch in batches)


def pad_share(batches: list[TrainingBatch]) -> float:
    """Pads over all positions."""
    return 1 - sum(batch.tokens for batch in batches) / positions(batches)


def compare(
    shape: Shape, batch_size: int, batches: int, rounds: int, device: str
) -> dict[str, Any]:
    """Time of the same pairs in buckets and padded to the context, batch by batch in turns."""
    pairs = corpus(shape)
    sizes = [len(pair) for pair in pairs]
    full = [
        batch for batch in bucketed_order(sizes, batch_size, SEED, 0) if len(batch) == batch_size
    ]
    drawn = sampled(full, sizes, batches)
    items = np.random.default_rng(SEED).permutation([item for batch in drawn for item in batch])
    bucketed = [TrainingBatch.of([pairs[item] for item in batch]) for batch in drawn]
    padded = [
        TrainingBatch.of([pairs[item] for item in part], shape.context)
        for part in items.reshape(batches, batch_size)
    ]
    model = load(shape, device, SEED).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    autocast = torch.autocast(device, torch.bfloat16, enabled=device == "cuda")

    def step(batch: TrainingBatch) -> None:
        with autocast:
            loss = summary_loss(model.base_model, model.get_output_embeddings(), batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    in_context: list[Lap] = []
    in_buckets: list[Lap] = []
    step(padded[0].to(torch.device(device)))  # the first step is slower
    for _ in range(rounds):
        laps: tuple[list[Lap], list[Lap]] = ([], [])
        for pair in zip(padded, bucketed, strict=True):
            for side, batch in zip(laps, pair, strict=True):
                moved = batch.to(torch.device(device))
                side.append(timed(device, lambda moved=moved: step(moved))[1])
        in_context.append(total(laps[0]))
        in_buckets.append(total(laps[1]))
    tokens = float(sum(batch.tokens for batch in bucketed))
    return {
        **ratio(in_context, in_buckets),
        "buckets": {**speed([tokens] * rounds, in_buckets), "pad_share": pad_share(bucketed)},
        "context": {**speed([tokens] * rounds, in_context), "pad_share": pad_share(padded)},
        "unit": "real tokens, pads not counted",
        "positions_ratio": positions(padded) / positions(bucketed),
        "tokens_per_pair": tokens / (batches * batch_size),
        "tokens_per_pair_of_corpus": float(np.mean(sizes)),
        "batch_size": batch_size,
        "batches": batches,
        "rounds": rounds,
        "shape": asdict(shape),
    }


def main() -> None:
    """Measure the ratio, print it, and write it to a file."""
    options = parser(__doc__).parse_args()
    prepare(options)
    shape = GPT2_SMALL if options.device == "cuda" else replace(GPT2_SMALL, layers=4)
    batches, rounds, batch_size = (3, 1, 1) if options.quick else (12, 1, 2)
    if options.device == "cuda":
        batches, rounds, batch_size = 16, 3, 16
    figures = {"cnn_dailymail": compare(shape, batch_size, batches, rounds, options.device)}
    write_result("buckets", options, CLAIM, TARGET, figures)


if __name__ == "__main__":
    main()
