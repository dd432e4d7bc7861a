"""ROUGE on examples worked by hand, and against rouge-score called the plain way."""

from __future__ import annotations

import pytest
from rouge_score.rouge_scorer import RougeScorer

from sumcirc.data.word_tokenizers import ASCII, UNICODE
from sumcirc.evaluation.rouge import METRICS, Score, score


def f1(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall)


def test_worked_by_hand() -> None:
    # Lin's example: reference "police killed the gunman", 4 words, 3 bigrams.
    found = score("the gunman police killed now", ["police killed the gunman"])
    assert found["rouge1"].precision == pytest.approx(4 / 5)
    assert found["rouge1"].recall == pytest.approx(1.0)
    assert found["rouge1"].f1 == pytest.approx(f1(4 / 5, 1.0))
    # Shared bigrams: "the gunman", "police killed".
    assert found["rouge2"].precision == pytest.approx(2 / 4)
    assert found["rouge2"].recall == pytest.approx(2 / 3)
    # Longest common subsequence: two words.
    assert found["rougeL"].precision == pytest.approx(2 / 5)
    assert found["rougeL"].recall == pytest.approx(2 / 4)


def test_a_repeated_word_counts_no_more_often_than_in_the_reference() -> None:
    found = score("the the the the", ["the cat"])
    assert found["rouge1"].precision == pytest.approx(1 / 4)
    assert found["rouge1"].recall == pytest.approx(1 / 2)


@pytest.mark.parametrize("gap", [" ", "\n"])
def test_lsum_unites_sentences_and_l_does_not(gap: str) -> None:
    reference = "Shares fell in Oslo. The bank was sold."
    swapped = f"The bank was sold.{gap}Shares fell in Oslo."
    found = score(swapped, [reference])
    assert found["rougeLsum"].f1 == pytest.approx(1.0)
    assert found["rougeL"].f1 == pytest.approx(0.5)


def test_lsum_splits_the_references_too() -> None:
    found = score(
        "the bank was sold shares fell in Oslo", ["Shares fell in Oslo. The bank was sold."]
    )
    assert found["rougeLsum"].f1 == pytest.approx(1.0)
    assert found["rougeL"].f1 == pytest.approx(0.5)


def test_lsum_keeps_line_breaks_as_sentence_ends_on_both_sides() -> None:
    found = score("the bank was sold\nshares fell", ["shares fell\nthe bank was sold"])
    assert found["rougeLsum"].f1 == pytest.approx(1.0)
    one_line = score("the bank was sold shares fell", ["shares fell\nthe bank was sold"])
    # The union over reference sentences still finds all words, one by one.
    assert one_line["rougeLsum"].f1 == pytest.approx(1.0)
    flat = score("the bank was sold\nshares fell", ["shares fell the bank was sold"])
    assert flat["rougeL"].f1 == pytest.approx(4 / 6)


def test_words_are_stemmed_and_case_and_punctuation_ignored() -> None:
    assert ASCII.tokenize("Banks' SHARES-fell 3.5% \u00e9t\u00e9") == [
        "bank",
        "share",
        "fell",
        "3",
        "5",
        "t",
    ]
    assert score("Running banks!", ["runs bank"])["rouge1"].f1 == pytest.approx(1.0)


def test_each_metric_takes_its_own_best_reference() -> None:
    prediction = "a b c d"
    bag = "d x c x b x a"  # all four words, no bigram
    pair = "a b y y y y y"  # two words, one bigram
    both = score(prediction, [bag, pair])
    assert both["rouge1"] == score(prediction, [bag])["rouge1"]
    assert both["rouge2"] == score(prediction, [pair])["rouge2"]
    assert both["rouge1"].f1 > score(prediction, [pair])["rouge1"].f1
    assert both["rouge2"].f1 > 0.0
    assert score(prediction, [pair, bag]) == both


def test_equals_rouge_score_with_its_own_stemmer() -> None:
    plain = RougeScorer(list(METRICS), use_stemmer=True)
    predictions = ["The ministers resigned.\nElections follow soon.", "He generalized: relational"]
    references = ["A minister has resigned today.\nAn election follows.", "Generalizing relations"]
    for prediction, reference in zip(predictions, references, strict=True):
        expected = plain.score(reference, prediction)
        for metric, found in score(prediction, [reference]).items():
            assert (found.precision, found.recall, found.f1) == pytest.approx(expected[metric])
        assert 0.2 < expected["rouge1"].fmeasure < 1.0


RUSSIAN = "Сгорело 3 дома.", "Мэр назвал число 3 и ушёл домой."


def test_a_digit_alone_is_no_agreement_between_russian_texts() -> None:
    reference, other = RUSSIAN
    assert score(other, [reference])["rouge1"].f1 == 1.0, "what rouge-score sees: 3"
    found = score(other, [reference], UNICODE)
    assert found["rouge1"].precision == pytest.approx(1 / 7)
    assert found["rouge1"].recall == pytest.approx(1 / 3)
    assert found["rouge2"].f1 == 0.0
    assert score(reference, [reference], UNICODE)["rougeLsum"].f1 == 1.0


def test_chinese_is_scored_by_characters() -> None:
    found = score("银行昨天倒闭", ["银行倒闭了。"], UNICODE)
    assert found["rouge1"].precision == pytest.approx(4 / 6)
    assert found["rouge1"].recall == pytest.approx(4 / 5)
    assert found["rouge2"].f1 == pytest.approx(f1(2 / 5, 2 / 4))  # 银行 and 倒闭


def test_an_empty_summary_scores_zero_and_no_reference_is_refused() -> None:
    assert score("", ["something"]) == dict.fromkeys(METRICS, Score(0.0, 0.0, 0.0))
    with pytest.raises(ValueError, match="reference"):
        score("something", [])
