"""Collects a landscape from run directories.

The census are LoRA runs whose layers the user named: one run for each set of k layers and each
seed, all with the same settings otherwise. Runs of selectors in the same sweep are not part of it;
they say which layers the selector chose. Other arms of the same seeds, such as LoRA on all layers,
are kept for comparison.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from sumcirc.errors import UserError
from sumcirc.placement.landscape import (
    Array,
    Landscape,
    Layers,
    all_sets,
    label_of,
    number_of_sets,
)
from sumcirc.placement.landscape_files import Choice
from sumcirc.reporting.arms import Arm, differing, make_arms
from sumcirc.reporting.runs import Gathered, ReportRun, gather, scored_runs
from sumcirc.storage.reading import RecordError, is_there, read_json
from sumcirc.tracking.score_names import SCORES

# settings that tell sets of layers apart, or that follow from them
WITHIN = ("adaptation.layers", "selector.")
NAMED = (None, "fixed")


class LayerScore(TypedDict):
    """The part of an entry of ranking.json that is read here."""

    layer: int
    score: float


class LayerScores(TypedDict):
    """The part of ranking.json that is read here."""

    granularity: str
    ranking: list[LayerScore]


@dataclass(frozen=True)
class Found:
    """A landscape with what else the runs say.

    Attributes:
        landscape: the landscape.
        choices: the layers that selectors chose.
        notes: what was left out or may surprise, in words.
    """

    landscape: Landscape
    choices: list[Choice]
    notes: list[str]


@dataclass(frozen=True)
class Census:
    """Arms with named layers that have the same number of layers and the same settings.

    Attributes:
        size: number of layers of each set.
        arms: the arm of each set.
    """

    size: int
    arms: dict[Layers, Arm]

    @property
    def layers(self) -> int:
        """The smallest number of layers that a model with these sets has."""
        return 1 + max(max(layers) for layers in self.arms)

    def runs(self, seed: int) -> dict[Layers, ReportRun]:
        """Return the run of each set with a seed, where there is one."""
        found = {layers: _of_seed(arm, seed) for layers, arm in self.arms.items()}
        return {layers: run for layers, run in found.items() if run is not None}


def gather_landscape(paths: Sequence[Path], size: int | None = None) -> Found:
    """Collect the landscape that runs make up.

    Args:
        paths: directories of sweeps and of runs, including runs of `sumcirc select`.
        size: number of layers of each set; None if the runs have sets of one size only.

    Raises:
        UserError: the runs make up no landscape, or more than one.
    """
    gathered = gather(paths)
    runs, left_out = scored_runs(gathered)
    arms, notes = make_arms(runs)
    notes += [f"left out: {one.path.name}: {one.reason}" for one in left_out]
    layers = max(
        (len(_layers(run)) for arm in arms if arm.all_layers for run in arm.runs), default=0
    )
    census = _census(arms, layers, size, paths)
    layers = layers or census.layers
    seeds = _complete_seeds(census, layers, notes, paths)
    sets = all_sets(layers, census.size)
    inside = {id(run) for seed in seeds for run in census.runs(seed).values()}
    ids = next(iter(census.arms.values())).runs[0].ids
    scores = _stacked([[census.runs(seed)[one] for seed in seeds] for one in sets])
    others = {}
    for arm in arms:
        if arm in census.arms.values() or (arm.selector or "all") not in ("all", "fixed"):
            continue
        members = [_of_seed(arm, seed) for seed in seeds]
        if all(members):
            others[arm.title] = {
                name: values[0] for name, values in _stacked([[m for m in members if m]]).items()
            }
        else:
            notes.append(f"left out: {arm.title}: it doesn't have all seeds {label_of(seeds)}")
    landscape = Landscape(
        Path(paths[0]).resolve().name,
        layers,
        sets,
        tuple(seeds),
        tuple(ids),
        scores,
        others,
        settings=_shared(census),
    )
    chosen = [run for run in gathered.runs if run.done and id(run) not in inside]
    return Found(landscape, _choices(Gathered(chosen, []), landscape, notes), notes)


def _layers(run: ReportRun) -> Layers:
    return tuple(sorted(run.layers or ()))


def _named(arm: Arm) -> Layers | None:
    """Return the layers that the user named for an arm, or None if they were not named."""
    config = arm.runs[0].config
    adaptation = config["adaptation"]
    if arm.full or arm.selector not in NAMED or adaptation.get("granularity") == "module":
        return None
    named = adaptation["layers"] if arm.selector is None else _layers(arm.runs[0])
    return tuple(sorted(named)) if isinstance(named, (list, tuple)) and named else None


def _of_seed(arm: Arm, seed: int) -> ReportRun | None:
    return next((run for run in arm.runs if run.seeds[0] == seed), None)


def _census(arms: Sequence[Arm], layers: int, size: int | None, paths: Sequence[Path]) -> Census:
    """Return the arms that make up the census.

    Raises:
        UserError: there is none, or there are several.
    """
    groups: dict[tuple[int, str], dict[Layers, Arm]] = {}
    for arm in arms:
        named = _named(arm)
        if named is None or (size is not None and len(named) != size):
            continue
        rest = {k: v for k, v in arm.settings.items() if not k.startswith(WITHIN)}
        groups.setdefault((len(named), json.dumps(rest)), {}).setdefault(named, arm)
    found = [Census(key[0], group) for key, group in groups.items() if len(group) > 1]
    if not found:
        asked = "" if size is None else f" of {size} layers"
        raise UserError(
            f"{paths[0]}: has no runs with named sets{asked}, so there is no landscape; train"
            " them with make placement, or sumcirc train -m experiment=placement_tiny"
        )
    whole = [
        one
        for one in found
        if one.size < (layers or one.layers)
        and len(one.arms) >= number_of_sets(layers or one.layers, one.size)
    ]
    if len(whole) > 1:
        sizes = sorted({one.size for one in whole})
        if len(sizes) > 1:
            raise UserError(
                f"{paths[0]}: has all sets of {' and of '.join(map(str, sizes))} layers; say which"
                f" are meant with size={sizes[0]}"
            )
        first, second = (next(iter(one.arms.values())) for one in whole[:2])
        name = next(n for n in differing(first, second) if not n.startswith(WITHIN))
        raise UserError(
            f"{paths[0]}: has all sets of {sizes[0]} layers twice, with different {name}; give the"
            " sweeps one at a time"
        )
    return whole[0] if whole else max(found, key=lambda one: len(one.arms))


def _complete_seeds(
    census: Census, layers: int, notes: list[str], paths: Sequence[Path]
) -> list[int]:
    """Return the seeds with which every set was trained; note the others.

    Raises:
        UserError: there is none.
    """
    sets = all_sets(layers, census.size)
    seeds = sorted({run.seeds[0] for arm in census.arms.values() for run in arm.runs})
    lacking = {seed: [s for s in sets if s not in census.runs(seed)] for seed in seeds}
    complete = [seed for seed in seeds if not lacking[seed]]
    if not complete:
        seed = min(seeds, key=lambda seed: len(lacking[seed]))
        missing = lacking[seed]
        shown = "; ".join(map(label_of, missing[:4])) + ("; ..." if len(missing) > 4 else "")
        raise UserError(
            f"{paths[0]}: {len(missing)} of the {len(sets)} sets of {census.size} of {layers}"
            f" layers have no finished run with seed {seed}: {shown}; give the sweep's command"
            " again, which goes on where it was"
        )
    for seed in seeds:
        if lacking[seed]:
            notes.append(
                f"seed {seed} is left out: {len(lacking[seed])} of {len(sets)} sets have no"
                " finished run with it"
            )
    return complete


def _stacked(runs: Sequence[Sequence[ReportRun]]) -> dict[str, Array]:
    """Return each score that all runs have as [rows, columns, documents]."""
    names = [name for name in SCORES if all(name in run.values for row in runs for run in row)]
    return {name: np.array([[run.values[name] for run in row] for row in runs]) for name in names}


def _shared(census: Census) -> dict[str, Any]:
    """Return the settings that all runs of a census share, with dotted names."""
    arms = list(census.arms.values())
    first = arms[0].settings
    return {
        name: json.loads(value)
        for name, value in first.items()
        if name != "adaptation.layers" and all(a.settings.get(name) == value for a in arms)
    }


def _choices(gathered: Gathered, landscape: Landscape, notes: list[str]) -> list[Choice]:
    """Return which layers the selectors of training runs and of `sumcirc select` chose."""
    found: dict[str, dict[Any, Layers]] = {}
    scores: dict[str, tuple[float, ...] | None] = {}
    for run in gathered.runs:
        selector = (run.config.get("selector") or {}).get("name")
        auto = run.config.get("adaptation", {}).get("layers") == "auto" or run.verb == "select"
        layers = _layers(run)
        if not selector or selector in ("all", "fixed") or not (auto and layers):
            continue
        if layers not in landscape.places:
            notes.append(
                f"{run.name}: chose layers {label_of(layers)}, which are no set of this landscape"
            )
            continue
        name = str(run.config["selector"].get("score") or selector)
        found.setdefault(name, {})[run.seeds] = layers
        if name not in scores:
            try:
                scores[name] = _layer_scores(run, landscape.layers)
            except RecordError as error:
                scores[name] = None
                notes.append(f"{run.name}: {error.below(run.path)}; its layer scores are left out")
    return [Choice(name, tuple(by_seed.values()), scores[name]) for name, by_seed in found.items()]


def _layer_scores(run: ReportRun, layers: int) -> tuple[float, ...] | None:
    """Return the score of each layer in ranking.json, or None if there are none."""
    file = run.directory.ranking_file
    if not is_there(file):
        return None
    body: LayerScores = read_json(file, LayerScores)
    if body["granularity"] != "layer":
        return None
    scores: Mapping[int, float] = {row["layer"]: row["score"] for row in body["ranking"]}
    if sorted(scores) != list(range(layers)):
        raise RecordError(file, f"has no score for each of the {layers} layers", "ranking")
    return tuple(scores[i] for i in range(layers))
