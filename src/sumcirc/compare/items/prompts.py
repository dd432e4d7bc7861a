"""Prompts with a good and a bad answer: as JSON lines, and as items.

Each line is one object:

- `prompt`: a text; the prediction after its last token is read. With a chat template it is the
  user's message, and the prediction of the assistant's first token is read.
- `reply`: the beginning of the answer, which the prediction continues. It follows `prompt`, with
  the white space that separates them, or with a chat template begins the assistant's message.
- `good`, `bad`: the two answers, including the space that they begin with; one token each.
- `id`: a name.
- `spans`: objects with `name` and `characters` [start, end) of `prompt`. A token belongs to the
  span that contains its last character; spans may overlap, and spans with the same name are merged.

Other keys are ignored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sumcirc.data.encoding import Encoder
from sumcirc.data.examples import ALL, LAST, NONE, READ, NoExample, TokenExample, first_made
from sumcirc.data.named_lines import (
    Line,
    NamedSpan,
    named_lines,
    runs_into,
    shown,
    span_masks,
    span_tokens,
    spans_of,
    text_of,
    tokens_after,
)
from sumcirc.errors import UserError

KEYS = ("id", "prompt", "reply", "good", "bad", "spans")
SETTING = "prompts"
RESERVED = (LAST, READ, ALL)


@dataclass(frozen=True)
class ContrastPrompt:
    """A prompt with a good and a bad answer.

    Attributes:
        id: name of the prompt.
        prompt: text after which the answer is predicted.
        good, bad: the two answers, each including the space with which it begins.
        spans: named character ranges of the prompt.
        reply: the beginning of the answer, with the white space that separates it from the prompt.
    """

    id: str
    prompt: str
    good: str
    bad: str
    spans: tuple[NamedSpan, ...] = ()
    reply: str = ""


def read_prompts(path: str, encoder: Encoder) -> list[ContrastPrompt]:
    """Read all prompts from a file of JSON lines, and check that each can become an item.

    Args:
        path: path of the file.
        encoder: turns texts into tokens of the compared models.

    Raises:
        UserError: the file does not consist of JSON lines; a line has a mistake, has answers that
            are not two different single tokens of this tokenizer, or is too long for the model; or
            two lines have the same id. The message names the line and the id.
    """
    return [_read(line, encoder) for line in named_lines(path, SETTING, KEYS, "prompt")]


def _read(line: Line, encoder: Encoder) -> ContrastPrompt:
    prompt, good, bad = (text_of(line, key) for key in ("prompt", "good", "bad"))
    if good == bad:
        raise UserError(f"{line.where}: good and bad are both {shown(good)}; give two answers")
    reply = text_of(line, "reply") if line.row.get("reply") else ""
    whole, _ = encoder.request(prompt, reply)
    answers = []
    for key, answer in (("good", good), ("bad", bad)):
        tokens = tokens_after(encoder, whole, answer)
        if tokens is None:
            raise runs_into(line.where, key, answer, "reply" if reply else "prompt")
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
            f"{line.where}: a span is named `{reserved[0]}`, which is reserved; give it"
            " another name"
        )
    made = ContrastPrompt(line.id, prompt, good, bad, tuple(spans), reply)
    _check_length(len(encoder.template(whole)), encoder, line.where)
    _spans(made, encoder, line.where)
    return made


def prompt_items(
    prompts: Sequence[ContrastPrompt], encoder: Encoder
) -> tuple[list[TokenExample], dict[str, int]]:
    """Turn prompts into items whose predictions are read at each prompt's last position.

    Args:
        prompts: the prompts to encode.
        encoder: turns texts into tokens of the compared models.

    Returns:
        The items, and the number of prompts of which no item could be made, by reason.

    Raises:
        UserError: no item can be made of any prompt, a prompt is too long for the model, or a span
            has no tokens.
    """

    def make(prompt: ContrastPrompt) -> TokenExample:
        whole, _ = encoder.request(prompt.prompt, prompt.reply)
        answers = [tokens_after(encoder, whole, one) for one in (prompt.good, prompt.bad)]
        single = [one[0] for one in answers if one is not None and len(one) == 1]
        if len(set(single)) < 2:
            raise NoExample("answers of several tokens")
        where = f"{SETTING}: `{prompt.id}`"
        ids = np.array(encoder.template(whole), dtype=np.int64)
        _check_length(len(ids), encoder, where)
        good, bad = np.full((2, len(ids)), NONE)
        good[-1], bad[-1] = single
        return TokenExample(prompt.id, ids, good, bad, _spans(prompt, encoder, where))

    found, dropped = first_made(prompts, None, make)
    if not found:
        raise UserError(
            f"{SETTING}: none of {len(prompts)} has two answers that are single tokens of this"
            " model; give prompts of your own, or take a model with a larger vocabulary"
        )
    return found, dropped


def _check_length(length: int, encoder: Encoder, where: str) -> None:
    if length > encoder.max_length:
        raise UserError(
            f"{where}: {length} tokens are more than the {encoder.max_length} that the model takes;"
            " shorten the prompt"
        )


def _spans(prompt: ContrastPrompt, encoder: Encoder, where: str) -> dict[str, np.ndarray]:
    """Return [length] for each named span, true at its tokens."""
    if not prompt.spans:
        return {}
    whole, start = encoder.request(prompt.prompt, prompt.reply)
    places = encoder.template_places(whole)
    spans = [NamedSpan(one.name, one.start + start, one.end + start) for one in prompt.spans]
    return span_masks(span_tokens(spans, places, where), len(places))
