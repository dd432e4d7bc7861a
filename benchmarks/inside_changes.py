"""What changes inside a model in fine-tuning, beside a control run and the distance of two seeds.

    python benchmarks/inside_changes.py RUN [RUN] --control RUN --results FOLDER
    python benchmarks/inside_changes.py RUN [RUN] --control RUN --effects COMPARE --results FOLDER
    python benchmarks/inside_changes.py RUN --effects COMPARE --results FOLDER

The runs are those of `sumcirc train` with the default watchers: one or two seeds of one
configuration and a control, such as the same configuration with `data.permute_summaries`. All are
measured on the same documents. COMPARE is a run of `sumcirc compare` on the first of them, with
other documents; with it the changes of layers and heads are correlated with the effects of
patching them. Comparisons end at the last step that all runs recorded, so a control that was cut
short still serves. Without a control the changes stand alone, and none counts.

A change of a layer is *beyond the control* where the seeds' mean differs from the control's (paired
over documents, false discovery rate of 5 % over layers), and it *counts* where it differs by more
than the two seeds differ from each other, too. With one seed no change counts. Neither two nor
three runs give an interval over seeds: whether it holds for further ones is not known.

`changes.csv` has a row for each measure, recorded step and layer; `claims.json` the rest.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sumcirc.errors import UserError
from sumcirc.reporting.measured import entropy_difference, measured
from sumcirc.statistics import (
    Interval,
    bootstrap_means,
    mean_over,
    rank_interval,
    share_below_zero,
    significantly_different,
)
from sumcirc.statistics.ranks import spearman
from sumcirc.statistics.resampling import weights
from sumcirc.storage.reading import table_rows
from sumcirc.storage.writing import csv_text, plain_numbers, write_json, write_text
from sumcirc.tracking.measure_records import (
    ATTENTION_KL,
    CKA,
    ProbeRecord,
    record_file,
    record_files,
)

Array = NDArray[np.float64]
RESAMPLES = 2000
DIGITS = 5
COLUMNS = (
    *("measure", "step", "layer", "change", "low", "high", "seed_distance", "control"),
    *("beyond_control", "beyond_low", "beyond_high", "clear", "counts"),
)


def _layers_of(name: str) -> Callable[[ProbeRecord, ProbeRecord], Array]:
    """Return a reader of a measure of the residual stream after each layer."""
    return lambda record, base: measured(record, name)[1:]


def _drift_gained(record: ProbeRecord, base: ProbeRecord) -> Array:
    return np.diff(measured(record, "residual/relative_change"), axis=0)


def _magnitude_change(record: ProbeRecord, base: ProbeRecord) -> Array:
    before, after = (measured(one, "residual/magnitude")[1:] for one in (base, record))
    return after / before - 1


# each is [layers, documents]
MEASURES: dict[str, Callable[[ProbeRecord, ProbeRecord], Array]] = {
    "attention_kl": lambda record, base: measured(record, ATTENTION_KL).mean(axis=1),
    "entropy_change": lambda record, base: entropy_difference(record, base).mean(axis=1),
    "cka_distance": lambda record, base: 1 - measured(record, CKA)[1:],
    "drift": _layers_of("residual/relative_change"),
    "drift_gained": _drift_gained,
    "act_mag_change": _magnitude_change,
}


class Measured:
    """The measure records of a run, and of its base.

    Attributes:
        base: record of the base model.
        steps: records of training by step, in order.
    """

    def __init__(self, run: Path) -> None:
        self.base = ProbeRecord.read(record_file(run / "probes", -1))
        records = [ProbeRecord.read(file) for file in record_files(run / "probes")]
        self.steps = {record.step: record for record in records}
        if not self.steps:
            raise UserError(f"{run}/probes: has no record; train with the default watchers")

    @property
    def last(self) -> ProbeRecord:
        """The record of the last step."""
        return self.steps[max(self.steps)]


def changes(seeds: Sequence[Measured], control: Measured | None) -> Iterator[tuple[Any, ...]]:
    """Yield a row of COLUMNS for each measure, step that all runs recorded, and layer.

    What compares with the control is NaN, and false, without one.
    """
    for name, read in MEASURES.items():
        for step in common_steps([*seeds, control] if control else seeds):
            each = [read(run.steps[step], run.base) for run in seeds]
            mean = np.mean(each, axis=0)
            if control:
                against = read(control.steps[step], control.base)
                clear = significantly_different(mean - against)
            else:
                against = np.full_like(mean, np.nan)
                clear = np.zeros(len(mean), dtype=bool)
            distances = np.abs(mean_over(each[0] - each[-1], axis=1))
            found = zip(
                *bootstrap_means(mean, RESAMPLES),
                distances if len(each) > 1 else np.full(len(mean), np.nan),
                mean_over(against, axis=1),
                *bootstrap_means(mean - against, RESAMPLES),
                strict=True,
            )
            for layer, (value, low, high, distance, other, beyond, least, most) in enumerate(found):
                exceeds = bool(clear[layer])
                counts = exceeds and bool(abs(beyond) > distance)  # never beyond nan
                numbers = (value, low, high, distance, other, beyond, least, most)
                rounded = [round(float(x), DIGITS) for x in numbers]
                yield (name, step, layer, *rounded, exceeds, counts)


def common_steps(runs: Sequence[Measured]) -> list[int]:
    """Return the steps after step 0 that all runs recorded, in order.

    Raises:
        UserError: there is none.
    """
    common = set.intersection(*(set(run.steps) for run in runs)) - {0}
    if not common:
        raise UserError("no step was recorded by all runs; give runs with the same schedule")
    return sorted(common)


def neurons(seeds: Sequence[Measured], control: Measured, step: int) -> list[dict[str, float]]:
    """Return, for each layer, the change of its neurons at a step.

    `change` is the root mean square over neurons of the mean change of activation, less the part
    that its standard errors explain; `seeds_correlation` is that of the two seeds' changes over
    neurons, `control_correlation` that of the seeds' mean with the control's.
    """
    name = "mlp/activation_change"
    rows = []
    runs = [run.steps[step].values for run in (*seeds, control)]
    for layer in range(len(runs[0][name])):
        vectors = [np.asarray(run[name][layer], dtype=np.float64) for run in runs]
        errors = [np.asarray(run[f"{name}_error"][layer], dtype=np.float64) for run in runs]
        sizes = [
            np.sqrt(max(0.0, float((v**2 - e**2).mean())))
            for v, e in zip(vectors, errors, strict=True)
        ]
        *own, against = vectors
        row = {"change": float(np.mean(sizes[:-1])), "control": sizes[-1]}
        if len(own) > 1:
            row["seed_distance"] = abs(sizes[0] - sizes[1])
            row["seeds_correlation"] = float(np.corrcoef(own)[0, 1])
        row["control_correlation"] = float(np.corrcoef(np.mean(own, axis=0), against)[0, 1])
        rows.append(row)
    return rows


def leading_layers(seeds: Sequence[Measured], step: int, places: int = 3) -> dict[str, Any]:
    """Return the layers whose change is largest by each measure, with intervals of their ranks."""
    found = {}
    for name, read in MEASURES.items():
        mean = np.mean([read(run.steps[step], run.base) for run in seeds], axis=0)
        ranks = rank_interval(np.abs(mean) if name == "attention_kl" else _signed(mean), RESAMPLES)
        order = np.argsort(ranks.rank)[:places]
        last = len(mean) - 1
        found[name] = {
            "first": [
                {"layer": int(layer), "low": ranks.low[layer], "high": ranks.high[layer]}
                for layer in order
            ],
            "last_layer": {
                "rank": int(ranks.rank[last]),
                "low": ranks.low[last],
                "high": ranks.high[last],
            },
        }
    return found


def _signed(values: Array) -> Array:
    """Return values with the sign of each row's mean removed, so that rows rank by their size."""
    return values * np.where(mean_over(values, axis=1) < 0, -1, 1)[:, None]


