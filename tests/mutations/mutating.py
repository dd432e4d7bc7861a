"""Seeded damage to files, as left by a crash, a bug, another tool or an attacker.

A `Mutation` has a name, which says what was done so that a failure can be told, and a function that
does it to a file. There are mutations of what stands at a path (a FIFO, a folder, a link to
itself), of bytes and text (cut, flipped, another encoding), and of the values of JSON, YAML and
CSV files (another type, NaN, deep nesting, missing and further keys); `containers` has those of
safetensors, Parquet and checkpoint files.
"""

from __future__ import annotations

import copy
import json
import os
import random
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Mutation:
    """A named way to damage the file at a path."""

    name: str
    apply: Callable[[Path], object]


Draw = Callable[[random.Random], Mutation]


def draw(kinds: list[Draw], count: int, seed: int) -> list[Mutation]:
    """Draw `count` mutations: one of each kind first, then random kinds."""
    chance = random.Random(seed)
    order = [*kinds, *(chance.choice(kinds) for _ in range(max(0, count - len(kinds))))]
    if count < len(kinds):
        order = chance.sample(kinds, count)
    return [kind(chance) for kind in order]


@contextmanager
def mutated(path: Path, mutation: Mutation) -> Iterator[None]:
    """Damage a file in the block, and restore it afterwards."""
    kept = path.with_name(path.name + ".kept")
    shutil.copy2(path, kept)
    try:
        mutation.apply(path)
        yield
    finally:
        remove(path)
        os.replace(kept, path)


