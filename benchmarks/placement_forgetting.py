"""What the runs of a landscape forgot at equal learning: tables and a picture, from its records.

    python benchmarks/placement_forgetting.py FOLDER [--figure NAME]

FOLDER holds landscape.json, landscape.parquet and learning-forgetting.csv, which
`placement_outcomes.py` wrote. For each run the adapter's change is scaled until the loss on the
references equals that of the run that learned least (found by linear interpolation between the
measured amounts), and the losses on other articles are read off there. Tables are printed in
Markdown, and the values of each run go to FOLDER/equal-learning.csv.
"""

from __future__ import annotations

import argparse
import csv
import math
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from sumcirc.figures.views import draw
from sumcirc.placement.landscape import Landscape
from sumcirc.placement.landscape_files import read_landscape
from sumcirc.placement.units import label_of
from sumcirc.reporting.kinds import Dot, Dots, Table, View
from sumcirc.reporting.tables import markdown_table
from sumcirc.storage.writing import csv_text, write_text

Values = NDArray[np.float64]
Run = tuple[str, int]

RECORD = "learning-forgetting.csv"
BASE = "base"
COLUMNS = ("arm", "seed", "amount", "article_nll_change", "article_kl", "article_kl_full")


def curves(folder: Path) -> dict[Run, Values]:
    """Return [amounts, 4] of each run: amount, loss on references, loss and KL on articles."""
    found: dict[Run, list[list[float]]] = defaultdict(list)
    rows = list(csv.DictReader((folder / RECORD).read_text(encoding="utf-8").splitlines()))
    values = [
        [float(row[name]) for name in ("amount", "reference_nll", "article_nll", "article_kl")]
        for row in rows
    ]
    (base,) = (one for row, one in zip(rows, values, strict=True) if row["arm"] == BASE)
    for row, one in zip(rows, values, strict=True):
        if row["arm"] != BASE:
            found[row["arm"], int(row["seed"])].append(one)
    return {run: np.array([base, *sorted(points)]) for run, points in found.items()}


def at_loss(curve: Values, loss: float) -> Values:
    """Return the values of a curve where its loss on references first falls to `loss`.

    Raises:
        ValueError: the run never reaches the loss.
    """
    for lower, upper in pairwise(curve):
        if upper[1] <= loss <= lower[1]:
            part = (lower[1] - loss) / (lower[1] - upper[1]) if lower[1] > upper[1] else 1.0
            return lower + part * (upper - lower)
    raise ValueError(f"a loss of {loss:.4f} isn't reached")


def equal_learning(found: dict[Run, Values]) -> tuple[float, dict[Run, Values]]:
    """Return the loss that every run reaches, and each run's row there."""
    loss = max(float(curve[:, 1].min()) for curve in found.values())
    return loss, {run: at_loss(curve, loss) for run, curve in found.items()}


def arms_table(landscape: Landscape, found: dict[Run, Values], at: dict[Run, Values]) -> Table:
    """Return the table of all arms, those that forgot least at equal learning first."""
    rows = []
    for arm in dict.fromkeys(arm for arm, _ in at):
        seeds = [seed for name, seed in at if name == arm]
        full = np.array([found[arm, seed][-1] for seed in seeds])
        equal = np.array([at[arm, seed] for seed in seeds])
        base = found[arm, seeds[0]][0]
        facts = 100 * scores_of(landscape, arm, "facts").mean()
        spread = f" ({equal[:, 3].min():.3f} to {equal[:, 3].max():.3f})" if len(seeds) > 1 else ""
        cells = [
            *(arm, f"{facts:.1f}", f"{full[:, 1].mean():.3f}"),
            *(f"{full[:, 2].mean() - base[2]:+.3f}", f"{full[:, 3].mean():.3f}"),
            *(f"{equal[:, 0].mean():.2f}", f"{equal[:, 2].mean() - base[2]:+.3f}"),
            f"{equal[:, 3].mean():.3f}{spread}",
        ]
        rows.append((float(equal[:, 3].mean()), cells))
    headings = [
        *("layers", "facts x 100", "nll", "articles' loss", "KL"),
        *("amount at equal nll", "articles' loss there", "KL there"),
    ]
    return Table("learning and forgetting", headings, [cells for _, cells in sorted(rows)])


