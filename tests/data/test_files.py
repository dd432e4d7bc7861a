"""Reading the user's files: formats, and every defect with its place."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from sumcirc.data.files import find_files, first_columns, read_rows
from sumcirc.errors import UserError

ROWS = [
    {"document": "Rain fell.\nAll day, it seemed.", "summary": 'Rain "fell".', "n": "1"},
    {"document": "Snow — söft and white.", "summary": "Snow.", "n": "2"},
]


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def lines(rows: list[dict]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def values(path: Path, *columns: str) -> list[dict]:
    return [row for _, row in read_rows(path, "data.train", columns or ("document", "summary"))]


def refused(path: Path, *columns: str) -> str:
    with pytest.raises(UserError) as error:
        values(path, *columns)
    message = str(error.value)
    assert message.startswith(f"data.train={path}: ")
    assert "\n" not in message
    return message


def test_all_formats_give_the_same_rows(tmp_path: Path) -> None:
    csv = 'document,summary,n\n"Rain fell.\nAll day, it seemed.","Rain ""fell"".",1\n'
    csv += "Snow — söft and white.,Snow.,2\n"
    array = json.dumps(ROWS, indent=2)
    parquet.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    paths = [
        write(tmp_path / "a.jsonl", lines(ROWS)),
        write(
            tmp_path / "b.jsonl", b"\xef\xbb\xbf" + lines(ROWS).replace("\n", "\r\n\r\n").encode()
        ),
        write(tmp_path / "lines.json", lines(ROWS)),
        write(tmp_path / "array.json", array),
        write(tmp_path / "marked.json", b"\xef\xbb\xbf \n" + array.encode()),
        write(tmp_path / "a.csv", csv),
        write(tmp_path / "b.CSV", b"\xef\xbb\xbf" + csv.encode()),
        tmp_path / "a.parquet",
    ]
    expected = [{key: row[key] for key in ("document", "summary")} for row in ROWS]
    for path in paths:
        assert values(path) == expected, path
        assert first_columns(path, "data.train") == ["document", "summary", "n"]


def test_places(tmp_path: Path) -> None:
    jsonl = write(tmp_path / "a.jsonl", "\n" + lines(ROWS))
    csv = write(tmp_path / "a.csv", 'document,summary\n"one\ntwo",x\nthree,y\n')
    assert [place for place, _ in read_rows(jsonl, "data.train", ())] == ["line 2", "line 3"]
    assert [place for place, _ in read_rows(csv, "data.train", ())] == ["line 2", "line 4"]


def test_long_csv_field(tmp_path: Path) -> None:
    path = write(tmp_path / "long.csv", f"document,summary\n{'word ' * 100_000},short\n")
    assert len(values(path)[0]["document"]) == 500_000


def test_separators_within_a_csv_of_commas(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "document,summary\none; two | three,s\tt\n")
    assert values(path) == [{"document": "one; two | three", "summary": "s\tt"}]
    path = write(tmp_path / "texts.csv", "text\none; two\n")
    assert values(path, "text") == [{"text": "one; two"}]


def test_glob_is_sorted_and_a_literal_name_wins(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.jsonl", "[x].jsonl"):
        write(tmp_path / name, lines(ROWS))
    found = find_files(f"{tmp_path}/?.jsonl", "data.train")
    assert [path.name for path in found] == ["a.jsonl", "b.jsonl"]
    assert find_files(f"{tmp_path}/[x].jsonl", "data.train") == [tmp_path / "[x].jsonl"]


def test_relative_to_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.jsonl", lines(ROWS))
    monkeypatch.chdir(tmp_path)
    assert find_files("a.jsonl", "data.train") == [Path("a.jsonl")]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none.jsonl", r"data\.test=\S+none\.jsonl: no such file"),
        ("*.csv", r"data\.test=\S+\*\.csv: no file matches this pattern"),
        (".", r"is a folder; name a file, or a pattern like"),
        ("text.txt", r"text\.txt ends in none of \.jsonl, \.json, \.csv, \.parquet"),
        ("*t", r"text\.txt ends in none of"),
        ("empty.jsonl", r"empty\.jsonl: the file is empty"),
    ],
)
def test_files_that_cannot_be(tmp_path: Path, name: str, message: str) -> None:
    write(tmp_path / "text.txt", "text")
    write(tmp_path / "empty.jsonl", "")
    with pytest.raises(UserError, match=message) as error:
        find_files(f"{tmp_path}/{name}", "data.test")
    assert str(error.value).startswith(f"data.test={tmp_path}/{name.removesuffix('.')}")


GOOD = '{"document": "d", "summary": "s"}\n'


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", GOOD * 2 + '{"document": "d", "summ\n', "invalid JSON at line 3 "),
        ("a.jsonl", GOOD + "[" * 100_000 + "\n", "invalid JSON at line 2 "),
        ("a.jsonl", GOOD + '["d", "s"]\n', "line 2 is not a JSON object"),
        (
            "a.jsonl",
            GOOD + '{"document": "d"}\n',
            "line 2 has no column 'summary'; it has document",
        ),
        (
            "a.jsonl",
            GOOD.encode() + b'{"document": "\xe9t\xe9"}\n',
            "line 2 is not valid UTF-8 .*0xe9",
        ),
        ("a.jsonl", GOOD.encode("utf-16"), "line 1 is not valid UTF-8"),
        ("a.json", f"[{GOOD},\n{GOOD}", "invalid JSON at line 4 "),
        ("a.json", f"[{GOOD},\n]", "invalid JSON at line 3 .*comma"),
        ("a.json", f"[{GOOD}]\nmore", "invalid JSON at line 3 .*after the array"),
        ("a.json", f"[{GOOD}, 3]", "item 2 is not a JSON object .* a number"),
        ("a.json", '{\n "data": []\n}', "invalid JSON at line 1 .*each line must hold one object"),
        ("a.csv", "document,summary\nd,s\nd,s,t\n", "line 3 has 3 fields, the header 2"),
        ("a.csv", 'document,summary\nd,s\n"d,s\n', "invalid CSV at line 3 "),
        ("a.csv", b"document,summary\nd,s\nd\xff,s\n", "line 3 is not valid UTF-8"),
        ("a.csv", "document,summary,summary\nd,s,t\n", "column 'summary' occurs twice"),
        ("a.csv", "document;summary\nThe ferry, he said, stood.;No ferry.\n", "by semicolons"),
        ("a.csv", "document;summary\nThe ferry stood.;No ferry.\n", "by semicolons"),
        ("a.csv", "document\tsummary\tid\nThe ferry, he said, stood.\tNone.\t1\n", "by tabs"),
        ("a.csv", "document|summary\nd|s\n", "by bars"),
        ("a.csv", "document,summary\rd,s\rd,s\r", "carriage returns alone"),
        ("a.jsonl", GOOD.replace("\n", "\r") * 2, "line 1 .*carriage returns alone"),
        ("a.parquet", b"PAR1 not really", "not a readable Parquet file"),
    ],
)
def test_defects(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    path = write(tmp_path / name, content)
    with pytest.raises(UserError, match=message):
        values(path)
    refused(path)


def test_truncated_parquet(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    parquet.write_table(pa.Table.from_pylist(ROWS * 2000), path, row_group_size=500)
    content = path.read_bytes()
    refused(write(path, content[: len(content) // 2]))
    middle = bytearray(content)
    middle[4:400] = bytes(396)
    refused(write(path, bytes(middle)))


@pytest.mark.parametrize(
    ("name", "content"), [("a.jsonl", "\n\n"), ("a.json", "[]"), ("a.csv", "document,summary\n")]
)
def test_no_rows(tmp_path: Path, name: str, content: str) -> None:
    path = write(tmp_path / name, content)
    with pytest.raises(UserError, match="the file has no rows"):
        first_columns(path, "data.train")
    assert values(path) == []
