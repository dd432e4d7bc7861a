"""Landscapes against each other: correlations, their intervals, and selectors over all."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from sumcirc.errors import UserError
from sumcirc.placement.analysis import Analysis
from sumcirc.placement.comparable import check_comparable, differing
from sumcirc.placement.landscape import Landscape, all_sets
from sumcirc.placement.landscape_files import Choice
from sumcirc.placement.several import (
    Several,
    as_json,
    contrasted,
    correlations,
)
from sumcirc.placement.terms import effects
from sumcirc.placement.variance import orthonormal
from sumcirc.storage.writing import plain_numbers
from tests.support.landscapes import Array, draw, landscape, measured

SETS = all_sets(6, 3)
CLEAR = (0.1, 0.1, 1.0, 0.3, 0.2, 0.5)


def pair_of(
    correlation: float, rng: np.random.Generator, seeds: int, common: float = 0.0, size: float = 1.0
) -> tuple[Array, Array, Array, Array]:
    """True means of two landscapes, and scores whose noise is partly common to both."""
    one = size * rng.normal(size=20)
    other = correlation * one + size * math.sqrt(1 - correlation**2) * rng.normal(size=20)
    noise = common * rng.normal(size=(20, 1, 30))
    spreads = (0.1, 0.1 if seeds > 1 else 0.0, 1.0, 0.3, 0.2, 0.8)
    scores = [draw(m, seeds=seeds, documents=30, spreads=spreads, rng=rng) for m in (one, other)]
    return one, other, scores[0] + noise, scores[1] + noise


def test_correlations_are_those_of_the_means_and_of_the_layers_effects() -> None:
    rng = np.random.default_rng(1)
    x, y = measured(draw(rng.normal(size=20))), measured(draw(rng.normal(size=20), rng=2))
    of_layers = [[one.effect for one in effects(found)] for found in (x, y)]
    sets, terms = correlations(x, y)
    assert list(terms) == ["layers"]
    for found, values in ((sets, (x.means, y.means)), (terms["layers"], of_layers)):
        assert found.spearman == pytest.approx(spearmanr(*values).statistic)
        assert found.pearson == pytest.approx(pearsonr(*values).statistic)
        assert -1 <= found.low < found.high <= 1


def test_noise_is_that_of_the_analysis_of_variance_and_what_documents_share() -> None:
    """Against loops over sets and documents, on the means' deviations from the mean of all sets."""
    _, _, x, y = pair_of(0.5, np.random.default_rng(2), 3, common=0.6)
    found = contrasted(x, y, orthonormal(20), same=True)
    for place, scores in enumerate((x, y)):
        noise = Analysis(measured(scores)).variance.squares.error / scores[0].size
        assert found.noise[place, place] == pytest.approx(noise)
    both = [scores.mean(axis=1) for scores in (x, y)]
    total = 0.0
    for a in range(20):
        for d in range(30):
            left = [one[a, d] - one[a].mean() - one[:, d].mean() + one.mean() for one in both]
            total += left[0] * left[1]
    assert found.noise[0, 1] == pytest.approx(total / (19 * 29 * 30))
    assert contrasted(x, y, orthonormal(20), same=False).noise[0, 1] == 0


@pytest.mark.parametrize("seeds", [1, 3])
def test_common_noise_does_not_count_as_agreement(seeds: int) -> None:
    """The true means are unrelated, and documents raise the same sets in both landscapes."""
    rng = np.random.default_rng(3)
    raw, true, wrong = [], [], []
    for _ in range(300):
        _, _, x, y = pair_of(0.0, rng, seeds, common=2.0, size=0.3)
        found = contrasted(x, y, orthonormal(20), same=True)
        raw.append((found.true + found.noise)[0, 1])
        true.append(found.true[0, 1])
        wrong.append(contrasted(x, y, orthonormal(20), same=False).true[0, 1])
    error = np.std(true) / math.sqrt(len(true))
    assert abs(np.mean(true)) < 3 * error
    assert np.mean(raw) > 8 * error
    assert np.mean(wrong) > 8 * error


@pytest.mark.parametrize(("correlation", "seeds"), [(0.0, 3), (0.6, 1), (0.95, 3)])
def test_the_interval_holds_the_correlation_of_the_true_means(
    correlation: float, seeds: int
) -> None:
    rng = np.random.default_rng(4)
    inside, width, errors = 0, [], []
    for _ in range(80):
        one, other, x, y = pair_of(correlation, rng, seeds, common=0.3)
        found, _ = correlations(measured(x), measured(y), draws=200)
        inside += found.low <= spearmanr(one, other).statistic <= found.high
        width.append(found.high - found.low)
        errors.append(found.corrected - pearsonr(one, other).statistic)
    assert inside >= 70  # 95 % of 80 is 76; fewer than 70 has a probability of 0.2 %
    assert np.mean(width) < 0.6
    assert abs(np.mean(errors)) < 0.03


