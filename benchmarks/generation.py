"""Summaries written in batches of 16 against one by one.

    python benchmarks/generation.py [--quick] [--device cuda] [--model FOLDER [--tokens T ...]]

Both sides are `sumcirc.evaluation.generation.generate_tokens` on the same prompts, with the number
of new tokens fixed, so that they do the same work; they must also write the same summaries. A batch
reads weights once for 16 rows; it gains nothing where the prompts are read, which keeps the
processor busy in either case, so the ratio falls as prompts get longer than summaries.

Of a local model, batches of sumcirc are set against `generate` of transformers on the same padded
batches with the same settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from measurement import Lap, parser, prepare, ratio, rounds_of, speed, timed, write_result
from subjects import GPT2_SMALL, TINY, LocalModel, Subject, load

from sumcirc.data.examples import padded
from sumcirc.evaluation.generation import generate_tokens
from sumcirc.schema import GenerationConfig

CLAIM = "summaries are written three times as fast in batches of 16 as one by one"
TARGET = 3.0
SEED = 1
BATCH = 16
LOCAL_BATCH = 4  # of a local model
SAME = 0.9  # share of equal summaries; random weights tie so closely that rounding may decide


@dataclass(frozen=True)
class Case:
    """A model's shape and what it writes.

    Attributes:
        prompt: range of a prompt's length in tokens.
        new_tokens: tokens of each summary.
        rounds: batches, each also written one by one.
    """

    shape: Subject
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
    model = load(case.shape, device, SEED)
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
    written = [float(BATCH * case.new_tokens)] * case.rounds
    return {
        **ratio(alone, together),
        "one_by_one": speed(written, alone),
        "batched": speed(written, together),
        "unit": "new tokens",
        "same_summaries": sum(same) / len(same),
        "batch_size": BATCH,
        "prompt_tokens": case.prompt,
        "new_tokens": case.new_tokens,
        "rounds": case.rounds,
        "shape": case.shape.about(),
    }


def against_transformers(subject: Subject, rounds: int, new_tokens: int, device: str) -> Any:
    """Time of the same batches by `generate` of transformers and by sumcirc, in turns."""
    model, random = load(subject, device, SEED).eval(), np.random.default_rng(SEED)
    longest = subject.context - new_tokens
    settings: dict[str, Any] = {"max_new_tokens": new_tokens, "min_new_tokens": new_tokens}

    def ours(prompts: list[list[int]], new_tokens: int = new_tokens) -> list[list[int]]:
        config = GenerationConfig(
            max_new_tokens=new_tokens,
            min_new_tokens=new_tokens,
            batch_size=LOCAL_BATCH,
            no_repeat_ngram=0,  # transformers would block n-grams of the prompt too
        )
        return generate_tokens(model, prompts, config, ends=[0])

    def theirs(prompts: list[list[int]]) -> list[list[int]]:
        ids = padded(prompts, 0, left=True)
        mask = padded([[1] * len(row) for row in prompts], 0, left=True)
        with torch.no_grad():
            found = model.generate(
                input_ids=ids.to(device),
                attention_mask=mask.to(device),
                do_sample=False,
                eos_token_id=0,
                pad_token_id=0,
                **settings,
            )
        return found[:, ids.shape[1] :].tolist()

    laps: dict[str, list[Lap]] = {"ours": [], "theirs": []}
    same = []
    for turn in range(rounds):
        lengths = random.integers(longest // 2, longest, LOCAL_BATCH)
        prompts = [random.integers(1, subject.vocabulary, size).tolist() for size in lengths]
        if turn == 0:
            ours(prompts, 2)  # the first call of anything is slower
        written, lap = timed(device, lambda p=prompts: ours(p))
        laps["ours"].append(lap)
        other, lap = timed(device, lambda p=prompts: theirs(p))
        laps["theirs"].append(lap)
        same += [a == b for a, b in zip(written, other, strict=True)]
    written_tokens = [float(LOCAL_BATCH * new_tokens)] * rounds
    return {
        **ratio(laps["theirs"], laps["ours"]),
        "sumcirc": speed(written_tokens, laps["ours"]),
        "transformers": speed(written_tokens, laps["theirs"]),
        "unit": "new tokens",
        "same_summaries": sum(same) / len(same),
        "batch_size": LOCAL_BATCH,
        "new_tokens": new_tokens,
        "rounds": rounds,
        "at_least": 1.0,
        "shape": subject.about(),
    }


def require_same(figures: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse figures of sides that wrote different summaries.

    Raises:
        SystemExit: fewer are equal than rounding explains.
    """
    for name, figure in figures.items():
        if (share := figure["same_summaries"]) < SAME:
            raise SystemExit(f"{name}: only {share:.0%} of the summaries are equal on both sides")


def main() -> None:
    """Run every case, print and write the ratios."""
    options = parser(__doc__, local=True).parse_args()
    prepare(options)
    if options.model is None:
        cases = QUICK if options.quick else CASES
        if options.rounds is not None:
            cases = {name: replace(case, rounds=options.rounds) for name, case in cases.items()}
        figures = {name: compare(case, options.device) for name, case in cases.items()}
    else:
        rounds, new_tokens = rounds_of(options, 5, 2), 8 if options.quick else 32
        figures = {
            f"transformers_{tokens}": against_transformers(
                LocalModel(options.model, tokens), rounds, new_tokens, options.device
            )
            for tokens in options.tokens
        }
    require_same(figures)
    write_result("generation", options, CLAIM, TARGET, figures)


if __name__ == "__main__":
    main()
