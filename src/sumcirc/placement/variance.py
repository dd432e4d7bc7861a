"""Analysis of variance of a landscape: sets of layers fixed, seeds and documents random.

The score of set a with seed s on document d is

    y_asd = mean + set_a + seed_s + document_d + (set seed)_as + (set document)_ad
            + (seed document)_sd + rest_asd

where `set_a` are constants that sum to zero and all other terms are independent with expectation
zero; every cell has one value, so the interaction of all three is part of the rest. With A sets, S
seeds and D documents the mean squares have the expectations

    sets            rest + D v_as + S v_ad + S D q       q = sum(set_a^2) / (A - 1)
    seeds           rest + D v_as + A v_sd + A D v_s
    documents       rest + S v_ad + A v_sd + A S v_d
    set x seed      rest + D v_as
    set x document  rest + S v_ad
    seed x document rest + A v_sd
    rest            rest

Solving them for the components gives unbiased estimators (S. R. Searle, G. Casella, C. E.
McCulloch, Variance Components, 1992, chapter 4). An estimate can be negative; it is kept as it is,
and counts as zero only in shares. Interactions and rest are tested exactly against the rest. The
other effects have no exact F test: the denominator is `set x seed + set x document - rest` for sets
(and alike for seeds and documents), with degrees of freedom after F. E. Satterthwaite (Biometrics
Bulletin 2, 1946), and is never taken below the larger of its first two terms.

**Variance of a run's mean.** If a set is drawn at random, trained with a random seed and scored on
D random documents, the variance of the mean score is

    choice      sum(set_a^2) / A
    seed        v_s + v_as
    documents   (v_d + v_ad + v_sd + rest) / D

**Contrasts.** A weighted sum of the sets' means with weights c that sum to zero has the variance
|c|^2 (set x seed + set x document - rest) / (S D): what all sets share, cancels. `Noise` estimates
it from all sets together, which assumes that they vary alike. With seeds few, the estimate for one
set alone would be useless (see `statistics.seeds`), while 20 sets with 3 seeds have 38 degrees of
freedom. `spread_test` tests the assumption. Margins add up the parts with a quantile for each, as
explained in `statistics.seeds`.

With one seed, seeds can't be told from the rest: components and margins are those of documents, and
hold for this seed only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sumcirc.placement.landscape import Array
from sumcirc.statistics.seeds import MeanSquares

CHOICE, SEED, DOCUMENT, REST = "sets", "seeds", "documents", "rest"
CHOICE_SEED, CHOICE_DOCUMENT = "set x seed", "set x document"
SEED_DOCUMENT = "seed x document"


@dataclass(frozen=True)
class Source:
    """A row of the table of an analysis of variance.

    Attributes:
        name: name of the effect.
        degrees: its degrees of freedom.
        mean_square: its mean square.
        component: unbiased estimate of its variance, which can be negative; for the sets the
            variance sum(set_a^2) / A of the constants.
        f: ratio of the mean square to its denominator; NaN for the rest, or if the denominator is
            zero.
        error_degrees: degrees of freedom of the denominator.
        p_value: p-value of the F test of the hypothesis that there is no such effect.
    """

    name: str
    degrees: int
    mean_square: float
    component: float
    f: float = math.nan
    error_degrees: float = math.nan
    p_value: float = math.nan


@dataclass(frozen=True)
class Squares:
    """Mean squares of contrasts of sets, and of their interactions with seeds and documents.

    Attributes:
        effect: (mean square, degrees of freedom) of the contrasts' means.
        seeds, documents, rest: the same of their interaction with seeds, with documents, and of the
            rest. With one seed, `seeds` has no degrees of freedom, and `documents` and `rest` are
            equal.
        count: seeds times documents.
    """

    effect: tuple[float, int]
    seeds: tuple[float, int]
    documents: tuple[float, int]
    rest: tuple[float, int]
    count: int

    @property
    def error(self) -> float:
        """Unbiased estimate of what `effect` would be without an effect."""
        if not self.seeds[1]:
            return self.documents[0]
        return self.seeds[0] + self.documents[0] - self.rest[0]

    @property
    def noise(self) -> Noise:
        """The variance of a contrast of the sets' means whose squared weights sum to one."""
        documents = self.documents[0] / self.count, self.documents[1]
        if not self.seeds[1]:
            return Noise(MeanSquares((), documents, 0.0))
        runs = ((self.seeds[0] / self.count, self.seeds[1]),)
        return Noise(MeanSquares(runs, documents, self.rest[0] / self.count))

    def test(self) -> tuple[float, float, float]:
        """Return F, the denominator's degrees of freedom and the p-value for the effect."""
        if not self.seeds[1]:
            return f_test(self.effect, [self.documents])
        return f_test(self.effect, [self.seeds, self.documents], self.rest)


