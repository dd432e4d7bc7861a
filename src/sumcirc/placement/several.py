"""Two landscapes against each other: do the same sets, and the same layers, pay in both?

What is known of the true means is noisy, and if both landscapes have the same documents, some of
the noise is common to both: a document may be easy or hard for a set in both. For each orthonormal
contrast k of the sets' means (all for the sets; those in the space of layers, or of kinds of
module, for their effects, see `terms`), the pair of true values t_k and the pair v_k measured are
modelled by

    t_k ~ N(0, T),  v_k = t_k + noise,  noise ~ N(0, N),
    T = mean of v_k v_k' - N, without negative eigenvalues

with N [2, 2] by the analysis of variance: the variance of a contrast in each landscape, and across
landscapes (only with the same documents) that of its means over seeds by document.

**Corrected correlation**: Pearson's correlation of the true values, mean v_k v_k' - N off the
diagonal over the root of its diagonal (C. Spearman, American Journal of Psychology 15, 1904, here
with common noise). It can lie beyond 1, and is undefined where sets vary no more than their noise.

**Rank correlation** (Spearman) of the measured values, with an interval for that of the true
values: draws of t given v (empirical Bayes; C. N. Morris, Journal of the American Statistical
Association 78, 1983), each with T estimated anew from v plus another draw of noise, since T isn't
known either. Resampled means would not do: they are noisier than the measured ones, which are
noisier than the true ones, so that correlations fall with each step. With one seed, N has no
differences between seeds, and all of this holds for that seed only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from sumcirc.placement.analysis import Analysis, Judgement
from sumcirc.placement.comparable import differing
from sumcirc.placement.landscape import Array, Landscape, Measured
from sumcirc.placement.landscape_files import Choice
from sumcirc.placement.selectors import OverLandscapes, over_landscapes
from sumcirc.placement.terms import differences, parts_of, spaces
from sumcirc.placement.units import Name, UnitSet
from sumcirc.placement.variance import contrast_squares, orthonormal
from sumcirc.statistics.ranks import spearman

DRAWS = 4000


@dataclass(frozen=True)
class Correlation:
    """Agreement between the values of sets, or of layers, in two landscapes.

    Attributes:
        spearman: rank correlation of the measured values.
        low, high: ends of the interval of that of the true values.
        pearson: correlation of the measured values.
        corrected: correlation of the true values, by their reliability; NaN if it is undefined.
    """

    spearman: float
    low: float
    high: float
    pearson: float
    corrected: float


@dataclass(frozen=True)
class Pair:
    """Two landscapes compared.

    Attributes:
        first, second: their names.
        sets: correlation of the sets' means.
        effects: correlation of the effects of layers, or of layers and of kinds of module, by the
            name of the term; empty if the sets are single layers.
        same_documents: whether both were scored on the same documents.
        one_seed: names of those with one seed, for which the intervals hold for that seed only.
    """

    first: str
    second: str
    sets: Correlation
    effects: Mapping[str, Correlation]
    same_documents: bool
    one_seed: tuple[str, ...]


@dataclass(frozen=True)
class Several:
    """Landscapes of the same sets, and selectors judged over all of them.

    Attributes:
        analyses: the analysis of each landscape.
        choices: what selectors chose in each landscape.
        names: a different name for each landscape.
        draws: number of draws of the true means, for intervals.
    """

    analyses: Sequence[Analysis]
    choices: Sequence[Sequence[Choice]]
    names: Sequence[str]
    draws: int = field(default=DRAWS, kw_only=True)

    @property
    def measured(self) -> list[Measured]:
        """The scores of each landscape."""
        return [one.measured for one in self.analyses]

    @property
    def sets(self) -> tuple[UnitSet, ...]:
        """The sets, which all landscapes have."""
        return self.measured[0].landscape.sets

    @cached_property
    def pairs(self) -> list[Pair]:
        """All pairs of landscapes, compared."""
        confidence = self.analyses[0].confidence
        found = []
        for place, (one, name) in enumerate(zip(self.measured, self.names, strict=True)):
            for other, second in zip(self.measured[:place], self.names, strict=False):
                sets, effects = correlations(other, one, confidence, self.draws)
                single = tuple(
                    label
                    for label, which in ((second, other), (name, one))
                    if which.scores.shape[1] == 1
                )
                same = other.documents == one.documents
                found.append(Pair(second, name, sets, effects, same, single))
        return found

    @cached_property
    def candidates(self) -> list[UnitSet]:
        """The sets that can't be told from the best one in any landscape."""
        every = np.all([one.best.candidates for one in self.analyses], axis=0)
        return [chosen for chosen, kept in zip(self.sets, every, strict=True) if kept]

    @cached_property
    def judgements(self) -> dict[str, list[Judgement | None]]:
        """Each selector judged in each landscape; None where it did not choose."""
        names = dict.fromkeys(choice.name for one in self.choices for choice in one)
        by_name = [{choice.name: choice for choice in one} for one in self.choices]
        return {
            name: [
                analysis.judged(chosen[name]) if name in chosen else None
                for analysis, chosen in zip(self.analyses, by_name, strict=True)
            ]
            for name in names
        }

    @cached_property
    def overall(self) -> dict[str, OverLandscapes]:
        """The mean skill of each selector that chose in all landscapes, the best first."""
        places = self.measured[0].landscape.places
        everywhere = {
            name: [[places[chosen] for chosen in one.sets] for one in found if one]
            for name, found in self.judgements.items()
            if all(found)
        }
        means = [one.means for one in self.measured]
        if not everywhere or any(np.ptp(one) == 0 for one in means):
            return {}
        found = over_landscapes(means, everywhere)
        return dict(sorted(found.items(), key=lambda item: (-item[1].skill, item[0])))


