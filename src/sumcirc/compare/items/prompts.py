"""Prompts with two answers, of which one is good: as JSON lines, and as items.

Each line is an object of its own:

- `prompt`: a text; what comes after its last token is read.
- `good`, `bad`: the two answers, with the space that begins them; a single token each.
- `id`: a name.
- `spans`: objects with `name` and `characters` [start, end) of `prompt`. A token is of the span
  that has its last character; spans may overlap, and those with one name are one.

Other keys are left alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from sumcirc.data.encoding import Encoder
from sumcirc.data.examples import ALL, LAST, NONE, READ, TokenExample
from sumcirc.data.named_lines import (
    Line,
    NamedSpan,
    named_lines,
    runs_into,
    shown,
    span_tokens,
    spans_of,
    text_of,
    tokens_after,
)
from sumcirc.errors import UserError
from sumcirc.storage.writing import write_text

KEYS = ("id", "prompt", "good", "bad", "spans")
SETTING = "prompts"
RESERVED = (LAST, READ, ALL)


@dataclass(frozen=True)
class ContrastPrompt:
    """A prompt with a right and a wrong answer; `spans` are of its characters."""

    id: str
    prompt: str
    good: str
    bad: str
    spans: tuple[NamedSpan, ...] = ()


def write_prompts(path: Path, prompts: Sequence[ContrastPrompt]) -> None:
    """Write prompts, a line each, as `read_prompts` reads them."""
    lines = []
    for prompt in prompts:
        spans = [{"name": span.name, "characters": [span.start, span.end]} for span in prompt.spans]
        lines.append(asdict(prompt) | {"spans": spans})
    write_text(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def read_prompts(path: str, encoder: Encoder) -> list[ContrastPrompt]:
    """All prompts of a file, each fit for `prompt_items`.

    Raises:
        UserError: the file is none of JSON lines; a line has a mistake, or answers that are not two
            single tokens of this tokenizer, or is too long for the model; two lines have one id.
            Line and item are named.
    """
    return [_read(line, encoder) for line in named_lines(path, SETTING, KEYS, "prompt")]


def _read(line: Line, encoder: Encoder) -> ContrastPrompt:
    prompt, good, bad = (text_of(line, key) for key in ("prompt", "good", "bad"))
    if good == bad:
        raise UserError(f"{line.where}: good and bad are both {shown(good)}; give two answers")
    answers = []
    for key, answer in (("good", good), ("bad", bad)):
        tokens = tokens_after(encoder, prompt, answer)
        if tokens is None:
            raise runs_into(line.where, key, answer, "prompt")
        if len(tokens) > 1:
            pieces = " + ".join(shown(encoder.decode([token])) for token in tokens[:4])
            raise UserError(
                f"{line.where}: `{key}`={shown(answer)} is {len(tokens)} tokens ({pieces}"
                f"{' ...' if len(tokens) > 4 else ''}), but one is read; give a word that is a"
                " single token of this model"
            )
        answers += tokens
    if answers[0] == answers[1]:
        raise UserError(
            f"{line.where}: good={shown(good)} and bad={shown(bad)} are the same token of this"
            " model; give two answers"
        )
    spans = spans_of(line, "characters", len(prompt))
    reserved = [span.name for span in spans if span.name in RESERVED]
    if reserved:
        raise UserError(
            f"{line.where}: a span is named `{reserved[0]}`, which stands for positions of its own;"
            " give it another name"
        )
    made = ContrastPrompt(line.id, prompt, good, bad, tuple(spans))
    _check_length(len(encoder.template(prompt)), encoder, line.where)
    _spans(made, encoder, line.where)
    return made


def prompt_items(
    prompts: Sequence[ContrastPrompt], encoder: Encoder
) -> tuple[list[TokenExample], int]:
    """Prompts as items, and how many have answers that are not two single tokens.

    The position that is read is the prompt's last. A span has the tokens that were asked for, the
    first of the text among them if it was.

    Raises:
        UserError: no prompt is left, one is too long for the model, or has a span without tokens.
    """
    found: list[TokenExample] = []
    for prompt in prompts:
        answers = [tokens_after(encoder, prompt.prompt, one) for one in (prompt.good, prompt.bad)]
        single = [one[0] for one in answers if one is not None and len(one) == 1]
        if len(set(single)) < 2:
            continue
        where = f"{SETTING}: `{prompt.id}`"
        ids = np.array(encoder.template(prompt.prompt), dtype=np.int64)
        _check_length(len(ids), encoder, where)
        good, bad = np.full((2, len(ids)), NONE, dtype=np.int64)
        good[-1], bad[-1] = single
        found.append(TokenExample(prompt.id, ids, good, bad, _spans(prompt, encoder, where)))
    if not found:
        raise UserError(
            f"{SETTING}: none of {len(prompts)} has two answers that are single tokens of this"
            " model; give prompts of your own, or take a model with a larger vocabulary"
        )
    return found, len(prompts) - len(found)


def _check_length(length: int, encoder: Encoder, where: str) -> None:
    if length > encoder.max_length:
        raise UserError(
            f"{where}: {length} tokens are more than the {encoder.max_length} that the model takes;"
            " shorten the prompt"
        )


def _spans(prompt: ContrastPrompt, encoder: Encoder, where: str) -> dict[str, np.ndarray]:
    """[length] true at the tokens of each named span."""
    if not prompt.spans:
        return {}
    places = encoder.template_places(prompt.prompt)
    found: dict[str, np.ndarray] = {}
    for span in span_tokens(prompt.spans, places, where):
        tokens = found.setdefault(span.name, np.zeros(len(places), dtype=bool))
        tokens[span.start : span.end] = True
    return found