@dataclass(frozen=True)
class Noise:
    """The estimated variance of a contrast of the sets' means whose squared weights sum to one."""

    squares: MeanSquares

    @property
    def variance(self) -> float:
        """The variance, no less than its part due to seeds or to documents alone."""
        return float(self.squares.variance)

    def margin(self, quantile: Callable[[int], float]) -> float:
        """Return what the contrast exceeds with small probability if its expectation is zero.

        Args:
            quantile: function from degrees of freedom to the critical value in standard errors.
        """
        return math.sqrt(self.squares.squared_margin_by(lambda degrees: quantile(degrees) ** 2))

    @property
    def least_degrees(self) -> int:
        """The smallest degrees of freedom of its parts."""
        return min([degrees for _, degrees in self.squares.runs] + [self.squares.documents[1]])


@dataclass(frozen=True)
class Anova:
    """The analysis of variance of a landscape.

    Attributes:
        sources: the rows of the table, by name.
        squares: mean squares of the sets.
        shares: variance of a run's mean due to `choice`, `seed` and `documents`, where negative
            estimates count as zero; `seed` is NaN with one seed.
    """

    sources: dict[str, Source]
    squares: Squares
    shares: dict[str, float]

    @property
    def noise(self) -> Noise:
        """The variance of a contrast of the sets' means whose squared weights sum to one."""
        return self.squares.noise

    @property
    def reliability(self) -> float:
        """Share of the variance of the sets' means that is not noise, from 0 to 1."""
        effect = self.squares.effect[0]
        return max(0.0, 1.0 - self.squares.error / effect) if effect > 0 else 0.0


def contrast_squares(contrasts: Array) -> Squares:
    """Return mean squares of orthonormal contrasts of the sets.

    Args:
        contrasts: [contrasts, seeds, documents] values of each contrast.
    """
    count, seeds, documents = contrasts.shape
    whole = contrasts.mean(axis=(1, 2))
    by_seed = contrasts.mean(axis=2)
    by_document = contrasts.mean(axis=1)
    rest = contrasts - by_seed[:, :, None] - by_document[:, None] + whole[:, None, None]
    of_documents = count * (documents - 1)
    effect = seeds * documents * float((whole**2).sum()) / count, count
    documents_part = (
        seeds * float(((by_document - whole[:, None]) ** 2).sum()) / of_documents,
        of_documents,
    )
    if seeds < 2:
        return Squares(effect, (math.nan, 0), documents_part, documents_part, documents)
    of_seeds = count * (seeds - 1)
    of_rest = of_seeds * (documents - 1)
    seeds_part = documents * float(((by_seed - whole[:, None]) ** 2).sum()) / of_seeds, of_seeds
    rest_part = float((rest**2).sum()) / of_rest, of_rest
    return Squares(effect, seeds_part, documents_part, rest_part, seeds * documents)


def orthonormal(sets: int) -> Array:
    """Return orthonormal contrasts of `sets` values, [sets - 1, sets]."""
    basis, _ = np.linalg.qr(np.eye(sets) - 1.0 / sets)
    return basis[:, : sets - 1].T


def anova(scores: Array) -> Anova:
    """Return the analysis of variance of a landscape's scores.

    Args:
        scores: [sets, seeds, documents], finite.
    """
    sets, seeds, documents = scores.shape
    scores = scores - scores.flat[0]  # so that equal scores give zeros, and no rounding
    squares = contrast_squares(np.tensordot(orthonormal(sets), scores, axes=1))
    choice = (squares.effect[0] - squares.error) * (sets - 1) / (sets * squares.count)
    sources = {CHOICE: Source(CHOICE, sets - 1, squares.effect[0], choice, *squares.test())}
    # what all sets share: the mean over sets times sqrt(sets) is a normed contrast of its own
    common = contrast_squares(np.sqrt(sets) * scores.mean(axis=0, keepdims=True))
    if seeds < 2:
        _one_seed(sources, squares, common, sets)
        rest = sources[DOCUMENT].component + sources[REST].component
        shares = {"choice": max(0.0, choice), "seed": math.nan, "documents": rest / documents}
        return Anova(sources, squares, shares)
    ms_as, ms_ad, ms_sd, rest = squares.seeds, squares.documents, common.rest, squares.rest
    of_seeds, of_documents = common.seeds, common.documents
    sources[SEED] = Source(
        *(SEED, of_seeds[1], of_seeds[0]),
        (of_seeds[0] - ms_as[0] - ms_sd[0] + rest[0]) / (sets * documents),
        *f_test(of_seeds, [ms_as, ms_sd], rest),
    )
    sources[DOCUMENT] = Source(
        *(DOCUMENT, of_documents[1], of_documents[0]),
        (of_documents[0] - ms_ad[0] - ms_sd[0] + rest[0]) / (sets * seeds),
        *f_test(of_documents, [ms_ad, ms_sd], rest),
    )
    for name, square, repeats in (
        (CHOICE_SEED, ms_as, documents),
        (CHOICE_DOCUMENT, ms_ad, seeds),
        (SEED_DOCUMENT, ms_sd, sets),
    ):
        component = (square[0] - rest[0]) / repeats
        sources[name] = Source(name, square[1], square[0], component, *f_test(square, [rest]))
    sources[REST] = Source(REST, rest[1], rest[0], rest[0])
    parts = {name: max(0.0, source.component) for name, source in sources.items()}
    shares = {
        "choice": parts[CHOICE],
        "seed": parts[SEED] + parts[CHOICE_SEED],
        "documents": sum(parts[n] for n in (DOCUMENT, CHOICE_DOCUMENT, SEED_DOCUMENT, REST))
        / documents,
    }
    return Anova(sources, squares, shares)


