"""Tests of entity precision and recall."""

from __future__ import annotations

import json
import re
import zlib
from statistics import fmean

import pytest

from sumcirc.evaluation.baselines import lead
from sumcirc.evaluation.faithfulness import MEASURES, faithfulness, unsupported
from sumcirc.wire import article, facts_found, twin
from tests.support.shared import shared

DOCUMENT = "#Person1#: Ada met Bob in Oslo on Monday. #Person2#: They paid 30 dollars."


def test_shares_by_kind() -> None:
    summary = "#Person1# says Ada met Carl in Oslo on Friday and paid 30 of 40 dollars."
    found = faithfulness(DOCUMENT, summary, ["Ada met Bob on Monday and paid 30.", "Nothing."])
    assert set(found) == set(MEASURES)
    assert found == {
        "entity_precision": 3 / 6,  # Ada, Oslo, 30 of these and Carl, Friday, 40
        "entity_recall": 2 / 4,  # Ada, 30 of Ada, Bob, Monday, 30
        "name_precision": 2 / 3,
        "name_recall": 1 / 2,
        "number_precision": 1 / 2,
        "number_recall": 1.0,
        "date_precision": 0.0,
        "date_recall": 0.0,
        "speaker_precision": 1.0,
        "speaker_recall": None,
    }
    assert [summary[one.start : one.end] for one in unsupported(DOCUMENT, summary)] == [
        *("Carl", "Friday", "40")
    ]


def test_nothing_to_support_is_undefined_and_nothing_recalled_is_zero() -> None:
    found = faithfulness(DOCUMENT, "", ["It was Ada and #Person2#."])
    assert all(value is None for name, value in found.items() if name.endswith("precision"))
    assert (found["entity_recall"], found["speaker_recall"]) == (0.0, 0.0)
    assert found["date_recall"] is None


def test_the_best_reference_counts() -> None:
    references = ["Bob left on Friday.", "It was in Oslo.", "Nothing."]
    assert faithfulness(DOCUMENT, "It was in Oslo.", references)["entity_recall"] == 1.0


def tokens(text: str) -> list[int]:
    return [zlib.crc32(word.encode()) for word in re.findall(r" ?\w+|\W", text)]


def test_the_wire_knows_better() -> None:
    """The generator knows the facts of an article and of its counterfactual.

    A full name or an organization is an entity and no key fact, so the two shares differ a little.
    """
    items = [article("test", number) for number in range(60)]
    others = [twin(item, tokens) for item in items]
    for item in items:
        mine = faithfulness(item.document, item.summary, [item.summary])
        assert (mine["entity_precision"], mine["entity_recall"]) == (1.0, 1.0)
    changed = [
        faithfulness(item.document, other.summary, [item.summary])
        for item, other in zip(items, others, strict=True)
    ]
    assert fmean(one["entity_precision"] or 0 for one in changed) < 0.25
    heads = [lead(item.document) for item in items]
    recalls = [
        faithfulness(item.document, head, [item.summary])["entity_recall"] or 0
        for item, head in zip(items, heads, strict=True)
    ]
    facts = [
        fmean(facts_found(item, head).values()) for item, head in zip(items, heads, strict=True)
    ]
    assert fmean(recalls) == pytest.approx(fmean(facts), abs=0.05)


@pytest.mark.parametrize(
    ("name", "least"), [("cnndm/cnndm_validation500", 0.9), ("dialogsum/dialogsum_test", 0.96)]
)
def test_real_text(name: str, least: float) -> None:
    """References are mostly supported, and sentences of the document always are."""
    lines = shared(f"data/{name}.jsonl").read_text().splitlines()[:150]
    precisions = []
    for item in map(json.loads, lines):
        assert not unsupported(item["document"], lead(item["document"]))
        found = faithfulness(item["document"], item["summary"], [item["summary"]])
        assert found["entity_recall"] in (None, 1.0)
        if found["entity_precision"] is not None:
            precisions.append(found["entity_precision"])
    assert fmean(precisions) > least
