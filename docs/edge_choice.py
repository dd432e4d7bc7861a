"""Keep the record of benchmarks/edge_choice.py beside the page that states it.

    python -m docs.edge_choice RESULTS/edge_choice/NAME/CORRUPTION/record.json \
        docs/results/records/edge-choice/NAME.json

The record loses the names of the pairs. `tests/docs/test_edge_choice_results.py` holds the tables
of docs/results/edge-choice.md against the records.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from sumcirc.reporting.kinds import Table
from sumcirc.reporting.tables import markdown_table
from sumcirc.storage.writing import write_json

RANDOM = "random, matched to "


def record(found: dict[str, Any]) -> dict[str, Any]:
    """Return a record without texts: counts replace the pairs' names, and a name the model's path.

    Args:
        found: the content of record.json.
    """
    counts = {name: len(found[name]) for name in ("chosen_on", "judged_on")}
    return found | counts | {"model": Path(found["model"]).name}


def tables(found: dict[str, Any]) -> list[str]:
    """Return the tables of a record as the page shows them, in Markdown.

    Args:
        found: the record.

    Returns:
        Faithfulness, its difference from the default's, the share of equal top tokens, and CPR and
        CMD.
    """
    sizes, areas = found["sizes"], found["areas"]
    default = areas[0]["way"]
    names = [row["way"] for row in areas]
    random = list(dict.fromkeys(row["way"] for row in found["rows"] if RANDOM in row["way"]))
    by = {(row["way"], row["size"]): row for row in found["rows"]}
    heads = [f"{100 * size:g} %" for size in sizes]

    def rows(ways: list[str], key: str) -> list[list[str]]:
        return [[way, *(told(by[way, size][key]) for size in sizes)] for way in ways]

    kept = [name for name in names if name != default]
    differences = [
        [*row, *(told(area["minus_default"][key]) for key in ("cpr", "cmd"))]
        for row, area in zip(rows(kept, "minus_default"), areas[1:], strict=True)
    ]
    whole = [[row["way"], told(row["cpr"]), told(row["cmd"])] for row in areas]
    made = [
        (["way", *heads], rows([default, *random, *kept], "faithfulness")),
        (["minus the default", *heads, "CPR", "CMD"], differences),
        (["way", *heads], rows([default, *random, *kept], "accuracy")),
        (["way", "CPR", "CMD"], whole),
    ]
    return [
        markdown_table(Table("", tuple(head), body, frozenset({head[0]}))) for head, body in made
    ]


def told(found: dict[str, float]) -> str:
    """Return a mean with its interval, such as `0.73 [0.44, 0.84]`.

    Args:
        found: the mean and the ends of the interval.
    """
    mean, low, high = (f"{found[key] + 0.0:.2f}" for key in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]".replace("-0.00", "0.00")


def main() -> None:
    """Write a record, and print its tables for the page."""
    if len(sys.argv) != 3:
        sys.exit("usage: python -m docs.edge_choice RECORD FILE")
    found = record(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    write_json(Path(sys.argv[2]), found)
    print("\n\n".join(tables(found)))


if __name__ == "__main__":
    main()
