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
        where: setting, file, line and id, as the beginning of messages.
        id: the id that the line states, or else one made from its number, such as `line-3`.
        row: the JSON object in the line.
    """

    where: str
    id: str
    row: dict[str, Any]


@dataclass(frozen=True)
class NamedSpan:
    """A named range [start, end) of the characters or of the tokens of a text."""

    name: str
    start: int
    end: int


def named_lines(path: str, setting: str, keys: Collection[str], what: str) -> Iterator[Line]:
    """Yield the lines of a JSON lines file whose lines each hold an item with an id.

    Args:
        path: the file.
        setting: name of the setting, for messages.
        keys: the known keys; another key that resembles one of them is refused as a mistake, and
            all others are ignored.
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
    """Return the text that a line holds under a key.

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


def spans_of(line: Line, unit: str, limit: int, key: str = "spans") -> list[NamedSpan]:
    """Return the spans of a line, in their order.

    Args:
        line: the line.
        unit: key of a span's range, `characters` or `tokens`.
        limit: length of the text, in characters or tokens.
        key: the line's key that holds the spans.

    Raises:
        UserError: a span has no name, or is not within 0 and `limit`.
    """
    given = line.row.get(key)
    if given is None:
        return []
    found: list[NamedSpan] = []
    for span in given if isinstance(given, list) else [given]:
        fields: Mapping[str, Any] = span if isinstance(span, dict) else {}
        name, edges = fields.get("name"), fields.get(unit, [])
        if not (isinstance(name, str) and name and _is_range(edges, limit)):
            what = "a span" if key == "spans" else f"one of its `{key}`"
            raise UserError(
                f"{line.where}: {what} is {shown(span)}; give each a `name` and `{unit}`"
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
        spans: spans whose ranges are in characters.
        places: character range of every token, as returned by `Encoder.template_places`.
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
    """Return a mask [length] for each name of a span, true at its tokens.

    Spans with the same name share a mask.

    Args:
        spans: spans whose ranges are in tokens.
        length: number of tokens.
        names: names that come first in the result, with an empty mask if no span has the name.
    """
    spans = list(spans)
    found = {
        name: np.zeros(length, dtype=bool) for name in (*names, *(span.name for span in spans))
    }
    for span in spans:
        found[span.name][span.start : span.end] = True
    return found


def tokens_after(encoder: Encoder, text: str, answer: str) -> list[int] | None:
    """Return the token ids that an answer adds to a text.

    Args:
        encoder: encodes the text with and without the answer.
        text: the text.
        answer: the answer, which follows the text directly.

    Returns:
        The added token ids; None if there are none, or if the answer changes the text's tokens.
    """
    before, both = encoder.template(text), encoder.template(text + answer)
    if both[: len(before)] != before or len(both) == len(before):
        return None
    return both[len(before) :]


def runs_into(where: str, key: str, answer: str, text_key: str) -> UserError:
    """Return the error for an answer for which `tokens_after` returns None.

    Args:
        where: beginning of the message.
        key: key of the answer in its line.
        answer: the answer.
        text_key: key of the text that the answer follows.
    """
    return UserError(
        f"{where}: `{key}`={shown(answer)} runs into the last word of `{text_key}`; let `{key}`"
        f" begin with the space, and `{text_key}` not end in one"
    )


def shown(value: Any) -> str:
    """Return a value as JSON in one line of at most 60 characters, for messages."""
    return json.dumps(value, ensure_ascii=False, default=str)[:60]
