"""Reads the user's files as rows: JSON lines, JSON arrays, CSV and Parquet.

Every defect is reported with the setting, the file and the place in it. Each row comes with that
place ("line 3", "item 3" of an array, "row 3" of a Parquet file; all count from 1), so that errors
about its values can name it too. Text is UTF-8, with or without a byte order mark.
"""

from __future__ import annotations

import csv
import glob
import json
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sumcirc.errors import UserError
from sumcirc.storage.reading import (
    RecordError,
    is_there,
    open_regular,
    require_regular,
    table_batches,
    table_columns,
)

EXTENSIONS = (".jsonl", ".json", ".csv", ".parquet")

# Separators that other programs write; a .csv file is read with commas only.
SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}

# The csv module refuses fields of more than 128 KiB by default, but documents may be longer.
LONGEST_CSV_FIELD = 2**31 - 1
LONGEST_LINE = 2**28  # bytes; bounds the reading of a file without line ends, such as a device
MOST_ENTRIES = 200_000  # files and folders that `**` may cover

Row = tuple[str, dict[str, Any]]  # place in the file, values by column


def find_files(pattern: str, setting: str, extensions: Sequence[str] = EXTENSIONS) -> list[Path]:
    """Return the files that a path or glob pattern names, sorted.

    Args:
        pattern: path or pattern, absolute or relative to the current folder.
        setting: name of the setting, for messages.
        extensions: the extensions that a file may have.

    Raises:
        UserError: there is no such file, or a file is a folder, is empty, can't be read, or has
            another extension.
    """
    literal = Path(os.path.expanduser(pattern))
    if "\0" in pattern:
        raise UserError(f"{setting}={pattern}: no file has such a name")
    if is_there(literal):
        paths = [literal]
    else:
        paths = [Path(found) for found in sorted(_matching(str(literal), setting))]
    if not paths and glob.has_magic(pattern):
        raise UserError(f"{setting}={pattern}: no file matches this pattern in {Path.cwd()}")
    if not paths:
        raise UserError(f"{setting}={pattern}: no such file ({_absolute(literal)})")
    for path in paths:
        if os.path.isdir(path):
            raise UserError(
                f"{setting}={pattern}: {path} is a folder; name a file, or a pattern like "
                f"{path / '*.jsonl'}"
            )
        if path.suffix.lower() not in extensions:
            raise UserError(
                f"{setting}={pattern}: {path.name} ends in none of {', '.join(extensions)}"
            )
        with _named(setting):
            if require_regular(path) == 0:
                raise UserError(f"{setting}={path}: the file is empty")
            with open_regular(path):
                pass
    return paths


def _matching(pattern: str, setting: str) -> list[str]:
    """Return the paths that a glob pattern matches.

    Raises:
        UserError: `**` covers an implausible number of files, such as all of the machine.
    """
    above, recursive, _ = pattern.partition("**")
    if recursive:
        count = 0
        # like `glob`, follow links to folders
        for _, folders, names in os.walk(os.path.dirname(above) or ".", followlinks=True):
            count += len(folders) + len(names)
            if count > MOST_ENTRIES:
                raise UserError(
                    f"{setting}={pattern}: more than {MOST_ENTRIES:,} files are below"
                    f" {os.path.dirname(above) or '.'}; name a folder that holds the data"
                )
    return glob.glob(pattern, recursive=True)


@contextmanager
def _named(setting: str) -> Iterator[None]:
    """Prefix errors about a file with the setting that names it."""
    try:
        yield
    except RecordError as error:
        raise UserError(f"{setting}={error}") from None


def first_columns(path: Path, setting: str) -> list[str]:
    """Return the names of a file's columns, read from its first row or its Parquet schema.

    Args:
        path: the file.
        setting: name of the setting, for messages.

    Raises:
        UserError: the columns can't be read, or the file has no rows.
    """
    if path.suffix.lower() == ".parquet":
        with _named(setting):
            columns = table_columns(path)
    else:
        columns = None
    for _, values in _read(path, setting, columns):
        return list(values)
    raise UserError(f"{setting}={path}: the file has no rows")


def read_whole(path: Path, setting: str) -> str:
    """Return the text of a file.

    Args:
        path: the file.
        setting: name of the setting, for messages.

    Raises:
        UserError: the file is not valid UTF-8; the message names the line.
    """
    return "".join(line for _, line in _lines(path, setting))


def read_rows(path: Path, setting: str, columns: Collection[str]) -> Iterator[Row]:
    """Yield for each row of a file its place, such as `line 3`, and its values by column.

    Args:
        path: the file.
        setting: name of the setting, for messages.
        columns: the columns to read.

    Raises:
        UserError: a row has invalid UTF-8, JSON or CSV, or lacks a column; the message names its
            place.
    """
    for place, values in _read(path, setting, columns):
        for column in columns:
            if column not in values:
                raise UserError(
                    f"{setting}={path}: {place} has no column {column!r}; "
                    f"it has {', '.join(values) or 'none'}"
                )
        yield place, {column: values[column] for column in columns}


def _read(path: Path, setting: str, columns: Collection[str] | None) -> Iterator[Row]:
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _parquet_rows(path, setting, columns)
    if suffix == ".csv":
        return _csv_rows(path, setting)
    if suffix == ".json" and _starts_with_bracket(path, setting):
        return _array_rows(path, setting)
    return read_json_lines(path, setting)


