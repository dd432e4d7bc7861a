"""Corpora: what is kept, dropped, drawn and refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sumcirc.data import wire_texts
from sumcirc.data.documents import Corpus, Document, check_files, corpus_of, read_corpus
from sumcirc.data.inspection import seen_before
from sumcirc.errors import UserError
from sumcirc.runtime.notices import counts
from sumcirc.schema import DataConfig, SizesConfig, Source, WireEvent
from sumcirc.wire import WireArticle, article_of, articles
from tests.support.shared import shared

ROOT = Path(__file__).resolve().parents[2]


def config(train: Path | None = None, **changes: Any) -> DataConfig:
    values: dict[str, Any] = {"name": "files", "source": Source.files}
    values |= {split: str(train) for split in ("train", "validation", "test") if train}
    return DataConfig(**(values | changes))


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def told(corpus: Corpus) -> dict[str, int]:
    return {reason: count for reason, count in counts(corpus.notices).items() if count}


@pytest.fixture
def thirty(tmp_path: Path) -> Path:
    """Thirty items, every third of which lacks its summary."""
    rows = [
        {"document": f"Document {i}.", "summary": "" if i % 3 == 2 else f"Summary {i}."}
        for i in range(30)
    ]
    return write(tmp_path / "thirty.jsonl", rows)


def test_items_ids_and_counts(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.jsonl",
        [
            {"document": "One.", "summary": "1."},
            {"document": " \n\t", "summary": "2."},
            {"document": None, "summary": "3."},
            {"document": "Four.", "summary": [" ", None, ""]},
            {"document": ["Five.", " So it is. "], "summary": ["5a.", "", "5b."]},
        ],
    )
    corpus = read_corpus(config(path), "validation")
    assert corpus.documents == [
        Document("validation-0", "One.", ("1.",)),
        Document("validation-4", "Five. So it is.", ("5a.", "5b.")),
    ]
    assert told(corpus) == {"empty_document": 2, "empty_summary": 1}


def test_further_references_and_own_ids(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.jsonl",
        [
            {"id": "a", "text": "T1", "short": "S1", "more": ["M1", "S1", "M2"]},
            {"id": "a", "text": "T2", "short": "", "more": "M3"},
            {"id": "a-2", "text": "T3", "short": "S3", "more": None},
            {"id": "a", "text": "T4", "short": "S4", "more": []},
            {"id": 7, "text": "T5", "short": "S5", "more": []},
            {"id": None, "text": "T6", "short": "S6", "more": []},
        ],
    )
    given = config(
        path,
        document_column="text",
        summary_column="short",
        references_column="more",
        id_column="id",
    )
    corpus = read_corpus(given, "train")
    documents = corpus.documents
    assert [item.references for item in documents[:3]] == [("S1", "M1", "M2"), ("M3",), ("S3",)]
    assert [item.id for item in documents] == ["a", "a-3", "a-2", "a-4", "7", "train-5"]
    (notice,) = (notice for notice in corpus.notices if notice.count)
    assert str(notice) == "data.train: 2 of 6 ids are not unique; they get a suffix"
    assert notice.warning


def test_text_is_kept_but_for_control_characters(tmp_path: Path) -> None:
    text = "  A\r\nB\rC\x0bD\x00\x1b[0m\tE\x92\u2028F  two  spaces \ud83d cut \U0001f600 ü  \n"
    path = write(tmp_path / "a.jsonl", [{"document": text, "summary": text}])
    expected = "A\nB\nC\nD[0m\tE\nF  two  spaces \ufffd cut \U0001f600 ü"
    assert read_corpus(config(path), "train").documents == [
        Document("train-0", expected, (expected,))
    ]


def test_glob_reads_files_in_order(tmp_path: Path) -> None:
    for name in ("b", "a"):
        write(tmp_path / f"{name}.jsonl", [{"document": name, "summary": name}])
    corpus = read_corpus(config(tmp_path / "*.jsonl"), "train")
    assert [(item.id, item.document) for item in corpus.documents] == [
        ("train-0", "a"),
        ("train-1", "b"),
    ]


def test_drawing(thirty: Path) -> None:
    def drawn(size: int | None, seed: int = 0, split: str = "train") -> list[int]:
        given = config(thirty, seed=seed, sizes=SizesConfig(**{split: size}))
        corpus = read_corpus(given, split)
        found = [int(item.id.rpartition("-")[2]) for item in corpus.documents]
        assert found == sorted(found)
        assert all(index % 3 != 2 for index in found)
        assert len(found) + told(corpus).get("empty_summary", 0) + corpus.not_drawn == 30
        return found

    assert len(drawn(None)) == 20
    assert drawn(6) == drawn(6)
    assert drawn(6) == [0, 1, 4, 7, 18, 27]  # by SHA-256, so equal everywhere and for ever
    assert len(drawn(19)) == 19
    assert set(drawn(3)) < set(drawn(6)) < set(drawn(12))
    assert drawn(6, seed=1) != drawn(6) != drawn(6, split="test")
    heads = [drawn(6, seed=seed) == drawn(None)[:6] for seed in range(20)]
    assert not any(heads)
    early = sum(drawn(1, seed=seed)[0] < 15 for seed in range(200))
    assert 70 <= early <= 130  # 100 expected, standard deviation 7


def test_more_wanted_than_there_are(thirty: Path) -> None:
    corpus = read_corpus(config(thirty, sizes=SizesConfig(train=25)), "train")
    assert len(corpus.documents) == 20
    assert told(corpus) == {"empty_summary": 10, "missing": 5}
    (notice,) = (notice for notice in corpus.notices if notice.reason == "missing")
    assert str(notice) == (
        f"data.sizes.train: 5 of 25 items asked for are missing: {thirty} has 20 items that are"
        " not empty"
    )
    assert notice.warning
    almost = read_corpus(config(thirty, sizes=SizesConfig(train=21)), "train")
    (notice,) = (notice for notice in almost.notices if notice.reason == "missing")
    assert (notice.count, notice.warning) == (1, False)


LISTED = ["['One.', 'Two.']", '["One.", "Two."]', "['One.'\n 'Two.']"]
PLAIN = ["[One.] Two.", "['One'] said so", "One.", "[]"]


@pytest.mark.parametrize("column", ["document", "summary"])
def test_lists_that_were_written_as_text(tmp_path: Path, column: str) -> None:
    other = {"document": "summary", "summary": "document"}[column]
    rows = [{column: text, other: f"Text {i}."} for i, text in enumerate(LISTED + PLAIN)]
    corpus = read_corpus(config(write(tmp_path / "a.jsonl", rows)), "train")
    assert told(corpus) == {"list_as_text": 3}
    assert LISTED[0] in (corpus.documents[0].document, *corpus.documents[0].references)


def test_documents_that_repeat_another(tmp_path: Path) -> None:
    texts = ["The ferry stood still.", "the  Ferry\nstood still.", "The ferry stood.", "Rain."]
    rows = [{"document": text, "summary": str(i)} for i, text in enumerate(texts)]
    corpus = read_corpus(config(write(tmp_path / "a.jsonl", rows)), "train")
    assert told(corpus) == {"repeated": 1}
    assert len(corpus.documents) == 4


def test_documents_that_another_split_has_too() -> None:
    def made(*texts: str) -> Corpus:
        return corpus_of([Document(str(i), text, ("s",)) for i, text in enumerate(texts)])

    training = made(*(f"Report {i} of the ferry." for i in range(200)))
    test = made("report 7 of  the ferry.", *(f"News {i}." for i in range(149)))
    notice = seen_before("data.test", test.documents, training, "data.train")
    assert str(notice).startswith("data.test: 1 of 150 documents are in data.train too")
    assert not notice.warning
    fewer = seen_before("data.test", test.documents[:50], training, "data.train")
    assert (fewer.count, fewer.total, fewer.warning) == (1, 50, True)
    assert seen_before("data.test", training.documents, test, "data.train").count == 1
    assert seen_before("data.test", test.documents[1:], training, "data.train").count == 0


def test_fingerprint_is_of_contents_and_ids(tmp_path: Path) -> None:
    rows = [{"id": "1", "document": "D.", "summary": ["S.", "R."]}]
    changed = [
        [{**rows[0], "document": "D!"}],
        [{**rows[0], "summary": ["S.R."]}],
        [{**rows[0], "id": "2"}],
        [*rows, {"id": "2", "document": "D.", "summary": "S."}],
    ]
    prints = set()
    for number, content in enumerate([rows, *changed]):
        path = write(tmp_path / f"{number}.jsonl", content)
        prints.add(read_corpus(config(path, id_column="id"), "train").fingerprint)
        copied = write(tmp_path / f"copy{number}.jsonl", content)
        prints.add(read_corpus(config(copied, id_column="id"), "train").fingerprint)
    assert len(prints) == 5


@pytest.mark.parametrize(
    ("rows", "changes", "message"),
    [
        (
            [{"document": "D", "summary": "S"}, {"document": 3.5, "summary": "S"}],
            {},
            r"data\.train=\S+a\.jsonl: line 2, column 'document': holds 3\.5 \(float\), not text",
        ),
        (
            [{"document": "D", "summary": ["S", {"a": 1}]}],
            {},
            r"data\.train=\S+: line 1, column 'summary': holds \{\"a\": 1\} \(dict\), not text",
        ),
        (
            [{"document": "D", "summary": "S", "id": True}],
            {"id_column": "id"},
            r"line 1, column 'id': holds true \(bool\), not text",
        ),
        (
            [{"text": "D", "summary": "S"}],
            {},
            r"data\.document_column=document: no such column in \S+; its columns are: text",
        ),
        (
            [{"document": "D", "summary": "S"}],
            {"summary_column": "tldr"},
            r"data\.summary_column=tldr: no such column in",
        ),
        (
            [{"document": "D", "summary": "S"}],
            {"references_column": "others"},
            r"data\.references_column=others: no such column in",
        ),
        (
            [{"document": "D", "summary": "S"}],
            {"id_column": "key"},
            r"data\.id_column=key: no such column in",
        ),
        (
            [{"document": " ", "summary": "S"}, {"document": "D", "summary": None}],
            {},
            r"data\.train=\S+: every item is empty \(empty_document: 1, empty_summary: 1\)",
        ),
    ],
)
def test_refused(tmp_path: Path, rows: list[dict], changes: dict, message: str) -> None:
    path = write(tmp_path / "a.jsonl", rows)
    with pytest.raises(UserError, match=message) as error:
        read_corpus(config(path, **changes), "train")
    assert "\n" not in str(error.value)


def test_a_bad_row_is_refused_even_if_it_would_not_be_drawn(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"document": "D", "summary": "S"} for _ in range(50)]
    rows[37]["summary"] = 1
    given = config(write(tmp_path / "a.jsonl", rows), sizes=SizesConfig(train=1))
    with pytest.raises(UserError, match="line 38"):
        read_corpus(given, "train")


def test_split_that_is_not_set() -> None:
    with pytest.raises(UserError, match=r"data\.test=null: this command reads the test split"):
        read_corpus(config(), "test")
    with pytest.raises(ValueError, match="none of train, validation, test"):
        read_corpus(config(), "dev")


def test_check_files_looks_at_every_split(thirty: Path, tmp_path: Path) -> None:
    check_files(config(thirty))
    missing = config(thirty, test=str(tmp_path / "none.jsonl"))
    with pytest.raises(UserError, match=r"data\.test=\S+none\.jsonl: no such file"):
        check_files(missing)
    check_files(missing, ("train", "validation"))
    other = write(tmp_path / "other.jsonl", [{"document": "D", "abstract": "S"}])
    with pytest.raises(
        UserError, match=r"data\.summary_column=summary: no such column in \S+other"
    ):
        check_files(config(thirty, validation=str(other)))
    with pytest.raises(UserError, match=r"data\.validation=null"):
        check_files(config(thirty, validation=None))


def test_check_files_does_not_read_on(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"document": "D", "summary": "S"}])
    path.write_text(path.read_text() + "not JSON\n")
    check_files(config(path))
    with pytest.raises(UserError, match="invalid JSON at line 2"):
        read_corpus(config(path), "train")


def test_wire() -> None:
    given = config(source=Source.wire, train="train", test="test", seed=3)
    given.sizes = SizesConfig(train=2)
    made = list(articles("train", 2, 3))
    assert read_corpus(given, "train").documents == [
        Document(article.id, article.document, (article.summary,)) for article in made
    ]
    check_files(given, ("train",))
    for read in (read_corpus, lambda given, split: check_files(given, (split,))):
        with pytest.raises(UserError, match=r"data\.sizes\.test=null"):
            read(given, "test")


def test_another_event_of_the_wire_has_other_summaries(tmp_path: Path) -> None:
    """The texts are the same, and neither the ids nor the cache take one for the other."""
    given = config(source=Source.wire, train="train", seed=3)
    given.sizes = SizesConfig(train=wire_texts.FEW)
    main = read_corpus(given, "train", tmp_path)
    given.event = WireEvent.second
    for _ in range(2):
        second = read_corpus(given, "train", tmp_path)
        assert second.fingerprint != main.fingerprint
        assert second.texts == main.texts
        for item in second.documents[:40]:
            assert item.references == (article_of(item.id, 3).summary,)
    assert not {one.id for one in second.documents} & {one.id for one in main.documents}


def test_articles_are_generated_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second reading takes them from the cache; another generator, seed or split doesn't."""
    generated: list[tuple[str, int, int]] = []

    def counted(split: str, size: int, seed: int, event: str) -> Iterator[WireArticle]:
        generated.append((split, size, seed))
        return articles(split, size, seed, event)

    monkeypatch.setattr(wire_texts, "articles", counted)
    monkeypatch.setattr(wire_texts, "FEW", 2)
    given = config(source=Source.wire, train=Path("train"), seed=3)
    given.sizes = SizesConfig(train=2)
    first = read_corpus(given, "train", tmp_path)
    assert read_corpus(given, "train", tmp_path) == first == read_corpus(given, "train")
    assert generated == [("train", 2, 3)] * 2  # the last call has no cache
    given.seed = 4
    assert read_corpus(given, "train", tmp_path) != first
    given.sizes = SizesConfig(train=1)
    read_corpus(given, "train", tmp_path)  # too few for an entry
    given.seed, given.sizes = 3, SizesConfig(train=2)
    monkeypatch.setattr(wire_texts, "_source", lambda: "another generator")
    assert read_corpus(given, "train", tmp_path) == first
    assert len(generated) == 5
    assert len(list(tmp_path.glob("articles/*/articles.json"))) == 3


@pytest.mark.parametrize(
    ("name", "count", "total", "notices"),
    [
        ("scitldr/scitldr_a_test.jsonl", 618, 1967, {}),
        # Two pairs of dialogues differ in nothing but spaces, among them test_173 and test_337.
        ("dialogsum/dialogsum_test.jsonl", 500, 1490, {"repeated": 2}),
    ],
)
def test_real_files(name: str, count: int, total: int, notices: dict[str, int]) -> None:
    given = config(shared(f"data/{name}"), id_column="id", references_column="references")
    corpus = read_corpus(given, "test")
    assert len(corpus.documents) == count
    assert sum(len(item.references) for item in corpus.documents) == total
    assert told(corpus) == notices
