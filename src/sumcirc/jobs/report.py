"""`sumcirc report SWEEP`: compares the arms of a sweep with controls, and writes a page.

An arm is a configuration that was run with several seeds. The job reads only the runs' files and
imports no torch. Tables are printed; CSV, JSON, Markdown and figures are written to the sweep's
comparison/, and a table is logged to W&B. The page (report.html) covers runs of any kind: a single
run's page is written to its directory, a page of several runs next to the comparison.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sumcirc.errors import UserError
from sumcirc.runtime import quoting
from sumcirc.runtime.terminal import say
from sumcirc.schema import LoggerConfig, ReportConfig
from sumcirc.storage.reading import RecordError

if TYPE_CHECKING:
    from sumcirc.reporting.checkpoints import Group
    from sumcirc.reporting.comparison import ArmComparison
    from sumcirc.reporting.runs import LeftOut, ReportRun


def check(config: ReportConfig) -> None:
    """Check that every path contains runs, and that the output folder can be written.

    Args:
        config: configuration of the job.

    Raises:
        UserError: a path can't be used; the message names it and the remedy.
    """
    from sumcirc.reporting.runs import run_folders
    from sumcirc.storage.writing import check_writable

    if not config.paths:
        raise UserError("name a run or a sweep: sumcirc report runs/SWEEP")
    config = _located(config)
    for path in config.paths:
        run_folders(Path(path))
    check_writable("out", _folder(config))


def run(config: ReportConfig, folder: Path) -> None:
    """Compare the arms of a sweep, write the comparison and the HTML report, and print the tables.

    Args:
        config: configuration of the job.
        folder: not used, since files are written next to the runs.
    """
    config = _located(config)
    comparison, page, left_out, groups = write(config)
    if comparison is not None:
        print_arms(comparison)
    print_checkpoints(groups)
    if comparison is not None or groups:
        say(f"tables and figures: {_folder(config)}")
    print_left_out(left_out)
    say(f"page: {page}")


def report_sweep(folder: Path, logger: LoggerConfig) -> None:
    """Write the report on a sweep that has just ended, and print only the report's conclusions.

    Args:
        folder: folder of the sweep.
        logger: settings of the logger that logs the comparison.
    """
    from sumcirc.reporting.views.arm_tables import in_words

    found = ReportConfig(paths=[str(folder)], logger=logger)
    comparison, page, left_out, groups = write(found)
    for sentence in in_words(comparison) if comparison is not None else []:
        say(sentence)
    print_checkpoints(groups)
    print_left_out(left_out)
    say(f"page: {page}")


def write(
    config: ReportConfig,
) -> tuple[ArmComparison | None, Path, list[LeftOut], list[Group]]:
    """Write the comparison's tables and figures, and the HTML page.

    Args:
        config: configuration of the job.

    Returns:
        The comparison of the scored training runs (None if there are no such runs), the path of the
        page, the runs that were left out but are not in the comparison's own list, and the groups
        of checkpoints that were compared.

    Raises:
        UserError: no run can be read.
    """
    from sumcirc.jobs._overlaps import overlaps_of
    from sumcirc.reporting.checkpoints import COLUMNS, groups_of
    from sumcirc.reporting.checkpoints import rows as checkpoint_rows
    from sumcirc.reporting.page.build import write_page
    from sumcirc.reporting.runs import gather, scored_runs
    from sumcirc.storage.writing import csv_text, plain_numbers, write_text
    from sumcirc.tracking.score_names import TRAINED

    gathered = gather([Path(path) for path in config.paths])
    comparison, unlisted = None, gathered.left_out
    # runs that trained nothing, or were not scored, have a page but no comparison
    if any(run.trains and TRAINED in run.systems for run in gathered.runs):
        comparison, unlisted = _compared(config, *scored_runs(gathered)), []
    elif config.wanted is not None:
        raise UserError(
            f"wanted={config.wanted:g}: plans for arms of training runs, and none of these runs was"
            " trained and scored; leave it out"
        )
    page = _page(config, _runs(config))
    groups = groups_of(_intact(gathered.runs), overlaps_of, config.confidence)
    if groups:
        out = _folder(config)
        rows = [plain_numbers(row) for row in checkpoint_rows(groups)]
        write_text(
            out / "checkpoints.csv", csv_text(COLUMNS, ([row[c] for c in COLUMNS] for row in rows))
        )
    torn = write_page(gathered, comparison, command(config), page, groups)
    return comparison, page, [*unlisted, *torn], groups


def _intact(runs: Sequence[ReportRun]) -> list[ReportRun]:
    """Return the runs of which every record can be read; the page names the others."""
    found = []
    for run in runs:
        with suppress(RecordError):
            run.read_all()
            found.append(run)
    return found


def _located(config: ReportConfig) -> ReportConfig:
    """Return the settings with the names of sweeps in runs/ replaced by their paths."""
    from sumcirc.tracking.run_directory import located

    return replace(config, paths=[str(located(path)) for path in config.paths])


def _compared(
    config: ReportConfig, runs: list[ReportRun], left_out: list[LeftOut]
) -> ArmComparison:
    """Compare training runs, write the tables and figures, and log them."""
    from sumcirc.reporting.comparison import ComparisonOptions, compare
    from sumcirc.reporting.comparison_files import write_comparison
    from sumcirc.runtime.notices import lines_of_runs

    options = ComparisonOptions(
        metric=config.metric if config.metric == "facts" else f"{config.metric}_f1",
        against=tuple(config.against),
        loss=config.loss,
        confidence=config.confidence,
        wanted=config.wanted,
        arms=config.arms,
    )
    comparison = compare(runs, left_out, options)
    of_data = lines_of_runs([run.summary for run in runs])
    comparison = replace(comparison, notes=[*of_data, *comparison.notes])
    out = _folder(config)
    figures = draw_arms(comparison, out / "figures")
    write_comparison(comparison, out, command(config), figures)
    _log(config, comparison, out)
    return comparison


def draw_arms(comparison: ArmComparison, folder: Path) -> list[Path]:
    """Draw the figures of a comparison of arms.

    The figures show the arms' scores over trainable parameters, the score differences from controls
    if any arm has a control, validation losses if any run validated, and what happened inside the
    models if it was measured.

    Args:
        comparison: comparison of the arms.
        folder: folder to which the figures are written.

    Returns:
        The paths of the PNG files.
    """
    from sumcirc.figures.views import draw_all
    from sumcirc.reporting.views import arm_views

    views = {
        "parameters": lambda: arm_views.parameters(comparison),
        "differences": lambda: arm_views.differences(comparison),
        "validation_loss": lambda: arm_views.mean_losses(comparison),
        "inside": lambda: arm_views.inside(comparison),
    }
    missing = {reason.partition(":")[0] for reason in draw_all(views.items(), folder)}
    return [folder / f"{name}.png" for name in views if name not in missing]


def command(config: ReportConfig) -> str:
    """Return the shell command that makes the configured comparison.

    Args:
        config: configuration of the job.
    """
    defaults = ReportConfig()
    words = ["report", *config.paths]
    if config.metric != defaults.metric:
        words.append(f"metric={config.metric}")
    if config.against != defaults.against:
        words.append(f"against=[{','.join(map(_quoted, config.against))}]")
    for name in ("loss", "confidence", "wanted", "arms"):
        if getattr(config, name) != getattr(defaults, name):
            words.append(f"{name}={getattr(config, name)}")
    if config.out is not None:
        words.append(f"out={config.out}")
    return quoting.command(*words)


def _quoted(label: str) -> str:
    from sumcirc.schema.configuration import quoted

    return label if label.isidentifier() else quoted(label)


def _folder(config: ReportConfig) -> Path:
    """Return the folder in which the comparison is written.

    Raises:
        UserError: the runs belong to several sweeps, and `out` isn't given.
    """
    if config.out is not None:
        return Path(config.out)
    runs, sweeps = _runs(config), _sweeps(config)
    if [Path(path).resolve() for path in config.paths] == [run.resolve() for run in runs[:1]]:
        return runs[0] / "comparison"  # of a single run, to keep the comparison of its sweep
    if len(sweeps) > 1:
        names = ", ".join(str(path) for path in sweeps)
        raise UserError(f"the runs are of {len(sweeps)} sweeps ({names}): add out=FOLDER")
    return sweeps[0] / "comparison"


def _page(config: ReportConfig, folders: Sequence[Path]) -> Path:
    """Return the path of the page.

    It is in the run directory of a single run, otherwise (or if `out` is set) in the output folder.
    """
    single = len(folders) == 1 and config.out is None
    return (folders[0] if single else _folder(config)) / "report.html"


def _runs(config: ReportConfig) -> list[Path]:
    from sumcirc.reporting.runs import run_folders

    runs = [run for path in config.paths for run in run_folders(Path(path))]
    return list(dict.fromkeys(runs))


def _sweeps(config: ReportConfig) -> list[Path]:
    return list(dict.fromkeys(run.parent for run in _runs(config)))


def _log(config: ReportConfig, comparison: ArmComparison, out: Path) -> None:
    """Log the comparison's tables and figures as one W&B run in the sweep's group."""
    from sumcirc.reporting.comparison_files import arm_rows, difference_rows
    from sumcirc.storage.writing import plain_numbers
    from sumcirc.tracking.session import plain
    from sumcirc.tracking.wandb import log_comparison, started

    sweep = _sweeps(config)[0].name
    identity = hashlib.sha256(str(out.resolve()).encode()).hexdigest()[:8]
    with started(
        config.logger,
        out,
        name=f"comparison-{sweep}",
        group=sweep,
        job_type="comparison",
        tags=["comparison"],
        settings=plain(config),
        run_id=identity,
    ) as run:
        if run is not None:
            rows = {"arms": arm_rows(comparison), "differences": difference_rows(comparison)}
            log_comparison(run, plain_numbers(rows), out / "figures")


def print_arms(comparison: ArmComparison) -> None:
    """Print a comparison: its tables, remarks on arms, left-out runs, notes and conclusions.

    Args:
        comparison: comparison of the arms.
    """
    from sumcirc.reporting.tables import print_tables
    from sumcirc.reporting.views.arm_tables import in_words, remarks, tables
    from sumcirc.runtime.terminal import paragraph

    print_tables(*tables(comparison))
    for title, lines in (
        ("not directly comparable", remarks(comparison)),
        ("left out", [f"{item.path.name}: {item.reason}" for item in comparison.left_out]),
        ("to note", comparison.notes),
        ("in words", in_words(comparison)),
    ):
        if lines:
            paragraph(f"{title}:", style="bold")
            for line in lines:
                paragraph(f"  {line}")


def print_checkpoints(groups: Sequence[Group]) -> None:
    """Print the tables of checkpoints that were compared with each other."""
    from sumcirc.reporting.checkpoints import tables
    from sumcirc.reporting.tables import print_tables

    for group in groups:
        print_tables(*tables(group))
        if group.note:
            say(group.note)


def print_left_out(left_out: Sequence[LeftOut]) -> None:
    """Print a line for each run that is left out.

    Args:
        left_out: the runs, with the reasons.
    """
    for item in left_out:
        say(f"left out: {item.path.name}: {item.reason}")
