"""Collects a landscape from run directories.

The census are LoRA runs whose layers the user named: one run for each set of k layers and each
seed, all with the same settings otherwise; or one run for each module of each layer and each seed,
for which `adaptation.layers` and `adaptation.modules` name one each. Runs of selectors in the same
sweep are not part of it; they say what the selector chose. Other arms of the same seeds, such as
LoRA on all layers, are kept for comparison.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sumcirc.errors import UserError
from sumcirc.placement.chosen import choices, layers_of
from sumcirc.placement.landscape import Array, Landscape, all_sets
from sumcirc.placement.landscape_files import Choice
from sumcirc.placement.units import Units, UnitSet, label_of, module_name
from sumcirc.reporting.arms import BUDGET, Arm, differing, make_arms, unlike
from sumcirc.reporting.runs import ReportRun, gather, scored_runs
from sumcirc.schema import MODULES, Granularity
from sumcirc.tracking.score_names import SCORES

# settings that tell sets of layers apart, or that follow from them; the granularity has no effect
# where layers are named
WITHIN = ("adaptation.layers", "adaptation.granularity", "selector.")
KINDS = "adaptation.modules"  # tells single modules apart, too
NAMED = (None, "fixed")


@dataclass(frozen=True)
class Found:
    """A landscape with what else the runs say.

    Attributes:
        landscape: the landscape.
        choices: what selectors chose.
        notes: what was left out or may surprise, in words.
    """

    landscape: Landscape
    choices: list[Choice]
    notes: list[str]


@dataclass(frozen=True)
class Census:
    """Arms with named layers or modules, equally many in each, and the same settings otherwise.

    Attributes:
        units: the units that are named.
        size: number of units of each set.
        arms: the arm of each set, by the set's label.
        rest: the settings that they share, but for the modules, as text.
    """

    units: Units
    size: int
    arms: dict[str, Arm]
    rest: str

    @property
    def sets(self) -> tuple[UnitSet, ...]:
        """All sets of this size, whether or not they were trained."""
        return all_sets(self.units.count, self.size)

    @property
    def whole(self) -> bool:
        """Whether all sets were trained, and there are several."""
        count = self.units.count
        return self.size < count and len(self.arms) == math.comb(count, self.size)

    @property
    def granularity(self) -> Granularity:
        """What the units are."""
        return Granularity(self.units.word)

    def runs(self, seed: int) -> dict[UnitSet, ReportRun]:
        """Return the run of each set with a seed, where there is one."""
        found = {
            chosen: _of_seed(self.arms[label], seed)
            for chosen in self.sets
            if (label := self.units.label(chosen)) in self.arms
        }
        return {chosen: run for chosen, run in found.items() if run is not None}


def gather_landscape(
    paths: Sequence[Path], size: int | None = None, granularity: Granularity | None = None
) -> Found:
    """Collect the landscape that runs make up.

    Args:
        paths: directories of sweeps and of runs, including runs of `sumcirc select`.
        size: number of layers of each set; None if the runs have sets of one size only.
        granularity: whether sets of layers or single modules are meant; None for single modules if
            the runs have all of them, else sets of layers.

    Raises:
        UserError: the runs make up no landscape, or more than one.
    """
    gathered = gather(paths)
    runs, left_out = scored_runs(gathered)
    arms, notes = make_arms(runs)
    notes += [f"left out: {one.path.name}: {one.reason}" for one in left_out]
    layers = max(
        (len(layers_of(run)) for arm in arms if arm.all_layers for run in arm.runs), default=0
    )
    census = _census(arms, layers, size, granularity, paths, notes)
    seeds = _complete_seeds(census, notes, paths)
    by_seed = [census.runs(seed) for seed in seeds]
    inside = {id(run) for found in by_seed for run in found.values()}
    members = {id(run) for arm in census.arms.values() for run in arm.runs}
    outside, _ = make_arms([r for arm in arms for r in arm.runs if id(r) not in members])
    landscape = Landscape(
        Path(paths[0]).resolve().name,
        census.units.layers,
        census.sets,
        tuple(seeds),
        tuple(next(iter(census.arms.values())).runs[0].ids),
        _stacked([[found[chosen] for found in by_seed] for chosen in census.sets]),
        _others(outside, census, seeds, notes),
        _shared(census),
        census.units.modules,
    )
    asked = [run for run in gathered.runs if run.done and id(run) not in inside]
    return Found(landscape, choices(asked, landscape, notes), notes)


def _others(
    arms: Sequence[Arm], census: Census, seeds: Sequence[int], notes: list[str]
) -> dict[str, dict[str, Array]]:
    """Return the scores of arms outside the census, such as LoRA on all layers.

    Each is [seeds, documents] by name. An arm with another budget or other settings gets a note.
    """
    found = {}
    first = next(iter(census.arms.values()))
    for arm in arms:
        if (arm.selector or "all") not in ("all", "fixed"):
            continue
        runs = [run for seed in seeds if (run := _of_seed(arm, seed)) is not None]
        if len(runs) == len(seeds):
            scores = _stacked([runs])
            found[arm.title] = {name: values[0] for name, values in scores.items()}
            reasons = unlike(arm, first)
            notes += [f"{arm.title} can't be compared: {reason}" for reason in reasons]
        else:
            notes.append(f"left out: {arm.title}: it doesn't have all seeds {label_of(seeds)}")
    return found


def _named(arm: Arm) -> tuple[int, ...] | None:
    """Return the layers that the user named for an arm, or None if they were not named."""
    adaptation = arm.runs[0].config["adaptation"]
    if arm.full or arm.selector not in NAMED:
        return None
    if arm.selector is not None and adaptation.get("granularity") == "module":
        return None
    named = adaptation["layers"] if arm.selector is None else layers_of(arm.runs[0])
    return tuple(sorted(named)) if isinstance(named, (list, tuple)) and named else None


def _of_seed(arm: Arm, seed: int) -> ReportRun | None:
    return next((run for run in arm.runs if run.seeds[0] == seed), None)


def _of_layers(arms: Iterable[Arm], layers: int) -> list[Census]:
    """Return the arms with named layers, by the number of layers and all other settings."""
    groups: dict[tuple[int, str, str], dict[tuple[int, ...], Arm]] = {}
    for arm in arms:
        if named := _named(arm):
            key = len(named), _rest(arm), arm.settings[KINDS]
            groups.setdefault(key, {}).setdefault(named, arm)
    return [
        Census(
            Units(layers or 1 + max(max(named) for named in group)),
            size,
            {label_of(named): arm for named, arm in group.items()},
            rest,
        )
        for (size, rest, _), group in groups.items()
        if len(group) > 1
    ]


def _of_modules(arms: Iterable[Arm], layers: int) -> list[Census]:
    """Return the arms with one named module of one layer, by all other settings.

    Arms that all have the same module are left out, since they differ in their layer only.
    """
    groups: dict[str, dict[tuple[int, str], Arm]] = {}
    for arm in arms:
        named, modules = _named(arm), arm.runs[0].config["adaptation"]["modules"]
        if named and len(named) == len(modules) == 1:
            groups.setdefault(_rest(arm), {}).setdefault((named[0], modules[0]), arm)
    found = []
    for rest, group in groups.items():
        kinds = {module for _, module in group}
        if len(kinds) > 1:
            ordered = [m for m in MODULES if m in kinds] + sorted(kinds - {*MODULES})
            units = Units(layers or 1 + max(layer for layer, _ in group), tuple(ordered))
            named_arms = {module_name(*target): arm for target, arm in group.items()}
            found.append(Census(units, 1, named_arms, rest))
    return found


def _rest(arm: Arm) -> str:
    """Return the settings that all arms of a census share, as text."""
    apart = (*WITHIN, KINDS)
    return json.dumps({k: v for k, v in arm.settings.items() if not k.startswith(apart)})


def _census(
    arms: Sequence[Arm],
    layers: int,
    size: int | None,
    granularity: Granularity | None,
    paths: Sequence[Path],
    notes: list[str],
) -> Census:
    """Return the arms that make up the census; note what its landscape doesn't show.

    Raises:
        UserError: there is none, or there are several.
    """
    modules = _of_modules(arms, layers)
    inside = {id(arm) for one in modules for arm in one.arms.values()}
    found = [
        one
        # arms with a single module each are no sets of layers
        for one in (*modules, *_of_layers([a for a in arms if id(a) not in inside], layers))
        if granularity in (None, one.granularity) and size in (None, one.size)
    ]
    if not found and modules and granularity is not Granularity.module:
        given = {"size": size, "granularity": granularity and granularity.value}
        asked = [f"{name}={value}" for name, value in given.items() if value is not None]
        raise UserError(
            f"{paths[0]}: has single modules, and no such sets of layers; leave out"
            f" {' and '.join(asked)}"
        )
    if not found:
        raise UserError(f"{paths[0]}: {_nothing(size, granularity)}")
    whole = _modules_first([one for one in found if one.whole], paths, notes)
    if len(whole) > 1:
        sizes = sorted({one.size for one in whole})
        if len(sizes) > 1:
            raise UserError(
                f"{paths[0]}: has all sets of {' and of '.join(map(str, sizes))} layers; say which"
                f" are meant with size={sizes[0]}"
            )
        raise UserError(f"{paths[0]}: {_twice(*whole[:2])}")
    return whole[0] if whole else max(found, key=lambda one: len(one.arms))


def _modules_first(
    whole: Sequence[Census], paths: Sequence[Path], notes: list[str]
) -> Sequence[Census]:
    """Return the censuses of modules, if there are any, else all.

    Raises:
        UserError: there is also one of layers with other settings, so that it isn't clear which is
            meant.
    """
    modules = [one for one in whole if one.units.modules]
    if not modules:
        return whole
    for one in whole:
        if one.units.modules:
            continue
        told = one.units.sets(one.size)
        if one.rest != modules[0].rest:
            raise UserError(
                f"{paths[0]}: has all single modules, and all {told} with other settings; say which"
                " are meant with granularity=module or granularity=layer"
            )
        notes.append(f"all {told} were trained as well; granularity=layer shows their landscape")
    return modules


def _nothing(size: int | None, granularity: Granularity | None) -> str:
    """Return why there is no census, and what trains one."""
    if granularity is Granularity.module:
        return (
            "has no runs with one named module each, so there is no landscape of modules; train"
            " them with sumcirc train -m experiment=placement_tiny adaptation.budget=24576"
            " 'adaptation.layers=[0],[1],[2],[3],[4],[5]' and"
            " 'adaptation.modules=[qkv],[attn_out],[mlp_in],[mlp_out]'"
        )
    asked = "" if size is None else f" of {size} layers"
    return (
        f"has no runs with named sets{asked}, so there is no landscape; train them with make"
        " placement, or sumcirc train -m experiment=placement_tiny"
    )


def _twice(first: Census, second: Census) -> str:
    """Return how two censuses of the same sets differ, and how to tell them apart."""
    one, other = (next(iter(census.arms.values())) for census in (first, second))
    told = f"has all {first.units.sets(first.size)} twice, with different"
    names = [name for name in differing(one, other) if not name.startswith(WITHIN)]
    # the first arms of two censuses of modules may have different modules, which is no difference
    return f"{told} {min(names, key=lambda name: name == KINDS)}; give the sweeps one at a time"


def _complete_seeds(census: Census, notes: list[str], paths: Sequence[Path]) -> list[int]:
    """Return the seeds with which every set was trained; note the others, and unequal budgets.

    Raises:
        UserError: there is none.
    """
    units, sets = census.units, census.sets
    told = units.counted(census.size)
    seeds = sorted({run.seeds[0] for arm in census.arms.values() for run in arm.runs})
    lacking = {}
    for seed in seeds:
        there = census.runs(seed)
        lacking[seed] = [chosen for chosen in sets if chosen not in there]
    complete = [seed for seed in seeds if not lacking[seed]]
    if not complete:
        seed = min(seeds, key=lambda seed: len(lacking[seed]))
        missing = lacking[seed]
        shown = "; ".join(map(units.label, missing[:4])) + ("; ..." if len(missing) > 4 else "")
        raise UserError(
            f"{paths[0]}: {len(missing)} of the {len(sets)} {told} have no finished run with seed"
            f" {seed}: {shown}; give the sweep's command again, which goes on where it was"
        )
    for seed in seeds:
        if lacking[seed]:
            notes.append(
                f"seed {seed} is left out: {len(lacking[seed])} of {len(sets)}"
                f" {'sets' if census.size > 1 else told} have no finished run with it"
            )
    sizes = [arm.trainable_parameters for arm in census.arms.values()]
    if max(sizes) > (1 + BUDGET) * min(sizes):
        notes.append(
            f"trainable parameters differ, from {min(sizes):,.0f} to {max(sizes):,.0f}; with"
            " adaptation.budget=N sweep.same_budget=true they would be equal"
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
