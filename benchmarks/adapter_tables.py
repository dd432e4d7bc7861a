"""Compares kinds of adapters at one parameter budget: tables and a picture, from records of runs.

    python benchmarks/adapter_tables.py RECORDS --loss 1.6 [--figure NAME]

RECORDS holds `runs` (what `sumcirc report` reads of the sweep), `learning-forgetting.csv` and
`costs.csv` (`adapter_arms.py`), and `rates.csv`. All arms are compared with LoRA on all layers. The
change of each run is scaled until its loss on the references is the given one (linear interpolation
between the measured amounts), and what it forgot is read off there; a run that never reaches the
loss has none.
"""

from __future__ import annotations

import argparse
import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from placement_forgetting import Run, at_loss, curves, learned_and_forgotten

from sumcirc.figures.views import draw
from sumcirc.reporting.arms import make_arms
from sumcirc.reporting.comparison import ArmComparison, ComparisonOptions, compare
from sumcirc.reporting.kinds import Dot, Table, View
from sumcirc.reporting.runs import read_runs
from sumcirc.reporting.tables import markdown_table
from sumcirc.statistics import bracketed, run_difference
from sumcirc.statistics.seeds import Estimate

Values = NDArray[np.float64]

CONTROL = "lora"
FACTS, ROUGE = "facts", "rougeLsum_f1"
TITLES = {
    "lora": "LoRA",
    "attention": "LoRA, attention only",
    "mlp": "LoRA, MLP only",
    "rslora": "rsLoRA",
    "pissa": "PiSSA",
    "loraplus": "LoRA+",
    "dora": "DoRA",
    "loraga": "LoRA-GA",
    "eva": "EVA",
    "adalora": "AdaLoRA",
    "kl01": "LoRA, KL penalty 0.1",
    "full": "full fine-tuning",
}


def comparison_of(folder: Path) -> tuple[ArmComparison, dict[str, str]]:
    """Return the comparison with LoRA on all layers, and each arm's label by its name."""
    runs, notes = read_runs([folder / "runs"])
    arms, _ = make_arms(runs)
    labels = {arm.runs[0].name.rpartition("-s")[0]: arm.label for arm in arms}
    options = ComparisonOptions(metric=FACTS, against=(labels[CONTROL],))
    return compare(runs, notes, options), labels


def shown(estimate: Estimate, sign: str = "") -> str:
    mean, low, high = (
        f"{100 * one:{sign}.1f}" for one in (estimate.mean, estimate.low, estimate.high)
    )
    return f"{mean} [{low}, {high}]"


def arms_table(folder: Path) -> Table:
    """Return what each kind of adapter brings, the most facts first."""
    comparison, labels = comparison_of(folder)
    found = {one.arm.label: one for one in comparison.arms}
    rates = {row["arm"]: float(row["learning_rate_scale"]) for row in read(folder / "costs.csv")}
    differences = {
        measure: {one.arm.label: one for one in comparison.of(labels[CONTROL], measure)}
        for measure in (FACTS, ROUGE)
    }
    rows = []
    for name, label in labels.items():
        one = found[label]
        cells = [TITLES[name], f"{rates[name]:g}", f"{100 * one.scores[FACTS].mean:.1f}"]
        facts, rouge = (differences[measure].get(label) for measure in (FACTS, ROUGE))
        if facts is None or rouge is None:
            cells += ["-", "-", f"{100 * one.scores[ROUGE].mean:.1f}", "-"]
        else:
            corrected = math.nan if facts.corrected is None else facts.corrected
            cells += [shown(facts.estimate, "+"), f"{corrected:.2g}"]
            cells += [f"{100 * one.scores[ROUGE].mean:.1f}", shown(rouge.estimate, "+")]
        rows.append((-one.scores[FACTS].mean, [*cells, f"{one.loss:.3f}"]))
    headings = [
        *("adapter", "rate", "facts x 100", "minus LoRA", "p (Holm)"),
        *("ROUGE-Lsum x 100", "minus LoRA", "validation loss"),
    ]
    return Table("kinds of adapters on all layers", headings, [row for _, row in sorted(rows)])


