"""How often arms that do not differ are called different, and what it costs to prevent that.

    python benchmarks/few_seeds.py [--quick] [--fresh] [--results FOLDER]

`simulated_arms.py` says how scores are simulated. Four questions:

- `levels`: how often is p below 0.05, 0.01, 0.001 and 0.0001 for two arms of equal mean? The mean
  and its mean squares are independent and their distributions known, so the mean squares are drawn
  and the probability that the mean exceeds the margin is computed. Run variances are drawn more
  densely where they are small, which is where errors come from; 0.0001 is as certain as 0.05.
- `families`: in how many sweeps is some arm called different after Holm's correction? Counted on
  whole arrays of scores, by the functions that `sumcirc report` calls.
- `power`: how large must a difference be to be found in 80 % of sweeps?
- `shapes`: the first question where runs or documents are not normal, counted on whole arrays.

Two other procedures are there for comparison: degrees of freedom after Satterthwaite, and the same
with run variances pooled over arms. Every cell has a seed of its own; finished cells of an earlier
run are kept (`--fresh` forgets them). One thread; a full run takes some 20 minutes.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from simulated_arms import (
    LEVELS,
    NAMED,
    SHAPES,
    Cell,
    count_family,
    detectable,
    families,
    grid,
    levels,
    pooled,
    satterthwaite,
    shaped,
)

RESULTS = Path(__file__).resolve().parent / "results"
OTHERS = ("satterthwaite", "pooled")
SEEDS, TESTS = (3, 4, 5, 6, 8, 10), (1, 6)


@dataclass(frozen=True)
class Sizes:
    """How much is drawn."""

    draws: int = 100_000
    sweeps: int = 20_000
    data_sets: int = 400_000
    every: int = 1  # n-th cell of the grid and of the families


QUICK = Sizes(draws=4_000, sweeps=200, data_sets=2_000, every=97)


class Store:
    """Results by question and cell; what an earlier run of the same sizes found is kept."""

    def __init__(self, file: Path, sizes: Sizes, fresh: bool) -> None:
        self.file = file
        self.body: dict[str, Any] = {"sizes": asdict(sizes)}
        if file.exists() and not fresh:
            found = json.loads(file.read_text(encoding="utf-8"))
            if found["sizes"] == self.body["sizes"]:
                self.body = found

    def fill(self, question: str, cells: dict[str, Callable[[], Any]]) -> dict[str, Any]:
        """Compute the cells that are not there yet; written after each."""
        answers = self.body.setdefault(question, {})
        for name, compute in cells.items():
            if name not in answers:
                answers[name] = compute()
                text = json.dumps(self.body, indent=1, allow_nan=False)
                self.file.write_text(text + "\n", encoding="utf-8")
        return {name: answers[name] for name in cells}


def worst(sizes: Sizes) -> dict[str, Any]:
    """The grid's highest error rate at each level, over the level, and where it is."""
    cells = list(grid())[:: sizes.every]
    rates = np.array([levels(cell, sizes.draws) for cell in cells]) / LEVELS
    places = rates.argmax(axis=0)
    return {
        "cells": len(cells),
        "ratio": [float(rates[place, i]) for i, place in enumerate(places)],
        "cell": [asdict(cells[place]) for place in places],
    }


def compared(cell: Cell, draws: int) -> dict[str, list[float] | None]:
    """Error rates of all procedures; variances are pooled where runs are independent."""
    apart = replace(cell, control_seeds=cell.control_seeds or cell.seeds)
    return {
        "own": levels(cell, draws),
        "satterthwaite": levels(cell, draws, satterthwaite),
        # of equal numbers of seeds only
        "pooled": levels(apart, draws, pooled) if apart.control_seeds == cell.seeds else None,
    }


def powers(seeds: int, tests: int, draws: int) -> dict[str, float]:
    """The least difference found in 80 % of sweeps; pooled: if all arms spread alike."""
    cell = Cell(seeds=seeds)
    return {
        "own": detectable(cell, tests, draws),
        "pooled": detectable(replace(cell, control_seeds=seeds), tests, draws, pooled),
    }


def answer(store: Store, sizes: Sizes) -> dict[str, dict[str, Any]]:
    """Every question's answers."""
    return {
        "levels": store.fill(
            "levels", {name: partial(compared, cell, sizes.draws) for name, cell in NAMED.items()}
        ),
        "worst": store.fill("worst", {"grid": partial(worst, sizes)}),
        "families": store.fill(
            "families",
            {
                str(family): partial(count_family, family, sizes.sweeps)
                for family in list(families())[:: sizes.every]
            },
        ),
        "power": store.fill(
            "power",
            {
                f"{seeds} seeds, {tests} tests": partial(powers, seeds, tests, sizes.draws)
                for seeds, tests in itertools.product(SEEDS, TESTS)
            },
        ),
        "shapes": store.fill(
            "shapes",
            {
                f"{shape}, {seeds} seeds": partial(shaped, shape, seeds, sizes.data_sets)
                for shape, seeds in itertools.product(SHAPES, (2, 3, 5))
            },
        ),
    }


