"""The analysis of a landscape in one score, and selectors judged by it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from sumcirc.placement.best import Against, RankSets, rank_sets, ranks_of, with_the_best
from sumcirc.placement.landscape import Array, Measured
from sumcirc.placement.landscape_files import Choice
from sumcirc.placement.selectors import Agreement, agreement, permutation_p, skills_by_set
from sumcirc.placement.skill import Skill, SplitBest, skill, split_best, weights_of
from sumcirc.placement.terms import (
    BEYOND_KINDS,
    Effect,
    Prediction,
    Term,
    effects,
    predictions,
    terms,
    unit_effects,
)
from sumcirc.placement.units import Name, UnitSet, set_named
from sumcirc.placement.variance import Anova, anova, spread_test
from sumcirc.statistics import Estimate, crossed_difference

ALIKE = 0.05  # below this p-value sets are said to vary differently over seeds


@dataclass(frozen=True)
class SetResult:
    """A set of layers, or a single module, in the landscape.

    Attributes:
        units: its units.
        mean: mean over seeds and documents.
        deviation: mean minus the mean of all sets.
        low, high: ends of the interval of the deviation, for this set alone.
        rank: rank by the mean; 1 is the best.
        rank_low, rank_high: the ranks it may have, for all sets at once.
        gap_low, gap_high: ends of the interval of mean - best other mean, for all sets at once.
        candidate: whether it can't be told from the best set.
        spread: standard deviation of its runs over seeds, without the seeds' common effect.
    """

    units: UnitSet
    mean: float
    deviation: float
    low: float
    high: float
    rank: int
    rank_low: int
    rank_high: int
    gap_low: float
    gap_high: float
    candidate: bool
    spread: float


@dataclass(frozen=True)
class Judgement:
    """A selector judged by where its choice lies among all sets.

    Attributes:
        name: name of the selector.
        sets: the chosen sets, one for each time it chose.
        mean: mean score of the chosen sets.
        rank: mean rank of the chosen sets.
        skill: its skill with the interval.
        regret_low: regret by halves of seeds and documents, which is biased down.
        regret_high: regret by the means as they are, which is biased up.
        candidates: how many of its choices can't be told from the best set.
        p_value: probability that random sets have at least this mean.
        agreement: agreement of its scores of layers or modules with their effects; None without
            scores.
    """

    name: str
    sets: tuple[UnitSet, ...]
    mean: float
    rank: float
    skill: Skill
    regret_low: float
    regret_high: float
    candidates: int
    p_value: float
    agreement: Agreement | None


@dataclass(frozen=True)
class Analysis:
    """The analysis of a landscape in one score.

    Attributes:
        measured: the scores.
        confidence: level of the intervals.
    """

    measured: Measured
    confidence: float = 0.95
    splits: int = field(default=400, kw_only=True)

    @cached_property
    def variance(self) -> Anova:
        """The analysis of variance."""
        return anova(self.measured.scores)

    @cached_property
    def best(self) -> Against:
        """All sets compared with the best of the others."""
        return with_the_best(self.measured.means, self.variance.noise, self.confidence)

    @cached_property
    def ranks(self) -> RankSets:
        """The ranks that the sets may have."""
        return rank_sets(self.measured.means, self.variance.noise, self.confidence)

    @cached_property
    def spread(self) -> tuple[Array, float]:
        """How much each set's runs vary, and the p-value of the hypothesis that all vary alike."""
        return spread_test(self.measured.scores)

    @cached_property
    def split(self) -> SplitBest:
        """The best set found on half of the seeds and documents, measured on the other half."""
        return split_best(self.measured.scores, self.splits)

    @cached_property
    def terms(self) -> list[Term]:
        """Terms of layers, pairs and so on, or of layers and kinds of module."""
        return terms(self.measured)

    @property
    def beyond(self) -> Term | None:
        """The term of all that doesn't add up over layers, or over layer and kind; None without."""
        names = f"beyond {self.measured.landscape.units.words}", BEYOND_KINDS
        return next((term for term in self.terms if term.name in names), None)

    @cached_property
    def effects(self) -> list[Effect]:
        """The effect of each layer, or of each layer and each kind of module."""
        return effects(self.measured, self.confidence)

    @cached_property
    def unit_effects(self) -> tuple[Array, float]:
        """Each unit's effect, [units], and the share of their variance that is not noise."""
        return unit_effects(self.measured)

    @cached_property
    def predictions(self) -> list[Prediction]:
        """How well sets that were not measured are predicted."""
        return predictions(self.measured, self.variance.noise)

    @cached_property
    def sets(self) -> list[SetResult]:
        """All sets, the best first."""
        from scipy.special import stdtrit

        means, count = self.measured.means, len(self.measured.means)
        tail = (1 - self.confidence) / 2
        margin = math.sqrt(1 - 1 / count) * self.variance.noise.margin(
            lambda degrees: float(-stdtrit(degrees, tail))
        )
        ranks, deviations = ranks_of(means), means - means.mean()
        found = [
            SetResult(
                chosen,
                float(means[i]),
                float(deviations[i]),
                float(deviations[i] - margin),
                float(deviations[i] + margin),
                int(ranks[i]),
                int(self.ranks.low[i]),
                int(self.ranks.high[i]),
                float(self.best.low[i]),
                float(self.best.high[i]),
                bool(self.best.candidates[i]),
                float(self.spread[0][i]),
            )
            for i, chosen in enumerate(self.measured.landscape.sets)
        ]
        return sorted(found, key=lambda one: (one.rank, one.units))

    @cached_property
    def others(self) -> Mapping[str, Estimate]:
        """Other arms minus the mean of all sets, seed by seed, by label."""
        common = self.measured.scores.mean(axis=0)
        return {
            label: crossed_difference(values, common, True, self.confidence)
            for label, values in self.measured.others.items()
        }

    def judged(self, choice: Choice) -> Judgement:
        """Judge a selector by its choices.

        Args:
            choice: the units that it chose.

        Raises:
            UserError: it chose units that are no set of the landscape.
        """
        landscape, means = self.measured.landscape, self.measured.means
        units, size = landscape.units, landscape.size
        named = [[units.name(unit) for unit in chosen] for chosen in choice.sets]
        places = [landscape.places[set_named(choice.name, names, units, size)] for names in named]
        weights = weights_of(places, len(means))
        differ = np.ptp(means) > 0
        return Judgement(
            choice.name,
            choice.sets,
            float(weights @ means),
            float(weights @ ranks_of(means)),
            skill(means, weights, self.variance.noise, self.confidence),
            float(weights @ self.split.regret),
            float(means.max() - weights @ means),
            int(self.best.candidates[places].sum()),
            permutation_p([skills_by_set(means)], [places])[0] if differ else 1.0,
            None if choice.scores is None else agreement(choice.scores, *self.unit_effects),
        )