def _absolute(path: Path) -> Path:
    return path if path.is_absolute() else Path.cwd() / path


def _lines(path: Path, setting: str) -> Iterator[tuple[int, str]]:
    with _named(setting), open_regular(path) as file:
        for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE + 1), b""), start=1):
            if len(line) > LONGEST_LINE:
                raise UserError(
                    f"{setting}={path}: line {number} has more than {LONGEST_LINE:,} bytes"
                )
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise UserError(
                    f"{setting}={path}: line {number} is not valid UTF-8 (byte "
                    f"0x{line[error.start]:02x} at column {error.start + 1}); save it as UTF-8"
                ) from error
            yield number, text


def _object(value: Any, place: str, path: Path, setting: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError(
            f"{setting}={path}: {place} is not a JSON object with named columns but "
            f"{_json_type(value)}"
        )
    return value


def _json_type(value: Any) -> str:
    names = {str: "a string", list: "a list", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def read_json_lines(path: Path, setting: str) -> Iterator[Row]:
    """Yield for each line of a JSON lines file its place, such as `line 3`, and its object.

    Blank lines are skipped.

    Args:
        path: the file.
        setting: name of the setting, for messages.

    Raises:
        UserError: a line is not a JSON object.
    """
    for number, line in _lines(path, setting):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:  # also for numbers with too many digits
            reason = _line_ends(path) or f"{error}"
            raise UserError(
                f"{setting}={path}: invalid JSON at line {number} ({reason}); "
                "each line must hold one object"
            ) from error
        place = f"line {number}"
        yield place, _object(value, place, path, setting)


def _starts_with_bracket(path: Path, setting: str) -> bool:
    with _named(setting), open_regular(path) as file:
        while block := file.read(4096):
            if text := block.removeprefix(b"\xef\xbb\xbf").strip():
                return text.startswith(b"[")
    return False


def _array_rows(path: Path, setting: str) -> Iterator[Row]:
    text = "".join(line for _, line in _lines(path, setting))
    decoder = json.JSONDecoder()

    def skip(at: int) -> int:
        while at < len(text) and text[at] in " \t\r\n":
            at += 1
        return at

    def invalid(at: int, reason: str) -> UserError:
        line = text.count("\n", 0, at) + 1
        return UserError(f"{setting}={path}: invalid JSON at line {line} ({reason})")

    at = skip(skip(0) + 1)
    number = 0
    while text[at : at + 1] != "]":
        number += 1
        try:
            value, at = decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            raise invalid(error.pos, error.msg) from error
        except (ValueError, RecursionError) as error:
            raise invalid(at, str(error)) from error
        yield f"item {number}", _object(value, f"item {number}", path, setting)
        at = skip(at)
        if text[at : at + 1] == ",":
            at = skip(at + 1)
            if text[at : at + 1] == "]":
                raise invalid(at, "a comma after the last item")
        elif text[at : at + 1] != "]":
            raise invalid(at, "expected , or ] after an item")
    if skip(at + 1) != len(text):
        raise invalid(skip(at + 1), "text after the array")


def _csv_rows(path: Path, setting: str) -> Iterator[Row]:
    csv.field_size_limit(LONGEST_CSV_FIELD)
    reader = csv.reader((line for _, line in _lines(path, setting)), strict=True)
    header: list[str] | None = None
    line = 1
    try:
        for fields in reader:
            place, line = f"line {line}", reader.line_num + 1
            if not fields:
                continue
            if header is None:
                header = fields
                _check_separator(header, path, setting)
                if repeated := sorted({name for name in header if header.count(name) > 1}):
                    raise UserError(f"{setting}={path}: column {repeated[0]!r} occurs twice")
                continue
            if len(fields) != len(header):
                raise UserError(
                    f"{setting}={path}: {place} has {len(fields)} fields, the header "
                    f"{len(header)}; quote fields that hold commas or line breaks"
                )
            yield place, dict(zip(header, fields, strict=True))
    except csv.Error as error:
        reason = _line_ends(path) or str(error)
        raise UserError(f"{setting}={path}: invalid CSV at line {line} ({reason})") from error


def _check_separator(header: list[str], path: Path, setting: str) -> None:
    """Raise UserError if the header was evidently written with another separator."""
    counts = {one: header[0].count(one) for one in SEPARATORS}
    most = max(counts, key=lambda one: counts[one])
    if len(header) == 1 and counts[most]:
        raise UserError(
            f"{setting}={path}: the columns are separated by {SEPARATORS[most]}, and a .csv is"
            " read with commas; save it with commas, or as JSON lines"
        )


def _line_ends(path: Path) -> str | None:
    """Return a description of the problem if lines end in bare carriage returns, else None."""
    with path.open("rb") as file:
        begin = file.read(1 << 16)
    if b"\r" in begin and b"\n" not in begin:
        return "its lines end in carriage returns alone; save it with line feeds"
    return None


def _parquet_rows(path: Path, setting: str, columns: Collection[str] | None) -> Iterator[Row]:
    number = 0
    with _named(setting):
        for batch in table_batches(path, columns):
            for values in batch:
                number += 1
                yield f"row {number}", values