# ---- what is read


def table(headings: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; all columns but the first are numbers."""
    marks = ["---", *["---:"] * (len(headings) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (headings, marks, *rows))


def ratios(rates: list[float] | None) -> list[str]:
    """Error rates over their levels."""
    if rates is None:
        return ["-"] * len(LEVELS)
    found = [rate / level for rate, level in zip(rates, LEVELS, strict=True)]
    return [f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.2f}" for ratio in found]


def level_table(answers: dict[str, Any]) -> str:
    """Error rates over the nominal level, by procedure, of the named cells and the worst."""
    headings = ["arms without a difference", *(f"{level:g}" for level in LEVELS)]
    for name in ("Satterthwaite", "pooled"):
        headings += [f"{name}, {level:g}" for level in (LEVELS[0], LEVELS[-1])]
    rows = []
    for name, found in answers["levels"].items():
        others = [ratios(found[procedure])[:: len(LEVELS) - 1] for procedure in OTHERS]
        rows.append([name, *ratios(found["own"]), *itertools.chain(*others)])
    found = answers["worst"]["grid"]
    highest = [f"{ratio:.2f}" for ratio in found["ratio"]]
    rows.append([f"the worst of {found['cells']:,}", *highest, *["-"] * 4])
    return table(headings, rows)


def family_table(answers: dict[str, Any]) -> str:
    """The highest share of sweeps with a false claim, by number of arms and of seeds."""
    sizes = {(family.seeds, family.arms) for family in families()}
    seeds, arms = (sorted({size[i] for size in sizes}) for i in (0, 1))
    highest: dict[tuple[int, int], float] = {}
    for family in families():
        found = answers["families"].get(str(family))
        if found is not None:
            size = family.seeds, family.arms
            highest[size] = max(highest.get(size, 0.0), found["family"])
    rows = [
        [
            f"{n} seeds",
            *(f"{100 * highest[n, m]:.1f} %" if (n, m) in highest else "-" for m in arms),
        ]
        for n in seeds
    ]
    return table(["", *(f"{m} arms" for m in arms)], rows)


def power_table(answers: dict[str, Any]) -> str:
    """Differences in standard errors that are found in 80 % of sweeps."""
    found = answers["power"]
    rows = [
        [
            f"{seeds} seeds",
            *(f"{found[f'{seeds} seeds, {tests} tests']['own']:.1f}" for tests in TESTS),
            f"{found[f'{seeds} seeds, {TESTS[-1]} tests']['pooled']:.1f}",
        ]
        for seeds in SEEDS
    ]
    headings = [f"{tests} comparison{'s' * (tests > 1)}" for tests in TESTS]
    return table(["", *headings, f"{headings[-1]}, pooled"], rows)


def shape_table(answers: dict[str, Any]) -> str:
    """Error rates over the nominal level where something is not normal."""
    rows = [[name, *ratios(found)] for name, found in answers["shapes"].items()]
    return table(["", *(f"{level:g}" for level in LEVELS)], rows)


def page(answers: dict[str, Any]) -> str:
    """The result to read."""
    parts = [
        "# Error rates with few seeds",
        "Written by `few_seeds.py`, which describes the simulation;"
        " [docs/comparing.md](../../../docs/comparing.md#differences-and-p-values) draws the"
        " conclusions. An arm is one configuration, trained with several seeds.",
        "## Error rate over nominal level\n\n"
        "1.00 is exact, a smaller value is conservative, and a larger value means too many false"
        " results. The first four columns are the procedure of `sumcirc report`. Spread of runs"
        " 0.5, 200 documents and 7 arms unless stated otherwise.",
        level_table(answers),
        "## Sweeps with a false result\n\n"
        "Holm's correction at 5 %; the highest of 12 cells each: documents and spread of runs"
        " 40 and 0.5, 200 and 0.1, 200 and 0.5, 500 and 2; no arm, the control or one arm 3 times"
        f" noisier. Counted over {answers['sweeps']:,} sweeps per cell. With 2 seeds"
        " `sumcirc report` tests nothing; that row shows what the p-values alone would do.",
        family_table(answers),
        "## Smallest difference that 80 % of sweeps detect\n\n"
        "In (true) standard errors of the difference, at 0.05 over the number of comparisons."
        " Pooled: what could be detected if all arms were known to vary alike.",
        power_table(answers),
        "## Scores that are not normal\n\n"
        f"Error rate over nominal level, counted over {answers['data sets']:,} data sets of 40"
        " documents; the spread of runs equals that of the residual.",
        shape_table(answers),
    ]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Simulate, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a rough figure in seconds")
    parser.add_argument("--fresh", action="store_true", help="forget finished cells")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    folder = options.results / "few_seeds"
    folder.mkdir(parents=True, exist_ok=True)
    sizes = QUICK if options.quick else Sizes()
    answers: dict[str, Any] = answer(Store(folder / "rates.json", sizes, options.fresh), sizes)
    text = page({**answers, "sweeps": sizes.sweeps, "data sets": sizes.data_sets})
    (folder / "README.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
