"""Extractive fragments and novel n-grams, worked by hand."""

from __future__ import annotations

import math

import pytest

from sumcirc.evaluation.copying import STATISTICS, copy_statistics, extractive_fragments, words

DOCUMENT = "The bank of Oslo was sold on Monday. Its shares fell."


def test_a_full_copy() -> None:
    found = copy_statistics(DOCUMENT, "the bank of oslo")
    assert found["coverage"] == 1.0
    assert found["density"] == 4.0
    assert found["compression"] == pytest.approx(11 / 4)
    assert [found[f"novel_ngrams_{k}"] for k in (1, 2, 3)] == [0.0, 0.0, 0.0]


def test_worked_by_hand() -> None:
    # Fragments: "the bank" (2), "was sold" (2), "shares" (1) of 7 words; new: "yesterday", "rose".
    found = copy_statistics(DOCUMENT, "The bank was sold yesterday; shares rose!")
    assert found["coverage"] == pytest.approx(5 / 7)
    assert found["density"] == pytest.approx((4 + 4 + 1) / 7)
    assert found["novel_ngrams_1"] == pytest.approx(2 / 7)
    # Six bigrams, "the bank" and "was sold" are old; all five trigrams are new.
    assert found["novel_ngrams_2"] == pytest.approx(4 / 6)
    assert found["novel_ngrams_3"] == 1.0


def test_the_longest_run_wins_over_an_earlier_one() -> None:
    assert extractive_fragments(list("abxabcd"), list("abczb")) == [
        (0, 3, 3),
        (4, 1, 1),
    ]


def test_runs_stop_at_both_ends() -> None:
    assert extractive_fragments(["a", "b"], ["a", "b", "a"]) == [(0, 0, 2), (2, 0, 1)]
    assert extractive_fragments([], ["a"]) == []


def test_novel_ngrams_are_distinct() -> None:
    found = copy_statistics("x y", "new new new x")
    assert found["novel_ngrams_1"] == pytest.approx(1 / 2)


def test_undefined_is_nan() -> None:
    assert set(copy_statistics(DOCUMENT, "")) == set(STATISTICS)
    assert all(math.isnan(value) for value in copy_statistics(DOCUMENT, " ?").values())
    short = copy_statistics(DOCUMENT, "Oslo bank")
    assert short["novel_ngrams_2"] == 1.0
    assert math.isnan(short["novel_ngrams_3"])


def test_words_of_any_script() -> None:
    assert words("It's \u00c9T\u00c9 \u2013 3.5%, don\u2019t") == [
        "it's",
        "\u00e9t\u00e9",
        "3",
        "5",
        "don\u2019t",
    ]
