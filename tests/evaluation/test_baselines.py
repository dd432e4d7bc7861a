"""Lead, random and oracle sentences; the oracle against the plain, slow way of computing it."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from rouge_score.rouge_scorer import RougeScorer

from sumcirc.evaluation.baselines import candidate_sentences, lead, oracle, random_sentences
from sumcirc.evaluation.rouge import METRICS, score

CNNDM = Path(__file__).parents[3] / "shared" / "data" / "cnndm" / "cnndm_validation500.jsonl"

DOCUMENT = (
    "By Our Reporter. The bank of Oslo was sold on Monday morning. Yes. "
    "Its shares fell by nine percent in one day. Nobody in the city had seen it coming. "
    "The buyer is a fund from the far north. Rain is expected for most of the week."
)


def slow_oracle(document: str, references: list[str], sentences: int, min_words: int) -> str:
    """The same search with the scorer called for every candidate."""
    scorer = RougeScorer(["rouge1", "rouge2"], use_stemmer=True)
    candidates = candidate_sentences(document, min_words)

    def text(chosen: list[int]) -> str:
        return "\n".join(candidates[index] for index in sorted(chosen))

    def value(chosen: list[int]) -> float:
        found = scorer.score_multi(references, text(chosen))
        return found["rouge1"].fmeasure + found["rouge2"].fmeasure

    chosen: list[int] = []
    while len(chosen) < min(sentences, len(candidates)):
        rest = [index for index in range(len(candidates)) if index not in chosen]
        best = max(rest, key=lambda index: value([*chosen, index]))
        if value([*chosen, best]) <= (value(chosen) if chosen else 0.0) + 1e-12:
            break
        chosen.append(best)
    return text(chosen)


def test_lead_passes_over_short_sentences() -> None:
    assert lead(DOCUMENT, 2, 6).split("\n") == [
        "The bank of Oslo was sold on Monday morning.",
        "Its shares fell by nine percent in one day.",
    ]
    assert lead(DOCUMENT, 1, 0) == "By Our Reporter."


def test_fewer_sentences_than_wanted_and_none_long_enough() -> None:
    assert lead("One long sentence with seven words here. Short.", 3, 6).count("\n") == 0
    assert lead("Short one. Shorter.", 3, 6) == "Short one.\nShorter."
    assert lead("", 3, 6) == ""
    assert random_sentences("", "x", 3, 6) == ""
    assert oracle("", ["a reference"], 3, 6) == ""


def test_random_sentences_depend_on_seed_and_item_only() -> None:
    draw = random_sentences(DOCUMENT, "a", 3, 6, seed=1)
    assert draw == random_sentences(DOCUMENT, "a", 3, 6, seed=1)
    candidates = candidate_sentences(DOCUMENT, 6)
    positions = [candidates.index(sentence) for sentence in draw.split("\n")]
    assert positions == sorted(positions)
    assert len(set(positions)) == 3
    for other in [("a", 2), ("b", 1)]:
        draws = {random_sentences(DOCUMENT, f"{other[0]}{i}", 3, 6, other[1]) for i in range(20)}
        assert len(draws) > 5


def test_random_sentences_are_uniform() -> None:
    candidates = candidate_sentences(DOCUMENT, 6)
    counts = dict.fromkeys(candidates, 0)
    for item in range(2000):
        for sentence in random_sentences(DOCUMENT, str(item), 2, 6).split("\n"):
            counts[sentence] += 1
    expected = 2000 * 2 / len(candidates)
    # Standard deviation about 22: five of them.
    assert all(abs(count - expected) < 110 for count in counts.values())


def test_oracle_finds_the_sentences_a_reference_was_made_of() -> None:
    reference = "The buyer is a fund from the north. Shares fell by nine percent in a day."
    assert oracle(DOCUMENT, [reference], 3, 6).split("\n") == [
        "Its shares fell by nine percent in one day.",
        "The buyer is a fund from the far north.",
    ]


def test_oracle_without_a_shared_word_is_empty() -> None:
    assert oracle(DOCUMENT, ["quite unrelated"], 3, 6) == ""


@pytest.mark.parametrize("several", [False, True])
def test_oracle_equals_the_slow_way(several: bool) -> None:
    rng = random.Random(0)
    vocabulary = [f"w{i}" for i in range(25)]

    def sentence(low: int, high: int) -> str:
        words = [rng.choice(vocabulary) for _ in range(rng.randint(low, high))]
        return " ".join(words).capitalize() + "."

    sizes = []
    for _ in range(25):
        document = " ".join(sentence(2, 9) for _ in range(9))
        references = [
            " ".join(sentence(4, 8) for _ in range(2)) for _ in range(3 if several else 1)
        ]
        fast = oracle(document, references, 4, 3)
        assert fast == slow_oracle(document, references, 4, 3)
        sizes.append(len(fast.split("\n")))
    assert len(set(sizes)) > 1


@pytest.fixture(scope="module")
def cnndm() -> list[dict]:
    if not CNNDM.is_file():
        pytest.skip("CNN/DailyMail validation items are not at hand")
    return [json.loads(line) for line in CNNDM.read_text(encoding="utf-8").splitlines()]


def mean_f1(items: list[dict], predictions: list[str]) -> list[float]:
    scores = [score(text, [item["summary"]]) for text, item in zip(predictions, items, strict=True)]
    return [100 * sum(found[metric].f1 for found in scores) / len(items) for metric in METRICS]


def test_lead_3_on_cnn_dailymail(cnndm: list[dict]) -> None:
    found = mean_f1(cnndm, [lead(item["document"], 3, 6) for item in cnndm])
    assert found == pytest.approx([29.23, 11.17, 19.52, 26.07], abs=0.5)


def test_random_3_on_cnn_dailymail(cnndm: list[dict]) -> None:
    texts = [random_sentences(item["document"], item["id"], 3, 6) for item in cnndm]
    assert mean_f1(cnndm, texts) == pytest.approx([22.28, 5.48, 14.49, 19.47], abs=1.0)


def test_oracle_on_cnn_dailymail_equals_the_slow_way_and_beats_lead(cnndm: list[dict]) -> None:
    some = cnndm[::50]
    texts = [oracle(item["document"], [item["summary"]], 3, 6) for item in some]
    assert texts == [slow_oracle(item["document"], [item["summary"]], 3, 6) for item in some]
    everything = [oracle(item["document"], [item["summary"]], 3, 6) for item in cnndm]
    found = mean_f1(cnndm, everything)
    assert found[0] > 45
    assert found[1] > 24
