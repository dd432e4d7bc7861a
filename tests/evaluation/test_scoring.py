"""Per-document records, their means, and the baselines on the same items."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from sumcirc.data.documents import Document
from sumcirc.data.word_tokenizers import ASCII, UNICODE
from sumcirc.errors import UserError
from sumcirc.evaluation.baselines import lead, oracle, random_sentences
from sumcirc.evaluation.copying import copy_statistics
from sumcirc.evaluation.rouge import score
from sumcirc.evaluation.scoring import (
    MEASURES,
    evaluate_baselines,
    evaluate_summaries,
    unscorable,
    whole_documents,
)
from sumcirc.schema import EvaluationConfig, RougeTokenizer
from sumcirc.statistics import bootstrap_mean

ITEMS = [
    Document(
        f"item-{number}",
        f"The bank of {place} was sold on Monday morning. Rain is expected for the whole week. "
        f"Its shares fell by {number} percent in one day. Nobody in {place} had seen it coming.",
        (f"A bank in {place} was sold.", f"Shares fell {number} percent there."),
    )
    for number, place in enumerate(["Oslo", "Lima", "Perth", "Kyoto", "Quito"], start=2)
]
CONFIG = EvaluationConfig(bootstrap=200)
ASCII_CONFIG = EvaluationConfig(bootstrap=200, rouge_tokenizer=RougeTokenizer.ascii)


def test_records_hold_what_each_measure_says() -> None:
    predictions = ["A bank was sold.", "", "Shares fell\nin Perth.", "Kyoto", "nothing shared"]
    found = evaluate_summaries(ITEMS, predictions, CONFIG, system="mine")
    assert [record["id"] for record in found.records] == [item.id for item in ITEMS]
    for item, text, record in zip(ITEMS, predictions, found.records, strict=True):
        assert set(record) == {"id", "system", "prediction", *MEASURES}
        assert (record["system"], record["prediction"]) == ("mine", text)
        assert record["rouge1_f1"] == score(text, item.references)["rouge1"].f1
        assert record["rougeLsum_recall"] == score(text, item.references)["rougeLsum"].recall
        assert record["length"] == len(text.split())
        assert record["reference_length"] == 5.5
    assert (
        found.records[0]["coverage"]
        == copy_statistics(ITEMS[0].document, "A bank was sold.")["coverage"]
    )
    assert found.records[0]["coverage"] == 0.75
    assert found.records[1]["coverage"] is None
    assert found.records[3]["novel_ngrams_2"] is None
    json.dumps(found.records, allow_nan=False)


def test_summary_averages_what_is_defined() -> None:
    predictions = ["A bank was sold.", "", "Shares fell in Perth.", "Kyoto", "nothing shared"]
    found = evaluate_summaries(2 * ITEMS, 2 * predictions, CONFIG)
    summary = found.summary()
    f1 = [record["rouge1_f1"] for record in found.records]
    assert summary["rouge1_f1"] == bootstrap_mean(f1, 200, 0.95)
    assert summary["rouge1_f1"].low < summary["rouge1_f1"].mean < summary["rouge1_f1"].high
    assert summary["length"].mean == pytest.approx(11 / 5)
    assert (summary["coverage"].n, summary["novel_ngrams_2"].n) == (8, 6)
    narrow = found.summary(EvaluationConfig(bootstrap=200, confidence=0.5))["rouge1_f1"]
    assert narrow.high - narrow.low < summary["rouge1_f1"].high - summary["rouge1_f1"].low


def test_a_measure_defined_nowhere_is_left_out() -> None:
    summary = evaluate_summaries(ITEMS, [""] * len(ITEMS), CONFIG).summary()
    assert "coverage" not in summary
    assert summary["rouge1_f1"].mean == 0.0
    assert summary["length"].mean == 0.0


def test_baselines_are_scored_on_the_same_items() -> None:
    config = EvaluationConfig(bootstrap=100, sentences=2, min_sentence_words=6)
    found = evaluate_baselines(ITEMS, config, seed=3)
    assert list(found) == ["lead-2", "random-2", "oracle"]
    for item, first, drawn, best in zip(
        ITEMS, *(evaluation.records for evaluation in found.values()), strict=True
    ):
        assert first["prediction"] == lead(item.document, 2, 6)
        assert drawn["prediction"] == random_sentences(item.document, item.id, 2, 6, seed=3)
        assert best["prediction"] == oracle(item.document, item.references, 2, 6)
        assert (first["system"], drawn["system"], best["system"]) == tuple(found)
        assert first["id"] == drawn["id"] == best["id"] == item.id
        assert best["coverage"] == 1.0
    means = {name: evaluation.summary()["rouge1_f1"].mean for name, evaluation in found.items()}
    assert means["oracle"] > max(means["lead-2"], means["random-2"])


def test_refuses_what_cannot_be_scored() -> None:
    with pytest.raises(ValueError, match="5 documents but 1 predictions"):
        evaluate_summaries(ITEMS, ["one"], CONFIG)
    with pytest.raises(UserError, match="no document"):
        evaluate_summaries([], [], CONFIG)
    with pytest.raises(UserError, match="no reference summary has a word that ROUGE can see"):
        evaluate_summaries([Document("a", "One.", ("...",))], ["One."], CONFIG)
    with pytest.raises(UserError, match=r"can see \(words of a-z and digits"):
        evaluate_summaries([Document("a", "银行", ("银行。",))], ["银行"], ASCII_CONFIG)


RUSSIAN = [
    Document(
        f"item-{n}",
        f"Совет собрался вчера в большом зале. Мэр назвал число {n} и ушёл домой.",
        (f"Сгорело {n} домов.",),
    )
    for n in range(3, 9)
]


def test_russian_with_one_number_each_is_scored_by_its_words() -> None:
    scores = {
        name: evaluation.summary()["rouge1_f1"].mean
        for name, evaluation in evaluate_baselines(RUSSIAN, CONFIG).items()
    }
    # of the lead's 13 words one is among the 3 of the reference
    assert scores["lead-3"] == pytest.approx(2 / (13 + 3))
    assert scores["oracle"] == pytest.approx(2 / (7 + 3))
    forced = evaluate_baselines(RUSSIAN, ASCII_CONFIG)["lead-3"].summary()
    assert forced["rouge1_f1"].mean == 1.0
    notice = unscorable(RUSSIAN, ASCII)
    assert (notice.count, notice.total, notice.warning) == (6, 6, True)
    assert unscorable(RUSSIAN, UNICODE).count == unscorable(ITEMS, ASCII).count == 0


def test_one_corpus_is_scored_in_one_way() -> None:
    """Four items are English, but accents of the fifth's references decide for all."""
    foreign = Document("f", "La fête a été annulée.", ("La fête annulée, été gâché.",))
    found = evaluate_summaries([*ITEMS, foreign], ["Banks were sold."] * 6, CONFIG)
    alone = evaluate_summaries(ITEMS, ["Banks were sold."] * 5, CONFIG)
    # `Banks` is `bank` by its stem alone
    assert alone.records[0]["rouge1_recall"] > found.records[0]["rouge1_recall"]