def heads(run: Measured, step: int) -> dict[str, Any]:
    """Return the share of heads whose attention entropy fell at a step."""
    difference = entropy_difference(run.steps[step], run.base)
    clear = significantly_different(difference)
    means = mean_over(difference, axis=-1)
    return {
        "fell": asdict(share_below_zero(difference, RESAMPLES)),
        "clearly_fell": float((clear & (means < 0)).mean()),
        "clearly_rose": float((clear & (means > 0)).mean()),
        "layers_that_rose": int((mean_over(difference.mean(axis=1), axis=-1) > 0).sum()),
    }


def effects(compared: Path) -> dict[str, tuple[list[tuple[int, ...]], Array]]:
    """Return the effects of components or of layers' weights from a comparison, [rows, items].

    Patching of activations gives `heads`, the output of each head, and `layers`, the sum of all
    heads and the MLP of a layer, for each direction: what it brings to the model before training
    (`sufficiency`), and what the trained model loses without it (`necessity`). Path attribution
    that keeps and removes layers gives `weights_alone` and `weights_removed`, the effect of a
    layer's weight change.

    Raises:
        UserError: there is neither, or more than one comparison.
    """
    found = {}
    for name, read in (("patching", _patched), ("path_effects", _moved_weights)):
        files = list(compared.glob(f"compare/*/{name}.parquet"))
        if len(files) > 1:
            raise UserError(f"{compared}: holds {len(files)} comparisons; give a run with one")
        for file in files:
            found |= read(file)
    if not found:
        raise UserError(
            f"{compared}: holds no effects; give a run of sumcirc compare with"
            " compare.analyses=[patching], or [path] with compare.path.effects=layer"
        )
    return found


