"""docs/reference/files.md read as data, and files of a run as what it describes.

A heading of the page names a file (and the verbs), its tables name keys and values.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from sumcirc.tracking.measure_records import MEASURES
from tests.support.manual import DOCS

PAGE = DOCS / "reference" / "files.md"
TYPES = {"text": str, "integer": int, "number": (int, float), "true or false": bool}
ENDS = {"interval": ("mean", "low", "high", "n"), "bounds": ("mean", "low", "high")}
WORDS = {*TYPES, *ENDS, "any", "anything"}
# what some names in capitals may stand for; the others stand for anything
NAMES = {
    "RANKING": "absolute|signed",
    "SET": "edges|nodes",
    "OTHER": "to_first|to_previous|to_last",
}
Leaf = tuple[tuple[str, ...], Any]  # keys from the outside in, `[]` for an element; the value


@dataclass
class Section:
    """A file of the page."""

    path: str
    verbs: set[str]
    rows: dict[str, str] = field(default_factory=dict)  # value by key
    like: str | None = None  # the file whose rows may be there as well
    seen: set[str] = field(default_factory=set)

    def matches(self, path: str, verb: str | None) -> bool:
        """Whether it is about a file of a run of this verb."""
        return bool(re.fullmatch(pattern(self.path), path)) and (
            not self.verbs or verb in self.verbs
        )


@cache
def pattern(words: str) -> str:
    """A regular expression of a name with capitals."""
    return "".join(
        f"(?:{NAMES.get(part, '.+')})" if re.fullmatch(r"[A-Z]{3,}", part) else re.escape(part)
        for part in re.split(r"([A-Z]{3,})", words)
    )


def read_page() -> tuple[list[Section], set[str]]:
    """The files that are described from the inside, and the names of the others."""
    described: list[Section] = []
    others: set[str] = set()
    current: Section | None = None
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        heading = re.match(r"### `([^`]+)`(?: of (.+))?$", line)
        if heading:
            verbs = set((heading[2] or "").split(" and ")) - {""}
            current = Section(heading[1], verbs)
            described.append(current)
        elif line.startswith("#"):
            current = None
        cells = re.split(r"(?<!\\)\|", line)[1:-1]
        names = re.findall(r"`([^`]+)`", cells[0]) if cells else []
        if current is None and names and len(cells) == 2 and not names[0].startswith("sumcirc"):
            others |= set(names)
        elif current is not None and names:
            current.rows |= dict.fromkeys(names, cells[1].strip())
        elif current is not None and (like := re.search(r"\b[Aa]s `([^`]+\.\w+)`", line)):
            current.like = current.like or like[1]
    return described, others


def rows_of(section: Section) -> dict[str, str]:
    """What may be in a file: its own rows and those of the file that it is like."""
    other = next((one for one in SECTIONS if one.path == section.like), None)
    return {**(rows_of(other) if other else {}), **section.rows}


def leaves(node: Any, keys: tuple[str, ...] = ()) -> Iterator[Leaf]:
    """Every value at the ends of nested objects and lists; an empty one is an end itself."""
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from leaves(value, (*keys, str(key)))
    elif isinstance(node, list) and node:
        for value in node:
            yield from leaves(value, (*keys, "[]"))
    else:
        yield keys, node


def content(file: Path) -> Any:
    """A file as objects and lists; of safetensors what the header holds."""
    if file.suffix == ".jsonl":
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    if file.suffix == ".json":
        return json.loads(file.read_text(encoding="utf-8"))
    if file.suffix == ".yaml":
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    if file.suffix == ".csv":
        with open(file, encoding="utf-8", newline="") as lines:
            return [{k: number(v) for k, v in row.items()} for row in csv.DictReader(lines)]
    if file.suffix == ".parquet":
        import pyarrow.parquet

        return pyarrow.parquet.read_table(file).to_pylist()
    from safetensors import safe_open

    with safe_open(file, framework="numpy") as opened:
        metadata = opened.metadata()
        assert metadata.pop("format") == "1"
        ((kind, text),) = metadata.items()
        arrays = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    if kind == "record":
        assert set(arrays) <= set(MEASURES)
        assert {array.dtype.name for array in arrays.values()} == {"float32"}
        for name, array in arrays.items():
            assert array.ndim == len(MEASURES[name].axes)
    else:
        kept = {name: array.dtype.name for name, array in arrays.items()}
        kept.pop("largest", None)
        writes = dict.fromkeys(("writes", "moved", "rest"), "float32")
        possible = ({"edges": "float16"}, {"edges": "float32"}, {"units": "float16"}, writes)
        assert kept in possible
    return json.loads(text)


def number(text: str) -> Any:
    """A field of a CSV as the value that it holds."""
    if text in ("True", "False", ""):
        return {"True": True, "False": False, "": None}[text]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def steps_of(key: str) -> tuple[str, ...]:
    """`a[].b` as the keys that lead there."""
    return tuple(part for part in re.split(r"(\[\])|\.", key) if part)


def fits(leaf: Leaf, key: str, value: str) -> bool:
    """Whether a row is about a leaf."""
    keys, found = leaf
    if len(keys) and keys[0] == "[]" and not key.startswith("[]"):
        keys = keys[1:]  # rows of a table
    wanted = steps_of(key)
    ways = [wanted]
    if value in ENDS:
        ways += [(*wanted, end) for end in ENDS[value]]
    for way in ways:
        size = len(way)
        inside = value == "anything" and len(keys) > size
        if (len(keys) == size or inside) and all(
            re.fullmatch(pattern(one), other) for one, other in zip(way, keys, strict=False)
        ):
            if value in ENDS:
                return found is None or way is not wanted
            empty = found in ([], {}) and value == "anything"
            typed = value not in TYPES or isinstance(found, TYPES[value])
            # True is an integer to Python
            typed = typed and not (isinstance(found, bool) and value in ("integer", "number"))
            return found is None or empty or typed
    # an empty list or object where rows say what would be in it
    return (
        found in ([], {})
        and len(wanted) > len(keys)
        and all(re.fullmatch(pattern(one), other) for one, other in zip(wanted, keys, strict=False))
    )


SECTIONS, OTHERS = read_page()


def arrays_in(file: Path) -> set[str]:
    from safetensors import safe_open

    with safe_open(file, framework="numpy") as opened:
        return set(opened.keys())
