"""`sumcirc placement SWEEP`: how good every choice of layers is, and where selectors' choices lie.

The landscape comes from runs of a sweep in which every set of layers, or every single module, was
trained, or from the files that an earlier call wrote (`landscape.json`). Without `score` the
analysis is printed and written to the folder placement/ of the sweep. With `score` a selector, a
list of layers or a module is judged by the landscape, and nothing is written unless `out` is given.
With `against` it is compared with other landscapes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sumcirc.errors import UserError
from sumcirc.runtime.terminal import paragraph, say
from sumcirc.schema import PlacementConfig
from sumcirc.schema.reading_runs import LANDSCAPE_METRICS, column_of

if TYPE_CHECKING:
    from sumcirc.placement.analysis import Analysis, Judgement
    from sumcirc.placement.gathering import Found
    from sumcirc.placement.landscape_files import Choice


def check(config: PlacementConfig) -> None:
    """Check that the runs make up a landscape, and that what is scored can be found.

    Args:
        config: configuration of the job.

    Raises:
        UserError: a setting can't work; the message names it and the remedy.
    """
    from sumcirc.jobs import _placement_against as comparing
    from sumcirc.jobs import _placement_score as scoring
    from sumcirc.storage.writing import check_writable

    if not config.paths:
        raise UserError("name a sweep or a stored landscape: sumcirc placement runs/SWEEP")
    scoring.check_alone(config)
    check_writable("cache_dir", config.cache_dir)
    if config.out is not None:
        check_writable("out", _folder(config))
    found = _found(config)
    if config.column not in found.landscape.scores:
        known = [name for name in LANDSCAPE_METRICS if column_of(name) in found.landscape.scores]
        raise UserError(
            f"metric={config.metric}: {found.landscape.name} has no such score; choose from"
            f" {', '.join(known)}"
        )
    found.landscape.measured(config.column)
    if config.against:
        comparing.check(config, found, _others(config))
        check_writable("out", _folder(config))
        return
    if config.score is not None:
        scoring.check(config, found.landscape)
    if config.score is None and config.out is None:
        check_writable("out", _folder(config))


def run(config: PlacementConfig, folder: Path) -> None:
    """Analyse the landscape, or judge a selector by it, and print the result.

    Args:
        config: configuration of the job.
        folder: not used, since files are written next to the runs.
    """
    from sumcirc.jobs import _placement_against as comparing
    from sumcirc.jobs import _placement_score as scoring
    from sumcirc.placement import tables, words
    from sumcirc.placement.analysis import Analysis
    from sumcirc.reporting.tables import print_tables

    found = _found(config)
    if config.against:
        comparing.run(config, found, _others(config), _folder(config))
        return
    analysis = Analysis(found.landscape.measured(config.column), config.confidence)
    judgements = [analysis.judged(choice) for choice in found.choices]
    if config.score is not None:
        scored = scoring.choice_of(config, found.landscape)
        judgement = analysis.judged(scored)
        judgements = [one for one in judgements if one.name != scored.name]
        print_tables(tables.selectors_table(analysis, [judgement, *judgements]))
        for line in words.judged_in_words(analysis, judgement):
            paragraph(line)
        if config.out is not None:
            _write(config, found, analysis, [judgement, *judgements], [scored])
        return
    print_tables(*tables.tables(analysis, judgements))
    for title, lines in (
        ("to note", found.notes),
        ("in words", words.in_words(analysis, judgements)),
    ):
        if lines:
            paragraph(f"{title}:", style="bold")
            for line in lines:
                paragraph(f"  {line}")
    _write(config, found, analysis, judgements, [])


def _found(config: PlacementConfig) -> Found:
    """Read a stored landscape, or collect one from runs.

    Raises:
        UserError: the paths have no landscape, or more than one.
    """
    from sumcirc.placement.gathering import Found, gather_landscape
    from sumcirc.placement.landscape_files import is_landscape, read_landscape
    from sumcirc.tracking.run_directory import located

    paths = [located(path) for path in config.paths]
    stored = [path for path in paths if is_landscape(path)]
    if not stored:
        return gather_landscape(paths, config.size, config.granularity)
    if len(paths) > 1:
        raise UserError(f"{stored[0]}: is a stored landscape; give it alone")
    landscape, choices = read_landscape(stored[0])
    for name, value in (("size", landscape.size), ("granularity", landscape.units.word)):
        asked = getattr(config, name)
        if asked not in (None, value):
            raise UserError(
                f"{name}={asked}: {stored[0]} has {landscape.units.sets(landscape.size)}; leave"
                f" {name}= out"
            )
    return Found(landscape, choices, [])


def _others(config: PlacementConfig) -> list[Found]:
    """Read the landscapes with which the first one is compared.

    Raises:
        UserError: a path has no landscape.
    """
    return [_found(replace(config, paths=[path], against=[])) for path in config.against]


def _folder(config: PlacementConfig) -> Path:
    """Return the folder to write to."""
    from sumcirc.placement.landscape_files import FILE, is_landscape
    from sumcirc.tracking.run_directory import located

    if config.out is not None:
        return Path(config.out)
    first = located(config.paths[0])
    if is_landscape(first):
        folder = first.parent if first.name == FILE else first
    else:
        folder = first / "placement"
    return folder / "against" if config.against else folder


def _write(
    config: PlacementConfig,
    found: Found,
    analysis: Analysis,
    judgements: Sequence[Judgement],
    scored: Sequence[Choice],
) -> None:
    """Write the landscape, the analysis as JSON and CSV, and the figures."""
    from sumcirc.figures.views import draw_all
    from sumcirc.placement import words
    from sumcirc.placement.analysis import as_json
    from sumcirc.placement.landscape_files import write_landscape
    from sumcirc.placement.units import label_of
    from sumcirc.placement.views import views
    from sumcirc.storage.writing import csv_text, plain_numbers, write_json, write_text

    out = _folder(config)
    named = {choice.name: choice for choice in (*found.choices, *scored)}
    write_landscape(found.landscape, list(named.values()), out)
    body = plain_numbers(as_json(analysis, judgements))
    write_json(out / "placement.json", {**body, "notes": found.notes})
    write_text(out / "placement.md", words.markdown(analysis, judgements, found.notes))
    column = found.landscape.units.words
    rows = [{column: label_of(row.pop("units")), **row} for row in body["sets"]]
    write_text(out / "sets.csv", csv_text(list(rows[0]), (list(row.values()) for row in rows)))
    draw_all(views(analysis, judgements).items(), out / "figures")
    say(f"landscape, tables and figures: {out}")
