"""Files of documents, pairs and prompts that are damaged, or are no files at all."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from sumcirc.circuits.inputs.pair_files import read_pairs
from sumcirc.compare.items.prompts import read_prompts
from sumcirc.data.documents import check_files, read_corpus
from sumcirc.data.encoding import Encoder
from sumcirc.data.examples import NoExample
from sumcirc.data.files import find_files
from sumcirc.errors import UserError
from sumcirc.schema import DataConfig, EncodingConfig, Source
from tests.mutations import containers, mutating
from tests.mutations.mutating import Draw
from tests.mutations.trials import FEW, MANY, faults, watched

ROWS: list[dict[str, Any]] = [
    {
        "id": f"d{i}",
        "document": f"The ferry sank near port {i}. Nobody was hurt.",
        "summary": f"A ferry sank at port {i}.",
        "references": [f"It sank {i}."],
        "year": 1990 + i,
    }
    for i in range(6)
]
PAIRS = [
    {
        "id": f"p{i}",
        "clean": f"The ferry sank near port {i}",
        "corrupted": f"The ferry sank near part {i}",
        "good": " the",
        "bad": " was",
        "spans": [{"name": "what", "characters": [4, 9]}],
    }
    for i in range(4)
]
PROMPTS = [
    {"id": f"q{i}", "prompt": f"The ferry {i} is", "good": " the", "bad": " was"} for i in range(4)
]


def jsonl(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def write(folder: Path, ending: str) -> Path:
    file = folder / f"documents.{ending}"
    if ending == "jsonl":
        file.write_text(jsonl(ROWS))
    elif ending == "json":
        file.write_text(json.dumps(ROWS, indent=1))
    elif ending == "csv":
        lines = ["id,document,summary,year"]
        lines += [f'{row["id"]},"{row["document"]}",{row["summary"]},3' for row in ROWS]
        file.write_text("\n".join(lines) + "\n")
    else:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), file)
    return file


KINDS: dict[str, list[Draw]] = {
    "jsonl": [*mutating.TEXT, mutating.line_values, mutating.line_values, mutating.line_values],
    "json": mutating.JSON,
    "csv": mutating.CSV,
    "parquet": containers.TABLE,
}
NUMBERS = [FEW, pytest.param(MANY, marks=pytest.mark.slow)]


@pytest.fixture
def encoder(bos_tokenizer: Any) -> Encoder:
    return Encoder(bos_tokenizer, EncodingConfig(), 128)


@pytest.mark.parametrize("ending", KINDS)
@pytest.mark.parametrize("count", NUMBERS)
def test_documents(ending: str, count: int, tmp_path: Path, encoder: Encoder) -> None:
    file = write(tmp_path, ending)
    columns = {"id_column": "id"} if ending == "csv" else {"references_column": "references"}
    config = DataConfig(
        **{"name": "mine", "source": Source.files, "train": str(file), "test": str(file)},
        **{"document_column": "document", "summary_column": "summary", **columns},
    )

    def trial() -> None:
        check_files(config, ("train",))
        corpus = read_corpus(config, "train")
        for item in corpus.documents:
            with suppress(NoExample):
                encoder.example(item)

    trial()
    found = faults(file, KINDS[ending], trial, count)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("count", NUMBERS)
@pytest.mark.parametrize("what", ["pairs", "prompts"])
def test_lines_of_a_form(what: str, count: int, tmp_path: Path, encoder: Encoder) -> None:
    file = tmp_path / f"{what}.jsonl"
    file.write_text(jsonl(PAIRS if what == "pairs" else PROMPTS))
    read: Any = read_pairs if what == "pairs" else read_prompts
    assert len(read(str(file), encoder)) == 4
    found = faults(file, KINDS["jsonl"], lambda: read(str(file), encoder), count)
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "pattern",
    [
        "/**/*.jsonl",
        "/**",
        "/proc/**/*.json",
        "x" * 5000 + ".jsonl",
        "a/" * 3000 + "b.jsonl",
        "~nobody-of-that-name/x.jsonl",
        "nul\0.jsonl",
        "nul\0*.jsonl",
        "[.jsonl",
        "/dev/zero",
        "/dev/stdin",
        "/proc/self/mem",
        "",
        ".",
    ],
)
def test_what_no_file_is_meant_by(pattern: str) -> None:
    with watched(), pytest.raises(UserError, match=r"^data\.train=") as refused:
        find_files(pattern, "data.train")
    assert "\n" not in str(refused.value)


def test_a_folder_tree_within_reason_is_searched(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/x.jsonl").write_text("{}\n")
    os.symlink(tmp_path / "a", tmp_path / "a/b/loop")
    found = find_files(f"{tmp_path}/**/x.jsonl", "data.train")
    assert tmp_path / "a/b/x.jsonl" in found
