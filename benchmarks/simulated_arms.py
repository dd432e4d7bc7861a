"""Arms that do not differ, simulated: how often a procedure calls them different, and its power.

Scores are

    y[arm, run, document] = document + arm x document + run + residual

with normal effects; spreads are standard deviations in units of the residual's. `few_seeds.py` asks
the questions and writes the tables.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.special import chdtri, erfc, expit, ndtr, stdtrit

from sumcirc.statistics import crossed_difference, holm
from sumcirc.statistics.seeds import MeanSquares, mean_squares

LEVELS = (0.05, 0.01, 0.001, 0.0001)
SPREADS = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0)
Margin = Callable[["Drawn", float], Any]


@dataclass(frozen=True)
class Cell:
    """Two arms of equal mean.

    Attributes:
        seeds: runs of the arm.
        control_seeds: runs of the control; None: the same seeds, compared seed by seed.
        spread: of runs.
        interaction: spread of arm x document.
        noisier: how many times the control's runs spread as widely as the arm's.
        arms: how many there are in the sweep; only pooled variances depend on it.
    """

    seeds: int = 3
    documents: int = 200
    spread: float = 0.5
    interaction: float = 0.0
    noisier: float = 1.0
    control_seeds: int | None = None
    arms: int = 7

    def __str__(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in asdict(self).items())

    @property
    def sides(self) -> tuple[tuple[int, float], tuple[int, float]]:
        """Of both arms: number of runs and variance of a run's mean over all documents."""
        control = self.control_seeds or self.seeds
        return (self.seeds, self.spread**2), (control, (self.noisier * self.spread) ** 2)


@dataclass(frozen=True)
class Drawn:
    """Mean squares of many simulated data sets of a cell, with the weight of each."""

    cell: Cell
    squares: MeanSquares
    weights: Any
    variance: float


# ---- levels: mean squares are drawn, the mean is integrated


@lru_cache(maxsize=64)
def chi_squares(degrees: int, count: int, stream: int, power: int) -> tuple[Any, Any]:
    """Mean squares of expectation 1 and their weights, [count]; small ones oftener by `power`."""
    rng = np.random.default_rng((degrees, stream))
    places = rng.permutation(count) + rng.random(count)  # one in each of `count` equal strata
    uniform = places / count
    values = chdtri(degrees, 1.0 - uniform**power) / degrees
    return values, power * uniform ** (power - 1)


def draw(cell: Cell, count: int) -> Drawn:
    """Draw the mean squares that `count` data sets of the cell would have."""
    documents, sides = cell.documents, cell.sides
    rests = [1.0 / (seeds * documents) for seeds, _ in sides]
    runs = [v / seeds + rest for (seeds, v), rest in zip(sides, rests, strict=True)]
    sizes = [seeds for seeds, _ in sides]
    if cell.control_seeds is None:
        runs, rests, sizes = [sum(runs)], [sum(rests)], sizes[:1]
    of_documents = 2 * cell.interaction**2 / documents + sum(rests)
    weights: Any = 1.0
    drawn = []
    for stream, (part, size) in enumerate(zip(runs, sizes, strict=True)):
        values, weight = chi_squares(size - 1, count, stream, 3)
        drawn.append((part * values, size - 1))
        weights = weights * weight
    rest: Any = sum(
        part * chi_squares((size - 1) * (documents - 1), count, 10 + stream, 1)[0]
        for stream, (part, size) in enumerate(zip(rests, sizes, strict=True))
    )
    values, _ = chi_squares(documents - 1, count, 20, 1)
    squares = MeanSquares(tuple(drawn), (of_documents * values, documents - 1), rest)
    variance = sum(runs) + of_documents - sum(rests)
    return Drawn(cell, squares, weights, variance)


def own(drawn: Drawn, p: float) -> Any:
    """The procedure of `sumcirc report`."""
    return drawn.squares.squared_margin(p)


def satterthwaite(drawn: Drawn, p: float) -> Any:
    """One t for the whole variance, its degrees of freedom by matching moments."""
    return matched(drawn.squares, p)


