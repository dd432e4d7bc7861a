"""A landscape as a small data set: landscape.json and landscape.parquet in one folder.

The JSON file says what was trained and what selectors chose; the Parquet file has a row for each
set or other arm, seed and document, with the scores of that summary. Neither has any text of a
document. If single modules were trained, the JSON file has the names of a layer's modules, and
modules are named such as `0.qkv`; without `modules`, sets consist of layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict

import numpy as np

from sumcirc import __version__
from sumcirc.errors import UserError
from sumcirc.placement.landscape import Array, Landscape, all_sets
from sumcirc.placement.units import Name, Units, UnitSet, set_named
from sumcirc.storage.reading import (
    Number,
    RecordError,
    is_there,
    read_json,
    table_columns,
    table_rows,
)
from sumcirc.storage.reading.shapes import Range
from sumcirc.storage.writing import plain_numbers, write_json, write_table

FILE, TABLE = "landscape.json", "landscape.parquet"
MOST_LAYERS = 64
Index = Annotated[int, Range(0, MOST_LAYERS - 1)]


@dataclass(frozen=True)
class Choice:
    """The layers or modules that a selector chose.

    Attributes:
        name: name of the selector.
        sets: the chosen units, ascending: once, or once for each seed.
        scores: [units] score of each unit; None if the selector gives none.
    """

    name: str
    sets: tuple[UnitSet, ...]
    scores: tuple[float, ...] | None = None


class ChoiceFile(TypedDict):
    """The entry of a selector in landscape.json."""

    sets: list[list[Index | str]]
    scores: NotRequired[list[float] | None]


class LandscapeFile(TypedDict):
    """The content of landscape.json."""

    version: str
    name: str
    layers: Annotated[int, Range(2, MOST_LAYERS)]
    modules: NotRequired[list[str]]
    size: Annotated[int, Range(1)]
    seeds: list[int]
    others: list[str]
    settings: dict[str, Any]
    choices: dict[str, ChoiceFile]


def write_landscape(landscape: Landscape, choices: Sequence[Choice], folder: Path) -> None:
    """Write a landscape to landscape.json and landscape.parquet.

    Args:
        landscape: the landscape.
        choices: what selectors chose.
        folder: folder to write to.
    """
    units = landscape.units
    by_selector = {
        one.name: {
            "sets": [list(map(units.name, chosen)) for chosen in one.sets],
            "scores": None if one.scores is None else list(one.scores),
        }
        for one in choices
    }
    body = {
        "version": __version__,
        "name": landscape.name,
        "layers": landscape.layers,
        **({"modules": list(landscape.modules)} if landscape.modules else {}),
        "size": landscape.size,
        "seeds": list(landscape.seeds),
        "others": list(landscape.others),
        "settings": dict(landscape.settings),
        "choices": by_selector,
    }
    by_arm: dict[str, Mapping[str, Array]] = {
        units.label(chosen): {name: values[place] for name, values in landscape.scores.items()}
        for chosen, place in landscape.places.items()
    }
    records = [
        {
            units.words: arm,
            "seed": seed,
            "id": document,
            **{name: _value(values[row, column]) for name, values in scores.items()},
        }
        for arm, scores in (by_arm | dict(landscape.others)).items()
        for row, seed in enumerate(landscape.seeds)
        for column, document in enumerate(landscape.documents)
    ]
    write_table(folder / TABLE, records)
    write_json(folder / FILE, plain_numbers(body))


def _value(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def is_landscape(path: Path) -> bool:
    """Return whether a path is a landscape.json, or a folder that contains one."""
    return path.name == FILE or is_there(path / FILE)


def read_landscape(path: Path) -> tuple[Landscape, list[Choice]]:
    """Read a landscape that `write_landscape` wrote.

    Args:
        path: the folder, or landscape.json in it.

    Raises:
        RecordError: a file is damaged, or the table is not complete.
    """
    folder = path.parent if path.name == FILE else path
    file = folder / FILE
    body: LandscapeFile = read_json(file, LandscapeFile)
    try:
        units = Units(body["layers"], tuple(body.get("modules", ())))
    except ValueError:
        raise RecordError(file, "are not two names or more, each once", "modules") from None
    if body["size"] >= units.count:
        raise RecordError(file, f"is no number below {units.count} {units.words}", "size")
    sets = all_sets(units.count, body["size"])
    arms = [*(units.label(chosen) for chosen in sets), *body["others"]]
    ids, scores = _table(folder / TABLE, units.words, arms, body["seeds"])
    landscape = Landscape(
        body["name"],
        body["layers"],
        sets,
        tuple(body["seeds"]),
        ids,
        {name: values[: len(sets)] for name, values in scores.items()},
        {
            label: {name: values[len(sets) + place] for name, values in scores.items()}
            for place, label in enumerate(body["others"])
        },
        body["settings"],
        units.modules,
    )
    choices = [
        Choice(
            name,
            tuple(_set(names, landscape, file, name) for names in one["sets"]),
            None if (found := one.get("scores")) is None else tuple(found),
        )
        for name, one in body["choices"].items()
    ]
    return landscape, choices


def _set(names: Sequence[Name], landscape: Landscape, file: Path, selector: str) -> UnitSet:
    """Return the set that a selector chose, from the names of its units."""
    try:
        return set_named(selector, names, landscape.units, landscape.size)
    except UserError as error:
        raise RecordError(file, f"can't be used: {error}", f"choices.{selector}.sets") from None


def _table(
    file: Path, column: str, arms: Sequence[str], seeds: Sequence[int]
) -> tuple[tuple[str, ...], dict[str, Array]]:
    """Return the ids of the documents, and each score as [arms, seeds, documents]."""
    fixed: dict[str, Any] = {column: str, "seed": int, "id": str}
    names = [name for name in table_columns(file) if name not in fixed]
    rows = list(table_rows(file, {**fixed, **dict.fromkeys(names, Number)}))
    documents = tuple(dict.fromkeys(row["id"] for row in rows))
    places = [{key: place for place, key in enumerate(axis)} for axis in (arms, seeds, documents)]
    shape = len(arms), len(seeds), len(documents)
    scores = {name: np.full(shape, np.nan) for name in names}
    seen = np.zeros(shape, dtype=int)
    for row in rows:
        try:
            cell = tuple(place[row[key]] for place, key in zip(places, fixed, strict=True))
        except KeyError as error:
            raise RecordError(file, f"has {error.args[0]!r}, which {FILE} doesn't list") from None
        seen[cell] += 1
        for name in names:
            scores[name][cell] = row[name]
    if seen.size == 0 or (seen != 1).any():
        arm, seed, document = np.argwhere(seen != 1)[0] if seen.size else (0, 0, 0)
        where = f"{column} {arms[arm]}, seed {seeds[seed]}" if seen.size else "any run"
        times = int(seen[arm, seed, document]) if seen.size else 0
        raise RecordError(file, f"has {times} rows of a document of {where}, not one")
    return documents, scores