def forgetting_table(folder: Path, loss: float) -> Table:
    """Return what each arm forgot, at the end and at equal loss on the references."""
    found = curves(folder)
    costs = read(folder / "costs.csv")
    base = next(iter(found.values()))[0]
    last = {run: curve[-1] for run, curve in found.items()}
    equal = at_equal_loss(found, loss)
    rows = []
    for arm in dict.fromkeys(row["arm"] for row in costs):
        ends, there = of_arm(last, arm), of_arm(equal, arm)
        own = [row for row in costs if row["arm"] == arm]
        operations = np.mean([float(row["flops"]) for row in own])
        usual = np.mean([float(row["flops"]) for row in costs if row["arm"] == CONTROL])
        cells = [
            *(TITLES[arm], f"{int(own[0]['parameters']):,}", f"{operations / usual:.2f}"),
            *(f"{ends[:, 1].mean():.3f}", f"{ends[:, 2].mean() - base[2]:+.2f}"),
            *(f"{ends[:, 3].mean():.2f}", minus_control(last, arm)),
        ]
        if len(there):
            low, high = there[:, 3].min(), there[:, 3].max()
            spread = f" ({low:.2f} to {high:.2f})" if len(there) > 1 else ""
            share = f", {len(there)} of {len(ends)} runs" if len(there) < len(ends) else ""
            cells += [f"{there[:, 0].mean():.2f}", f"{there[:, 3].mean():.2f}{spread}{share}"]
        else:
            cells += ["-", "-"]
        cells.append(minus_control(equal, arm))
        rows.append((there[:, 3].mean() if len(there) else math.inf, cells))
    headings = [
        *("adapter", "parameters", "operations / LoRA's", "nll", "articles' loss"),
        *("KL", "minus LoRA", f"amount at nll {loss:g}", "KL there", "minus LoRA"),
    ]
    ordered = sorted(rows, key=lambda row: row[0])
    return Table("learning and forgetting", headings, [row for _, row in ordered])


def at_equal_loss(found: dict[Run, Values], loss: float) -> dict[Run, Values]:
    """Return the row of each run at a loss on the references, for runs that reach it."""
    return {run: at_loss(curve, loss) for run, curve in found.items() if curve[:, 1].min() <= loss}


def of_arm(rows: dict[Run, Values], arm: str) -> Values:
    """Return the rows of an arm's runs, [runs, 4], in the order of their seeds."""
    own = {seed: row for (name, seed), row in rows.items() if name == arm}
    return np.array([own[seed] for seed in sorted(own)]).reshape(-1, 4)


def minus_control(rows: dict[Run, Values], arm: str) -> str:
    """Return an arm's KL minus LoRA's, with an interval over seeds, if both have the same seeds."""
    seeds, usual = ({seed for name, seed in rows if name == one} for one in (arm, CONTROL))
    if arm == CONTROL or seeds != usual or len(seeds) < 2:
        return "-"
    ours, theirs = (of_arm(rows, one)[:, 3] for one in (arm, CONTROL))
    found = run_difference(ours, theirs, paired=True, confidence=0.95)
    return bracketed(found.mean, found.low, found.high, "+.2f")


def rates_table(folder: Path) -> Table:
    """Return a table of each arm's validation loss at every learning rate that was tried."""
    rows = read(folder / "rates.csv")
    scales = sorted({float(row["scale"]) for row in rows})
    found = {(row["arm"], float(row["scale"])): row["validation_loss"] for row in rows}
    names = dict.fromkeys(row["arm"] for row in rows)
    cells = [[TITLES[arm], *(_loss(found.get((arm, scale))) for scale in scales)] for arm in names]
    return Table("rates", ["adapter", *(f"{scale:g}" for scale in scales)], cells)


def _loss(value: str | None) -> str:
    if value is None:
        return "-"
    return f"{float(value):.3f}" if value else "diverged"


def picture(folder: Path, loss: float) -> View:
    """Return a view of the facts that each arm gets right and what it forgot at equal learning."""
    comparison, labels = comparison_of(folder)
    scores = {one.arm.label: one.scores[FACTS] for one in comparison.arms}
    found, dots = curves(folder), []
    equal, seeds = at_equal_loss(found, loss), len({seed for _, seed in found})
    for arm, label in labels.items():
        rows = of_arm(equal, arm)
        if len(rows):
            kl, facts = rows[:, 3], 100 * scores[label].mean
            ends = float(kl.min()), float(kl.max())
            dots.append(Dot(TITLES[arm], facts, float(kl.mean()), *ends, arm != CONTROL))
    title = "Kinds of adapters: learning and forgetting"
    return learned_and_forgotten(title, dots, loss, seeds)


def read(file: Path) -> list[dict[str, Any]]:
    return list(csv.DictReader(file.read_text(encoding="utf-8").splitlines()))


def page_tables(folder: Path, loss: float) -> Sequence[Table]:
    """Return the tables of the page."""
    return arms_table(folder), forgetting_table(folder, loss), rates_table(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--loss", type=float, required=True, help="loss on the references")
    parser.add_argument("--figure", type=Path, help="draw the picture to this path")
    arguments = parser.parse_args()
    for table in page_tables(arguments.folder, arguments.loss):
        print(f"**{table.title}**\n\n{markdown_table(table)}\n")
    if arguments.figure is not None:
        draw(picture(arguments.folder, arguments.loss), arguments.figure)


if __name__ == "__main__":
    main()
