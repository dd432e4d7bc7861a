"""Plants changes in small models, and asks every measure where they are.

    python -m benchmarks.planted --results FOLDER --models 20

Models are added to FOLDER/models.jsonl, one line each as soon as it is measured, until every kind
has that many which are accepted (see `truth`). If interrupted, the same command continues. Then
FOLDER/tables.md and FOLDER/auc.png are written; with --models 0 these are all that is made.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.planted.bases import trained_base
from benchmarks.planted.measures import measured
from benchmarks.planted.models import KINDS, Base, Planted
from benchmarks.planted.planting import planted
from benchmarks.planted.span_measures import measured_by_span
from benchmarks.planted.span_tables import span_tables
from benchmarks.planted.tables import picture, read, tables
from benchmarks.planted.truth import truth
from benchmarks.planted.wire_bases import trained_wire_base
from benchmarks.planted.wire_facts import stated_facts
from benchmarks.planted.wire_planting import planted_routes
from sumcirc.storage.writing import write_text

TRIES = 8  # groups of models of a kind on a base, at most


@dataclass(frozen=True)
class Task:
    """A family of planted models: which kinds it has, and how its models are made.

    Attributes:
        routes: whether its kinds are routes.
        base: returns the base with a given seed.
        planted: returns the models with given numbers of a base and a kind.
        bases: number of bases.
        group: number of models of a kind that are made on a base before another base is taken.
    """

    routes: bool
    base: Callable[[int], Any]
    planted: Callable[[Any, str, Sequence[int]], Iterable[Planted]]
    bases: int
    group: int

    @property
    def kinds(self) -> list[str]:
        """The kinds of change, in their order."""
        return [kind for kind, how in KINDS.items() if how.route is self.routes]


TASKS = (
    Task(False, trained_base, planted, 5, 4),
    Task(True, trained_wire_base, planted_routes, 1, 28),
)


def record(made: Planted) -> dict[str, Any]:
    """Return what is known of a model: its changes, the truth, and the scores if it is accepted."""
    found = truth(made)
    about: dict[str, Any] = {
        "kind": made.kind,
        "base": made.base.seed,
        "number": made.number,
        "plant": [one.label for one in made.plant],
        "decoys": [[one.place.label, one.trained] for one in made.decoys],
        "truth": _rounded(vars(found)),
        "refused": found.refused,
    }
    if found.refused is None:
        if KINDS[made.kind].route:
            about["facts"] = _rounded(stated_facts(made))
        for name, decoys in (("with_decoys", True), ("alone", False)):
            about[name] = _rounded(vars(measured(made, decoys)))
            if KINDS[made.kind].route:
                about[name]["by_span"] = _rounded(vars(measured_by_span(made, decoys)))
    return about


def _rounded(value: Any) -> Any:
    """Return numbers with five digits, so that scores which differ by rounding errors are equal."""
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if hasattr(value, "tolist"):
        value = value.tolist()
    return [_rounded(one) for one in value] if isinstance(value, list) else value


def add(file: Path, task: Task, wanted: int) -> None:
    """Append models to a file until it has enough accepted ones of every kind of a task."""
    for group in range(TRIES):
        for seed in range(1, task.bases + 1):
            base: Base | None = None
            for kind in task.kinds:
                known = read(file)
                accepted = Counter(one["kind"] for one in known if one["refused"] is None)
                tried = {(one["kind"], one["base"], one["number"]) for one in known}
                numbers = range(group * task.group, (group + 1) * task.group)
                numbers = [one for one in numbers if (kind, seed, one) not in tried]
                if not numbers or accepted[kind] >= wanted:
                    continue
                base = base or task.base(seed)
                for made in task.planted(base, kind, numbers):
                    line = json.dumps(record(made))
                    with file.open("a", encoding="utf-8") as out:
                        out.write(line + "\n")
                    print(kind, seed, made.number, json.loads(line)["refused"] or "", flush=True)


def main() -> None:
    """Add models, and write the tables and the picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--results", type=Path, required=True, help="folder of the records")
    parser.add_argument("--models", type=int, default=20, help="accepted models of each kind")
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.results.mkdir(parents=True, exist_ok=True)
    file = given.results / "models.jsonl"
    for task in TASKS:
        add(file, task, given.models)
    known = read(file)
    write_text(given.results / "tables.md", f"{tables(known)}\n{span_tables(known)}")
    picture(known, given.results / "auc.png")


if __name__ == "__main__":
    main()
