"""Published data sets from a downloaded folder; tests/storage/test_hub.py reads from a hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from sumcirc.data import hub_dataset
from sumcirc.data.documents import check_files, read_corpus
from sumcirc.errors import UserError
from sumcirc.runtime.notices import counts
from sumcirc.schema import DataConfig, SizesConfig, Source


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as `hf download --repo-type dataset` leaves it: 40 + 4 items."""
    import datasets.config

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    hub_dataset._load_split.cache_clear()
    folder = tmp_path / "published"
    (folder / "full").mkdir(parents=True)
    for split, count in (("train", 40), ("test", 4)):
        rows = [
            {"text": "" if i % 10 == 3 else f"Bill {i}.", "tldr": [f"B{i}."], "number": i}
            for i in range(count)
        ]
        parquet.write_table(pa.Table.from_pylist(rows), folder / "full" / f"{split}.parquet")
    files = [{"split": split, "path": f"full/{split}.parquet"} for split in ("train", "test")]
    header = {"configs": [{"config_name": "full", "data_files": files}]}
    (folder / "README.md").write_text(f"---\n{json.dumps(header)}\n---\n")
    return folder


def config(path: Path | None, **changes: Any) -> DataConfig:
    values: dict[str, Any] = {
        "name": "bills",
        "source": Source.hub,
        "path": None if path is None else str(path),
        "subset": "full",
        "train": "train[:90%]",
        "validation": "train[90%:]",
        "test": "test",
        "document_column": "text",
        "summary_column": "tldr",
    }
    return DataConfig(**(values | changes))


def test_slices_of_a_split(published: Path) -> None:
    given = config(published, id_column="number")
    check_files(given)
    train, validation = read_corpus(given, "train"), read_corpus(given, "validation")
    assert counts(train.notices)["empty_document"] == 4
    assert [item.id for item in train.documents][:4] == ["0", "1", "2", "4"]
    assert [item.id for item in validation.documents] == ["36", "37", "38", "39"]
    assert validation.documents[0].references == ("B36.",)


def test_summaries_of_the_training_split_are_permuted(published: Path) -> None:
    plain, given = config(published), config(published, permute_summaries=1)
    check_files(given)
    before, after = read_corpus(plain, "train").documents, read_corpus(given, "train").documents
    assert [one.document for one in before] == [one.document for one in after]
    assert sorted(one.references for one in before) == sorted(one.references for one in after)
    pairs = zip(before, after, strict=True)
    assert all(own.references != other.references for own, other in pairs)
    assert read_corpus(given, "test") == read_corpus(plain, "test")
    with pytest.raises(UserError, match=r"^data\.permute_summaries=1: the training split has 1 "):
        check_files(config(published, permute_summaries=1, train="train[:1]"))


def test_drawing_passes_over_empty_items(published: Path) -> None:
    given = config(published, sizes=SizesConfig(train=30))
    corpus = read_corpus(given, "train")
    assert len(corpus.documents) == 30
    found = counts(corpus.notices)
    assert found["empty_document"] + found.get("empty_summary", 0) + corpus.not_drawn == 6
    assert read_corpus(given, "train") == corpus


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"subset": "quarter"}, r"data\.subset=quarter data\.train=train\[:90%\]: .*quarter"),
        ({"test": "dev"}, r"data\.test=dev: .*Unknown split .dev."),
        ({"test": "test[:x"}, r"data\.test=test\[:x: "),
        ({"summary_column": "s"}, r"data\.summary_column=s: .*its columns are: text, tldr, number"),
    ],
)
def test_mistakes_are_found_before_reading(published: Path, changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        check_files(config(published, **changes))
    assert "\n" not in str(error.value)


def test_values_that_are_no_text(published: Path) -> None:
    given = config(published, document_column="number")
    with pytest.raises(UserError, match=r"train\[:90%\]: row 1, column 'number': holds 0 \(int\)"):
        read_corpus(given, "train")


def test_no_path() -> None:
    with pytest.raises(UserError, match=r"data\.path=null"):
        check_files(config(None))
