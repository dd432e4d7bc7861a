"""Text stays text, special tokens of a template are special, and both fit together."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from sumcirc.data.codec import FILL, FIRST, Codec
from sumcirc.errors import UserError
from tests.support.small_tokenizers import KINDS, LOSSLESS, byte_level, small_tokenizer

FAST = [kind for kind in KINDS if "slow" not in kind]


def codec(kind: str) -> Codec:
    return Codec(small_tokenizer(kind))


def some_texts(count: int = 200) -> list[str]:
    """Words, marks, spaces and characters that no tokenizer here has seen."""
    draw = random.Random(0)
    pieces = ["storm", "Lisbon", "x", "'s", "don't", "12", "340", " ", "  ", "\n", "\t", ".", "é"]
    pieces += ["e\u0301", "日本", "🌪️", "“", "<", "/s", "<s", "[SEP", "##a", "▁", "\u200b", ","]
    return ["".join(draw.choices(pieces, k=draw.randint(0, 20))) for _ in range(count)]


@pytest.mark.parametrize("kind", KINDS)
def test_other_texts_have_the_tokens_that_the_tokenizer_gives_them(kind: str) -> None:
    ours, tokenizer = codec(kind), small_tokenizer(kind)
    for text in some_texts():
        expected = tokenizer(text, add_special_tokens=False, return_offsets_mapping=kind in FAST)
        assert ours.ids(ours.plain(text)) == expected.input_ids, text
        if kind in FAST:
            places = [place if place[0] < place[1] else None for place in expected.offset_mapping]
            assert ours.places(ours.plain(text)) == places


@pytest.mark.parametrize("kind", KINDS)
def test_the_spelling_of_a_special_token_is_text(kind: str) -> None:
    ours, tokenizer = codec(kind), small_tokenizer(kind)
    assert ours.special
    for spelling in ours.special:
        text = f"The log{spelling} of {spelling} Porto{spelling}"
        ids = ours.ids(ours.plain(text))
        inside = ours.special_ids - {tokenizer.unk_token_id}
        assert not inside & set(ids), spelling
        if kind in LOSSLESS:
            assert ours.decode(ids) == text


@pytest.mark.parametrize("kind", KINDS)
def test_in_a_template_it_is_special_and_splits_the_text_as_the_tokenizer_does(kind: str) -> None:
    ours, tokenizer = codec(kind), small_tokenizer(kind)
    for spelling in ours.special:
        for template in (f"{spelling}The log", f"The {spelling} log", f"log{spelling}{spelling}"):
            expected = tokenizer(template, add_special_tokens=False).input_ids
            assert len(ours.marked(template)) == len(template)
            assert ours.ids(ours.marked(template)) == expected, template
            assert tokenizer.convert_tokens_to_ids(spelling) in expected


@pytest.mark.parametrize("kind", KINDS)
def test_text_within_a_template(kind: str) -> None:
    ours, tokenizer = codec(kind), small_tokenizer(kind)
    (end,) = [one for one in ours.special if tokenizer.eos_token == one]
    ids = ours.ids(ours.marked(f"{end}log ") + ours.plain(f"of {end} Porto") + ours.marked(end))
    assert [place for place, token in enumerate(ids) if token == tokenizer.eos_token_id] == [
        0,
        len(ids) - 1,
    ]


@pytest.mark.parametrize("kind", FAST)
def test_places_count_the_characters_of_the_spelling(kind: str) -> None:
    """A byte-level tokenizer of a text in ASCII spells each token by its place."""
    ours = codec(kind)
    end = ours.tokenizer.eos_token
    before, text = f"A {end}port: ", f"staff {end} saw"
    whole = ours.marked(before) + ours.plain(text)
    ids, places = ours.ids(whole), ours.places(whole)
    assert len(ids) == len(places)
    at = ids.index(ours.tokenizer.eos_token_id)
    assert places[at] == (2, 2 + len(end))
    written = before + text
    covered = {i for place in places if place for i in range(*place)}
    assert covered >= {i for i, letter in enumerate(written) if not letter.isspace()}
    if kind == "byte level":
        for token, place in zip(ids, places, strict=True):
            assert place is not None
            assert ours.token(token) == written[slice(*place)]


@pytest.mark.parametrize("kind", LOSSLESS)
@pytest.mark.parametrize("before", ["A storm.\nTL;DR:", "Summary:\n", "</s>log\n", ""])
def test_a_continuation_has_no_space_that_the_text_lacks(kind: str, before: str) -> None:
    ours = codec(kind)
    for text in (" Ferry stood.", "Ferry stood.", "\n- Ferry", "'s ferry", "  two spaces"):
        start = ours.ids(ours.marked(before) or "storm")
        found = ours.continuation(ours.marked(before), text)
        expected = ours.decode([*start]) + text
        assert ours.decode([*start, *found]) == expected, (text, found)


@pytest.mark.parametrize("kind", KINDS)
def test_a_continuation_is_what_the_tokenizer_makes_of_the_whole(kind: str) -> None:
    ours, tokenizer = codec(kind), small_tokenizer(kind)
    before, text = "A storm closed the port.\nTL;DR:", " Ferry of Porto stood still."
    whole = tokenizer(before + text, add_special_tokens=False).input_ids
    assert ours.ids(before) + ours.continuation(before, text) == whole


def test_a_start_that_is_written_is_not_doubled() -> None:
    for kind in ("byte level", "llama", "llama, legacy"):
        ours = codec(kind)
        start = ours.tokenizer.bos_token_id
        for text in ("A storm", "<s>A storm", "<s>"):
            assert ours.begun(ours.marked(text)).count(start) == 1
        assert ours.begun(ours.plain("<s>A storm")).count(start) == 1
    assert codec("word piece").begin == codec("unigram").begin == []
    assert codec("word piece").begun("a") == codec("word piece").ids("a")


def test_words_that_were_added_are_kept_and_ends_are_not() -> None:
    tokenizer = byte_level()
    tokenizer.add_tokens(["#Person1#"])
    tokenizer.add_special_tokens({"additional_special_tokens": ["#Person2#"]})
    ours = Codec(tokenizer)
    one, two = tokenizer.convert_tokens_to_ids(["#Person1#", "#Person2#"])
    ids = ours.ids(ours.plain("Hi #Person1#"))
    assert ids[-1] == one
    assert two not in ours.ids(ours.plain("Hi #Person2#"))
    ends = [tokenizer.eos_token_id, tokenizer.bos_token_id]
    assert ours.decode([*ids, two, *ends]) == "Hi #Person1##Person2#"
    assert ours.token(ends[0]) == "</s>"


def test_what_ordinary_text_needs_stays_as_it_is() -> None:
    """A padding token that is a character, and one that merges make."""
    for pad in ("!", "The"):
        tokenizer = byte_level()
        piece = tokenizer.get_vocab()[pad]
        tokenizer.pad_token = pad
        ours = Codec(tokenizer)
        assert pad not in ours.special
        text = f"The storm! A{pad}"
        expected = tokenizer(text, add_special_tokens=False).input_ids
        assert piece in expected
        assert ours.ids(ours.plain(text)) == expected


@pytest.mark.parametrize("kind", FAST)
def test_half_an_emoji_is_a_replacement_character(kind: str) -> None:
    ours = codec(kind)
    half, replaced = "storm \ud83d in Lisbon", "storm \ufffd in Lisbon"
    assert ours.ids(ours.plain(half)) == ours.ids(replaced)
    assert ours.ids(ours.marked(half)) == ours.ids(replaced)


def test_characters_that_spell_special_tokens_here_are_none_of_a_text() -> None:
    ours = codec("byte level")
    text = f"log {chr(FIRST)}{FILL * 2} {chr(FIRST + 1)}"
    assert not ours.special_ids & set(ours.ids(ours.plain(text)))
    assert len(ours.plain(text)) == len(text)
    assert ours.plain("private \ue000 use") == "private \ue000 use"


def test_a_slow_tokenizer_that_takes_text_for_a_special_token_is_refused() -> None:
    class Stubborn:
        """Ignores `split_special_tokens`, as those may that do not know it."""

        bos_token_id, eos_token_id = None, 1
        all_special_tokens = ("</s>",)
        added_tokens_decoder = {1: SimpleNamespace(special=True)}  # noqa: RUF012

        def __call__(self, text: str, **options: Any) -> Any:
            return SimpleNamespace(input_ids=[1 if word == "</s>" else 2 for word in text.split()])

        def convert_tokens_to_ids(self, token: str) -> int:
            return 1

    ours = Codec(Stubborn())  # type: ignore[arg-type]
    assert ours.ids(ours.marked("log </s>")) == [2, 1]
    with pytest.raises(UserError, match=r"model\.tokenizer: takes the text '</s>' for a special"):
        ours.ids(ours.plain("log </s>"))


def test_specials_are_found_as_the_tokenizer_finds_them() -> None:
    """The longest of those that begin at one place."""
    tokenizer = byte_level()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<a>", "<a><b>"]})
    assert isinstance(tokenizer, PreTrainedTokenizerFast)
    ours = Codec(tokenizer)
    for template in ("x<a><b>y<a>z", "<a><a><b>"):
        expected = tokenizer(template, add_special_tokens=False).input_ids
        assert ours.ids(ours.marked(template)) == expected
