"""Tables and picture of benchmarks/draws_measure.py, from its records.

    python benchmarks/draws_tables.py RECORDS [--figure NAME]

An arm's layers are judged by its loss on the references beside those of the random draws: the
difference to their mean, with an interval over draws and documents, and the share of draws that are
at least as good (`sumcirc.reporting.draws`). What separates the draws is told from the noise of
documents by the analysis of variance of `sumcirc.placement.variance`. Repeats of draws with another
seed say how much of it is noise of training.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sumcirc.figures.views import draw
from sumcirc.placement.variance import CHOICE, Anova, anova
from sumcirc.reporting.draws import further_draw
from sumcirc.reporting.kinds import Dot, Dots, View
from sumcirc.schema.adapting import MODULES
from sumcirc.statistics import bootstrap_difference, bootstrap_mean, bracketed
from sumcirc.statistics.seeds import Estimate, crossed_mean

Values = NDArray[np.float64]

BASE, RANDOM = "base", "random"
HEADINGS = (
    *("arm", "layers", "loss on references", "minus the draws' mean", "draws as good", "p"),
    *("loss on other texts", "KL on other texts"),
)


@dataclass(frozen=True)
class Arm:
    """One run of a sweep.

    Attributes:
        name: name of the selector, with the number of a random draw, or `all`, or the run's name if
            its layers were named; with the kinds of modules that have an adapter if not all do.
        where: the adapted layers, or the modules if a selector chose these, in words.
        whole: whether all modules of these layers have an adapter, as in the random draws.
        seed: seed of the training.
        nll: [documents] loss on each reference, in nats a token.
        change, kl: [texts] change of the loss on plain texts, and KL(base || trained), in nats a
            token.
    """

    name: str
    where: str
    whole: bool
    seed: int
    nll: Values
    change: Values
    kl: Values

    @property
    def drawn(self) -> bool:
        """Whether its layers are a random draw."""
        return self.name.startswith(RANDOM)


@dataclass(frozen=True)
class Records:
    """The runs, and the model before training.

    Attributes:
        base: [documents] loss of the model before training.
        arms: the runs with the first seed, the lowest loss first.
        repeats: runs with further seeds.
    """

    base: Values
    arms: list[Arm]
    repeats: list[Arm]

    @property
    def draws(self) -> list[Arm]:
        """The random draws of the first seed."""
        return [arm for arm in self.arms if arm.drawn]


def read(folder: Path) -> Records:
    """Read what `draws_measure.py` wrote to a folder.

    Args:
        folder: the folder, with one file for each run and base.json.
    """
    base = json.loads((folder / f"{BASE}.json").read_text(encoding="utf-8"))
    arms = []
    for file in sorted(set(folder.glob("*.json")) - {folder / f"{BASE}.json"}):
        row = json.loads(file.read_text(encoding="utf-8"))
        everywhere = len(row["layers"]) == row["of_layers"]
        name = row["selector"] or ("all" if everywhere else file.stem.rpartition("-s")[0])
        if name == RANDOM:
            name = f"{RANDOM} {row['draw']}"
        where = "all" if everywhere else ",".join(map(str, row["layers"]))
        some = set(row.get("modules", MODULES)) < set(MODULES)  # records of all may not have them
        if row.get("targets"):
            name, where = f"{name}, modules", ", ".join(map(_without_stack, row["targets"]))
        elif some:
            name = f"{name}, {' and '.join(row['modules'])}"
        values = (np.array(row[key]) for key in ("nll", "text_nll_change", "text_kl"))
        whole = not (some or row.get("targets"))
        arms.append(Arm(name, where, whole, row["seed"], *values))
    first = min(arm.seed for arm in arms)
    arms.sort(key=lambda arm: arm.nll.mean())
    own = [arm for arm in arms if arm.seed == first]
    return Records(np.array(base["nll"]), own, [arm for arm in arms if arm.seed != first])


def _without_stack(target: str) -> str:
    """Return a linear's name from its layer's index on, such as `3.mlp.up_proj`."""
    parts = target.split(".")
    return ".".join(parts[next(i for i, part in enumerate(parts) if part.isdecimal()) :])


def beside_draws(records: Records, arm: Arm) -> Estimate:
    """Return an arm's loss minus the mean of the draws, over draws and documents."""
    return crossed_mean(arm.nll - np.stack([one.nll for one in records.draws]))


