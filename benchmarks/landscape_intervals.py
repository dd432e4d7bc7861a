"""Do the intervals of `sumcirc placement A against=B` hold the true rank correlation?

    python benchmarks/landscape_intervals.py [--quick] [--results FOLDER]

Pairs of landscapes of 20 sets of 3 of 6 layers are simulated. Their true means are a sum over
layers plus a part of each set's own, both normal, with a given correlation between the two
landscapes; or, beyond the model of the intervals, they lie in two groups, as if one layer decided.
Noise is that of `placement.py`: sets interact with seeds and with documents. If both landscapes
have the same documents, half of the variance of the sets' interaction with documents is common. A
second landscape of one seed is judged by the means of that seed, as `docs/placement.md` says.
Scores can also be shares of four facts, which are neither normal nor of equal variance.

Counted over pairs: how often the interval holds the true rank correlation of the sets and of the
layers' effects, for the intervals of `sumcirc placement` (empirical Bayes) and for percentiles of
means of resampled seeds and documents; the mean width of both; and the mean distance of the
resamples' mean from the true correlation. Every cell has a seed of its own. One thread; a full run
takes some four CPU minutes.
"""

from __future__ import annotations

import argparse
import json
import math
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from placement import INSIDE, SETS, SIZE, table
from scipy.special import expit

from sumcirc.placement.landscape import Landscape, Measured
from sumcirc.placement.several import correlations
from sumcirc.statistics.ranks import spearman

RESULTS = Path(__file__).resolve().parent / "results"
NAME = "landscape_intervals"
PAIRS, DRAWS = 250, 1000
DOCUMENTS = 60
RUNS, SET_DOCUMENT, REST = 0.03, 0.1, 0.2  # standard deviations of the noise
EFFECTS = INSIDE.T / 10 - (1 - INSIDE).T / 10  # [layers, sets], by which effects are made of means
WAYS = ("bayes", "resampled")


@dataclass(frozen=True)
class Cell:
    """One kind of pair of landscapes.

    Attributes:
        name: name of the cell.
        correlation: correlation of the true means that is drawn from.
        seeds: number of seeds of each landscape.
        same: whether both have the same documents.
        shape: `normal`, `groups` or `facts`.
        size: spread of the true means, relative to that of `placement.py`.
    """

    name: str
    correlation: float
    seeds: tuple[int, int] = (3, 3)
    same: bool = True
    shape: str = "normal"
    size: float = 1.0


CELLS = [
    Cell("3 seeds, correlation 0.95", 0.95),
    Cell("3 seeds, correlation 0.6", 0.6),
    Cell("3 seeds, correlation 0", 0.0),
    Cell("3 seeds and 1, correlation 0.95", 0.95, (3, 1)),
    Cell("3 seeds and 1, correlation 0.6", 0.6, (3, 1)),
    Cell("3 seeds and 1, correlation 0", 0.0, (3, 1)),
    Cell("1 seed, correlation 0.6", 0.6, (1, 1)),
    Cell("3 seeds, different documents, correlation 0.6", 0.6, same=False),
    Cell("3 seeds, sets differ little, correlation 0.6", 0.6, size=0.5),
    Cell("3 seeds, sets differ much, correlation 0.6", 0.6, size=3.0),
    Cell("3 seeds, two groups, correlation 0.95", 0.95, shape="groups"),
    Cell("3 seeds, shares of four facts, correlation 0.6", 0.6, shape="facts"),
]


def true_means(cell: Cell, rng: np.random.Generator) -> Any:
    """Return true means of two landscapes, [2, sets]."""

    def both(count: int) -> Any:
        values = rng.normal(size=(2, count))
        rest = math.sqrt(1 - cell.correlation**2)
        return np.stack([values[0], cell.correlation * values[0] + rest * values[1]])

    layers = both(6) @ INSIDE.T / INSIDE.std() / 6**0.5
    if cell.shape == "groups":
        layers = 0.3 * layers + 2.0 * INSIDE[:, 0]
    return cell.size * SIZE * (layers + both(len(SETS))) / 2**0.5


def scores(cell: Cell, means: Any, rng: np.random.Generator) -> tuple[list[Any], Any]:
    """Return the scores [sets, seeds, documents] of both landscapes, and what they measure.

    The latter are the true means, [2, sets]; of a landscape with one seed those of this seed.
    """
    shared = rng.normal(size=(20, 1, DOCUMENTS))
    documents = 0.25 * rng.normal(size=(1, 1, DOCUMENTS))
    found, true = [], []
    for mean, seeds in zip(means, cell.seeds, strict=True):
        own = rng.normal(size=shared.shape)
        common = (shared + own) / 2**0.5 if cell.same else own
        runs = RUNS * rng.normal(size=(20, seeds, 1))
        logits = mean[:, None, None] + runs + documents + SET_DOCUMENT * common
        logits = logits + 0.05 * rng.normal(size=(1, seeds, DOCUMENTS))
        if cell.shape == "facts":
            found.append(rng.binomial(4, expit(4 * logits)) / 4)
            true.append(expected(mean))
        else:
            found.append(logits + REST * rng.normal(size=logits.shape))
            true.append(mean + runs[:, 0, 0] if seeds == 1 else mean)
    return found, np.stack(true)


