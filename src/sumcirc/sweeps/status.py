"""`sumcirc status [SWEEP]`: shows the state of every run of a sweep, at any time."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from sumcirc.errors import UserError


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see `sumcirc status --help`")


def read(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the words after `sumcirc status`, and return `sweep`, `json` and `runs_dir`.

    Raises:
        UserError: an option is unknown, or more than one sweep is named.
    """
    parser = _Parser(
        prog="sumcirc status",
        description="Show the state of every run of a sweep: state, step, ROUGE, time, reason.",
    )
    parser.add_argument(
        "sweep",
        nargs="?",
        default="",
        help="a sweep's directory or name, or a run's; else the newest sweep",
    )
    parser.add_argument(
        "--json", action="store_true", help="print a JSON list with an object per run"
    )
    parser.add_argument(
        "--runs-dir", default="runs", help="where sweeps are looked up by name (default: runs)"
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> None:
    """Print the states of a sweep's runs as a table, or as JSON.

    Args:
        arguments: the words after `sumcirc status`.

    Raises:
        UserError: an option is unknown, or there is no run.
    """
    options = read(arguments)

    from sumcirc.sweeps.display import print_status, status_json
    from sumcirc.sweeps.launching import find
    from sumcirc.sweeps.run_states import read_sweep

    folder = find(options.sweep, Path(options.runs_dir))
    states = read_sweep(folder)
    if options.json:
        print(status_json(states))
    else:
        print_status(states, str(folder))
