"""Tables of docs/results/rephrase.md as Markdown, from its records alone.

    python benchmarks/rephrase_tables.py docs/results/records/rephrase

The page states rows of these tables; tests/docs/test_record.py holds it against them.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from rephrase_records import ENDS, by_word

from sumcirc.statistics import bootstrap_means

WORDINGS = {"post": "the post's, trained", "other": "others, not trained"}
DIRECTIONS = {"sufficiency": "tuned into base", "necessity": "base into tuned"}
LISTED = 8

Table = tuple[list[str], list[list[str]]]


def read(folder: Path, name: str) -> list[dict[str, str]]:
    """Return rows of a record; none if it was not measured."""
    file = folder / f"{name}.csv"
    if not file.exists():
        return []
    return list(csv.DictReader(file.read_text(encoding="utf-8").splitlines()))


def stated(ends: Iterable[float], places: int = 2) -> str:
    """Return a mean with its interval."""
    mean, low, high = (f"{one:.{places}f}" for one in ends)
    return f"{mean} [{low}, {high}]"


def _stated(row: dict[str, str] | None) -> str:
    return "-" if row is None else stated(float(row[end]) for end in ENDS)


def seeds(names: Iterable[str]) -> dict[str, str]:
    """Return the name of each model in tables: the seed at the end of its own name."""
    found = {}
    for name in names:
        seed = re.search(r"s(\d+)$", name)
        found[name] = f"seed {seed[1]}" if seed else name
    return found


def training_table(folder: Path) -> Table:
    """Return the validation loss before and after training."""
    rows = read(folder, "training")
    steps = sorted({int(row["step"]) for row in rows})
    at = {(row["model"], int(row["step"])): f"{float(row['validation_nll']):.3f}" for row in rows}
    head = ["validation loss (nats a token)", *(f"step {step}" for step in steps)]
    models = seeds(dict.fromkeys(row["model"] for row in rows))
    return head, [
        [title, *(at.get((name, step), "-") for step in steps)] for name, title in models.items()
    ]


def metric_table(folder: Path) -> Table:
    """Return logit differences by wording."""
    rows = read(folder, "prompts")
    models = seeds([name for name in rows[0] if name not in ("prompt", "base")])
    head = ["wording", "prompts", "base", *models.values()]
    head += [f"{one} minus base" for one in models.values()]
    body = []
    for ending, title in {**WORDINGS, "": "all"}.items():
        some = [row for row in rows if row["prompt"].endswith(ending)]
        ids = [row["prompt"] for row in some]
        sides = {name: np.array([float(row[name]) for row in some]) for name in ("base", *models)}
        values = [*sides.values(), *(sides[name] - sides["base"] for name in models)]
        means = bootstrap_means(by_word(ids, np.array(values)))
        body.append(
            [title, str(len(some)), *(stated(map(float, one)) for one in zip(*means, strict=True))]
        )
    return head, body


def component_table(folder: Path, kind: str, count: int = LISTED) -> Table:
    """Return shares of the gap of the components with the largest effects in any model."""
    rows = [row for row in read(folder, "components") if row["kind"] == kind]
    models = seeds(dict.fromkeys(row["model"] for row in rows))
    at = {(row["part"], row["model"], row["direction"]): row for row in rows}
    columns = [(model, direction) for direction in DIRECTIONS for model in models]
    best: dict[str, float] = defaultdict(float)
    for row in rows:
        best[row["part"]] = max(best[row["part"]], float(row["mean"]))
    parts = sorted(best, key=lambda part: -best[part])[:count]
    head = [kind, *(f"{DIRECTIONS[direction]}, {models[model]}" for model, direction in columns)]
    return head, [[part, *(_stated(at.get((part, *one))) for one in columns)] for part in parts]


def residual_table(folder: Path, step: int = 3) -> Table:
    """Return the share of the gap when the residual stream is replaced before each layer."""
    rows = [row for row in read(folder, "components") if row["kind"] == "residual"]
    models = seeds(dict.fromkeys(row["model"] for row in rows))
    at = {(int(row["layer"]), row["model"], row["direction"]): row for row in rows}
    columns = [(model, direction) for direction in DIRECTIONS for model in models]
    head = ["before layer"]
    head += [f"{DIRECTIONS[direction]}, {models[model]}" for model, direction in columns]
    layers = sorted({layer for layer, *_ in at})[::step]
    return head, [
        [str(layer), *(_stated(at.get((layer, *one))) for one in columns)] for layer in layers
    ]


def set_table(folder: Path, direction: str, family: str = "heads") -> Table:
    """Return shares of the gap by number of components, beside both controls."""
    found = json.loads((folder / "head-sets.json").read_text(encoding="utf-8"))
    models = seeds(found)
    kinds = {"largest": "largest", "random_by_layer": "random, same layers"}
    kinds["random_anywhere"] = "random"
    sides = {name: found[name][direction][family] for name in models if direction in found[name]}
    present = [kind for kind in kinds if all(kind in one for one in sides.values())]
    head = [family, *(f"{models[name]}, {kinds[kind]}" for name in sides for kind in present)]
    sizes = next(iter(sides.values()))["sizes"]
    body = []
    for i, size in enumerate(sizes):
        cells = [
            stated(one[kind][end][i] for end in ENDS) for one in sides.values() for kind in present
        ]
        body.append([str(size), *cells])
    return head, body


def needed_table(folder: Path) -> Table:
    """Return how many components recover half and 80 % of the gap."""
    found = json.loads((folder / "head-sets.json").read_text(encoding="utf-8"))
    head = ["model", "direction", "components", "half of the gap", "80 %"]
    body = []
    for name, title in seeds(found).items():
        for direction, one in found[name].items():
            for family in ("heads", "mlps", "both"):
                needed = [one[family]["needed"][share] for share in ("0.5", "0.8")]
                cells = [_count(some, len(one[family]["sizes"])) for some in needed]
                body.append([title, DIRECTIONS[direction], family, *cells])
    return head, body


def _count(needed: dict[str, int | None], sizes: int) -> str:
    low, high = ("more" if needed[end] is None else str(needed[end]) for end in ("low", "high"))
    size = "not reached" if needed["size"] is None else str(needed["size"])
    return f"{size} [{low}, {high}]"


def change_table(folder: Path, name: str, key: Sequence[str], count: int = LISTED) -> Table:
    """Return rows of `direct` or `attention` with the largest changes in either model."""
    rows = read(folder, name)
    models = seeds(dict.fromkeys(row["model"] for row in rows))
    at = {(*(row[one] for one in key), row["model"]): row for row in rows}
    best: dict[tuple[str, ...], float] = defaultdict(float)
    for row in rows:
        place = tuple(row[one] for one in key)
        best[place] = max(best[place], abs(float(row["mean"])))
    head = [*key, "base", *(f"{one}, change" for one in models.values())]
    body = []
    for place in sorted(best, key=lambda place: -best[place])[:count]:
        found = [at.get((*place, model)) for model in models]
        base = next(f"{float(row['before']):.2f}" for row in found if row is not None)
        body.append([*(cell or "-" for cell in place), base, *map(_stated, found)])
    return head, body


def total_table(folder: Path, largest: int = 3) -> Table:
    """Return summed changes of direct contributions: all heads, the largest ones, all MLPs."""
    rows = read(folder, "direct")
    models = seeds(dict.fromkeys(row["model"] for row in rows))
    sides = []
    for name in models:
        mine = [row for row in rows if row["model"] == name]
        kinds = ("head", "mlp")
        heads, mlps = ([float(x["mean"]) for x in mine if x["part"] == kind] for kind in kinds)
        late = [float(x["mean"]) for x in mine if x["part"] == "head" and int(x["layer"]) >= 20]
        top = sorted(heads, reverse=True)[:largest]
        sides.append([f"{sum(some):.2f}" for some in (heads, late, top, mlps)])
    titles = ["all 270 heads", "heads of layers 20 to 29"]
    titles += [f"the {largest} heads with the largest rise", "all MLPs"]
    head = ["sum of changes (logits)", *models.values()]
    return head, [[title, *cells] for title, *cells in zip(titles, *sides, strict=True)]


def agreement_table(folder: Path) -> Table:
    """Return the rank correlation of the components' effects between the models."""
    head = ["components", "direction", "number", "Spearman's rho"]
    return head, [
        [row["kind"], DIRECTIONS[row["direction"]], row["components"], _stated(row)]
        for row in read(folder, "agreement")
    ]