def remove(path: Path) -> None:
    """Delete whatever is at `path`."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif os.path.lexists(path):
        path.unlink()


# --- what stands at the path


def _instead(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        remove(path)
        make(path)

    return apply


def _socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # the name of a socket may not be long
    try:
        with socket.socket(socket.AF_UNIX) as opened:
            opened.bind(path.name)
    finally:
        os.chdir(here)


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**40)


PLACES: dict[str, Callable[[Path], object]] = {
    "a folder": lambda path: path.mkdir(),
    "a FIFO": lambda path: os.mkfifo(path),
    "a socket": _socket,
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to nothing": lambda path: path.symlink_to("nowhere"),
    "a link to /dev/zero": lambda path: path.symlink_to("/dev/zero"),
    "a link to /dev/null": lambda path: path.symlink_to("/dev/null"),
    "a terabyte of nothing": _sparse,
    "no file": lambda path: None,
    "an empty file": lambda path: path.write_bytes(b""),
}


def place(chance: random.Random) -> Mutation:
    """Something else where the file was."""
    name = chance.choice(list(PLACES))
    return Mutation(f"in its place {name}", _instead(PLACES[name]))


# --- bytes and text


def of_bytes(change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(change(path.read_bytes()))


def cut(chance: random.Random) -> Mutation:
    """The file ends early."""
    share = chance.choice([0.0, 0.01, 0.5, 0.9, chance.random(), 1.0])
    return Mutation(
        f"cut to {share:.2f}", of_bytes(lambda content: content[: int(share * len(content)) - 1])
    )


def flip(chance: random.Random) -> Mutation:
    """Some bytes are others."""
    count, seed = chance.choice([1, 1, 3, 30]), chance.random()

    def change(content: bytes) -> bytes:
        own, found = random.Random(seed), bytearray(content)
        for _ in range(min(count, len(found))):
            found[own.randrange(len(found))] = own.randrange(256)
        return bytes(found)

    return Mutation(f"{count} other bytes (draw {seed:.4f})", of_bytes(change))


def _deep(opening: bytes, closing: bytes) -> bytes:
    return opening * 100_000 + closing * 100_000


BOMB = b"a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + b"".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n".encode() for i in range(1, 12)
)
CONTENTS: dict[str, bytes] = {
    "brackets 100,000 deep": _deep(b"[", b"]"),
    "brackets 150 deep": b"[" * 150 + b"]" * 150,
    "braces 100,000 deep": _deep(b'{"a":', b"}"),
    "dashes 100,000 deep": b"- " * 100_000,
    "an open bracket": b"[",
    "null": b"null",
    "a number": b"3",
    "NaN": b"NaN",
    "a list": b"[1, 2]",
    "an empty object": b"{}",
    "a text": b'"text"',
    "an alias bomb": BOMB,
    "an alias of itself": b"a: &a [*a]\n",
    "a tag of Python": b"!!python/object/apply:os.system ['true']\n",
    "HTML": b"<!DOCTYPE html><html><body>404</body></html>",
    "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
    "a pickle": b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x94\x93\x8c\x04true\x94\x85R\x94.",
    "a ZIP archive": b"PK\x05\x06" + bytes(18),
    "zeros": bytes(4096),
    "spaces": b" " * 4096,
    "a long line": b"x" * 3_000_000,
    "a number of 5,000 digits": b"9" * 5000,
}


def content(chance: random.Random) -> Mutation:
    """Another content."""
    name = chance.choice(list(CONTENTS))
    return Mutation(f"content: {name}", of_bytes(lambda _: CONTENTS[name]))


def _lines(change: Callable[[random.Random, list[bytes]], list[bytes]], seed: float) -> Any:
    def apply(content: bytes) -> bytes:
        return b"".join(change(random.Random(seed), content.splitlines(keepends=True)))

    return of_bytes(apply)


LINES: dict[str, Callable[[random.Random, list[bytes]], list[bytes]]] = {
    "a line is gone": lambda own, lines: [line for line in lines if line is not own.choice(lines)],
    "a line is there twice": lambda own, lines: sorted(
        [*lines, own.choice(lines)], key=lines.index
    ),
    "lines in another order": lambda own, lines: own.sample(lines, len(lines)),
    "another line ending": lambda own, lines: [line.replace(b"\n", b"\r\n") for line in lines],
    "a NUL byte": lambda own, lines: [*lines[:1], b"\0", *lines[1:]],
    "a tab before a line": lambda own, lines: [
        b"\t" + line if line is own.choice(lines) else line for line in lines
    ],
    "no line endings": lambda own, lines: [line.strip() for line in lines],
    "the content twice": lambda own, lines: [*lines, *lines],
    "a byte order mark": lambda own, lines: [b"\xef\xbb\xbf", *lines],
    "a byte that is not UTF-8": lambda own, lines: [*lines[:-1], b"\xff", *lines[-1:]],
    "a lone surrogate": lambda own, lines: [b'"\\ud800"', *lines],
    "a quote": lambda own, lines: [b'"', *lines],
    "UTF-16": lambda own, lines: [b"".join(lines).decode("utf-8", "replace").encode("utf-16")],
}


def lines(chance: random.Random) -> Mutation:
    """Lines of text changed as such."""
    name, seed = chance.choice(list(LINES)), chance.random()
    return Mutation(f"{name} (draw {seed:.4f})", _lines(LINES[name], seed))


BINARY: list[Draw] = [place, cut, flip, content]
TEXT: list[Draw] = [*BINARY, lines]


# --- values

LARGE = 10**30
SCALARS: list[Any] = [
    *(None, True, False, 0, 1, -1, 3.5, -0.0, 1e308, -1e30, 2**31, 2**63, -(2**63), LARGE),
    *(float("nan"), float("inf"), float("-inf"), "", "x", "3", "nan", "null", "../../etc/passwd"),
    *("\x1b[31mred", "[bold]", "\ud800", "\0", "a\nb", "x" * 10_000, "é\u202e", "~", "${oops}"),
    *([], {}, [[]], [None], {"x": 1}, [1, 2, 3], ["x"] * 1000, {"": {}}),
]


def nested(levels: int) -> Any:
    """A list in a list in a list."""
    found: Any = []
    for _ in range(levels):
        found = [found]
    return found


def paths(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The place of everything in JSON, the whole first."""
    yield before
    parts = value.items() if isinstance(value, dict) else ()
    parts = enumerate(value) if isinstance(value, list) else parts
    for key, part in parts:
        yield from paths(part, (*before, key))


