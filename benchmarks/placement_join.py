"""Completes a landscape with recorded runs, after checking that they are the same trainings.

    python benchmarks/placement_join.py runs/placement docs/results/records/bakeoff \\
      --choices docs/results/records/placement/choices.json --out FOLDER

A sweep of all sets of layers repeats trainings of earlier sweeps in which selectors chose the
layers. On one machine with one thread a run gives the same numbers to the last bit, so it need not
be repeated: where the sweep lacks a run, a record with the same layers, seed, number of trainable
parameters and steps takes its place. In every place where there are both, all scores of all
documents have to be equal, or nothing is written; at least CHECKED places have to have both.
FOLDER gets landscape.json and landscape.parquet with the scores that all runs have, and
joined.json, which says where each run is from. Without records, the sweep's own runs are stored
with the choices, which may also be a sweep of single modules.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sumcirc.placement.gathering import gather_landscape
from sumcirc.placement.landscape import Landscape
from sumcirc.placement.landscape_files import Choice, write_landscape
from sumcirc.placement.units import UnitSet, label_of, set_named
from sumcirc.reporting.runs import ReportRun, gather, scored_runs
from sumcirc.storage.writing import write_json

Values = NDArray[np.float64]
Place = tuple[UnitSet, int]

CHECKED = 4  # fewest places in which a new run and a record are compared
ALL = "LoRA, all layers"


class DifferentRunError(Exception):
    """Error that is raised if a record is not the same training as a run of the sweep."""


def places_of(path: Path) -> dict[Place, ReportRun]:
    """Return the runs of a sweep with adapters on layers, by their layers and seed."""
    runs, _ = scored_runs(gather([path]))
    found: dict[Place, ReportRun] = {}
    for run in runs:
        named = run.layers or run.config["adaptation"]["layers"]
        if isinstance(named, list):
            found.setdefault((tuple(sorted(named)), run.seeds[0]), run)
    return found


def check_same(run: ReportRun, record: ReportRun) -> None:
    """Check that a record has the numbers of a run on the same documents.

    Raises:
        DifferentRunError: a number differs.
    """
    for name, values in record.values.items():
        if name in run.values and not np.array_equal(values, run.values[name], equal_nan=True):
            raise DifferentRunError(f"{record.path}: other {name} than {run.path}")
    if run.losses != record.losses:
        raise DifferentRunError(f"{record.path}: other validation losses than {run.path}")


def comparable(run: ReportRun, record: ReportRun) -> bool:
    """Return whether a record has a run's number of parameters and steps, and its documents."""
    sizes = ("trainable_parameters", "steps")
    return (
        all(run.summary[name] == record.summary[name] for name in sizes)
        and run.config["adaptation"]["budget"] == record.config["adaptation"]["budget"]
        and run.ids == record.ids
    )


def joined(
    sweep: Mapping[Place, ReportRun], records: Mapping[Place, ReportRun], whole: UnitSet
) -> tuple[dict[Place, ReportRun], list[Place]]:
    """Return the sweep's runs with records where it has none, and the places that were compared.

    Raises:
        DifferentRunError: a record is not the same training, or too few can be compared.
    """
    of_set = next(run for (layers, _), run in sweep.items() if layers != whole)
    of_all = next(run for (layers, _), run in sweep.items() if layers == whole)
    kept = {
        place: record
        for place, record in records.items()
        if comparable(of_all if place[0] == whole else of_set, record)
    }
    both = sorted(sweep.keys() & kept.keys())
    for place in both:
        check_same(sweep[place], kept[place])
    if len(both) < CHECKED:
        raise DifferentRunError(f"only {len(both)} places have a run and a record")
    return {**kept, **sweep}, both


def complete(landscape: Landscape, runs: Mapping[Place, ReportRun]) -> Landscape:
    """Return the landscape with all seeds with which there is a run of every set and all layers."""
    whole = tuple(range(landscape.layers))
    needed = [*landscape.sets, whole]
    seeds = tuple(
        seed
        for seed in sorted({seed for _, seed in runs})
        if all((layers, seed) in runs for layers in needed)
    )
    used = [runs[layers, seed] for layers in needed for seed in seeds]
    names = [name for name in landscape.scores if all(name in run.values for run in used)]

    def stacked(layers: UnitSet) -> dict[str, Values]:
        return {n: np.array([runs[layers, seed].values[n] for seed in seeds]) for n in names}

    by_set = [stacked(layers) for layers in landscape.sets]
    scores = {name: np.array([one[name] for one in by_set]) for name in names}
    return replace(landscape, seeds=seeds, scores=scores, others={ALL: stacked(whole)})


def chosen(file: Path, landscape: Landscape) -> list[Choice]:
    """Return the choices that were recorded before the runs.

    Of several modules that a selector can't tell apart, each is one of its choices.
    """
    units, found = landscape.units, []
    for name, one in json.loads(file.read_text(encoding="utf-8"))["selectors"].items():
        if "refused" in one:
            continue
        sets, scores = [one["layers"]] if "layers" in one else [], one["scores"]
        if "modules" in one:
            sets = [[module] for module in one["modules"]]
            scores = [scores[module] for module in units.names]
        named = tuple(set_named(name, chosen, units, landscape.size) for chosen in sets)
        found.append(Choice(name, named, tuple(scores)))
    return found


def with_records(
    landscape: Landscape, sweep: Path, records: Path
) -> tuple[Landscape, dict[str, Any]]:
    """Return the landscape completed by records, and where each run is from.

    Raises:
        DifferentRunError: a record is not the same training, or too few can be compared.
    """
    whole = tuple(range(landscape.layers))
    own = places_of(sweep)
    runs, both = joined(own, places_of(records), whole)
    landscape = complete(landscape, runs)
    taken = [
        f"{label_of(layers)} seed {seed}"
        for layers in (*landscape.sets, whole)
        for seed in landscape.seeds
        if (layers, seed) not in own
    ]
    compared = [f"{label_of(layers)} seed {seed}" for layers, seed in both]
    seeds = list(landscape.seeds)
    return landscape, {"seeds": seeds, "from_records": taken, "compared_and_equal": compared}


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("sweep", type=Path, help="the runs of make placement, at least one seed")
    parser.add_argument("records", type=Path, nargs="?", help="runs or records of another sweep")
    parser.add_argument("--choices", type=Path, help="choices of selectors")
    parser.add_argument("--name", help="name of the landscape; by default the sweep's")
    parser.add_argument("--model", help="name that replaces model.path, the place on this machine")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args(words)
    found = gather_landscape([arguments.sweep])
    landscape, sources = found.landscape, None
    if arguments.records is not None:
        if landscape.modules:
            parser.error("records stand for sets of layers, and the sweep has single modules")
        try:
            landscape, sources = with_records(landscape, arguments.sweep, arguments.records)
        except DifferentRunError as error:
            parser.error(str(error))
    landscape = replace(landscape, name=arguments.name or landscape.name)
    if arguments.model is not None:
        settings = {**landscape.settings, "model.path": arguments.model}
        landscape = replace(landscape, settings=settings)
    choices = chosen(arguments.choices, landscape) if arguments.choices else found.choices
    write_landscape(landscape, choices, arguments.out)
    seeds = ", ".join(map(str, landscape.seeds))
    print(f"{len(landscape.sets)} {landscape.many}, seeds {seeds}")
    if sources is not None:
        write_json(arguments.out / "joined.json", sources)
        taken, both = sources["from_records"], sources["compared_and_equal"]
        print(f"{len(taken)} runs are from records; {len(both)} runs are in both and equal")
    for note in found.notes:
        print(note)


if __name__ == "__main__":
    main()