def test_without_differences_there_is_no_correlation() -> None:
    flat = np.zeros((20, 2, 10)) + np.arange(10)
    sets, terms = correlations(measured(flat), measured(draw(np.arange(20.0), documents=10)))
    for one in (sets, terms["layers"]):
        assert math.isnan(one.spearman)
        assert math.isnan(one.corrected)


def several(means: list[Array], choices: list[list[Choice]], seeds: tuple[int, ...]) -> Several:
    made = [
        Analysis(measured(draw(m, seeds=s, documents=30, spreads=CLEAR, rng=i)), splits=4)
        for i, (m, s) in enumerate(zip(means, seeds, strict=True))
    ]
    return Several(made, choices, [f"n{i}" for i in range(len(means))], draws=200)


@pytest.fixture(scope="module")
def three() -> Several:
    base = np.linspace(2, -2, 20)
    choices = [
        [Choice("good", (SETS[i],)), Choice("last", (SETS[19],)), Choice("once", (SETS[3],))][
            : 3 - i
        ]
        for i in (0, 1, 0)
    ]
    return several([base, base + 0.1 * np.cos(np.arange(20)), -base], choices, (3, 1, 2))


def test_each_pair_is_compared(three: Several) -> None:
    names = [(pair.first, pair.second) for pair in three.pairs]
    assert names == [("n0", "n1"), ("n0", "n2"), ("n1", "n2")]
    assert three.pairs[0].sets.spearman > 0.9
    assert three.pairs[1].sets.spearman < -0.9
    assert all(pair.same_documents for pair in three.pairs)
    assert [pair.one_seed for pair in three.pairs] == [("n1",), (), ("n1",)]
    everywhere = [
        layers
        for place, layers in enumerate(SETS)
        if all(one.best.candidates[place] for one in three.analyses)
    ]
    assert three.candidates == everywhere == []


def test_selectors_are_judged_over_all_landscapes(three: Several) -> None:
    assert [one is None for one in three.judgements["once"]] == [False, True, False]
    assert list(three.overall) == ["good", "last"] or list(three.overall) == ["last", "good"]
    means = [one.means for one in three.measured]
    skills = [(m - m.mean()) / (m.max() - m.mean()) for m in means]
    # good chooses the sets 0, 1, 0: all assignments of two different sets to these two places
    own = np.mean([skills[0][0], skills[1][1], skills[2][0]])
    drawn = [
        np.mean([skills[0][a], skills[1][b], skills[2][a]]) for a, b in permutations(range(20), 2)
    ]
    found = three.overall["good"]
    assert found.skill == pytest.approx(own)
    assert found.p_value == pytest.approx(np.mean([one >= own - 1e-9 for one in drawn]))
    assert found.corrected >= found.p_value
    assert three.overall["last"].least == pytest.approx(1 / 20)
    body = plain_numbers(as_json(three))
    assert body["selectors"]["once"]["overall"] is None
    assert len(body["pairs"]) == 3


def made(**changes: object) -> Landscape:
    found = landscape(draw(np.arange(20.0), documents=10))
    return replace(found, **{"settings": {"adaptation.budget": 98304}, **changes})  # type: ignore[arg-type]


def test_landscapes_that_can_not_be_compared_are_refused() -> None:
    def refusal(other: Landscape, column: str = "facts") -> str:
        with pytest.raises(UserError) as caught:
            check_comparable(made(), other, "runs/x", column, column)
        return str(caught.value)

    rng = np.random.default_rng(0)
    other = {"facts": rng.normal(size=(20, 3, 10))}
    check_comparable(made(), made(scores=other), "runs/x", "facts", "facts")
    seven = landscape(rng.normal(size=(35, 1, 9)), layers=7)
    assert refusal(seven).startswith("against=runs/x: its model has 7 layers, that of simulated 6;")
    pairs = landscape(rng.normal(size=(15, 1, 9)), size=2)
    assert "has sets of 2 layers, simulated sets of 3" in refusal(pairs)
    less = made(scores=other, settings={"adaptation.budget": 24576})
    assert "has a budget of 24,576, simulated of 98,304" in refusal(less)
    assert "budget of none, simulated of 98,304" in refusal(made(scores=other, settings={}))
    assert "has no metric=facts; choose one that both have, of none" in refusal(
        made(scores={"nll": other["facts"]})
    )
    assert "same scores as simulated, so it is the same landscape" in refusal(made())


def test_what_differs_between_landscapes_is_told() -> None:
    settings = {"adaptation.budget": 98304, "model.path": "other", "data.event": "second"}
    settings |= {"evaluation.base": True, "trainer.threads": 1}  # these change no outcome
    # the other was stored before there was this setting, which has its default
    settings |= {"kl_penalty.weight": 1.0, "kl_penalty.texts": []}
    assert differing(made(), made(settings=settings)) == {
        "data.event": (None, "second"),
        "model.path": (None, "other"),
    }
