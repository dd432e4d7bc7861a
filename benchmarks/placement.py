"""Do the intervals of `sumcirc placement` hold what they promise? Simulated landscapes.

    python benchmarks/placement.py [--quick] [--results FOLDER]

20 sets of 3 of 6 layers, scores as in `sumcirc.placement.variance` with normal effects. True means:
`equal`; `spread`: a sum over layers plus noise of the same size; `one best`: one set above the
others by as much. Counted over landscapes: how often

- all of Hsu's intervals against the best, and all rank sets, are right at once,
- the skill's interval holds the true skill of the best, the middle and the worst set,
- a layer's interval holds its true effect, as a mean over layers,
- the F tests of sets and of pairs and triples reject at 5 %, where there is nothing to find,

and where the expectations of both estimates of regret lie around the true regret of the middle set.
Beside the model itself there are cases that it excludes: layers that interact with seeds and
documents, so that similar sets share noise; one set whose runs vary three times as much; documents
that are shares of four facts. Every cell has a seed of its own. One thread; a full run takes about
two CPU minutes.
"""

from __future__ import annotations

import argparse
import json
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit

from sumcirc.placement.analysis import Analysis
from sumcirc.placement.landscape import Landscape, Measured, all_sets
from sumcirc.placement.skill import plug_in_skill, skill, weights_of
from sumcirc.placement.terms import membership

RESULTS = Path(__file__).resolve().parent / "results"
SETS = all_sets(6, 3)
INSIDE = membership(SETS, 6)
LANDSCAPES = 1000
SIZE = 0.05  # spread of the true means; a standard error of a set's mean is about half of it


@dataclass(frozen=True)
class Cell:
    """One kind of landscape.

    Attributes:
        name: name of the cell.
        means: `equal`, `spread` or `one best`.
        seeds, documents: numbers of them.
        runs: standard deviation of the interaction of sets and seeds.
        shape: `normal`, `shared`, `one noisier` or `facts`.
    """

    name: str
    means: str = "spread"
    seeds: int = 3
    documents: int = 60
    runs: float = 0.03
    shape: str = "normal"


CELLS = [
    Cell("3 seeds"),
    Cell("3 seeds, equal means", means="equal"),
    Cell("3 seeds, one best", means="one best"),
    Cell("2 seeds", seeds=2),
    Cell("2 seeds, equal means", seeds=2, means="equal"),
    Cell("5 seeds", seeds=5),
    Cell("3 seeds, runs alike", runs=0.0),
    Cell("3 seeds, runs vary much", runs=0.1),
    Cell("3 seeds, similar sets share noise", shape="shared"),
    Cell("3 seeds, equal, similar sets share noise", means="equal", shape="shared"),
    Cell("3 seeds, one set 3 times noisier", shape="one noisier"),
    Cell("3 seeds, shares of four facts", shape="facts"),
    Cell("1 seed", seeds=1, runs=0.0),
]


def true_means(cell: Cell) -> Any:
    """Return the sets' true means, [sets]."""
    if cell.means == "equal":
        return np.zeros(20)
    if cell.means == "one best":
        return SIZE * 2 * np.eye(20)[7]
    layers = INSIDE @ np.array([1.0, 0.4, 0.1, -0.2, -0.5, -0.8])
    rest = np.random.default_rng(0).normal(size=20)
    found = layers / layers.std() + rest / rest.std()
    return SIZE * (found - found.mean()) / found.std()


def draw(cell: Cell, means: Any, rng: np.random.Generator) -> Any:
    """Return scores [sets, seeds, documents]."""
    s, d = cell.seeds, cell.documents
    runs = np.full(20, cell.runs)
    if cell.shape == "one noisier":
        runs[3] *= 3
    logits = means[:, None, None] + 0.02 * rng.normal(size=(1, s, 1))
    logits = logits + 0.25 * rng.normal(size=(1, 1, d)) + 0.05 * rng.normal(size=(1, s, d))
    if cell.shape == "shared":
        of_runs = INSIDE @ rng.normal(size=(6, s)) * cell.runs / 3**0.5
        of_documents = INSIDE @ rng.normal(size=(6, d)) * 0.1 / 3**0.5
        logits = logits + of_runs[:, :, None] + of_documents[:, None]
    else:
        logits = logits + runs[:, None, None] * rng.normal(size=(20, s, 1))
        logits = logits + 0.1 * rng.normal(size=(20, 1, d))
    if cell.shape == "facts":
        return rng.binomial(4, expit(4 * logits)) / 4
    return logits + 0.2 * rng.normal(size=(20, s, d))


def expected_means(cell: Cell, means: Any) -> Any:
    """Return the expectation of the sets' means; for facts by a large sample."""
    if cell.shape != "facts":
        return means
    many = replace(cell, seeds=200, documents=400)
    rng = np.random.default_rng(1)
    found = np.mean([draw(many, means, rng).mean(axis=(1, 2)) for _ in range(5)], axis=0)
    return found


def measured(scores: Any) -> Measured:
    """Return the scores as a landscape that is ready for analysis."""
    seeds, documents = scores.shape[1:]
    names = tuple(map(str, range(documents)))
    whole = Landscape("simulated", 6, SETS, tuple(range(seeds)), names, {"facts": scores})
    return whole.measured("facts")