def _at(body: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        body = body[key]
    return body


def change_value(body: Any, own: random.Random) -> tuple[str, Any]:
    """A copy with one thing changed, and what was; keys near the root are chosen as often as
    others, though they are fewer.
    """
    body = copy.deepcopy(body)
    every = list(paths(body))
    depth = own.choice(sorted({len(path) for path in every}))
    path = own.choice([path for path in every if len(path) == depth])
    where = ".".join(map(str, path)) or "the whole"
    if not path:
        value = own.choice(SCALARS)
        return f"{where} is {value!r:.40}", value
    parent, key = _at(body, path[:-1]), path[-1]
    how = own.choice(["set", "set", "set", "drop", "rename", "wrap", "add", "deep", "scale"])
    if how == "drop" or (how == "rename" and isinstance(parent, list)):
        del parent[key]
        return f"{where} is gone", body
    if how == "rename":
        parent[f"{key}x"] = parent.pop(key)
        return f"{where} has another name", body
    if how == "wrap":
        parent[key] = own.choice([[parent[key]], {"x": parent[key]}])
        return f"{where} is wrapped", body
    if how == "add":
        if isinstance(parent, list):
            parent.insert(own.randrange(len(parent) + 1), own.choice(SCALARS))
        else:
            parent[own.choice(["more", "", "a.b", "_target_", "1"])] = own.choice(SCALARS)
        return f"{where} has a sibling", body
    if how == "deep":
        levels = own.choice([5, 99, 150, 900])
        parent[key] = nested(levels)
        return f"{where} is nested {levels} deep", body
    old = parent[key]
    if how == "scale" and isinstance(old, (int, float)) and not isinstance(old, bool):
        parent[key] = own.choice([-old, old * 1e30, old + 0.5, str(old), -(old + 1), old * 1000])
    else:
        parent[key] = own.choice(SCALARS)
    return f"{where} is {parent[key]!r:.40}", body


def json_values(chance: random.Random) -> Mutation:
    """A value of a JSON file changed."""
    seed = chance.random()

    def apply(path: Path) -> str:
        what, body = change_value(json.loads(path.read_text("utf-8")), random.Random(seed))
        path.write_text(json.dumps(body), encoding="utf-8")
        return what

    return Mutation(f"a value (draw {seed})", apply)


def json_twice(chance: random.Random) -> Mutation:
    """A key of a JSON object given twice, with other values."""
    seed = chance.random()

    def apply(path: Path) -> None:
        text = path.read_text("utf-8")
        at = text.index("{") + 1
        own = random.Random(seed)
        body = json.loads(text)
        keys = list(body if isinstance(body, dict) else body[0]) or ["x"]
        path.write_text(f'{text[:at]}"{own.choice(keys)}": 3, {text[at:]}', encoding="utf-8")

    return Mutation(f"a key twice (draw {seed})", apply)


def yaml_values(chance: random.Random) -> Mutation:
    """A value of a YAML file changed."""
    import yaml

    seed = chance.random()

    def apply(path: Path) -> None:
        _, body = change_value(yaml.safe_load(path.read_text("utf-8")), random.Random(seed))
        try:
            text = yaml.safe_dump(body)
        except RecursionError:
            text = json.dumps(body)  # is YAML as well
        path.write_text(text, encoding="utf-8")

    return Mutation(f"a value (draw {seed})", apply)


def line_values(chance: random.Random) -> Mutation:
    """A value in a line of a file of JSON lines changed."""
    seed = chance.random()

    def apply(path: Path) -> None:
        own = random.Random(seed)
        rows = path.read_text("utf-8").splitlines()
        at = own.randrange(len(rows))
        _, body = change_value(json.loads(rows[at]), own)
        rows[at] = json.dumps(body)
        path.write_text("\n".join(rows) + "\n", encoding="utf-8")

    return Mutation(f"a value in a line (draw {seed})", apply)


JSON: list[Draw] = [*TEXT, json_values, json_values, json_values, json_values, json_twice]
YAML: list[Draw] = [*TEXT, yaml_values, yaml_values, yaml_values, yaml_values]


def cells(chance: random.Random) -> Mutation:
    """A cell of a CSV file changed, dropped or added."""
    seed = chance.random()

    def apply(path: Path) -> None:
        own = random.Random(seed)
        rows = [line.split(",") for line in path.read_text("utf-8").splitlines()]
        row = own.choice(rows)
        at = own.randrange(len(row))
        how = own.choice(["set", "set", "drop", "add"])
        if how == "drop":
            del row[at]
        elif how == "add":
            row.insert(at, "x")
        else:
            row[at] = str(own.choice([one for one in SCALARS if one != "\ud800"]))
        path.write_text("".join(",".join(row) + "\n" for row in rows), encoding="utf-8")

    return Mutation(f"a cell (draw {seed})", apply)


CSV: list[Draw] = [*TEXT, cells, cells, cells]