def as_good(records: Records, arm: Arm) -> int:
    """Return the number of draws whose mean loss is at most the arm's."""
    return sum(one.nll.mean() <= arm.nll.mean() for one in records.draws)


def among_draws(records: Records) -> Anova:
    """Return the analysis of variance of the random draws, [draws, 1, documents]."""
    return anova(np.stack([one.nll for one in records.draws])[:, None])


def table(records: Records) -> list[str]:
    """Return the lines of the table of all arms."""
    rows = []
    count = len(records.draws)
    for arm in records.arms:
        loss = bootstrap_mean(arm.nll)
        rest = ["-"] * 3
        if not arm.drawn:
            found, better = beside_draws(records, arm), as_good(records, arm)
            rest = [bracketed(found.mean, found.low, found.high, ".3f"), f"{better} of {count}"]
            # other modules are no choice of layers, so the arm is no further draw
            rest.append(f"{(1 + better) / (1 + count):.2f}" if arm.whole else "-")
        cells = [arm.name, arm.where, bracketed(loss.mean, loss.low, loss.high, ".3f"), *rest]
        for values, form in ((arm.change, "+.3f"), (arm.kl, ".3f")):
            mean = bootstrap_mean(values)
            cells.append(bracketed(mean.mean, mean.low, mean.high, form))
        rows.append(cells)
    start = [list(HEADINGS), ["---", "---", *["---:"] * (len(HEADINGS) - 2)]]
    return [f"| {' | '.join(row)} |" for row in [*start, *rows]]


def spread_lines(records: Records) -> list[str]:
    """Return lines that say whether the random draws differ by more than documents' noise."""
    choice = among_draws(records).sources[CHOICE]
    means = np.array([arm.nll.mean() for arm in records.draws])
    low, high = further_draw(means)
    noise = np.sqrt(choice.mean_square / choice.f / len(records.base))
    return [
        f"F({choice.degrees}, {choice.error_degrees:,.0f}) = {choice.f:.1f},"
        f" p {choice.p_value:.1g}",
        f"from {means.min():.3f} to {means.max():.3f} nats a token, standard deviation"
        f" {means.std(ddof=1):.4f}; by dialogues' noise alone it would be {noise:.4f}",
        f"one further draw would lie between {low:.3f} and {high:.3f}",
    ]


def repeat_lines(records: Records) -> list[str]:
    """Return a line for each run with another seed: its loss, and that minus the first seed's."""
    first = {arm.name: arm for arm in records.arms}
    found = []
    for arm in records.repeats:
        moved = bootstrap_difference(arm.nll, first[arm.name].nll)
        words = bracketed(moved.mean, moved.low, moved.high, ".3f")
        found.append(f"{arm.name}, seed {arm.seed}: {arm.nll.mean():.3f}, minus the first {words}")
    return found


def picture(records: Records) -> View:
    """Return a view of what each arm learned and forgot."""
    dots = []
    for arm in records.arms:
        kl = bootstrap_mean(arm.kl)
        dots.append(Dot(arm.name, arm.nll.mean(), kl.mean, kl.low, kl.high, filled=not arm.drawn))
    panel = Dots(
        "loss on references, nats a token",
        "KL on other texts, nats a token",
        dots,
        named=frozenset(arm.name for arm in records.arms if not arm.drawn),
    )
    return View(
        "What an adapter on some layers learned and forgot",
        [[panel]],
        note="hollow: random draws of layers",
        columns=("arm", "loss", "KL", "low", "high"),
        rows=[(dot.name, dot.x, dot.y, dot.low, dot.high) for dot in dots],
    )


def main() -> None:
    """Print the tables and draw the figure."""
    command = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    command.add_argument("records", type=Path)
    command.add_argument("--figure", type=Path, help="draw the picture to this path")
    options = command.parse_args()
    records = read(options.records)
    print("\n".join(table(records)))
    print("\n" + "\n".join(spread_lines(records)))
    print("\n".join(repeat_lines(records)))
    if options.figure:
        draw(picture(records), options.figure)


if __name__ == "__main__":
    main()