def every_table(folder: Path) -> dict[str, Table]:
    """Return all tables that the records of a folder give, by title."""
    found = {"training": training_table(folder), "logit difference": metric_table(folder)}
    for kind in dict.fromkeys(row["kind"] for row in read(folder, "components")):
        if kind != "residual":
            found[kind] = component_table(folder, kind)
    if "residual" in {row["kind"] for row in read(folder, "components")}:
        found["residual"] = residual_table(folder)
    if (folder / "head-sets.json").exists():
        for direction in DIRECTIONS:
            for family in ("heads", "mlps", "both"):
                found[f"{family}, {direction}"] = set_table(folder, direction, family)
        found["needed"] = needed_table(folder)
    found["direct"] = change_table(folder, "direct", ("part", "layer", "head"))
    found["direct, sums"] = total_table(folder)
    found["attention"] = change_table(folder, "attention", ("source", "layer", "head"))
    found["agreement"] = agreement_table(folder)
    return found


def markdown(table: Table) -> list[str]:
    """Return the lines of a table."""
    head, body = table
    rule = ["---", *["---:"] * (len(head) - 1)]
    return [f"| {' | '.join(row)} |" for row in (head, rule, *body)]


if __name__ == "__main__":
    for title, table in every_table(Path(sys.argv[1])).items():
        print(f"\n{title}\n", *markdown(table), sep="\n")
