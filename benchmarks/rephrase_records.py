"""Records of docs/results/rephrase.md, from comparisons of one base with several models.

    python benchmarks/rephrase_records.py --out FOLDER \\
      --trained RUN [RUN ...] --read RUN --patched RUN [RUN ...]

`--trained` are runs of `sumcirc train`, `--read` is a run of `sumcirc compare` with the analyses
`direct` and `attention`, and `--patched` are runs with `patching`, each with one or more models.
FOLDER gets CSV files that hold numbers, names of components and ids of prompts; `head-sets.json` of
`head_sets.py` belongs there too, and `rephrase_tables.py` prints the page's tables from them.
Intervals are 95 % bootstrap intervals over words: the prompts of a word are resampled together.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
from numpy.typing import NDArray
from scipy.stats import spearmanr

from sumcirc.statistics import bootstrap_means, significantly_different
from sumcirc.statistics.noise import shares_of_gap
from sumcirc.storage.writing import csv_text, write_text

Values = NDArray[np.float64]

DIRECTIONS = ("sufficiency", "necessity")
ENDS = ("mean", "low", "high")
RESAMPLES = 1000
LISTED = 8  # heads for each pair of spans


def word_of(id: str) -> str:
    """Return the adjective of a prompt from its id, `rephrase-WORD-WORDING`."""
    return id.split("-", 1)[1].rsplit("-", 1)[0]


def by_word(ids: Sequence[str], values: Values) -> Values:
    """Return means over the prompts of each word, [..., prompts] to [..., words]."""
    words = [word_of(id) for id in ids]
    places = [list(dict.fromkeys(words)).index(word) for word in words]
    member = np.eye(max(places) + 1)[places]
    return values @ (member / member.sum(0))


def tables_of(runs: Sequence[Path], name: str) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Return each model's name with the rows of its table `name`, run by run."""
    for run in runs:
        models = json.loads((run / "summary.json").read_text(encoding="utf-8"))["after"]
        for model in models:
            file = run / "compare" / model / f"{name}.parquet"
            if file.exists():
                yield model, pyarrow.parquet.read_table(file).to_pylist()


def stacked(
    rows: Iterable[dict[str, Any]], key: Sequence[str], value: str
) -> tuple[list[str], dict[tuple[Any, ...], Values]]:
    """Return the ids of the items, and for each distinct key its [items] values."""
    found: dict[tuple[Any, ...], dict[str, float]] = defaultdict(dict)
    for row in rows:
        number = row[value]
        found[tuple(row[name] for name in key)][row["item"]] = np.nan if number is None else number
    ids = list(next(iter(found.values())))
    return ids, {key: np.array([one[id] for id in ids]) for key, one in found.items()}


def metric_rows(run: Path) -> list[dict[str, Any]]:
    """Return the logit difference of every prompt in the base and in each model.

    It is the sum of the contributions of direct attribution.
    """
    sides: dict[str, dict[str, float]] = {}
    for model, rows in tables_of([run], "direct"):
        for side, name in (("before", "base"), ("after", model)):
            sums: dict[str, float] = defaultdict(float)
            for row in rows:
                if row["model"] == side:
                    sums[row["item"]] += row["value"]
            sides.setdefault(name, sums)
    ids = list(sides["base"])
    return [{"prompt": id, **{name: one[id] for name, one in sides.items()}} for id in ids]


def training_rows(runs: Sequence[Path]) -> list[dict[str, Any]]:
    """Return the validation loss of training runs, in nats a token of the rephrasing."""
    found = []
    for run in runs:
        lines = csv.DictReader((run / "metrics.csv").read_text(encoding="utf-8").splitlines())
        found += [
            {"model": run.name, "step": int(line["step"]), "validation_nll": float(line["value"])}
            for line in lines
            if line["metric"] == "validation/loss"
        ]
    return found


def component_rows(runs: Sequence[Path]) -> list[dict[str, Any]]:
    """Return each component's effect and share of the gap, by direction and model."""
    found = []
    for model, rows in tables_of(runs, "patching"):
        for direction in DIRECTIONS:
            some = [row for row in rows if row["direction"] == direction]
            key = ("part", "kind", "layer", "index")
            ids, effects = stacked(some, key, "effect")
            ends = [
                by_word(ids, next(iter(stacked(some, ["direction"], end)[1].values())))
                for end in ("receiver", "donor")
            ]
            values = by_word(ids, np.array(list(effects.values())))
            shares = shares_of_gap(values, *ends)
            sure = significantly_different(values)
            for i, name in enumerate(effects):
                about = {
                    "model": model,
                    "direction": direction,
                    **dict(zip(key, name, strict=True)),
                }
                about |= {"prompts": len(ids), "effect": values[i].mean(), "clear": bool(sure[i])}
                found.append(about | {end: one[i] for end, one in zip(ENDS, shares, strict=True)})
    return found