def expected(means: Any) -> Any:
    """Return the expected share of facts for means of the logits, by Gauss-Hermite quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    spread = math.sqrt(RUNS**2 + 0.25**2 + SET_DOCUMENT**2 + 0.05**2)
    return expit(4 * (means[:, None] + spread * nodes)) @ weights / weights.sum()


def measured(values: Any, start: int) -> Measured:
    """Return scores as a landscape whose documents are numbered from `start`."""
    seeds, documents = values.shape[1:]
    names = tuple(str(start + number) for number in range(documents))
    whole = Landscape("simulated", 6, SETS, tuple(range(seeds)), names, {"facts": values})
    return whole.measured("facts")


def resampled(cell: Cell, values: list[Any], rng: np.random.Generator) -> Any:
    """Return means [2, draws, sets] of seeds and documents drawn with replacement."""
    found = []
    documents = _often(rng, DOCUMENTS)
    for scored in values:
        mine = documents if cell.same else _often(rng, DOCUMENTS)
        seeds = _often(rng, scored.shape[1])
        found.append(np.einsum("bs,asb->ba", seeds, scored @ mine.T))
    return np.stack(found)


def _often(rng: np.random.Generator, count: int) -> Any:
    """Return the share of each of `count` units in bootstrap resamples, [draws, count]."""
    return rng.multinomial(count, np.full(count, 1 / count), size=DRAWS) / count


def once(cell: Cell, rng: np.random.Generator) -> dict[str, float]:
    """Return everything that is counted in one pair of landscapes."""
    values, true = scores(cell, true_means(cell, rng), rng)
    start = 0 if cell.same else DOCUMENTS
    sets, effects = correlations(measured(values[0], 0), measured(values[1], start), draws=DRAWS)
    ours = sets, effects["layers"]
    means = resampled(cell, values, rng)
    result = {}
    for what, back, found in zip(("sets", "layers"), (np.eye(20), EFFECTS), ours, strict=True):
        truth = float(spearman(*(true @ back.T)))
        drawn = spearman(*(means @ back.T))
        ends = {"bayes": (found.low, found.high), "resampled": np.quantile(drawn, (0.025, 0.975))}
        for way, (low, high) in ends.items():
            result[f"{what}_{way}"] = float(low - 1e-12 <= truth <= high + 1e-12)
            result[f"{what}_{way}_width"] = float(high - low)
        result[f"{what}_true"] = truth
        result[f"{what}_bias"] = float(drawn.mean()) - truth
    return result


def count(cell: Cell, pairs: int) -> dict[str, float]:
    """Return the means over pairs of what is counted."""
    rng = np.random.default_rng(zlib.crc32(cell.name.encode()))
    found = [once(cell, rng) for _ in range(pairs)]
    return {name: float(np.mean([one[name] for one in found])) for name in found[0]}


def page(answers: dict[str, dict[str, float]], pairs: int) -> str:
    """Return the results as a Markdown page."""
    headings = ["", "sets", "sets, resampled", "layers", "layers, resampled"]
    names = [f"{what}_{way}" for what in ("sets", "layers") for way in WAYS]
    coverage = [
        [cell, *(f"{100 * one[name]:.1f}" for name in names)] for cell, one in answers.items()
    ]
    widths = [
        [cell, f"{one['sets_true']:.2f}", f"{one['sets_bias']:+.2f}"]
        + [f"{one[f'{name}_width']:.2f}" for name in names]
        for cell, one in answers.items()
    ]
    error = 100 * (0.95 * 0.05 / pairs) ** 0.5
    parts = [
        "# Coverage of the intervals between landscapes",
        f"Written by `{NAME}.py`, which describes the simulation;"
        " [docs/placement.md](../../../docs/placement.md#landscapes-against-each-other) has the"
        f" formulas. {pairs:,} pairs of landscapes per cell, so a coverage of 95 % is known to"
        f" {error:.1f} points (one standard error). *Resampled*: percentiles of the rank"
        " correlation of means of resampled seeds and documents.",
        "## Coverage of 95 % intervals of the rank correlation, in percent",
        table(headings, coverage),
        "## Mean width, and what resampling takes from the correlation of the sets",
        table(["", "true", "resampled minus true", *headings[1:]], widths),
    ]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Simulate the pairs, and print and write the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a rough figure in seconds")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    folder = options.results / NAME
    folder.mkdir(parents=True, exist_ok=True)
    pairs = 4 if options.quick else PAIRS
    answers = {}
    for cell in CELLS:
        answers[cell.name] = count(cell, pairs)
        print(cell.name, answers[cell.name], flush=True)
    body = {
        "pairs": pairs,
        "draws": DRAWS,
        "cells": {cell.name: asdict(cell) for cell in CELLS},
        "rates": answers,
    }
    (folder / "rates.json").write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
    text = page(answers, pairs)
    (folder / "README.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
