"""How often `sumcirc select` takes noise for a ranking, and refuses one that is a signal.

    python benchmarks/selection_noise.py [--quick]

Prints the table of docs/selecting.md. Scores of layers by documents are drawn at random and put to
the permutation test that decides whether a ranking is refused (`statistics.noise`):

- noise: normal, skewed (exponential), or with a level that the layers of a document share;
- unequal: the noise of the last layer is ten times that of the first;
- signal: one layer's mean stands out by 4, 6 or 8 standard errors of a mean over documents.

One thread, some 15 CPU seconds.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from sumcirc.statistics.noise import ALPHA, difference_p_value

Draw = Callable[[np.random.Generator, tuple[int, int]], NDArray[np.float64]]

NOISE: dict[str, Draw] = {
    "normal": lambda random, shape: random.normal(size=shape),
    "skewed": lambda random, shape: random.exponential(size=shape),
    "shared": lambda random, shape: random.normal(size=shape) + 5 * random.normal(size=shape[1]),
}
SIGNALS = (4, 6, 8)  # standard errors


def unequal(random: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Return noise whose standard deviation rises from layer to layer, tenfold in all."""
    return random.normal(size=shape) * np.linspace(0.2, 2.0, shape[0])[:, None]


def signal(size: float) -> Draw:
    """Return normal noise in which one layer stands out by `size` standard errors."""

    def draw(random: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float64]:
        values = random.normal(size=shape)
        values[shape[0] // 2] += size / np.sqrt(shape[1])
        return values

    return draw


def accepted(draw: Draw, shape: tuple[int, int], trials: int, permutations: int) -> float:
    """Return the percentage of drawn rankings that the test accepts.

    Args:
        shape: (layers, documents).
        trials: rankings to draw.
        permutations: of each test; `sumcirc select` uses 999.
    """
    random = np.random.default_rng(shape)
    tests = (difference_p_value(draw(random, shape), permutations, i) for i in range(trials))
    return 100 * sum(p <= ALPHA for p in tests) / trials


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few trials of one cell")
    quick = parser.parse_args().quick
    trials = 40 if quick else 400
    print("| layers | documents | noise accepted | unequal noise accepted |", end="")
    print("".join(f" signal of {size} refused |" for size in SIGNALS))
    print("|---:|---:|---:|---:|" + "---:|" * len(SIGNALS))
    for layers in (6,) if quick else (6, 12, 48):
        for documents in (8,) if quick else (8, 32):
            shape = layers, documents
            noise = [accepted(draw, shape, trials, 99) for draw in NOISE.values()]
            cells = [f"{min(noise):.0f} to {max(noise):.0f} %"]
            cells.append(f"{accepted(unequal, shape, trials, 99):.0f} %")
            cells += [
                f"{100 - accepted(signal(size), shape, trials, 99):.0f} %" for size in SIGNALS
            ]
            print(f"| {layers} | {documents} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