def correlations(
    one: Measured, other: Measured, confidence: float = 0.95, draws: int = DRAWS
) -> tuple[Correlation, dict[str, Correlation]]:
    """Return how the sets' means, and how the effects of each term, agree in two landscapes.

    Args:
        one, other: the landscapes' scores, of the same sets.
        confidence: level of the intervals.
        draws: number of draws of the true values.
    """
    landscape = one.landscape
    same = one.documents == other.documents

    def agreement(basis: Array, values: Array) -> Correlation:
        found = contrasted(one.scores, other.scores, basis, same)
        return _correlation(found, values @ basis.T, confidence, draws)

    count = len(landscape.sets)
    bases = spaces(landscape)
    return agreement(orthonormal(count), np.eye(count)), {
        term: agreement(bases[term], differences(inside).T)
        for term, (_, inside) in parts_of(landscape).items()
    }


@dataclass(frozen=True)
class Contrasts:
    """Contrasts of the sets' means in two landscapes.

    Attributes:
        values: [contrasts, 2] as measured.
        noise: [2, 2] covariance of the noise of a contrast in both.
    """

    values: Array
    noise: Array

    @property
    def true(self) -> Array:
        """Unbiased estimate of the mean product of the true values, [2, 2]."""
        return self.values.T @ self.values / len(self.values) - self.noise


def contrasted(one: Array, other: Array, basis: Array, same: bool) -> Contrasts:
    """Return contrasts of the means in two landscapes, with their noise.

    Args:
        one, other: [sets, seeds, documents] scores.
        basis: [contrasts, sets] orthonormal contrasts of the sets.
        same: whether both have the same documents.
    """
    # relative to the first set, so that equal scores give zeros, and no rounding
    both = [np.tensordot(basis, scores - scores[:1], axes=1) for scores in (one, other)]
    values = np.stack([scores.mean(axis=(1, 2)) for scores in both], axis=1)
    squares = [contrast_squares(scores) for scores in both]
    noise = np.diag([max(found.error, 0.0) / found.count for found in squares])
    if same:
        count = one.shape[2]
        apart = [
            scores.mean(axis=1) - mean[:, None] for scores, mean in zip(both, values.T, strict=True)
        ]
        shared = float((apart[0] * apart[1]).sum()) / (len(basis) * count * (count - 1))
        noise[0, 1] = noise[1, 0] = shared
    return Contrasts(values, noise)