def pooled(drawn: Drawn, p: float) -> Any:
    """The same with one run variance for all arms of the sweep."""
    cell, squares = drawn.cell, drawn.squares
    seeds, arm = cell.sides[0]
    documents, count = cell.documents, len(drawn.weights)
    (first, degrees), *others = squares.runs
    if not others:
        raise ValueError("variances are pooled over arms, not over differences")
    left = (cell.arms - 2) * degrees
    total = seeds * degrees * (first + others[0][0])
    if left:
        total = total + (arm + 1 / documents) * left * chi_squares(left, count, 30, 1)[0]
    variance = total / (left + 2 * degrees) * 2 / seeds
    return matched(replace(squares, runs=((variance, left + 2 * degrees),)), p)


def matched(squares: MeanSquares, p: float) -> Any:
    """Squared margin with degrees of freedom after Satterthwaite."""
    parts = [*squares.runs, squares.documents]
    degrees = squares.variance**2 / sum(part**2 / f for part, f in parts)
    # a table of quantiles, exact to 1e-6, is a thousand times faster than a quantile for each
    table = np.geomspace(degrees.min(), degrees.max() + 1e-9, 2000)
    quantiles = np.interp(np.log(degrees), np.log(table), np.log(-stdtrit(table, p / 2)))
    return np.exp(2 * quantiles) * squares.variance


def error_rate(drawn: Drawn, p: float, margin: Margin = own) -> float:
    """Probability that a p-value is below `p` although the arms do not differ."""
    exceeds = erfc(np.sqrt(margin(drawn, p) / drawn.variance / 2))
    return float((drawn.weights * exceeds).mean() / np.mean(drawn.weights))


def levels(cell: Cell, count: int, margin: Margin = own) -> list[float]:
    """The error rate at each of `LEVELS`."""
    drawn = draw(cell, count)
    return [error_rate(drawn, p, margin) for p in LEVELS]


NAMED = {
    "2 seeds": Cell(seeds=2),
    "3 seeds": Cell(),
    "3 seeds, runs alike": Cell(spread=0.0),
    "3 seeds, 40 documents": Cell(documents=40),
    "3 seeds, 500 documents, spread 2": Cell(documents=500, spread=2.0),
    "3 seeds, arm x document 1": Cell(interaction=1.0),
    "5 seeds": Cell(seeds=5),
    "2 seeds, control 3 times noisier": Cell(seeds=2, noisier=3.0),
    "3 seeds, control 3 times noisier": Cell(noisier=3.0),
    "5 seeds, control 3 times noisier": Cell(seeds=5, noisier=3.0),
    "5 and 3 seeds, control 3 times noisier": Cell(seeds=5, noisier=3.0, control_seeds=3),
    "3 and 5 seeds": Cell(control_seeds=5),
}


def grid() -> Iterator[Cell]:
    """All cells of which the worst is sought."""
    for seeds, documents, spread, interaction, noisier in itertools.product(
        (2, 3, 4, 5, 10), (10, 40, 100, 200, 500), SPREADS, (0.0, 0.5, 2.0), (1 / 3, 1.0, 3.0)
    ):
        for control in (None, seeds, seeds + 2):
            if control is not None or noisier >= 1:  # differences have no sides
                yield Cell(seeds, documents, spread, interaction, noisier, control)


# ---- families: counted on whole arrays


@dataclass(frozen=True)
class Family:
    """A sweep in which no arm differs from the control; `noisy` is whose runs spread 3 times."""

    seeds: int
    arms: int
    documents: int
    spread: float
    noisy: str

    def __str__(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in asdict(self).items())


def families() -> Iterator[Family]:
    """Sweeps that are counted."""
    for seeds, arms, (documents, spread), noisy in itertools.product(
        (2, 3, 4, 5),
        (2, 4, 7, 10),
        ((40, 0.5), (200, 0.1), (200, 0.5), (500, 2.0)),
        ("none", "control", "arm"),
    ):
        yield Family(seeds, arms, documents, spread, noisy)


