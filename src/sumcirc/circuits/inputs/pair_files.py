"""Pairs as JSON lines, written by `sumcirc pairs` or by hand.

Each line is one object:

- `clean`, `corrupted`: texts with the same number of tokens; the only required keys.
- `good`, `bad`: the continuation of the clean and of the corrupted text, including the space that
  they begin with. They may have any length; `good` without its last token is fed to both inputs.
- `spans`: objects with `name` and `characters` [start, end) of `clean` followed by `good`. A token
  belongs to the span that contains its last character; spans don't overlap.
- `exchanged`: the words of `clean` that `swap` exchanged, in the form of spans; the name of each is
  its kind.
- `id`, `corruption`: names.
- `clean_ids`, `corrupted_ids`, `good_ids`, `bad_ids` and the `tokens` [start, end) of a span: make
  the file readable without loss. They are valid for one tokenizer only; whether they are its tokens
  of the texts is checked.

Other keys are ignored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from sumcirc.circuits.inputs.example_pairs import SPANS, ExamplePair
from sumcirc.data.encoding import Encoder
from sumcirc.data.examples import NONE
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
from sumcirc.storage.writing import write_text

EXCHANGED = "exchanged"
TEXTS = ("clean", "corrupted", "good", "bad")
KEYS = ("id", "corruption", *TEXTS, *(f"{name}_ids" for name in TEXTS), "spans", EXCHANGED)
OWN = "own"  # corruption of a line that has none
SETTING = "pairs"


def write_pairs(
    path: Path,
    pairs: Sequence[ExamplePair],
    encoder: Encoder,
    further: Sequence[Mapping[str, Any]] | None = None,
) -> None:
    """Write pairs to a file of JSON lines, one line per pair.

    Args:
        path: the file to write.
        pairs: the pairs.
        encoder: turns tokens into texts.
        further: for each pair, additional keys and values of its line, such as its losses; None
            adds nothing.
    """
    extra = further or [{}] * len(pairs)
    lines = [_line(pair, encoder) | dict(more) for pair, more in zip(pairs, extra, strict=True)]
    text = "".join(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in lines)
    write_text(path, text)


def _line(pair: ExamplePair, encoder: Encoder) -> dict[str, Any]:
    clean, length = pair.clean, pair.clean.prompt_length
    good, bad = (answer[answer != NONE].tolist() for answer in (clean.good, clean.bad))
    ids = {
        "clean": clean.ids[:length].tolist(),
        "corrupted": pair.corrupted.ids[:length].tolist(),
        **({"good": good} if good else {}),
        **({"bad": bad} if bad else {}),
    }
    line: dict[str, Any] = {"id": pair.id, "corruption": pair.corruption}
    line |= {name: encoder.decode(tokens) for name, tokens in ids.items()}

    def characters(tokens: int) -> int:
        answer = encoder.decode(good[: tokens - length]) if tokens > length else ""
        return len(encoder.decode(ids["clean"][:tokens]) + answer)

    def span(name: str, start: int, end: int) -> dict[str, Any]:
        return {
            "name": name,
            "tokens": [start, end],
            "characters": [characters(start), characters(end)],
        }

    for start, end, name in sorted(
        (start, end, name) for name, inside in clean.spans.items() for start, end in _runs(inside)
    ):
        line.setdefault("spans", []).append(span(name, start, end))
    if pair.exchanged:
        line[EXCHANGED] = [span(one.name, one.start, one.end) for one in pair.exchanged]
    return line | {f"{name}_ids": tokens for name, tokens in ids.items()}


def _runs(inside: np.ndarray) -> list[tuple[int, int]]:
    """Return the ranges [start, end) in which a mask is true."""
    edges = np.flatnonzero(np.diff(inside, prepend=False, append=False))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def read_pairs(path: str, encoder: Encoder) -> list[ExamplePair]:
    """Read all pairs from a file of JSON lines.

    Args:
        path: path of the file.
        encoder: encoder of the model that will run on the pairs.

    Raises:
        UserError: the file does not consist of JSON lines, a line has a mistake or is too long for
            the model, or two lines have the same id. The message names the line and the item.
    """
    return [_read(line, encoder) for line in named_lines(path, SETTING, KEYS, "pair")]


def _read(line: Line, encoder: Encoder) -> ExamplePair:
    corruption = line.row.get("corruption", OWN)
    if not isinstance(corruption, str):
        raise UserError(f"{line.where}: its corruption is {shown(corruption)}; give a text")
    texts = _texts(line)
    if "clean_ids" in line.row:
        tokens = _given_tokens(line, texts, encoder)
    else:
        tokens = _own_tokens(texts, line.where, encoder)
    _check_lengths(tokens, line.where, encoder)
    prompts, good = (tokens["clean"], tokens["corrupted"]), tokens.get("good", [])
    found = _spans(line, texts, tokens, encoder)
    # a summary's pair has all of its spans, in their order
    known = SPANS if any(span.name in SPANS for span in found) else ()
    spans = span_masks(found, len(prompts[0]) + max(0, len(good) - 1), known)
    pair = ExamplePair.of(line.id, corruption, prompts, spans, good, tokens.get("bad", []))
    return replace(pair, exchanged=tuple(_spans(line, texts, tokens, encoder, EXCHANGED)))


def _texts(line: Line) -> dict[str, str]:
    texts = {
        key: text_of(line, key)
        for key in TEXTS
        if key not in ("good", "bad") or line.row.get(key) is not None
    }
    if "bad" in texts and "good" not in texts:
        raise UserError(f"{line.where}: has `bad` without `good`; give both, or neither")
    return texts


def _given_tokens(line: Line, texts: dict[str, str], encoder: Encoder) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for key, text in texts.items():
        ids = line.row.get(f"{key}_ids")
        size = len(encoder.tokenizer)
        whole = isinstance(ids, list) and all(
            type(token) is int and 0 <= token < size for token in ids
        )
        if not whole or not ids or encoder.decode(ids) != text:
            raise UserError(
                f"{line.where}: `{key}_ids` are not this model's tokens of `{key}`; take the model"
                " the pairs were made for, make them again for this one, or leave out all ids"
            )
        found[key] = ids
    return found


def _own_tokens(texts: dict[str, str], where: str, encoder: Encoder) -> dict[str, list[int]]:
    found = {key: encoder.template(texts[key]) for key in ("clean", "corrupted")}
    for key in ("good", "bad"):
        if key in texts:
            answer = tokens_after(encoder, texts["clean"], texts[key])
            if answer is None:
                raise runs_into(where, key, texts[key], "clean")
            found[key] = answer
    return found


def _check_lengths(tokens: dict[str, list[int]], where: str, encoder: Encoder) -> None:
    clean, corrupted = tokens["clean"], tokens["corrupted"]
    differs = [a != b for a, b in zip(clean, corrupted, strict=False)]
    if len(clean) != len(corrupted):
        at = differs.index(True) if any(differs) else len(differs)
        raise UserError(
            f"{where}: clean has {len(clean)} tokens, corrupted {len(corrupted)} (from token"
            f" {at} on they differ, {shown(encoder.decode(clean[at : at + 3]))} and"
            f" {shown(encoder.decode(corrupted[at : at + 3]))}); edges are compared"
            " position by position, so both need the same number"
        )
    if not any(differs):
        raise UserError(f"{where}: clean and corrupted are the same tokens; nothing is corrupted")
    good, bad = tokens.get("good", []), tokens.get("bad", [])
    if bad and all(a == b for a, b in zip(good, bad, strict=False)):
        raise UserError(f"{where}: one of good and bad begins with the other; give two answers")
    length = len(clean) + max(0, len(good) - 1)
    if length > encoder.max_length:
        raise UserError(
            f"{where}: {length} tokens are more than the {encoder.max_length} that the model takes;"
            " shorten both texts"
        )


def _spans(
    line: Line,
    texts: dict[str, str],
    tokens: dict[str, list[int]],
    encoder: Encoder,
    key: str = "spans",
) -> list[NamedSpan]:
    """Return the line's spans, or those under another key, as ranges of tokens."""
    text = texts["clean"] + texts.get("good", "")
    length = len(tokens["clean"]) + max(0, len(tokens.get("good", [])) - 1)
    by_token = "clean_ids" in line.row
    limit, unit = (length, "tokens") if by_token else (len(text), "characters")
    found = sorted(spans_of(line, unit, limit, key), key=lambda span: span.start)
    for first, second in pairwise(found):
        if second.start < first.end:
            raise UserError(
                f"{line.where}: spans `{first.name}` and `{second.name}` overlap; keep them apart"
            )
    if by_token or not found:
        return found
    return span_tokens(found, encoder.template_places(text)[:length], line.where)
