"""Words of ROUGE: which tokenizer a corpus takes, and what a word is in other scripts."""

from __future__ import annotations

import random
import unicodedata

import pytest

from sumcirc.data.word_tokenizers import (
    ASCII,
    UNICODE,
    lost_share,
    tokenizer_for,
    unicode_words,
    word_count,
)
from sumcirc.schema import RougeTokenizer
from sumcirc.wire import articles

AUTO = RougeTokenizer.auto
ENGLISH = [item.summary for item in articles("test", 100)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("L'été à 3,5 km", ["l", "été", "à", "3", "5", "km"]),
        ("ÉTÉ e\u0301te\u0301", ["été", "été"]),  # composed and decomposed
        ("STRASSE Straße", ["strasse", "strasse"]),
        ("हिन्दी में समाचार।", ["हिन्दी", "में", "समाचार"]),  # vowel signs belong to the word
        ("العَرَبِيَّة، نعم؟", ["العَرَبِيَّة", "نعم"]),
        ("12月3日のコーヒー abc", ["12", "月", "3", "日", "の", "コ", "ー", "ヒ", "ー", "abc"]),
        ("ที่นี่", ["ที่", "นี่"]),  # a letter with its marks
        ("한국어 문장", ["한국어", "문장"]),
        ("don't snake_case", ["don", "t", "snake", "case"]),
        ("!? \u2028 --", []),
    ],
)
def test_words_of_any_script(text: str, words: list[str]) -> None:
    assert unicode_words(text) == [unicodedata.normalize("NFKC", word) for word in words]


def test_english_is_left_to_rouge_score() -> None:
    assert lost_share(ENGLISH) == 0.0
    assert tokenizer_for(ENGLISH, AUTO) is ASCII
    assert tokenizer_for([*ENGLISH, "A café in Zürich."], AUTO) is ASCII


@pytest.mark.parametrize(
    "text",
    [
        "Сгорело 3 дома.",
        "昨天有3人受伤。",
        "Les élèves ont été reçus à l'école, et la fête a été annulée.",
        "Über die Straße gehört nur, wer größer als die Mauer ist.",
        "Żółta łódź odpłynęła w środę.",
    ],
)
def test_other_scripts_and_accents_are_not(text: str) -> None:
    assert tokenizer_for([text], AUTO) is UNICODE
    assert tokenizer_for([text], RougeTokenizer.ascii) is ASCII
    assert tokenizer_for(ENGLISH, RougeTokenizer.unicode) is UNICODE


def test_one_percent_of_the_words_decides_for_all_of_a_corpus() -> None:
    corpus = ["plain words of ten letters and no more of them"] * 99 + ["é"] * 10
    assert lost_share(corpus) == pytest.approx(10 / 1000)
    random.Random(0).shuffle(corpus)
    assert tokenizer_for(corpus, AUTO) is ASCII
    assert tokenizer_for([*corpus, "é"], AUTO) is UNICODE
    assert lost_share([]) == 0.0


def test_words_have_their_places() -> None:
    text = "İ Éte\u0301 Banks"
    assert [(text[start:end], word) for start, end, word in UNICODE.spans(text)] == [
        ("İ", "i̇"), ("Éte\u0301", "été"), ("Banks", "banks"),
    ]  # fmt: skip
    assert ASCII.spans("Banks' 3.5") == [(0, 5, "bank"), (7, 8, "3"), (9, 10, "5")]


@pytest.mark.parametrize(
    ("text", "count"), [("By Jo - Monday", 4), ("他来了 abc", 4), ("", 0), ("หมา", 3)]
)
def test_words_between_white_space(text: str, count: int) -> None:
    assert word_count(text) == count
