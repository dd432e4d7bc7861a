"""Builds the HTML page: adds the sections in order, and renders them with a template."""

from __future__ import annotations

from collections.abc import Sequence, Set
from pathlib import Path
from typing import Any

from markupsafe import Markup

from sumcirc.reporting.checkpoints import Group
from sumcirc.reporting.comparison import ArmComparison
from sumcirc.reporting.page import (
    arms_section,
    checkpoints_section,
    circuit_section,
    in_short,
    measures_section,
    models_section,
    quality_section,
    runs_section,
    summary_examples,
)
from sumcirc.reporting.page.blocks import Gap, Page
from sumcirc.reporting.page.safe_text import script_hash
from sumcirc.reporting.runs import Gathered, LeftOut, damaged
from sumcirc.runtime.quoting import visible
from sumcirc.storage.reading import RecordError
from sumcirc.storage.writing import write_text
from sumcirc.tracking.run_records import RunRecords

TEMPLATES = Path(__file__).parent / "templates"


def write_page(
    gathered: Gathered,
    comparison: ArmComparison | None,
    command: str,
    target: Path,
    groups: Sequence[Group] = (),
) -> list[LeftOut]:
    """Write an HTML page about some runs.

    Args:
        gathered: the runs that can be read, and the runs that were left out.
        comparison: comparison of the arms, or None if no arms were compared.
        command: shell command that makes this page, which the page shows.
        target: path of the HTML file.
        groups: checkpoints that are compared with each other.

    Returns:
        The runs that the page names but doesn't show, since one of their records is damaged.

    Raises:
        UserError: there is only one run and one of its records can't be read, or the file can't be
            written.
    """
    torn = _torn(_shown(gathered.runs, comparison))
    if torn and len(gathered.runs) == 1 and not gathered.left_out:
        raise next(iter(torn.values()))
    left_out = [damaged(path, error) for path, error in torn.items()]
    page = make_page(gathered.runs, comparison, command, set(torn), groups)
    others = [] if comparison is not None else gathered.left_out  # or listed there
    for item in (*others, *left_out):
        page.gaps.append(Gap(f"{item.path.name} is not shown: {item.reason}"))
    write_text(target, html(page, len(gathered.runs)))
    return left_out


def _torn(runs: Sequence[RunRecords]) -> dict[Path, RecordError]:
    """Read all records of the runs, and return the error of each damaged run by its path."""
    found = {}
    for run in runs:
        try:
            run.read_all()
        except RecordError as error:
            found[run.path] = error
    return found


def make_page(
    runs: Sequence[RunRecords],
    comparison: ArmComparison | None,
    command: str,
    torn: Set[Path] = frozenset(),
    groups: Sequence[Group] = (),
) -> Page:
    """Return a page with all sections for which there are records.

    Args:
        runs: all runs that the page is about.
        comparison: comparison of the arms, or None.
        command: shell command that makes this page, which the page shows.
        torn: paths of runs with damaged records, which the page lists but does not show in detail.
        groups: checkpoints that are compared with each other.
    """
    single = len(runs) == 1
    page = Page(runs[0].name if single else f"{runs[0].path.parent.name}: {len(runs)} runs")
    shown = [run for run in _shown(runs, comparison) if run.path not in torn]
    in_short.add(page, shown, comparison)
    runs_section.add(page, runs)
    arms_section.add(page, comparison)
    checkpoints_section.add(page, groups)
    quality_section.add_scores(page, shown)
    quality_section.add_training(page, shown)
    measures_section.add(page, shown)
    circuit_section.add(page, shown)
    models_section.add(page, shown)
    summary_examples.add(page, shown)
    runs_section.add_settings(page, runs)
    runs_section.add_command(page, command)
    others = [run for run in runs if run not in shown and run.path not in torn]
    if others:
        page.gaps.append(
            Gap(
                f"Details and examples are shown for one run of each arm; {len(others)} others have"
                " their own pages",
                "sumcirc report RUN_DIR",
            )
        )
    return page


def _shown(runs: Sequence[RunRecords], comparison: ArmComparison | None) -> list[RunRecords]:
    """Return the runs to show in detail: the first run of each arm, and runs that are in no arm."""
    if comparison is None:
        return list(runs)
    later = {run.path for result in comparison.arms for run in result.arm.runs[1:]}
    left_out = {item.path for item in comparison.left_out}
    return [run for run in runs if run.path not in later | left_out]


def html(page: Page, runs: int) -> str:
    """Return a page as HTML that contains all styles, scripts and data.

    Args:
        page: the page to render.
        runs: number of runs that the page is about, which is shown in its header.
    """
    import plotly.offline
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    scripts = [
        *((TEMPLATES / name).read_text(encoding="utf-8") for name in ("circuit.js", "page.js"))
    ]
    if any(block.kind == "chart" for section in page.sections for block in section.blocks):
        scripts.insert(0, plotly.offline.get_plotlyjs())
    # only these scripts can run, and nothing can be fetched
    policy = (
        f"default-src 'none'; script-src {' '.join(map(script_hash, scripts))};"
        " style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
    return environment.get_template("page.html.j2").render(
        page=page,
        counted=f"{runs} run{'s' * (runs != 1)}",
        policy=Markup(policy),  # quotes of hashes; the text is made here
        style=Markup((TEMPLATES / "page.css").read_text(encoding="utf-8")),
        scripts=[Markup(script) for script in scripts],
    )


def _finalize(value: Any) -> Any:
    """Return a string with control characters made visible; markup and other values unchanged."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value
