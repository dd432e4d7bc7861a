"""Pairs as JSON lines: what `sumcirc pairs` writes, and what users write by hand.

Each line is an object of its own:

- `clean`, `corrupted`: texts of as many tokens; all that a line needs.
- `good`, `bad`: what comes next after the clean text, and what after the corrupted one, with the
  space that begins them. Of any length; `good` without its last token is fed to both inputs.
- `spans`: objects with `name` and `characters` [start, end) of `clean` followed by `good`. A token
  is of the span that has its last character; spans don't overlap.
- `id`, `corruption`: names.
- `clean_ids`, `corrupted_ids`, `good_ids`, `bad_ids` and `tokens` [start, end) of a span: so that
  what was written is read back bit for bit. They hold for one tokenizer; that they are its tokens
  of the texts is checked.

Other keys are left alone.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from sumcirc.circuits.pair import NOTHING, SPANS, Pair
from sumcirc.data.encoding import Encoder
from sumcirc.data.files import find_files, read_json_lines
from sumcirc.errors import UserError
from sumcirc.files import write_text

TEXTS = ("clean", "corrupted", "good", "bad")
KEYS = ("id", "corruption", *TEXTS, *(f"{name}_ids" for name in TEXTS), "spans")
OWN = "own"  # the corruption of a line that names none
SETTING = "pairs"


def write_pairs(
    path: Path,
    pairs: Sequence[Pair],
    encoder: Encoder,
    further: Sequence[Mapping[str, Any]] | None = None,
) -> None:
    """Write pairs, a line each.

    Args:
        further: for each pair more to write down, such as its losses.
    """
    extra = further or [{}] * len(pairs)
    lines = [_line(pair, encoder) | dict(more) for pair, more in zip(pairs, extra, strict=True)]
    text = "".join(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in lines)
    write_text(path, text)


def _line(pair: Pair, encoder: Encoder) -> dict[str, Any]:
    length = pair.prompt_length
    good, bad = ([int(t) for t in answer if t != NOTHING] for answer in (pair.good, pair.bad))
    ids = {
        "clean": pair.clean[:length].tolist(),
        "corrupted": pair.corrupted[:length].tolist(),
        **({"good": good} if good else {}),
        **({"bad": bad} if bad else {}),
    }
    line: dict[str, Any] = {"id": pair.id, "corruption": pair.corruption}
    line |= {name: encoder.decode(tokens) for name, tokens in ids.items()}

    def characters(tokens: int) -> int:
        answer = encoder.decode(good[: tokens - length]) if tokens > length else ""
        return len(encoder.decode(ids["clean"][:tokens]) + answer)

    edges = np.flatnonzero(np.diff(pair.kinds)) + 1
    for run in np.split(np.arange(len(pair.kinds)), edges) if pair.names else []:
        kind, start, end = int(pair.kinds[run[0]]), int(run[0]), int(run[-1]) + 1
        if kind != NOTHING:
            span = {"name": pair.names[kind], "tokens": [start, end]}
            span["characters"] = [characters(start), characters(end)]
            line.setdefault("spans", []).append(span)
    return line | {f"{name}_ids": tokens for name, tokens in ids.items()}


def read_pairs(path: str, encoder: Encoder) -> list[Pair]:
    """All pairs of a file.

    Raises:
        UserError: the file is none of JSON lines; a line has a mistake, or is too long for the
            model; two lines have one id. Line and item are named.
    """
    files = find_files(path, SETTING)
    if len(files) > 1 or files[0].suffix.lower() != ".jsonl":
        raise UserError(f"{SETTING}={path}: name one file of JSON lines, NAME.jsonl")
    lines: list[_Line] = []
    seen: dict[str, str] = {}
    for place, row in read_json_lines(files[0], SETTING):
        line = _read(f"{SETTING}={path}: {place}", place.replace(" ", "-"), row, encoder)
        if line.id in seen:
            raise UserError(f"{line.where}: has the id of {seen[line.id]}; give each its own")
        seen[line.id] = place
        lines.append(line)
    if not lines:
        raise UserError(f"{SETTING}={path}: the file has no line; give one pair a line")
    used = list(dict.fromkeys(name for line in lines for name, _, _ in line.spans))
    # spans of summaries keep their order
    known = SPANS if set(used) & set(SPANS) else ()
    names = (*known, *(name for name in used if name not in known))
    return [line.pair(names) for line in lines]


@dataclass(frozen=True)
class _Line:
    """A line that was checked; `spans` are names with their tokens."""

    where: str
    id: str
    corruption: str
    tokens: dict[str, list[int]]
    spans: list[tuple[str, int, int]]

    def pair(self, names: tuple[str, ...]) -> Pair:
        tokens = self.tokens
        good = tokens.get("good", [])
        kinds = np.full(len(tokens["clean"]) + max(0, len(good) - 1), NOTHING, dtype=np.int64)
        for name, start, end in self.spans:
            kinds[start:end] = names.index(name)
        prompts, bad = (tokens["clean"], tokens["corrupted"]), tokens.get("bad", [])
        return Pair.of(self.id, self.corruption, prompts, kinds, good, bad, names)


def _read(place: str, default: str, row: Mapping[str, Any], encoder: Encoder) -> _Line:
    for key in row:
        near = difflib.get_close_matches(key, KEYS, n=1, cutoff=0.8)
        if key not in KEYS and near:
            raise UserError(f"{place}: has no meaning for `{key}`; did you mean `{near[0]}`?")
    name = row.get("id")
    if name is not None and (isinstance(name, bool) or not isinstance(name, str | int)):
        raise UserError(f"{place}: its id is {_shown(name)}; give a text or a whole number")
    name = default if name in (None, "") else str(name)
    where = f"{place} (`{name}`)"
    corruption = row.get("corruption", OWN)
    if not isinstance(corruption, str):
        raise UserError(f"{where}: its corruption is {_shown(corruption)}; give a text")
    texts = _texts(row, where)
    if "clean_ids" in row:
        tokens = _given_tokens(row, texts, where, encoder)
    else:
        tokens = _own_tokens(texts, where, encoder)
    _check_lengths(tokens, where, encoder)
    return _Line(where, name, corruption, tokens, _spans(row, texts, tokens, where, encoder))


def _texts(row: Mapping[str, Any], where: str) -> dict[str, str]:
    texts: dict[str, str] = {}
    for key in TEXTS:
        value = row.get(key)
        if value is None and key in ("good", "bad"):
            continue
        if not isinstance(value, str) or not value:
            raise UserError(f"{where}: its `{key}` is {_shown(value)}; give a text")
        texts[key] = value
    if "bad" in texts and "good" not in texts:
        raise UserError(f"{where}: has `bad` without `good`; give both, or neither")
    return texts


def _given_tokens(
    row: Mapping[str, Any], texts: dict[str, str], where: str, encoder: Encoder
) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for key, text in texts.items():
        ids = row.get(f"{key}_ids")
        size = len(encoder.tokenizer)
        whole = isinstance(ids, list) and all(
            type(token) is int and 0 <= token < size for token in ids
        )
        if not whole or not ids or encoder.decode(ids) != text:
            raise UserError(
                f"{where}: `{key}_ids` are not this model's tokens of `{key}`; take the model the"
                " pairs were made for, make them again for this one, or leave out all ids"
            )
        found[key] = ids
    return found


def _own_tokens(texts: dict[str, str], where: str, encoder: Encoder) -> dict[str, list[int]]:
    found = {key: encoder.text(texts[key]) for key in ("clean", "corrupted")}
    clean = found["clean"]
    for key in ("good", "bad"):
        if key in texts:
            both = encoder.text(texts["clean"] + texts[key])
            if both[: len(clean)] != clean or len(both) == len(clean):
                raise UserError(
                    f"{where}: `{key}`={_shown(texts[key])} runs into the last word of `clean`; let"
                    f" `{key}` begin with the space, and `clean` not end in one"
                )
            found[key] = both[len(clean) :]
    return found


def _check_lengths(tokens: dict[str, list[int]], where: str, encoder: Encoder) -> None:
    clean, corrupted = tokens["clean"], tokens["corrupted"]
    differs = [a != b for a, b in zip(clean, corrupted, strict=False)]
    if len(clean) != len(corrupted):
        at = differs.index(True) if any(differs) else len(differs)
        raise UserError(
            f"{where}: clean has {len(clean)} tokens, corrupted {len(corrupted)} (they part at"
            f" token {at}, {_shown(encoder.decode(clean[at : at + 3]))} and"
            f" {_shown(encoder.decode(corrupted[at : at + 3]))}); an edge is compared place by"
            " place, so give both as many tokens"
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
            " shorten both texts alike"
        )


def _spans(
    row: Mapping[str, Any],
    texts: dict[str, str],
    tokens: dict[str, list[int]],
    where: str,
    encoder: Encoder,
) -> list[tuple[str, int, int]]:
    """Names of spans with their tokens [start, end)."""
    given = row.get("spans")
    if given is None:
        return []
    text = texts["clean"] + texts.get("good", "")
    length = len(tokens["clean"]) + max(0, len(tokens.get("good", [])) - 1)
    by_token = "clean_ids" in row
    limit, unit = (length, "tokens") if by_token else (len(text), "characters")
    found: list[tuple[str, int, int]] = []
    for span in given if isinstance(given, list) else [given]:
        fields = span if isinstance(span, dict) else {}
        name, edges = fields.get("name"), fields.get(unit, [])
        if not (isinstance(name, str) and name and _is_range(edges, limit)):
            raise UserError(
                f"{where}: a span is {_shown(span)}; give each a `name` and `{unit}`"
                f" [start, end] within 0 and {limit}"
            )
        found.append((name, edges[0], edges[1]))
    found.sort(key=lambda span: span[1])
    for (first, _, end), (second, start, _) in pairwise(found):
        if start < end:
            raise UserError(f"{where}: spans `{first}` and `{second}` overlap; keep them apart")
    if by_token:
        return found
    ends = [None if one is None else one[1] for one in encoder.text_places(text)][:length]
    placed = []
    for name, start, end in found:
        here = [at for at, last in enumerate(ends) if last is not None and start < last <= end]
        if not here:
            raise UserError(
                f"{where}: span `{name}` [{start}, {end}] has the last character of no token; widen"
                " it to whole words"
            )
        placed.append((name, here[0], here[-1] + 1))
    return placed


def _is_range(edges: Any, limit: int) -> bool:
    pair = isinstance(edges, list) and len(edges) == 2 and all(type(edge) is int for edge in edges)
    return pair and 0 <= edges[0] < edges[1] <= limit


def _shown(value: Any) -> str:
    """A value as one short line, control characters escaped."""
    return json.dumps(value, ensure_ascii=False, default=str)[:60]
