"""Reading records: one line for whatever is wrong with a file, and never a hang."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from safetensors.numpy import save_file

from sumcirc.errors import UserError
from sumcirc.storage.reading import (
    RecordError,
    is_there,
    read_bytes,
    read_json,
    read_table,
    read_tensors,
    read_text,
    read_yaml,
    require_array,
)


class Shape(TypedDict):
    a: int


def test_an_error_names_file_key_and_reason_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text('{"a": "b"}')
    with pytest.raises(UserError) as caught:
        read_json(file, Shape)
    error = caught.value
    assert isinstance(error, RecordError)
    assert (error.path, error.key) == (file, "a")
    assert str(error) == f'{file}: `a` is "b", not a whole number'


def fifo(path: Path) -> None:
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.mkdir()


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def loop(path: Path) -> None:
    path.symlink_to(path)


def nothing(path: Path) -> None:
    pass


def below_a_file(path: Path) -> None:
    path.parent.rmdir()
    path.parent.write_text("")


def a_socket(path: Path) -> None:
    os.chdir(path.parent)  # the name of a socket may not be long
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(path.name)


PLACES: list[tuple[Callable[[Path], None], str]] = [
    (fifo, "is a FIFO, not a file"),
    (folder, "is a folder, not a file"),
    (device, "is a device, not a file"),
    (loop, "can't be read (Too many levels of symbolic links)"),
    (nothing, "is not there"),
    (below_a_file, "can't be read (Not a directory)"),
    (a_socket, "is a socket, not a file"),
]


@pytest.mark.parametrize("read", [read_bytes, read_json, read_yaml, read_tensors])
@pytest.mark.parametrize(("make", "reason"), PLACES)
def test_only_regular_files_are_read(
    read: Callable[[Path], Any],
    make: Callable[[Path], None],
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "inside" / "file"
    file.parent.mkdir()
    make(file)
    with pytest.raises(RecordError) as caught:
        read(file)
    assert caught.value.reason == reason
    with pytest.raises(RecordError):
        read_table(file, {})


@pytest.mark.parametrize("name", ["x" * 5000, "a/" * 3000 + "b", "nul\0byte"])
def test_paths_that_cannot_be(name: str, tmp_path: Path) -> None:
    assert not is_there(tmp_path / name)
    with pytest.raises(RecordError, match="can't be read"):
        read_text(tmp_path / name)


def test_large_files_are_refused_unread(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    with file.open("wb") as opened:
        opened.truncate(2**40)
    with pytest.raises(RecordError, match="has 1,099,511,627,776 bytes, more than"):
        read_json(file)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is not JSON"),
        ('{"a": 1', "is not JSON"),
        ('{"a": 1} {', "is not JSON"),
        ("[" * 100_000, "nested more than 100 levels"),
        ("[" * 150 + "]" * 150, "nested more than 100 levels"),
        ('{"a": 1, "a": 2}', "`a` occurs twice"),
        ('{"a": NaN}', "`a` is nan, not a finite number"),
        ('{"a": 1e999}', "`a` is inf, not a finite number"),
        ('{"a": ' + "9" * 5000 + "}", "is not JSON"),
        ('{"a": ' + "9" * 30 + "}", "`a` is a whole number of more than 64 bits"),
        ("[]", "is a list, not a mapping"),
    ],
)
def test_json_that_is_none(text: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(RecordError) as caught:
        read_json(tmp_path / "x.json", Shape)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_text_in_another_encoding(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"a": "é"}', encoding=encoding)
    with pytest.raises(RecordError, match="is not UTF-8 text"):
        read_json(tmp_path / "x.json")


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"a": 1}', encoding="utf-8-sig")
    assert read_json(tmp_path / "x.json", Shape) == {"a": 1}


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: [1", "is not readable YAML"),
        ("a: 1\n---\na: 2\n", "is not readable YAML"),
        ("a: !!python/object/apply:os.system ['true']", "is not readable YAML"),
        ("a: !!timestamp x", "is not readable YAML"),
        ("a: !!int x", "is not readable YAML"),
        ("a: &x [*x]", "has the alias *x before or within its anchor"),
        ("a: *x", "has the alias *x before or within its anchor"),
        (BOMB, "expands to more than"),
        ("[" * 100_000, "nested more than 100 levels"),
        ("- " * 100_000, "nested more than 100 levels"),
        ("a: 1\na: 2\n", "`a` occurs twice"),
        ("1: 2\n", "has the key 1, which is not a text"),
        ("a: 2020-01-01\n", "`a` is a date, which no record holds"),
        ("a: !!set {x, y}\n", "`a` is a set, which no record holds"),
        ("a: .nan\n", "`a` is nan, not a finite number"),
        ("", "is null, not a mapping"),
        ("\x01", "is not readable YAML"),
    ],
)
def test_yaml_that_is_none(text: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(RecordError) as caught:
        read_yaml(tmp_path / "x.yaml", Shape)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_yaml_with_few_aliases_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("a: 1\nb: &b {c: [1, 2]}\nd: *b\ne: {<<: *b, f: 3}\n")
    found = read_yaml(tmp_path / "x.yaml", Shape)
    assert found["e"] == {"c": [1, 2], "f": 3}


def test_tensors(tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    save_file({"a": np.ones((2, 3), np.float32), "b": np.arange(3)}, file, {"format": "1"})
    metadata, arrays = read_tensors(file)
    assert metadata == {"format": "1"}
    assert require_array(arrays, "a", file, ndim=2).shape == (2, 3)
    for name, ndim, reason in (("c", 1, "missing"), ("a", 1, "has 2 axes"), ("b", 1, "of int64")):
        with pytest.raises(RecordError, match=reason):
            require_array(arrays, name, file, ndim=ndim)
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(RecordError, match="is not a readable safetensors file"):
        read_tensors(file)


def write_table(path: Path, columns: dict[str, Any]) -> None:
    pyarrow.parquet.write_table(pyarrow.table(columns), path, compression="zstd")


def test_rows_of_a_table(tmp_path: Path) -> None:
    file = tmp_path / "x.parquet"
    write_table(file, {"id": ["a", "b"], "f": [0.5, None], "more": [[1], []]})
    assert read_table(file, {"id": str, "f": float | None}) == [
        {"id": "a", "f": 0.5, "more": [1]},
        {"id": "b", "f": None, "more": []},
    ]
    with pytest.raises(RecordError, match="`f of row 2` is null, not a number"):
        read_table(file, {"f": float})
    with pytest.raises(RecordError, match="`g` is missing"):
        read_table(file, {"g": float})
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(RecordError, match="is not a readable Parquet file"):
        read_table(file, {})


@pytest.mark.parametrize("rows", [50_000, 2_000_000])
def test_a_small_table_that_expands_to_gigabytes_is_refused(rows: int, tmp_path: Path) -> None:
    file = tmp_path / "x.parquet"
    text = "x" * (2**33 // rows)
    column = pyarrow.DictionaryArray.from_arrays(
        pyarrow.array(np.zeros(rows, np.int32)), pyarrow.array([text])
    )
    write_table(file, {"id": column})
    assert file.stat().st_size < 100_000
    with pytest.raises(RecordError, match="expands to more than"):
        read_table(file, {"id": str})


def test_a_column_of_one_value_is_no_bomb(tmp_path: Path) -> None:
    write_table(tmp_path / "x.parquet", {"system": ["trained"] * 3000})
    assert len(read_table(tmp_path / "x.parquet", {"system": str})) == 3000


def test_what_json_writes_is_read(tmp_path: Path) -> None:
    value = {"a": 1, "b": [0.1, -1e-300, 2**62, None, True, "\x00é\u2028"], "c": {"": {}}}
    (tmp_path / "x.json").write_text(json.dumps(value))
    assert read_json(tmp_path / "x.json", Shape) == value
