"""Shows the result of a search at the end of its sweep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sumcirc.runtime.terminal import say


def show_search(file: Path) -> None:
    """Print the best trial of each arm, and draw all trials into `search/` next to the record.

    Args:
        file: search.json in the folder of the sweep; nothing is shown if no trial has ended.
    """
    from sumcirc.figures.views import draw_all
    from sumcirc.reporting.tables import print_tables
    from sumcirc.reporting.views.search_results import best_table, trials_view
    from sumcirc.storage.reading import read_json

    if not file.exists():
        return
    record: Any = read_json(file, dict[str, Any])
    print_tables(best_table(record))
    folder = file.parent / "search"
    for reason in draw_all([("trials", lambda: trials_view(record))], folder):
        say(reason)
    say(f"trials: {folder}/trials.csv, trials.png")