def as_json(analysis: Analysis, judgements: Sequence[Judgement]) -> dict[str, Any]:
    """Return an analysis as plain containers, with undefined numbers as NaN.

    Args:
        analysis: the analysis.
        judgements: selectors judged by it.
    """
    from dataclasses import asdict

    measured, variance = analysis.measured, analysis.variance
    landscape, units = measured.landscape, measured.landscape.units

    def named(chosen: UnitSet) -> list[Name]:
        return [units.name(unit) for unit in chosen]

    return {
        "landscape": landscape.name,
        "metric": measured.metric,
        "confidence": analysis.confidence,
        "layers": landscape.layers,
        "modules": list(landscape.modules),
        "size": landscape.size,
        "seeds": list(landscape.seeds),
        "documents": measured.scores.shape[2],
        "dropped_documents": measured.dropped,
        "mean": float(measured.means.mean()),
        "anova": [asdict(source) for source in variance.sources.values()],
        "variance_of_a_runs_mean": variance.shares,
        "reliability": {"sets": variance.reliability, units.words: analysis.unit_effects[1]},
        "alike_p": analysis.spread[1],
        "margins": {"best": analysis.best.margin, "ranks": analysis.ranks.margin},
        "sets": [{**asdict(one), "units": named(one.units)} for one in analysis.sets],
        "terms": [asdict(term) for term in analysis.terms],
        "effects": [asdict(effect) for effect in analysis.effects],
        "predictions": [asdict(one) for one in analysis.predictions],
        "best_found_on_half": {
            "gain": analysis.split.gain,
            "splits": analysis.split.splits,
            "seeds_split": analysis.split.of_seeds,
        },
        "others_minus_mean": {label: asdict(one) for label, one in analysis.others.items()},
        "selectors": [
            {**asdict(one), "sets": [named(chosen) for chosen in one.sets]} for one in judgements
        ],
    }
