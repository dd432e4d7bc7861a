from __future__ import annotations

import math

import numpy as np
import pytest

from sumcirc.errors import UserError
from sumcirc.placement.analysis import Analysis, as_json
from sumcirc.placement.landscape import all_sets
from sumcirc.placement.landscape_files import Choice
from sumcirc.statistics import crossed_difference
from sumcirc.storage.writing import plain_numbers
from tests.support.landscapes import draw, landscape, measured

MEANS = np.linspace(-1, 1, 20) ** 3
SETS = all_sets(6, 3)


@pytest.fixture(scope="module")
def analysis() -> Analysis:
    return Analysis(measured(draw(MEANS, seeds=3, documents=30, rng=1)), splits=20)


def test_sets_are_ordered_and_their_numbers_belong_together(analysis: Analysis) -> None:
    found = analysis.sets
    assert [one.mean for one in found] == sorted((one.mean for one in found), reverse=True)
    assert found[0].rank == 1
    assert found[0].candidate
    for one in found:
        place = SETS.index(one.units)
        assert one.mean == pytest.approx(analysis.measured.scores[place].mean())
        assert one.rank_low <= one.rank <= one.rank_high
        assert one.low < one.deviation < one.high
        assert one.candidate == (one.gap_high > 0)
    assert sum(one.deviation for one in found) == pytest.approx(0)


def test_a_choice_is_judged_by_its_place(analysis: Analysis) -> None:
    best, worst = analysis.sets[0], analysis.sets[-1]
    found = analysis.judged(Choice("good", (best.units,), (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)))
    assert found.skill.skill == pytest.approx(1.0)
    assert (found.rank, found.regret_high, found.candidates) == (1, 0, 1)
    assert found.p_value == pytest.approx(1 / 20)
    assert found.agreement is not None
    mixed = analysis.judged(Choice("mixed", (best.units, worst.units)))
    assert mixed.mean == pytest.approx((best.mean + worst.mean) / 2)
    assert mixed.rank == pytest.approx(10.5)
    assert mixed.agreement is None
    assert mixed.regret_high == pytest.approx((best.mean - worst.mean) / 2)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ((0, 1), r"x: chose layers \[0,1\]; the landscape has sets of 3 layers"),
        ((0, 1, 6), "layer 6 is out of range, the model has 6 layers, 0 to 5"),
        ((0, 1, 1), "a layer is named twice"),
    ],
)
def test_choices_that_are_no_set_are_refused(
    analysis: Analysis, layers: tuple[int, ...], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        analysis.judged(Choice("x", (layers,)))


def test_other_arms_are_compared_seed_by_seed() -> None:
    scores = draw(MEANS, rng=1)
    made = landscape(scores)
    other = (
        scores.mean(axis=0) + 0.5 + 0.01 * np.random.default_rng(0).normal(size=scores.shape[1:])
    )
    whole = type(made)(
        *(made.name, made.layers, made.sets, made.seeds, made.documents, made.scores),
        others={"LoRA, all layers": {"facts": other}},
    )
    found = Analysis(whole.measured("facts")).others["LoRA, all layers"]
    assert found == crossed_difference(other, scores.mean(axis=0), True)
    assert found.mean == pytest.approx(0.5, abs=0.01)


def test_undefined_documents_are_left_out_of_all_runs() -> None:
    scores = draw(MEANS, documents=12, rng=1)
    scores[3, 1, 5] = np.nan
    found = landscape(scores).measured("facts")
    assert found.dropped == 1
    np.testing.assert_array_equal(found.scores, np.delete(scores, 5, axis=2))
    scores[3, 1, :6] = np.nan
    with pytest.raises(UserError, match="defined for 6 of 12 documents"):
        landscape(scores).measured("facts")
    with pytest.raises(UserError, match="metric=rouge9: simulated has no such score"):
        landscape(scores).measured("rouge9")


def test_a_score_of_errors_is_turned_around() -> None:
    made = landscape(draw(MEANS, rng=1))
    wrong = type(made)(
        *(made.name, made.layers, made.sets, made.seeds, made.documents),
        {"facts_wrong": made.scores["facts"]},
    )
    assert Analysis(wrong.measured("facts_wrong")).sets[-1].units == SETS[MEANS.argmax()]


def test_sets_that_are_not_all_are_no_landscape() -> None:
    made = landscape(draw(MEANS, rng=1))
    fields = made.layers, made.sets[:19], made.seeds, made.documents
    with pytest.raises(ValueError, match="not all sets"):
        type(made)(made.name, *fields, {"facts": made.scores["facts"][:19]})
    with pytest.raises(ValueError, match="facts: shape"):
        type(made)(made.name, made.layers, made.sets, (1,), made.documents, made.scores)


@pytest.mark.parametrize("seeds", [1, 3])
def test_everything_is_in_the_record(seeds: int) -> None:
    found = Analysis(measured(draw(MEANS, seeds=seeds, rng=1)), splits=10)
    record = plain_numbers(as_json(found, [found.judged(Choice("x", (SETS[3],)))]))
    assert len(record["sets"]) == 20
    assert [one["measured"] for one in record["predictions"]] == [8, 12, 16]
    assert record["selectors"][0]["name"] == "x"
    assert (record["alike_p"] is None) == (seeds == 1)


def test_equal_scores_are_analysed_without_a_claim() -> None:
    found = Analysis(measured(np.full((20, 2, 9), 0.5)), splits=4)
    judged = found.judged(Choice("x", (SETS[3],)))
    assert math.isnan(judged.skill.skill)
    assert judged.p_value == 1
    assert judged.candidates == 1
    as_json(found, [judged])
