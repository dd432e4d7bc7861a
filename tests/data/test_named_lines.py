"""Lines with named spans; what is refused is tested where pairs and prompts are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sumcirc.data.encoding import Encoder
from sumcirc.data.named_lines import (
    Line,
    NamedSpan,
    named_lines,
    runs_into,
    shown,
    span_tokens,
    spans_of,
    tokens_after,
)
from sumcirc.errors import UserError
from sumcirc.schema import EncodingConfig


@pytest.fixture(scope="module")
def encoder(tokenizer: Any) -> Encoder:
    return Encoder(tokenizer, EncodingConfig(), 64)


def test_lines_have_a_place_and_a_name(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text('{"text": "a", "note": 1}\n\n{"text": "b", "id": 7}\n')
    lines = list(named_lines(str(file), "things", ("text", "id"), "thing"))
    assert [line.id for line in lines] == ["line-1", "7"]
    assert [line.where for line in lines] == [
        f"things={file}: line 1 (`line-1`)",
        f"things={file}: line 3 (`7`)",
    ]
    assert lines[0].row == {"text": "a", "note": 1}


def test_a_token_is_of_the_span_with_its_last_character() -> None:
    places = [None, (0, 3), (3, 7), (7, 8), (8, 12)]
    spans = [NamedSpan("a", 4, 8), NamedSpan("b", 0, 7), NamedSpan("c", 0, 12)]
    assert span_tokens(spans, places, "line 1") == [
        NamedSpan("a", 2, 4),
        NamedSpan("b", 1, 3),
        NamedSpan("c", 1, 5),
    ]
    with pytest.raises(UserError, match=r"line 1: span `d` \[8, 11\] contains the last .* of no"):
        span_tokens([NamedSpan("d", 8, 11)], places, "line 1")


def test_one_span_needs_no_list() -> None:
    span = {"name": "a", "tokens": [1, 3]}
    for given in (span, [span]):
        assert spans_of(Line("x", "x", {"spans": given}), "tokens", 3) == [NamedSpan("a", 1, 3)]
    assert spans_of(Line("x", "x", {}), "tokens", 3) == []
    with pytest.raises(UserError, match="within 0 and 2"):
        spans_of(Line("x", "x", {"spans": span}), "tokens", 2)


def test_an_answer_adds_tokens_and_changes_none(encoder: Encoder) -> None:
    text = "The boat is in"
    found = tokens_after(encoder, text, " Porto")
    assert found is not None
    assert [*encoder.text(text), *found] == encoder.text(f"{text} Porto")
    assert tokens_after(encoder, text, "") is None
    merged = next(
        cut for cut in range(1, 4) if encoder.text("the")[:1] != encoder.text("the"[:cut])
    )
    assert tokens_after(encoder, "the"[:merged], "the"[merged:]) is None
    assert "`good`" in str(runs_into("line 1", "good", "x", "clean"))


def test_what_is_shown_is_short_and_harmless() -> None:
    assert shown("\x1b[31m\n") == '"\\u001b[31m\\n"'
    assert len(shown("long " * 100)) == 60
