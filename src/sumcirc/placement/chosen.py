"""What the runs of selectors chose: layers, or single modules, with the scores they gave them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

from sumcirc.placement.landscape import Landscape
from sumcirc.placement.landscape_files import Choice
from sumcirc.placement.units import Name, Units, UnitSet, label_of, module_name
from sumcirc.reporting.runs import ReportRun
from sumcirc.storage.reading import RecordError, is_there, read_json


class RankedUnit(TypedDict):
    """The part of an entry of ranking.json that is read here."""

    layer: int
    module: NotRequired[str | None]
    score: float
    chosen: NotRequired[bool]


class RankedUnits(TypedDict):
    """The part of ranking.json that is read here."""

    granularity: str
    ranking: list[RankedUnit]


def choices(runs: Sequence[ReportRun], landscape: Landscape, notes: list[str]) -> list[Choice]:
    """Return what the selectors of training runs and of `sumcirc select` chose.

    Args:
        runs: finished runs, of which those without a selector are skipped.
        landscape: the landscape whose sets can be chosen.
        notes: gets a line for each choice that is no set, and for scores that can't be used.
    """
    units = landscape.units
    found: dict[str, dict[Any, UnitSet]] = {}
    scores: dict[str, tuple[float, ...] | None] = {}
    for run in runs:
        selector = (run.config.get("selector") or {}).get("name")
        adaptation = run.config.get("adaptation", {})
        auto = adaptation.get("layers") == "auto" or run.verb == "select"
        if not selector or selector in ("all", "fixed") or not (auto and layers_of(run)):
            continue
        try:
            words, names = _names(run)
        except RecordError as error:
            notes.append(f"{run.name}: {error.below(run.path)}; its choice is left out")
            continue
        chosen = tuple(sorted(units.by_name[name] for name in names if name in units.by_name))
        if len(chosen) < len(names) or chosen not in landscape.places:
            notes.append(
                f"{run.name}: chose {words} {label_of(names)}, which are no {landscape.one} of this"
                " landscape"
            )
            continue
        name = str(run.config["selector"].get("score") or selector)
        found.setdefault(name, {})[run.seeds] = chosen
        if name not in scores:
            try:
                scores[name] = _unit_scores(run, units)
            except RecordError as error:
                scores[name] = None
                notes.append(
                    f"{run.name}: {error.below(run.path)}; its {units.word} scores are left out"
                )
    return [Choice(name, tuple(by_seed.values()), scores[name]) for name, by_seed in found.items()]


def layers_of(run: ReportRun) -> tuple[int, ...]:
    """Return the layers with an adapter, ascending; none if the run doesn't list them."""
    return tuple(sorted(run.layers or ()))


def _names(run: ReportRun) -> tuple[str, list[Name]]:
    """Return what a selector chose, `layers` or `modules`, and their names.

    Raises:
        RecordError: modules were chosen, and ranking.json doesn't say which.
    """
    if run.config["adaptation"].get("granularity") != "module":
        return "layers", list(layers_of(run))
    file = run.directory.ranking_file
    body: RankedUnits = read_json(file, RankedUnits)
    names = [_name(row) for row in body["ranking"] if row.get("chosen")]
    if body["granularity"] != "module" or not names:
        raise RecordError(file, "doesn't say which modules were chosen", "ranking")
    return "modules", names


def _name(row: RankedUnit) -> Name:
    module = row.get("module")
    return row["layer"] if module is None else module_name(row["layer"], module)


def _unit_scores(run: ReportRun, units: Units) -> tuple[float, ...] | None:
    """Return the score of each unit in ranking.json, or None if there are none."""
    file = run.directory.ranking_file
    if not is_there(file):
        return None
    body: RankedUnits = read_json(file, RankedUnits)
    if body["granularity"] != units.word:
        return None
    scores: Mapping[Name, float] = {_name(row): row["score"] for row in body["ranking"]}
    if scores.keys() != units.by_name.keys():
        raise RecordError(
            file, f"has no score for each of the {units.count} {units.words}", "ranking"
        )
    return tuple(scores[name] for name in units.names)
