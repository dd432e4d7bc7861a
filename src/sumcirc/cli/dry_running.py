"""`sumcirc train dry_run=true`: parsing, and the refusals that a real run would give.

It says how to run a command and is no setting of a run, so it is taken off the command line before
the configuration is composed, and no record contains it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sumcirc.errors import UserError
from sumcirc.schema.configuration import listed

if TYPE_CHECKING:
    from sumcirc.cli.command import Command
    from sumcirc.sweeps.launching import Sweep

WORD = "dry_run"
VALUES = {"true": True, "false": False}


def is_dry_run(word: str) -> bool:
    """Return whether a word is `dry_run=...`."""
    return word.partition("=")[0].lstrip("+") == WORD


def without_dry_run(verb: str, words: Sequence[str]) -> tuple[list[str], bool]:
    """Split `dry_run=...` off the words after a verb, and return the rest and its value.

    Args:
        verb: the verb.
        words: the words after it.

    Raises:
        UserError: the verb has no dry run, or the value is neither `true` nor `false`.
    """
    kept = [word for word in words if not is_dry_run(word)]
    given = [word for word in words if word not in kept]
    for word in given:
        if verb != "train":
            raise UserError(f"{word}: is for `sumcirc train`; leave it out")
        if word.partition("=")[2].lower() not in VALUES:
            raise UserError(f"{word}: must be true or false")
    return kept, bool(given) and VALUES[given[-1].partition("=")[2].lower()]


def check_dry_run(given: Command) -> None:
    """Refuse commands that have no dry run.

    Args:
        given: the command.

    Raises:
        UserError: it resumes a run, or its jobs are not known before they run.
    """
    from sumcirc.cli.command import is_counted

    if not given.dry_run:
        return
    if "resume" in given.typed.words:
        raise UserError(
            f"{WORD}=true: {given.typed.words['resume']} goes on with a run as it began; leave one"
            " of the two out"
        )
    if not is_counted(given):
        raise UserError(
            f"{WORD}=true: a sweeper chooses the jobs while they run; leave it out, and give values"
            " to measure"
        )


def dry_run(
    given: Command,
    configs: Sequence[Any],
    sweep: Sweep | None,
    done: Collection[str],
    elsewhere: str | None,
) -> None:
    """Print what a command would run, without writing anything.

    Args:
        given: the command, whose configurations were checked.
        configs: configuration of each job.
        sweep: the sweep of several jobs; None for one job.
        done: names of the sweep's runs that are done.
        elsewhere: the launcher, if it runs the jobs on other machines.

    Raises:
        UserError: the command would be refused.
    """
    from sumcirc.jobs._dry_run import show
    from sumcirc.sweeps.pool import environment
    from sumcirc.tracking.run_directory import RunDirectory

    if sweep is not None:
        sweep.check_free()
    else:
        config, typed = configs[0], given.typed.words.get("hydra.run.dir")
        named = Path(config.runs_dir, config.sweep.name, config.run.name).expanduser()
        folder = Path(listed(typed.partition("=")[2])[0]) if typed else named
        RunDirectory(folder.absolute()).check_free(given.verb)
    places = configs[0].sweep.places
    show(configs, done, elsewhere, environment(places[0], len(places)))
