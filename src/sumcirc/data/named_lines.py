"""JSON lines that each hold a named item: texts, their continuations, and spans of their tokens.

Users write both pairs and prompts in this form. They are read here, so that both are checked in the
same way and refused with the same messages.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sumcirc.data.encoding import Encoder
from sumcirc.data.files import find_files, read_json_lines
from sumcirc.errors import UserError


@dataclass(frozen=True)
class Line:
    """One line of a file.

    Attributes:
        where: setting, file, line and id, with which messages begin.
        id: the id that the line states, or `line-3`.
        row: the JSON object.
    """

    where: str
    id: str
    row: dict[str, Any]


@dataclass(frozen=True)
class NamedSpan:
    """A named range [start, end) of the characters of a text, or of tokens."""

    name: str
    start: int
    end: int


def named_lines(path: str, setting: str, keys: Collection[str], what: str) -> Iterator[Line]:
    """Yield the lines of a file.

    Args:
        path: the file.
        setting: name of the setting, for messages.
        keys: keys with a meaning; a key that resembles one of them is refused as a mistake, others
            are ignored.
        what: the kind of item in a line, such as `pair`, for messages.

    Raises:
        UserError: the file is not a JSON lines file, or is empty; an id is invalid or repeated.
    """
    files = find_files(path, setting)
    if len(files) > 1 or files[0].suffix.lower() != ".jsonl":
        raise UserError(f"{setting}={path}: name one file of JSON lines, NAME.jsonl")
    seen: dict[str, str] = {}
    for place, row in read_json_lines(files[0], setting):
        line = _line(f"{setting}={path}: {place}", place.replace(" ", "-"), row, keys)
        if line.id in seen:
            raise UserError(f"{line.where}: has the id of {seen[line.id]}; give each its own")
        seen[line.id] = place
        yield line
    if not seen:
        raise UserError(f"{setting}={path}: the file has no line; give one {what} a line")


def _line(place: str, default: str, row: dict[str, Any], keys: Collection[str]) -> Line:
    for key in row:
        near = difflib.get_close_matches(key, keys, n=1, cutoff=0.8)
        if key not in keys and near:
            raise UserError(f"{place}: `{key}` is unknown; did you mean `{near[0]}`?")
    name = row.get("id")
    if name is not None and (isinstance(name, bool) or not isinstance(name, str | int)):
        raise UserError(f"{place}: its id is {shown(name)}; give a text or a whole number")
    name = default if name in (None, "") else str(name)
    return Line(f"{place} (`{name}`)", name, row)


def text_of(line: Line, key: str) -> str:
    """Return a text that the line must have.

    Args:
        line: the line.
        key: key of the text.

    Raises:
        UserError: the key is missing, or its value is not text.
    """
    value = line.row.get(key)
    if not isinstance(value, str) or not value:
        raise UserError(f"{line.where}: its `{key}` is {shown(value)}; give a text")
    return value


def spans_of(line: Line, unit: str, limit: int) -> list[NamedSpan]:
    """Return the spans of a line, in their order.

    Args:
        line: the line.
        unit: key of their range, `characters` or `tokens`.
        limit: length of the text, in this unit.

    Raises:
        UserError: a span has no name, or is not within 0 and `limit`.
    """
    given = line.row.get("spans")
    if given is None:
        return []
    found: list[NamedSpan] = []
    for span in given if isinstance(given, list) else [given]:
        fields: Mapping[str, Any] = span if isinstance(span, dict) else {}
        name, edges = fields.get("name"), fields.get(unit, [])
        if not (isinstance(name, str) and name and _is_range(edges, limit)):
            raise UserError(
                f"{line.where}: a span is {shown(span)}; give each a `name` and `{unit}`"
                f" [start, end] within 0 and {limit}"
            )
        found.append(NamedSpan(name, edges[0], edges[1]))
    return found


def _is_range(edges: Any, limit: int) -> bool:
    pair = isinstance(edges, list) and len(edges) == 2 and all(type(edge) is int for edge in edges)
    return pair and 0 <= edges[0] < edges[1] <= limit


def span_tokens(
    spans: Sequence[NamedSpan], places: Sequence[tuple[int, int] | None], where: str
) -> list[NamedSpan]:
    """Convert spans of characters to spans of tokens.

    A token belongs to the span that contains its last character.

    Args:
        spans: in characters.
        places: character span of every token, from `Encoder.template_places`.
        where: beginning of messages.

    Raises:
        UserError: a span has no token.
    """
    found: list[NamedSpan] = []
    for span in spans:
        here = [
            at
            for at, place in enumerate(places)
            if place is not None and span.start < place[1] <= span.end
        ]
        if not here:
            raise UserError(
                f"{where}: span `{span.name}` [{span.start}, {span.end}] contains the last"
                " character of no token; widen it to whole words"
            )
        found.append(NamedSpan(span.name, here[0], here[-1] + 1))
    return found


def span_masks(
    spans: Iterable[NamedSpan], length: int, names: Sequence[str] = ()
) -> dict[str, np.ndarray]:
    """Return spans of tokens as masks by name; those with one name are one span.

    Args:
        length: of the masks.
        names: further names, which come first.
    """
    spans = list(spans)
    found = {
        name: np.zeros(length, dtype=bool) for name in (*names, *(span.name for span in spans))
    }
    for span in spans:
        found[span.name][span.start : span.end] = True
    return found


def tokens_after(encoder: Encoder, text: str, answer: str) -> list[int] | None:
    """Return the tokens that an answer adds to a text; None if it changes the text's tokens.

    Args:
        encoder: encodes both.
        text: the text.
        answer: what follows it.

    Returns:
        Token ids; None also if the answer adds no token.
    """
    before, both = encoder.template(text), encoder.template(text + answer)
    if both[: len(before)] != before or len(both) == len(before):
        return None
    return both[len(before) :]


def runs_into(where: str, key: str, answer: str, text_key: str) -> UserError:
    """Return the error for an answer for which `tokens_after` returns None.

    Args:
        where: beginning of the message.
        key: key of the answer.
        answer: the answer.
        text_key: key of the text before it.
    """
    return UserError(
        f"{where}: `{key}`={shown(answer)} runs into the last word of `{text_key}`; let `{key}`"
        f" begin with the space, and `{text_key}` not end in one"
    )


def shown(value: Any) -> str:
    """Return a value as one short line, with control characters escaped."""
    return json.dumps(value, ensure_ascii=False, default=str)[:60]