def _one_seed(sources: dict[str, Source], squares: Squares, common: Squares, sets: int) -> None:
    """Add the rows of documents and of the rest for a landscape with one seed."""
    square, rest = common.documents, squares.documents
    component = max(0.0, (square[0] - rest[0]) / sets)
    sources[DOCUMENT] = Source(DOCUMENT, square[1], square[0], component, *f_test(square, [rest]))
    sources[REST] = Source(REST, rest[1], rest[0], rest[0])


def f_test(
    effect: tuple[float, int],
    errors: list[tuple[float, int]],
    shared: tuple[float, int] = (0.0, 1),
) -> tuple[float, float, float]:
    """Return F, the denominator's degrees of freedom and the p-value.

    The denominator is the sum of `errors` minus `shared`, but no less than the largest of `errors`.

    Args:
        effect: (mean square, degrees of freedom) of the effect.
        errors: the same of the parts of the denominator.
        shared: the same of what the parts of the denominator have in common.
    """
    from scipy.stats import f as f_distribution

    if len(errors) == 1:
        below, degrees = errors[0][0], float(errors[0][1])
    else:
        total = sum(square for square, _ in errors) - shared[0]
        parts = [*errors, shared]
        degrees = total**2 / max(sum(x**2 / f for x, f in parts), 1e-300)
        largest = max(errors)
        below = max(total, largest[0])
        if total <= largest[0]:
            degrees = float(largest[1])
    if below <= 0:
        return math.nan, math.nan, math.nan
    ratio = effect[0] / below
    return ratio, degrees, float(f_distribution.sf(ratio, effect[1], degrees))


def spread_test(scores: Array, draws: int = 4000) -> tuple[Array, float]:
    """Return how much each set's runs vary, and a p-value for the hypothesis that all vary alike.

    The statistic is the largest set's share of all sums of squares of the interaction of sets and
    seeds (W. G. Cochran, The distribution of the largest of a set of estimated variances as a
    fraction of their total, Annals of Eugenics 11, 1941). Its distribution is simulated for normal
    effects of equal variance.

    Args:
        scores: [sets, seeds, documents], finite.
        draws: number of simulated landscapes.

    Returns:
        [sets] standard deviation of each set's runs over seeds, after the seeds' common effect is
        removed; and the p-value. NaN with one seed.
    """
    sets, seeds, _ = scores.shape
    if seeds < 2:
        return np.full(sets, np.nan), math.nan
    found = _interaction(scores.mean(axis=2)) ** 2
    spreads = np.sqrt(found.sum(axis=-1) / ((seeds - 1) * (1 - 1 / sets)))
    if found.sum() <= 1e-24 * max(float((scores**2).max()), 1e-300):
        return spreads, 1.0
    noise = np.random.default_rng(0).normal(size=(draws, sets, seeds))
    drawn = (_interaction(noise) ** 2).sum(axis=-1)
    largest = (drawn / drawn.sum(axis=-1, keepdims=True)).max(axis=-1)
    share = (found.sum(axis=-1) / found.sum()).max()
    return spreads, float((1 + (largest >= share).sum()) / (draws + 1))


def _interaction(means: Array) -> Array:
    """Return what neither set nor seed explains, [..., sets, seeds]."""
    left = means - means.mean(axis=-1, keepdims=True) - means.mean(axis=-2, keepdims=True)
    return left + means.mean(axis=(-2, -1), keepdims=True)
