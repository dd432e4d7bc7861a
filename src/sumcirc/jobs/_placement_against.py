"""`sumcirc placement SWEEP against=OTHER`: landscapes compared, and selectors judged over all."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

from sumcirc.placement.gathering import Found
from sumcirc.placement.landscape_files import Choice
from sumcirc.placement.several import Several
from sumcirc.runtime.terminal import paragraph, say
from sumcirc.schema import PlacementConfig


def check(config: PlacementConfig, first: Found, others: Sequence[Found]) -> None:
    """Check that no landscape is given twice and that all can be compared with the first.

    Args:
        config: configuration of the job.
        first, others: the landscapes.

    Raises:
        UserError: as in `check_comparable`, or a score is defined for too few documents.
    """
    from sumcirc.placement.comparable import check_comparable

    found = [first, *others]
    for place, (given, other) in enumerate(zip(config.against, others, strict=True), start=1):
        for one in found[:place]:
            check_comparable(one.landscape, other.landscape, given, config.column, config.metric)
        other.landscape.measured(config.column)


def run(config: PlacementConfig, first: Found, others: Sequence[Found], out: Path) -> None:
    """Compare landscapes, and print and write the result.

    Args:
        config: configuration of the job.
        first, others: the landscapes.
        out: folder to write to.
    """
    from sumcirc.placement import several_views as views
    from sumcirc.reporting.tables import print_tables

    found = [first, *others]
    several = _several(config, found)
    notes = [
        f"{name}: {note}"
        for name, one in zip(several.names, found, strict=True)
        for note in one.notes
    ]
    print_tables(*views.tables(several))
    for title, lines in (("to note", notes), ("in words", views.in_words(several))):
        if lines:
            paragraph(f"{title}:", style="bold")
            for line in lines:
                paragraph(f"  {line}")
    _write(several, notes, out)


def _several(config: PlacementConfig, found: Sequence[Found]) -> Several:
    """Return the landscapes with a different name for each."""
    from sumcirc.placement.analysis import Analysis

    plain = [one.landscape.name for one in found]
    names = [
        name if plain.count(name) == 1 else f"{name} {plain[: i + 1].count(name)}"
        for i, name in enumerate(plain)
    ]
    analyses = [Analysis(one.landscape.measured(config.column), config.confidence) for one in found]
    choices: list[list[Choice]] = [list(one.choices) for one in found]
    return Several(analyses, choices, names)


def _write(several: Several, notes: Sequence[str], out: Path) -> None:
    """Write the comparison as JSON, Markdown, CSV and figures."""
    from sumcirc.figures.views import draw_all
    from sumcirc.placement import several_views as views
    from sumcirc.placement.several import as_json
    from sumcirc.reporting.kinds import Table
    from sumcirc.storage.writing import csv_text, plain_numbers, write_json, write_text

    def table(name: str, shown: Table) -> None:
        write_text(out / f"{name}.csv", csv_text(list(shown.headings), shown.rows))

    write_json(out / "placement.json", plain_numbers({**as_json(several), "notes": list(notes)}))
    write_text(out / "placement.md", views.markdown(several, notes))
    table("sets", views.sets_table(several))
    table("landscapes", views.pairs_table(several))
    if several.judgements:
        table("selectors", views.selectors_table(several))
    pairs = combinations(range(len(several.names)), 2)
    drawn = {
        f"landscapes-{first + 1}-{second + 1}": lambda first=first, second=second: views.against(
            several, first, second
        )
        for first, second in pairs
    }
    draw_all(drawn.items(), out / "figures")
    say(f"tables and figures: {out}")