def _patched(file: Path) -> dict[str, tuple[list[tuple[int, ...]], Array]]:
    columns: dict[str, Any] = {"direction": str, "kind": str, "layer": int | None}
    columns |= {"index": int | None, "item": str, "effect": float}
    table: dict[tuple[str, str, int, int], dict[str, float]] = {}
    for row in table_rows(file, columns):
        if row["kind"] in ("output", "mlp"):
            key = (row["direction"], row["kind"], row["layer"], row["index"] or 0)
            # of necessity, `effect` is the trained model's change, which is a loss if negative
            sign = -1.0 if row["direction"] == "necessity" else 1.0
            table.setdefault(key, {})[row["item"]] = sign * row["effect"]
    found = {}
    for direction in sorted({key[0] for key in table}):
        rows = {key[1:]: list(one.values()) for key, one in table.items() if key[0] == direction}
        by_head = {key[1:]: np.array(one) for key, one in rows.items() if key[0] == "output"}
        found[f"heads_{direction}"] = (
            sorted(by_head),
            np.array([by_head[k] for k in sorted(by_head)]),
        )
        layers = sorted({key[1] for key in rows})
        sums = [
            np.sum([one for key, one in rows.items() if key[1] == layer], 0) for layer in layers
        ]
        found[f"layers_{direction}"] = ([(layer,) for layer in layers], np.array(sums))
    return found


def _moved_weights(file: Path) -> dict[str, tuple[list[tuple[int, ...]], Array]]:
    values: dict[str, dict[int, list[float]]] = {"add": {}, "remove": {}}
    for row in table_rows(file, {"kind": str, "grain": str, "unit": str | None, "value": float}):
        word, _, layer = (row["unit"] or "").partition(" ")
        if row["kind"] in values and row["grain"] == "layer" and word == "layer":
            values[row["kind"]].setdefault(int(layer), []).append(row["value"])
    return {
        f"weights_{name}": (
            [(layer,) for layer in sorted(values[kind])],
            np.array([values[kind][layer] for layer in sorted(values[kind])]),
        )
        for kind, name in (("add", "alone"), ("remove", "removed"))
        if values[kind]
    }