def count_family(family: Family, sweeps: int) -> dict[str, float]:
    """Shares of sweeps with a false claim and of p-values below 0.05, by the vectorized rule."""
    rng = np.random.default_rng(zlib.crc32(str(family).encode()))
    spreads = np.full(family.arms, family.spread)
    if family.noisy != "none":
        spreads[0 if family.noisy == "control" else 1] *= 3
    size = family.arms * family.seeds * family.documents
    wrong = below = done = 0
    while done < sweeps:
        many = min(sweeps - done, max(1, 2_000_000 // size))
        scores = rng.normal(size=(many, family.arms, family.seeds, family.documents))
        scores += spreads[:, None, None] * rng.normal(size=(many, family.arms, family.seeds, 1))
        # what documents have in common cancels in differences
        differences = scores[:, 1:] - scores[:, :1]
        squares = mean_squares([differences], differences.mean(axis=-2))
        square = differences.mean(axis=(-2, -1)) ** 2
        found = square > squares.squared_margin(0.05 / (family.arms - 1))
        if done == 0:
            agree(scores[:20], found[:20].any(axis=1))
        wrong += int(found.any(axis=1).sum())
        below += int((square[:, 0] > squares.squared_margin(0.05)[:, 0]).sum())
        done += many
    return {"family": wrong / sweeps, "one": below / sweeps}


def agree(scores: Any, found: Any) -> None:
    """Hold the vectorized rule against the functions that the report calls."""
    for sweep, claimed in zip(scores, found, strict=True):
        p_values = [crossed_difference(arm, sweep[0], paired=True).p_value for arm in sweep[1:]]
        if (min(holm(p_values)) < 0.05) != claimed:
            raise RuntimeError(f"the vectorized rule disagrees with the p-values {p_values}")


# ---- power


def detectable(cell: Cell, tests: int, count: int, margin: Margin = own) -> float:
    """Difference found in 80 % of sweeps at 0.05 / `tests`, in standard errors."""
    drawn = draw(cell, count)
    half = np.sqrt(margin(drawn, 0.05 / tests) / drawn.variance)

    def lacking(effect: float) -> float:
        found = ndtr(effect - half) + ndtr(-effect - half)
        return float((drawn.weights * found).mean() / np.mean(drawn.weights)) - 0.8

    return float(brentq(lacking, 0.0, 1e4, xtol=1e-4))  # pyright: ignore


# ---- shapes: runs or documents that are not normal


def shaped(shape: str, seeds: int, data_sets: int) -> list[float]:
    """Shares of p-values below each of `LEVELS`; 40 documents, two arms, the same seeds."""
    rng = np.random.default_rng(zlib.crc32(f"{shape} {seeds}".encode()))
    below = np.zeros(len(LEVELS))
    done = 0
    while done < data_sets:
        many = min(data_sets - done, 5000)
        differences = -np.diff(SHAPES[shape](rng, (many, 2, seeds, 40)), axis=1)[:, 0]
        squares = mean_squares([differences], differences.mean(axis=-2))
        square = differences.mean(axis=(-2, -1)) ** 2
        below += [(square > squares.squared_margin(p)).sum() for p in LEVELS]
        done += many
    return list(below / data_sets)


def bounded(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    """Like ROUGE of weak models: between 0 and 1, skewed, zeros; runs shift its logit."""
    many, arms, seeds, documents = shape
    hard = rng.normal(-1.5, 1.0, size=(many, 1, 1, documents))
    mean = expit(hard + 0.2 * rng.normal(size=(many, arms, seeds, 1)))
    return np.maximum(rng.beta(3 * mean, 3 * (1 - mean)) - 0.05, 0)


def facts(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    """Shares of four facts."""
    many, arms, seeds, documents = shape
    hard = rng.normal(-1.5, 1.0, size=(many, 1, 1, documents))
    return rng.binomial(4, expit(hard + 0.2 * rng.normal(size=(many, arms, seeds, 1)))) / 4


def runs_of(draw_runs: Callable[[np.random.Generator, tuple[int, ...]], Any]) -> Callable[..., Any]:
    """Normal documents, runs of another shape with variance 1."""

    def scores(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
        return rng.normal(size=shape) + draw_runs(rng, (*shape[:-1], 1))

    return scores


SHAPES: dict[str, Callable[..., Any]] = {
    "all normal": runs_of(lambda rng, shape: rng.normal(size=shape)),
    "bounded and skewed documents": bounded,
    "shares of four facts": facts,
    "runs uniform": runs_of(lambda rng, shape: 3**0.5 * rng.uniform(-1, 1, shape)),
    "runs exponential": runs_of(lambda rng, shape: rng.exponential(size=shape)),
    "runs t with 3 degrees": runs_of(lambda rng, shape: rng.standard_t(3, shape) / 3**0.5),
    "runs at two levels, half each": runs_of(lambda rng, shape: rng.choice((-1.0, 1.0), shape)),
}