def test_chinese_sentences_qualify_by_their_characters() -> None:
    text = "中国银行昨天宣布倒闭。股价下跌。许多储户在门外等候消息。政府表示将会介入此事。"
    assert lead(text, 2).split("\n") == ["中国银行昨天宣布倒闭。", "许多储户在门外等候消息。"]
    assert oracle(text, ["储户等候"], 1, tokenizer=UNICODE) == "许多储户在门外等候消息。"
    assert oracle(text, ["储户等候"], 1) == "", "nothing that rouge-score's words share"


def test_documents_that_are_one_lead_are_counted() -> None:
    short = Document("s", "One sentence of six whole words here", ("One.",))
    assert whole_documents([*ITEMS, short], CONFIG).count == 1
    four = EvaluationConfig(sentences=4)
    assert str(whole_documents(ITEMS, four)).startswith(
        "data.test: 5 of 5 documents have 4 sentences or fewer, so that lead-4 and random-4 are"
    )


def test_scoring_needs_no_torch() -> None:
    code = (
        "import sys; import sumcirc.evaluation.scoring as e; "
        "import sumcirc.reporting.views.system_scores; "
        "from types import SimpleNamespace as S; from sumcirc.schema import EvaluationConfig as C; "
        "e.evaluate_baselines([S(id='a', document='One two.', references=('two',))], C()); "
        "print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