def once(cell: Cell, drawn: Any, true: Any, rng: np.random.Generator) -> dict[str, float]:
    """Return everything that is counted in one simulated landscape."""
    found = Analysis(measured(draw(cell, drawn, rng)), splits=12)
    means, noise = found.measured.means, found.variance.noise
    others = np.array([np.delete(true, a).max() for a in range(20)])
    gaps = true - others
    ranks_low = 1 + (true[None] > true[:, None] + 1e-12).sum(axis=1)
    ranks_high = 20 - (true[None] < true[:, None] - 1e-12).sum(axis=1)
    best, ranks = found.best, found.ranks
    # sets of equal means share ranks; all that they share have to be inside
    right = (ranks.low <= ranks_low) & (ranks.high >= ranks_high)
    result = {
        "best": float(((best.low <= gaps + 1e-12) & (gaps <= best.high + 1e-12)).all()),
        "candidates": float(best.candidates.mean()),
        "ranks": float(right.all()),
        "sets_rejected": float(found.variance.sources["sets"].p_value < 0.05),
        "beyond_rejected": float(found.terms[-1].p_value < 0.05),
    }
    weights = INSIDE / 10 - (1 - INSIDE) / 10
    effects = weights.T @ true
    result["layers"] = float(
        np.mean([e.low <= t <= e.high for e, t in zip(found.effects, effects, strict=True)])
    )
    order = np.argsort(-true, kind="stable")
    if np.ptp(true) > 0:
        for name, place in (("best", order[0]), ("middle", order[10]), ("worst", order[-1])):
            chosen = weights_of([int(place)], 20)
            interval = skill(means, chosen, noise)
            value = plug_in_skill(true, chosen)
            result[f"skill_{name}"] = float(interval.low <= value <= interval.high)
    middle = int(order[10])
    result["regret_split"] = float(found.split.regret[middle])
    result["regret_plug_in"] = float(means.max() - means[middle])
    return result


def count(cell: Cell, landscapes: int) -> dict[str, float]:
    """Return the means over landscapes of what is counted, and the true regret."""
    rng = np.random.default_rng(zlib.crc32(cell.name.encode()))
    drawn = true_means(cell)
    true = expected_means(cell, drawn)
    found = [once(cell, drawn, true, rng) for _ in range(landscapes)]
    order = np.argsort(-true, kind="stable")
    result = {name: float(np.mean([one[name] for one in found])) for name in found[0]}
    return {**result, "regret_true": float(true.max() - true[order[10]])}


def table(headings: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table; all columns but the first are numbers."""
    marks = ["---", *["---:"] * (len(headings) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (headings, marks, *rows))


def page(answers: dict[str, dict[str, float]], landscapes: int) -> str:
    """Return the results as a Markdown page."""

    def rows(names: tuple[str, ...], show: Callable[[float], str]) -> list[list[str]]:
        return [
            [cell, *(show(one[name]) if name in one else "-" for name in names)]
            for cell, one in answers.items()
        ]

    def percent(value: float) -> str:
        return f"{100 * value:.1f}"

    coverage = ("best", "ranks", "skill_best", "skill_middle", "skill_worst", "layers")
    tests = ("sets_rejected", "beyond_rejected", "candidates")
    regret = ("regret_split", "regret_true", "regret_plug_in")
    error = 100 * (0.95 * 0.05 / landscapes) ** 0.5
    return (
        "\n\n".join(
            [
                "# Coverage of the analysis of a landscape",
                "Written by `placement.py`, which describes the simulation;"
                " [docs/placement.md](../../../docs/placement.md) has the formulas."
                f" {landscapes:,} landscapes per cell, so a coverage of 95 % is known to"
                f" {error:.1f} points (one standard error).",
                "## Coverage of 95 % intervals, in percent",
                table(
                    [
                        *("", "against the best (all at once)", "ranks (all at once)"),
                        *(
                            "skill: best set",
                            "skill: middle set",
                            "skill: worst set",
                            "layer effects",
                        ),
                    ],
                    rows(coverage, percent),
                ),
                "## Rejections at 5 %, and candidates for the best, in percent\n\n"
                "Sets differ except where means are equal; pairs and triples contribute to `spread`"
                " and `one best`.",
                table(
                    ["", "sets", "pairs and triples", "sets not told from the best"],
                    rows(tests, percent),
                ),
                "## Regret of the middle set, x 1000\n\n"
                "By halves it is too small on average, by the means as they are too large.",
                table(["", "halves", "true", "plug-in"], rows(regret, lambda v: f"{1000 * v:.1f}")),
            ]
        )
        + "\n"
    )


def main() -> None:
    """Simulate the landscapes, and print and write the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a rough figure in seconds")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    folder = options.results / "placement"
    folder.mkdir(parents=True, exist_ok=True)
    landscapes = 4 if options.quick else LANDSCAPES
    answers = {}
    for cell in CELLS[:: 4 if options.quick else 1]:
        answers[cell.name] = count(cell, landscapes)
        print(cell.name, answers[cell.name], flush=True)
    body = {
        "landscapes": landscapes,
        "cells": {cell.name: asdict(cell) for cell in CELLS if cell.name in answers},
        "rates": answers,
    }
    (folder / "rates.json").write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
    text = page(answers, landscapes)
    (folder / "README.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
