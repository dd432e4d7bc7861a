"""Pairs as JSON lines: what is written is read back, what users write is checked line by line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sumcirc.circuits.inputs.corruption import make_pairs
from sumcirc.circuits.inputs.example_pairs import SPANS, ExamplePair, TokenPairs
from sumcirc.circuits.inputs.pair_files import read_pairs, write_pairs
from sumcirc.data.documents import Document
from sumcirc.data.encoding import Encoder
from sumcirc.data.examples import NONE, collate
from sumcirc.errors import UserError
from sumcirc.evaluation.baselines import oracle_spans
from sumcirc.schema import Corruption, EncodingConfig
from tests.support.hub_server import news

CORRUPTIONS = [one.value for one in Corruption if one is not Corruption.auto]


def kinds(pair: ExamplePair) -> Any:
    """[length] the number of each token's span in SPANS, or -1."""
    return collate([pair.clean]).labels(list(pair.clean.spans))[0].numpy()


CLEAN = "Ada and Bo went to Porto. Bo gave a boat to"
CORRUPTED = "Ada and Bo went to Porto. Ada gave a boat to"
STRANGE = "[bold]Ada[/bold] \x1b[31mand\x1b[0m Bo\u2028went \u202eto 🌧️ São Tomé [/]."


@pytest.fixture(scope="module")
def small(tokenizer: Any) -> Encoder:
    return Encoder(tokenizer, EncodingConfig(), 128)


def written(folder: Path, *lines: Any) -> str:
    file = folder / "own.jsonl"
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    file.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return str(file)


def aligned(encoder: Encoder, text: str = "The boat is in ", **more: Any) -> dict[str, Any]:
    """A line whose texts differ in one letter that is a token of its own."""
    assert len(encoder.text(text + "7")) == len(encoder.text(text + "8"))
    return {"clean": text + "7", "corrupted": text + "8", **more}


def assert_same(one: ExamplePair, other: ExamplePair) -> None:
    assert (one.id, one.corruption) == (other.id, other.corruption)
    assert list(one.clean.spans) == list(other.clean.spans)
    assert one.exchanged == other.exchanged
    arrays = [
        {"clean": pair.clean.ids, "corrupted": pair.corrupted.ids, "kinds": kinds(pair)}
        | {"good": pair.clean.good, "bad": pair.clean.bad}
        for pair in (one, other)
    ]
    for name in arrays[0]:
        first, second = (found[name] for found in arrays)
        assert first.dtype == second.dtype
        np.testing.assert_array_equal(first, second, err_msg=name)


# ---- what `sumcirc pairs` writes


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_pairs_come_back_bit_for_bit(
    corruption: str, encoder: Encoder, documents: list[Document], tmp_path: Path
) -> None:
    pairs, _ = make_pairs(
        encoder,
        documents,
        corruption,
        6,
        lambda item: oracle_spans(item.document, item.references, 2),
    )
    file = tmp_path / "pairs.jsonl"
    write_pairs(file, pairs, encoder, [{"loss": 1.0}] * 6)
    for one, other in zip(pairs, read_pairs(str(file), encoder), strict=True):
        assert_same(one, other)