def _correlation(found: Contrasts, back: Array, confidence: float, draws: int) -> Correlation:
    """Return the correlation of values in two landscapes.

    Args:
        found: contrasts of the values.
        back: [values, contrasts] by which values are made of contrasts.
        confidence: level of the interval.
        draws: number of draws of the true values.
    """
    values, true = back @ found.values, found.true
    corrected = (
        true[0, 1] / math.sqrt(true[0, 0] * true[1, 1]) if true.diagonal().min() > 0 else math.nan
    )
    if (np.ptp(values, axis=0) == 0).any():
        return Correlation(math.nan, math.nan, math.nan, math.nan, math.nan)
    drawn = np.einsum("vk,rkl->rvl", back, true_values(found, draws))
    ranks = spearman(drawn[..., 0], drawn[..., 1])
    tail = (1 - confidence) / 2
    low, high = (np.quantile(ranks[np.isfinite(ranks)], end) for end in (tail, 1 - tail))
    return Correlation(
        float(spearman(values[:, 0], values[:, 1])),
        float(low),
        float(high),
        float(np.corrcoef(values[:, 0], values[:, 1])[0, 1]),
        corrected,
    )


def true_values(found: Contrasts, draws: int) -> Array:
    """Return draws of the true values given the measured ones, [draws, contrasts, 2].

    Args:
        found: the measured contrasts.
        draws: number of draws.
    """
    rng = np.random.default_rng(0)
    values, count = found.values, len(found.values)
    noise = _root(found.noise)
    again = values + rng.normal(size=(draws, *values.shape)) @ noise
    spread = np.einsum("rki,rkj->rij", again, again) / count - 2 * found.noise
    true = _without_negative(spread)  # [draws, 2, 2]
    gain = true @ np.linalg.pinv(true + found.noise, hermitian=True)
    left = _root(_without_negative(true - gain @ true))
    middle = np.einsum("rij,kj->rki", gain, values)
    return middle + np.einsum("rki,rij->rkj", rng.normal(size=middle.shape), left)


def _without_negative(matrix: Array) -> Array:
    """Return the nearest positive semidefinite matrices, [..., n, n], to symmetric ones."""
    roots, vectors = np.linalg.eigh(matrix)
    return (vectors * np.maximum(roots, 0.0)[..., None, :]) @ np.swapaxes(vectors, -1, -2)


def _root(matrix: Array) -> Array:
    """Return the symmetric square root of positive semidefinite matrices [..., n, n]."""
    roots, vectors = np.linalg.eigh(matrix)
    sizes = np.sqrt(np.maximum(roots, 0.0))[..., None, :]
    return (vectors * sizes) @ np.swapaxes(vectors, -1, -2)


def as_json(several: Several) -> dict[str, Any]:
    """Return landscapes compared as plain containers, with undefined numbers as NaN.

    Args:
        several: the landscapes.
    """
    from dataclasses import asdict

    first = several.measured[0].landscape
    return {
        "landscapes": [
            {
                "name": name,
                "seeds": list(one.measured.landscape.seeds),
                "documents": len(one.measured.documents),
                "mean": float(one.measured.means.mean()),
                "reliability": {
                    "sets": one.variance.reliability,
                    first.units.words: one.unit_effects[1],
                },
                "differs": _plain(differing(first, one.measured.landscape)),
            }
            for name, one in zip(several.names, several.analyses, strict=True)
        ],
        "metric": several.measured[0].metric,
        "confidence": several.analyses[0].confidence,
        "draws": several.draws,
        "layers": first.layers,
        "modules": list(first.modules),
        "size": first.size,
        "pairs": [asdict(pair) for pair in several.pairs],
        "candidates_in_all": [_named(chosen, first) for chosen in several.candidates],
        "selectors": {
            name: {
                "judgements": [
                    None
                    if one is None
                    else {**asdict(one), "sets": [_named(chosen, first) for chosen in one.sets]}
                    for one in found
                ],
                "overall": asdict(several.overall[name]) if name in several.overall else None,
            }
            for name, found in several.judgements.items()
        },
    }


def _named(chosen: UnitSet, landscape: Landscape) -> list[Name]:
    return list(map(landscape.units.name, chosen))


def _plain(values: Mapping[str, tuple[Any, Any]]) -> dict[str, list[Any]]:
    return {name: list(both) for name, both in values.items()}
