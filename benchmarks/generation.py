"""Summaries written in batches of 16 against one by one.

    python benchmarks/generation.py [--quick] [--device cuda]

Both sides are `sumcirc.evaluation.generation.generate_tokens` on the same prompts, with the number
of new tokens fixed, so that they do the same work; they must also write the same summaries. A batch
reads weights once for 16 rows; it gains nothing where the prompts are read, which keeps the
processor busy in either case, so the ratio falls as prompts get longer than summaries.
"""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from measurement import (
    GPT2_SMALL,
    TINY,
    Lap,
    Shape,
    parser,
    prepare,
    ratio,
    speed,
    timed,
    write_result,
)

from sumcirc.evaluation.generation import generate_tokens
from sumcirc.models.loading import load_model
from sumcirc.schema import GenerationConfig, ModelConfig

CLAIM = "summaries are written three times as fast in batches of 16 as one by one"
TARGET = 3.0
SEED = 1
BATCH = 16
SAME = 0.9  # share of equal summaries; random weights tie so closely that rounding may decide


@dataclass(frozen=True)
class Case:
    """A model's shape and what it writes.

    Attributes:
        prompt: range of a prompt's length in tokens.
        new_tokens: tokens of each summary.
        rounds: batches, each also written one by one.
    """

    shape: Shape
    prompt: tuple[int, int]
    new_tokens: int
    rounds: int


CASES = {
    "tiny": Case(TINY, prompt=(150, 200), new_tokens=48, rounds=5),
    "gpt2_small": Case(GPT2_SMALL, prompt=(150, 200), new_tokens=48, rounds=2),
}
QUICK = {
    "tiny": Case(TINY, prompt=(150, 200), new_tokens=48, rounds=2),
    "gpt2_small": Case(GPT2_SMALL, prompt=(30, 40), new_tokens=8, rounds=1),
}


def compare(case: Case, device: str) -> dict[str, Any]:
    """Time of the same prompts one by one and as a batch, in turns."""
    with tempfile.TemporaryDirectory() as folder:
        case.shape.save(folder, SEED)
        model: Any = load_model(ModelConfig(name="random", path=folder))
        model.to(device)
    random = np.random.default_rng(SEED)

    def write(prompts: list[list[int]], batch_size: int, new_tokens: int) -> list[list[int]]:
        config = GenerationConfig(
            max_new_tokens=new_tokens, min_new_tokens=new_tokens, batch_size=batch_size
        )
        return generate_tokens(model, prompts, config, ends=[0])

    alone: list[Lap] = []
    together: list[Lap] = []
    same: list[bool] = []
    for turn in range(case.rounds):
        lengths = random.integers(*case.prompt, BATCH)
        prompts = [random.integers(1, case.shape.vocabulary, size).tolist() for size in lengths]
        if turn == 0:  # the first call of anything is slower
            for batch_size in (1, BATCH):
                write(prompts, batch_size, 2)
        one, lap = timed(device, lambda p=prompts: write(p, 1, case.new_tokens))
        alone.append(lap)
        other, lap = timed(device, lambda p=prompts: write(p, BATCH, case.new_tokens))
        together.append(lap)
        same += [a == b for a, b in zip(one, other, strict=True)]
    share = sum(same) / len(same)
    if share < SAME:
        raise SystemExit(f"only {share:.0%} of the summaries are the same in a batch and alone")
    written = [float(BATCH * case.new_tokens)] * case.rounds
    return {
        **ratio(alone, together),
        "one_by_one": speed(written, alone),
        "batched": speed(written, together),
        "unit": "new tokens",
        "same_summaries": share,
        "batch_size": BATCH,
        "prompt_tokens": case.prompt,
        "new_tokens": case.new_tokens,
        "rounds": case.rounds,
        "shape": asdict(case.shape),
    }


def main() -> None:
    """Run every case, print and write the ratios."""
    options = parser(__doc__).parse_args()
    prepare(options)
    cases = QUICK if options.quick else CASES
    figures = {name: compare(case, options.device) for name, case in cases.items()}
    write_result("generation", options, CLAIM, TARGET, figures)


if __name__ == "__main__":
    main()