def correlation(change: Array, effect: Array) -> Interval:
    """Return Spearman's correlation over rows between two means over different documents.

    Both sets of documents are resampled, independently. The noise of both sides draws the
    correlation, and its interval, towards 0.

    Args:
        change: [rows, documents].
        effect: [rows, items].
    """
    change = change[:, np.isfinite(change).all(axis=0)]
    drawn = spearman(
        weights(change.shape[1], RESAMPLES, 0) @ change.T,
        weights(effect.shape[1], RESAMPLES, 1) @ effect.T,
    )
    drawn = drawn[np.isfinite(drawn)]
    low, high = np.quantile(drawn, [0.025, 0.975]) if len(drawn) else (np.nan, np.nan)
    point = spearman(change.mean(axis=1), effect.mean(axis=1))
    return Interval(float(point), float(low), float(high), effect.shape[1])


def change_and_effect(run: Measured, compared: Path) -> dict[str, Any]:
    """Return the correlations of change with the effect of patching, over layers and heads.

    `depth` is a control: the number of the layer in place of a change.
    """
    found: dict[str, Any] = {}
    for name, (rows, effect) in effects(compared).items():
        if name.startswith("heads"):
            at = tuple(np.array(rows).T)
            sides = {
                "attention_kl": measured(run.last, ATTENTION_KL)[at],
                "entropy_change": _signed(entropy_difference(run.last, run.base)[at]),
            }
        else:
            sides = {key: _signed(read(run.last, run.base)) for key, read in MEASURES.items()}
            sides["depth"] = np.array(rows, dtype=float)  # [layers, 1]
        found[name] = {key: asdict(correlation(change, effect)) for key, change in sides.items()}
    return found


def main() -> None:
    """Read the runs, and write the tables."""
    words = argparse.ArgumentParser(description="Compare what changes inside with a control.")
    words.add_argument("runs", type=Path, nargs="+", help="run directories of one or two seeds")
    words.add_argument("--control", type=Path, help="run directory of the control")
    words.add_argument("--effects", type=Path, help="run directory of `sumcirc compare`")
    words.add_argument("--results", type=Path, required=True, help="folder of the tables")
    asked = words.parse_args()
    if len(asked.runs) > 2:
        raise UserError(f"{len(asked.runs)} runs: give one or two seeds of one configuration")
    seeds = [Measured(run) for run in asked.runs]
    control = Measured(asked.control) if asked.control else None
    runs = [*seeds, control] if control else seeds
    if len({tuple(run.base.documents) for run in runs}) > 1:
        raise UserError("the runs are measured on different documents; give runs of the same data")
    rows = list(changes(seeds, control))
    step = common_steps(runs)[-1]
    claims: dict[str, Any] = {
        "documents": len(seeds[0].base.documents),
        "steps": [run.last.step for run in runs],
        "step": step,  # of what follows, the last that all runs recorded
        "leading_layers": leading_layers(seeds, step),
        "heads": [heads(run, step) for run in seeds],
    }
    if control:
        claims["heads_of_control"] = heads(control, step)
        claims["neurons"] = neurons(seeds, control, step)
    if (end := common_steps(seeds)[-1]) > step:  # the control was cut short
        claims["without_control"] = {
            "step": end,
            "leading_layers": leading_layers(seeds, end),
            "heads": [heads(run, end) for run in seeds],
        }
    if asked.effects:
        claims["change_and_effect"] = change_and_effect(seeds[0], asked.effects)
    asked.results.mkdir(parents=True, exist_ok=True)
    write_text(asked.results / "changes.csv", csv_text(COLUMNS, rows))
    write_json(asked.results / "claims.json", plain_numbers(claims))
    last = max(row[1] for row in rows)
    for name in MEASURES:
        ours = [row for row in rows if row[0] == name and row[1] == last]
        if not control:
            largest = sorted(ours, key=lambda row: -abs(row[3]))[:3]
            print(f"{name}, step {last}: largest in layers {[row[2] for row in largest]}")
            continue
        clear, counted = ([row[2] for row in ours if row[column]] for column in (-2, -1))
        print(f"{name}, step {last}: layers beyond the control {clear}, that count {counted}")
    print(json.dumps(plain_numbers(claims["heads"]), indent=1))


if __name__ == "__main__":
    main()