def scores_of(landscape: Landscape, arm: str, metric: str) -> Values:
    """Return the scores of a set of layers or another arm, [seeds, documents]."""
    if arm in landscape.others:
        return landscape.others[arm][metric]
    return landscape.scores[metric][[label_of(one) for one in landscape.sets].index(arm)]


def correlations(landscape: Landscape, at: dict[Run, Values]) -> Table:
    """Return rank correlations over sets of forgetting at equal learning with what was learned."""
    arms = [label_of(one) for one in landscape.sets]
    forgotten = [np.mean([at[arm, seed][3] for seed in landscape.seeds]) for arm in arms]
    rows = []
    for metric in ("facts", "nll"):
        learned = [scores_of(landscape, arm, metric).mean() for arm in arms]
        rows.append([f"rank correlation with {metric}", f"{spearmanr(forgotten, learned)[0]:.2f}"])
    for layer in range(landscape.layers):
        inside = [layer in one for one in landscape.sets]
        mean = np.mean([f for f, i in zip(forgotten, inside, strict=True) if i])
        without = np.mean([f for f, i in zip(forgotten, inside, strict=True) if not i])
        rows.append([f"KL of sets with layer {layer} minus without", f"{mean - without:+.4f}"])
    return Table("KL at equal learning, over sets", ["", "value"], rows)


def picture(landscape: Landscape, at: dict[Run, Values], loss: float) -> View:
    """Return a view of what each arm learned and what it forgot at equal learning."""
    dots = []
    for arm in dict.fromkeys(arm for arm, _ in at):
        values = [row[3] for (name, _), row in at.items() if name == arm]
        facts = 100 * float(scores_of(landscape, arm, "facts").mean())
        mean = float(np.mean(values))
        ends = (min(values), max(values)) if len(values) > 1 else (math.nan, math.nan)
        dots.append(Dot(arm, facts, mean, *ends, arm not in landscape.others))
    title = "What was learned and what was forgotten"
    return learned_and_forgotten(title, dots, loss, len(landscape.seeds))


def learned_and_forgotten(title: str, dots: list[Dot], loss: float, seeds: int) -> View:
    """Return a view of what arms learned (facts) and forgot (KL) at a loss on the references.

    Args:
        title: title of the picture.
        dots: facts x 100 and KL of each arm.
        loss: the loss on the references, in nats a token.
        seeds: number of seeds, whose smallest and largest values the bars show.
    """
    panel = Dots(
        "key facts right, x 100",
        f"KL(base || trained) on other articles at nll {loss:.4g}, nats a token",
        dots,
        named=frozenset(dot.name for dot in dots),
    )
    return View(
        title,
        [[panel]],
        note="bars: smallest and largest of the seeds" if seeds > 1 else "one seed",
        columns=("arm", "facts_x100", "kl", "low", "high"),
        rows=[(dot.name, dot.x, dot.y, dot.low, dot.high) for dot in dots],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--figure", type=Path, help="draw the picture to this path")
    arguments = parser.parse_args()
    landscape, _ = read_landscape(arguments.folder)
    found = curves(arguments.folder)
    loss, at = equal_learning(found)
    rows = []
    for run, (amount, _, nll, kl) in at.items():
        values = (amount, nll - found[run][0][2], kl, found[run][-1][3])
        rows.append((*run, *(round(float(value), 6) for value in values)))
    write_text(arguments.folder / "equal-learning.csv", csv_text(COLUMNS, rows))
    print(f"loss on references that every run reaches: {loss:.4f}\n")
    for table in (arms_table(landscape, found, at), correlations(landscape, at)):
        print(f"**{table.title}**\n\n{markdown_table(table)}\n")
    if arguments.figure is not None:
        draw(picture(landscape, at, loss), arguments.figure)


if __name__ == "__main__":
    main()
