"""Keep the card of a circuit beside the page that states it.

    python -m docs.cards RUN_DIR docs/results/records/circuit-cards/NAME.json
    python -m docs.cards card.json docs/results/records/circuit-cards/NAME.json    # a card alone

A record has the card, the settings of its circuit, and for circuits of each size the faithfulness
on the held-out documents, without the names and texts of documents.
`tests/docs/test_cards.py` holds the tables of docs/results/circuit-cards.md against the records.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from sumcirc.reporting.kinds import Table
from sumcirc.reporting.tables import markdown_table
from sumcirc.reporting.views.circuit_card import card_table
from sumcirc.storage.writing import write_json

COUNTS = ("pairs", "held_out_pairs", "edges", "circuit_edges")
POINT = ("fraction", "edges", "faithfulness", "by_document")
SETTINGS = ("model", "method", "metric", "corruption", "aggregation", "select", "ablation")


def record(source: Path) -> dict[str, Any]:
    """Return the card of a run directory with the settings and figures of its circuit.

    Args:
        source: a run directory of `sumcirc circuit`; or a file such as its circuits/card.json, of
            which only the card is known.
    """
    if source.is_file():
        return {"card": json.loads(source.read_text(encoding="utf-8"))}
    summary = json.loads((source / "summary.json").read_text(encoding="utf-8"))
    card = json.loads((source / "circuits/card.json").read_text(encoding="utf-8"))
    curves = json.loads((source / "circuits/faithfulness.json").read_text(encoding="utf-8"))
    curve = curves["absolute"]
    gaps = [abs(full - empty) for full, empty in zip(curve["full"], curve["empty"], strict=True)]
    sizes = [{name: point[name] for name in POINT} for point in curve["points"]]
    kept = {name: summary[name] for name in (*SETTINGS, *COUNTS)}
    return kept | {"gaps": gaps, "sizes": sizes, "card": card}


def table(found: dict[str, Any]) -> str:
    """Return the card of a record as the page shows it, in Markdown."""
    lines = card_table(found["card"], "")
    keep = ("line", "verdict", "number", "found")
    columns = [lines.headings.index(name) for name in keep]
    rows = [[row[i] for i in columns] for row in lines.rows]
    return markdown_table(Table("", keep, rows, frozenset({"verdict", "found"})))


def main() -> None:
    """Write a record, and print its table for the page."""
    if len(sys.argv) != 3:
        sys.exit("usage: python -m docs.cards RUN_DIR_OR_FILE FILE")
    found = record(Path(sys.argv[1]))
    write_json(Path(sys.argv[2]), found)
    print(table(found))


if __name__ == "__main__":
    main()
