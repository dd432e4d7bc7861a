"""Texts of `evaluation.retention`: what is read, drawn, named and refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from sumcirc.data.documents import read_corpus
from sumcirc.data.plain_texts import TextFiles, check_texts, corpus_names, read_texts
from sumcirc.errors import UserError
from sumcirc.runtime.notices import counts
from sumcirc.schema import DataConfig, EvaluationConfig, SizesConfig, Source

TEXTS = ["One.", " Two\r\nlines. ", "Three."]


def config(*patterns: Path | str, **changes: Any) -> TextFiles:
    given = EvaluationConfig(retention=[str(one) for one in patterns], **changes)
    return TextFiles.of_retention(given)


def jsonl(path: Path, texts: list[Any], column: str = "document") -> Path:
    path.write_text("".join(json.dumps({column: text}) + "\n" for text in texts))
    return path


def read(*patterns: Path | str, **changes: Any) -> dict[str, list[str]]:
    given = config(*patterns, **changes)
    check_texts(given)
    return {
        name: [one.document for one in corpus.documents]
        for name, corpus in read_texts(given, 0).items()
    }


def test_every_kind_of_file(tmp_path: Path) -> None:
    lines = jsonl(tmp_path / "lines.jsonl", TEXTS)
    array = tmp_path / "array.json"
    array.write_text(json.dumps([{"document": text} for text in TEXTS]))
    table = tmp_path / "table.csv"
    table.write_text('document,other\nOne.,x\n"Two\nlines.",x\nThree.,x\n')
    columns = tmp_path / "columns.parquet"
    parquet.write_table(pa.table({"document": TEXTS}), columns)
    text = tmp_path / "text.txt"
    text.write_text("One.\n\nA second paragraph.\n")
    expected = ["One.", "Two\nlines.", "Three."]
    found = read(lines, array, table, columns, text)
    assert found == {
        **dict.fromkeys(("lines", "array", "table", "columns"), expected),
        "text": ["One.\n\nA second paragraph."],
    }


def test_a_pattern_is_one_corpus_and_lists_of_sentences_are_joined(tmp_path: Path) -> None:
    jsonl(tmp_path / "b.jsonl", [["A", "list."], "", None], "abstract")
    (tmp_path / "a.txt").write_text("First by name.")
    given = config(tmp_path / "*", retention_column="abstract")
    (corpus,) = read_texts(given, 0).values()
    assert [(one.id, one.document) for one in corpus.documents] == [
        ("texts-0", "First by name."),
        ("texts-1", "A list."),
    ]
    assert {k: n for k, n in counts(corpus.notices).items() if n} == {"empty_document": 2}
    assert all(not one.references for one in corpus.documents)


def test_names_differ() -> None:
    patterns = ["a/news.jsonl", "b/news.jsonl", "parts/train-*.parquet", "**/*.txt", "news-2.txt"]
    assert corpus_names(patterns) == ["news", "news-2", "train", "texts", "news-2-2"]


def test_some_are_drawn_as_documents_are(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "train.jsonl", [f"Text {i}." for i in range(30)])
    drawn = read(path, retention_documents=10)["train"]
    with_summaries = tmp_path / "train_pairs.jsonl"
    rows = [{"document": f"Text {i}.", "summary": "S."} for i in range(30)]
    with_summaries.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = DataConfig("d", Source.files, train=str(with_summaries), sizes=SizesConfig(train=10))
    assert drawn == [one.document for one in read_corpus(data, "train").documents]
    assert len(set(drawn)) == 10
    more = config(path, retention_documents=40)
    (corpus,) = read_texts(more, 0).values()
    assert counts(corpus.notices)["missing"] == 10


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.jsonl", None, r"^evaluation\.retention=.*none\.jsonl: no such file"),
        ("empty.txt", "", r"^evaluation\.retention=.*empty\.txt: the file is empty"),
        ("a.pdf", "x", r"ends in none of \.jsonl, \.json, \.csv, \.parquet, \.txt$"),
        ("a.jsonl", '{"text": "x"}\n', r"^evaluation\.retention_column=document: no such column"),
        ("a.jsonl", "{", r"^evaluation\.retention=.*a\.jsonl: invalid JSON at line 1"),
    ],
)
def test_mistakes_are_found_early(
    tmp_path: Path, name: str, content: str | None, message: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=message) as refused:
        check_texts(config(path))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["A.", 3], r"^evaluation\.retention=.*a\.jsonl: line 2, column 'document': holds 3"),
        (["", " "], r"^evaluation\.retention=.*a\.jsonl: every text is empty"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path: Path, texts: list[Any], message: str) -> None:
    path = jsonl(tmp_path / "a.jsonl", texts)
    check_texts(config(path))
    with pytest.raises(UserError, match=message):
        read_texts(config(path), 0)
    other = tmp_path / "latin.txt"
    other.write_bytes(b"caf\xe9")
    with pytest.raises(UserError, match=r"latin\.txt: line 1 is not valid UTF-8"):
        read_texts(config(other), 0)


def test_nothing_to_measure_is_refused() -> None:
    with pytest.raises(UserError, match=r"^evaluation\.summaries=false: then only"):
        EvaluationConfig(summaries=False)
    with pytest.raises(UserError, match=r"^evaluation\.retention_documents=0"):
        EvaluationConfig(retention_documents=0)