@pytest.mark.parametrize("which", ["tokenizer", "bos_tokenizer"])
def test_strange_text_comes_back(
    which: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Markup, control and wide characters; a stretch may even end within a character."""
    encoder = Encoder(request.getfixturevalue(which), EncodingConfig(), 256)
    items = [
        Document(f"<{i}>\n", f"{STRANGE} {item['article'][:60]} {STRANGE}", (STRANGE,))
        for i, item in enumerate(news("train", 5))
    ]
    pairs, _ = make_pairs(encoder, items, "replace", None, lambda item: [(30, 90)])
    assert len(pairs) == 5
    file = tmp_path / "pairs.jsonl"
    write_pairs(file, pairs, encoder)
    assert len(file.read_bytes().splitlines()) == 5
    for one, other in zip(pairs, read_pairs(str(file), encoder), strict=True):
        assert_same(one, other)


def test_spans_say_which_characters_they_have(
    encoder: Encoder, documents: list[Document], tmp_path: Path
) -> None:
    pairs, _ = make_pairs(encoder, documents, "counterfactual", 4, lambda item: [])
    file = tmp_path / "pairs.jsonl"
    write_pairs(file, pairs, encoder)
    for line in map(json.loads, file.read_text(encoding="utf-8").splitlines()):
        text = line["clean"] + line["good"]
        ids = [*line["clean_ids"], *line["good_ids"]]
        seen = []
        for span in line["spans"]:
            start, end = span["characters"]
            assert text[start:end] == encoder.decode(ids[slice(*span["tokens"])])
            seen.append(span["name"])
        assert set(seen) == set(SPANS)
        assert line["clean"].endswith("\nTL;DR:")


def test_tokens_of_another_tokenizer_are_refused(
    encoder: Encoder, small: Encoder, documents: list[Document], tmp_path: Path
) -> None:
    pairs, _ = make_pairs(encoder, documents, "counterfactual", 1, lambda item: [])
    file = tmp_path / "pairs.jsonl"
    write_pairs(file, pairs, encoder)
    with pytest.raises(UserError, match=r"line 1 \(`test-000000`\): `clean_ids` are not this"):
        read_pairs(str(file), small)


# ---- what users write


def test_two_texts_are_enough(small: Encoder, tmp_path: Path) -> None:
    (pair,) = read_pairs(written(tmp_path, aligned(small)), small)
    assert small.decode(pair.clean.ids) == "The boat is in 7"
    assert small.decode(pair.corrupted.ids) == "The boat is in 8"
    assert (pair.id, pair.corruption, tuple(pair.clean.spans)) == ("line-1", "own", ())
    assert np.flatnonzero(pair.clean.reads).tolist() == [len(pair.clean.ids) - 1]


@pytest.mark.parametrize("which", ["tokenizer", "bos_tokenizer"])
def test_answers_are_the_tokens_that_follow(
    which: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    tokenizer = request.getfixturevalue(which)
    encoder = Encoder(tokenizer, EncodingConfig(), 128)
    line = aligned(encoder, id="x", good=" near Porto", bad=" near Braga")
    (pair,) = read_pairs(written(tmp_path, line), encoder)
    whole = tokenizer("The boat is in 7 near Porto").input_ids
    assert pair.clean.ids.tolist() == whole[:-1]
    assert pair.clean.good[pair.clean.good != NONE].tolist() == whole[pair.clean.prompt_length :]
    assert encoder.decode(pair.clean.bad[pair.clean.bad != NONE]).startswith(" near B")
    assert pair.clean.diverges.sum() == 1
    assert (pair.clean.ids[0] == tokenizer.bos_token_id) == (which == "bos_tokenizer")


def test_a_token_is_of_the_span_with_its_last_character(small: Encoder, tmp_path: Path) -> None:
    text = "The boat is in "
    spans = [
        {"name": "where", "characters": [12, 16]},
        {"name": "what", "characters": [4, 8]},
        {"name": "answer", "characters": [16, 24]},
    ]
    line = aligned(small, text, good=" a harbour now", spans=spans)
    (pair,) = read_pairs(written(tmp_path, line), small)
    assert tuple(pair.clean.spans) == ("what", "where", "answer")
    shown = [
        small.decode(pair.clean.ids[kinds(pair) == kind].tolist())
        for kind in range(len(tuple(pair.clean.spans)))
    ]
    assert [text.strip() for text in shown[:2]] == ["boat", "in 7"]
    assert shown[2]
    assert " a harbo".startswith(shown[2])
    assert (kinds(pair)[:1] == NONE).all()


def test_names_are_shared_by_all_lines(small: Encoder, tmp_path: Path) -> None:
    first = aligned(small, spans=[{"name": "b", "characters": [4, 8]}])
    second = aligned(small, spans=[{"name": "a", "characters": [4, 8]}])
    pairs = read_pairs(written(tmp_path, first, "", second), small)
    assert [tuple(pair.clean.spans) for pair in pairs] == [("b",), ("a",)]
    tokens = TokenPairs.of(pairs).clean
    assert list(tokens.spans) == ["b", "a"]
    assert [pair.id for pair in pairs] == ["line-1", "line-3"]
    assert tokens.labels().amax(1).tolist() == [0, 1]


def test_different_lengths_are_refused_with_item_and_place(small: Encoder, tmp_path: Path) -> None:
    good = aligned(small)
    bad = {"id": "second", "clean": CLEAN, "corrupted": f"{CORRUPTED} \x1b[31m"}
    with pytest.raises(UserError) as refused:
        read_pairs(written(tmp_path, good, bad), small)
    message = str(refused.value)
    clean, corrupted = len(small.text(CLEAN)), len(small.text(bad["corrupted"]))
    assert "line 2 (`second`)" in message
    assert f"clean has {clean} tokens, corrupted {corrupted}" in message
    assert "both need the same number" in message
    assert "\x1b" not in message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clean": ""}, r"line 2 \(`x`\): its `clean` is \"\"; give a text"),
        ({"corrupted": 5}, r"its `corrupted` is 5; give a text"),
        ({"good": ["a"]}, r"its `good` is \[\"a\"\]; give a text"),
        ({"corrupted": "The boat is in 7"}, r"the same tokens; nothing is corrupted"),
        ({"bad": " b"}, r"has `bad` without `good`"),
        ({"good": " a b", "bad": " a"}, r"one of good and bad begins with the other"),
        ({"good": " a", "bad": " a"}, r"one of good and bad begins with the other"),
        ({"good": " a" * 200}, r"tokens are more than the 128 that the model takes"),
        ({"span": []}, r"line 2: `span` is unknown; did you mean `spans`\?"),
        ({"id": 1.5}, r"line 2: its id is 1.5"),
        ({"id": "line-1"}, r"line 2 \(`line-1`\): has the id of line 1"),
        ({"corruption": 3}, r"its corruption is 3"),
        ({"spans": {"name": "a"}}, r"a span is .*give each a `name` and `characters`"),
        ({"spans": [{"name": "a", "characters": [4, 400]}]}, r"within 0 and 16"),
        ({"spans": [{"name": "a", "characters": [8, 4]}]}, r"give each a `name`"),
        ({"spans": [{"name": "a", "characters": [5, 6]}]}, r"last character of no token"),
        (
            {"spans": [{"name": "a", "characters": [0, 8]}, {"name": "b", "characters": [4, 9]}]},
            r"spans `a` and `b` overlap",
        ),
        ({"clean_ids": [1, 2]}, r"`clean_ids` are not this model's tokens"),
        ({"clean_ids": [10**9]}, r"`clean_ids` are not this model's tokens"),
    ],
)
def test_mistakes_name_line_and_remedy(
    small: Encoder, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        read_pairs(written(tmp_path, aligned(small), aligned(small, id="x") | change), small)


def test_an_answer_that_runs_into_the_text_is_refused(small: Encoder, tmp_path: Path) -> None:
    text = "He said the"
    merged = next(
        (text[:cut], text[cut:])
        for cut in range(9, 11)
        if small.text(text)[: len(small.text(text[:cut]))] != small.text(text[:cut])
    )
    line = {"clean": f"7 {merged[0]}", "corrupted": f"8 {merged[0]}", "good": merged[1]}
    with pytest.raises(UserError, match="runs into the last word of `clean`"):
        read_pairs(written(tmp_path, line), small)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["[1]"], "line 1 is not a JSON object"),
        (["{"], "invalid JSON at line 1"),
        (["", ""], "the file has no line"),
    ],
)
def test_files_that_are_none(
    small: Encoder, tmp_path: Path, lines: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        read_pairs(written(tmp_path, *lines), small)


def test_other_kinds_of_file_are_refused(
    small: Encoder, news_files: dict[str, Path], tmp_path: Path
) -> None:
    table = tmp_path / "pairs.csv"
    table.write_text("clean,corrupted\na,b\n")
    with pytest.raises(UserError, match=r"name one file of JSON lines, NAME\.jsonl"):
        read_pairs(str(table), small)
    with pytest.raises(UserError, match="no such file"):
        read_pairs(str(tmp_path / "none.jsonl"), small)