def direct_rows(run: Path) -> list[dict[str, Any]]:
    """Return the direct contribution of every head and MLP before and after, and its change."""
    found = []
    for model, rows in tables_of([run], "direct"):
        key = ("part", "layer", "head")
        kept = [row for row in rows if row["part"] in ("head", "mlp")]
        ids, before = stacked((row for row in kept if row["model"] == "before"), key, "value")
        _, after = stacked((row for row in kept if row["model"] == "after"), key, "value")
        change = by_word(ids, np.array([after[name] - before[name] for name in before]))
        means, clear = bootstrap_means(change), significantly_different(change)
        for i, name in enumerate(before):
            about = {"model": model, **dict(zip(key, name, strict=True)), "clear": bool(clear[i])}
            about |= {"before": before[name].mean(), "after": after[name].mean()}
            found.append(about | {end: one[i] for end, one in zip(ENDS, means, strict=True)})
    return found


def attention_rows(run: Path) -> list[dict[str, Any]]:
    """Return, by span, the heads whose attention from the last position to it changed most."""
    found = []
    for model, rows in tables_of([run], "attention"):
        key = ("source", "destination", "layer", "head")
        ids, before = stacked((row for row in rows if row["model"] == "before"), key, "value")
        _, after = stacked((row for row in rows if row["model"] == "after"), key, "value")
        change = by_word(ids, np.array([after[name] - before[name] for name in before]))
        means, clear = bootstrap_means(change), significantly_different(change)
        for source in dict.fromkeys(name[0] for name in before):
            here = [i for i, name in enumerate(before) if name[0] == source]
            names = list(before)
            for i in sorted(here, key=lambda i: -abs(means[0][i]))[:LISTED]:
                about = {"model": model, **dict(zip(key, names[i], strict=True))}
                about |= {"clear": bool(clear[i]), "before": before[names[i]].mean()}
                about |= {"after": after[names[i]].mean()}
                found.append(about | {end: one[i] for end, one in zip(ENDS, means, strict=True)})
    return found


def agreement_rows(runs: Sequence[Path]) -> list[dict[str, Any]]:
    """Return Spearman's rank correlation between the models' effects, by direction and kind."""
    found: dict[tuple[str, str], list[Values]] = defaultdict(list)
    for _, rows in tables_of(runs, "patching"):
        for direction in DIRECTIONS:
            some = [row for row in rows if row["direction"] == direction]
            ids, effects = stacked(some, ("part", "kind"), "effect")
            for kind in dict.fromkeys(name[1] for name in effects):
                chosen = np.array([one for name, one in effects.items() if name[1] == kind])
                found[direction, kind].append(by_word(ids, chosen))
    rows = []
    for (direction, kind), sides in found.items():
        if len(sides) == 2 and sides[0].shape == sides[1].shape and len(sides[0]) > 2:
            about = {"direction": direction, "kind": kind, "components": len(sides[0])}
            rows.append(about | dict(zip(ENDS, _correlation(*sides), strict=True)))
    return rows


def _correlation(one: Values, other: Values) -> tuple[float, float, float]:
    """Return Spearman's rho of row means, with a bootstrap interval over columns."""
    draws = np.random.default_rng(0).integers(one.shape[1], size=(RESAMPLES, one.shape[1]))
    every = [np.arange(one.shape[1]), *draws]
    rho = [
        spearmanr(one[:, some].mean(1), other[:, some].mean(1)).statistic  # type: ignore[attr-defined]
        for some in every
    ]
    return rho[0], *np.quantile(rho[1:], (0.025, 0.975))


def write(file: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows as CSV, with five places."""
    if rows:
        columns = list(rows[0])
        cells = [[_cell(row[name]) for name in columns] for row in rows]
        write_text(file, csv_text(columns, cells))


def _cell(value: Any) -> Any:
    return f"{value:.5f}" if isinstance(value, float) else "" if value is None else value


def main(arguments: Sequence[str] | None = None) -> None:
    reader = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    reader.add_argument("--trained", type=Path, nargs="*", default=[], help="runs of training")
    reader.add_argument("--read", type=Path, help="run with direct attribution and attention")
    reader.add_argument("--patched", type=Path, nargs="*", default=[], help="runs with patching")
    reader.add_argument("--out", type=Path, required=True, help="folder of the records")
    options = reader.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    if options.trained:
        write(options.out / "training.csv", training_rows(options.trained))
    if options.read is not None:
        write(options.out / "prompts.csv", metric_rows(options.read))
        write(options.out / "direct.csv", direct_rows(options.read))
        write(options.out / "attention.csv", attention_rows(options.read))
    if options.patched:
        write(options.out / "components.csv", component_rows(options.patched))
        write(options.out / "agreement.csv", agreement_rows(options.patched))


if __name__ == "__main__":
    main()
