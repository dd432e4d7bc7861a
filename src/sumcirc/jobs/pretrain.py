"""`sumcirc pretrain out=FOLDER`: makes the built-in model and its tokenizer from synthetic news."""

from __future__ import annotations

import time
from pathlib import Path

from sumcirc.errors import UserError
from sumcirc.runtime.terminal import say
from sumcirc.schema import PretrainConfig

CARD = """\
---
license: apache-2.0
language: en
---
# tiny: the built-in base model

A GPT-2 architecture language model of {parameters:,} parameters ({layers} layers, {heads} heads,
width {width}, context {context}, byte-level BPE of {vocabulary:,} tokens), made by
`sumcirc pretrain` in {minutes:.0f} minutes on two CPU cores. It exists so that every command runs
on any machine; results on it say nothing about larger models.

At initialisation one head (layer 0, head 0) attends to the previous token, by means of sinusoidal
position embeddings. The model is first trained on synthetic repetition (random token sequences,
repeated), which forms induction heads as repeated text does in a large corpus. It is then trained
on {articles:,} articles of the built-in generator `wire` (split `pretrain`) as plain text. About a
third of them repeat some of their sentences, and every fourth step is synthetic repetition again.
The model has never seen a summary.

| on held-out wire articles | |
|---|---|
| perplexity per token, this model | {model:.2f} |
| perplexity per token, bigram model of the same tokens | {bigram:.2f} |
| loss on a repeated passage (nats per token; near 0 if it copies) | {copy:.3f} |

Seed {seed}; {echo_steps:,} echo steps, then {steps:,} steps of {batch_size} rows of {context}
tokens.
"""


def check(config: PretrainConfig) -> None:
    """Check that the folder `config.out` can be written and is empty or does not exist.

    Args:
        config: configuration of the job.

    Raises:
        UserError: `out` is a file or a folder that is not empty, or can't be written.
    """
    from sumcirc.storage.writing import check_writable

    out = Path(config.out)
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise UserError(f"out={config.out}: exists already; name a new folder")
    check_writable("out", out)


def run(config: PretrainConfig, folder: Path) -> None:
    """Pretrain the model, and write it with its tokenizer to the folder `config.out`.

    Args:
        config: configuration of the job.
        folder: not used, since this job has no run directory.
    """
    from dataclasses import asdict

    from sumcirc.storage.writing import write_folder
    from sumcirc.training.pretraining import copy_loss, perplexities, pretrain

    began = last = time.monotonic()

    def report(step: int, steps: int, kind: str, loss: float) -> None:
        nonlocal last
        if time.monotonic() - last > 5 or step == steps:
            last = time.monotonic()
            left = (last - began) / step * (steps - step)
            say(f"step {step}/{steps}, {kind} loss {loss:.3f}, {left:.0f} s left")

    pretrained = pretrain(config, report)
    model, tokenizer = pretrained.model, pretrained.tokenizer
    minutes = (time.monotonic() - began) / 60
    card = CARD.format(
        **{**asdict(config), "echo_steps": pretrained.echo_steps},
        **perplexities(model, tokenizer, 300),
        copy=copy_loss(model, tokenizer, 300),
        parameters=model.num_parameters(),
        minutes=minutes,
    )

    def write(path: Path) -> None:
        model.save_pretrained(path)
        tokenizer.save_pretrained(path)
        (path / "README.md").write_text(card, encoding="utf-8")

    write_folder(Path(config.out), write)
    print(card)
