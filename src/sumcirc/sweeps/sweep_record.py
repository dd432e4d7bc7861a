"""The record of a sweep: `sweep.yaml` in its folder, written before the first job starts.

Settings that all runs share are stored once, and for each run its axes (swept settings) and other
differences. With this record the same command continues an interrupted sweep, further values of an
axis can be added later, and a configuration that was edited in between is detected.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import yaml

from sumcirc import __version__
from sumcirc.errors import UserError
from sumcirc.storage.reading import is_there, read_yaml
from sumcirc.storage.writing import write_text
from sumcirc.tracking.record_format import FORMAT, check_continues, format_of
from sumcirc.tracking.record_shapes import Format
from sumcirc.tracking.run_directory import RunDirectory
from sumcirc.tracking.sweep_axes import flat_settings

FILE = "sweep.yaml"

# settings of where and how jobs run, which are not part of a run's configuration
LAUNCH = ("run", "sweep", "runs_dir", "cache_dir", "resume")

Flat = dict[str, Any]  # a configuration with dotted keys


class PlannedRun(TypedDict):
    """A run in `sweep.yaml`."""

    axes: dict[str, Any]
    differs: Flat


class SweepFile(TypedDict):
    """`sweep.yaml`."""

    format: NotRequired[Format]
    version: str
    verb: str
    commands: list[str]
    axes: list[str]
    shared: Flat
    runs: dict[str, PlannedRun]


@dataclass(frozen=True)
class SweepRecord:
    """The runs of a sweep with their configurations.

    Args:
        verb: of all runs.
        axes: settings that the command line varies.
        runs: flat configuration by run name; empty if a sweeper chooses values as it goes.
        values: the axes' values by run name.
        commands: command lines of all launches.
        format, version: of the launch that began the sweep.
    """

    verb: str
    axes: list[str]
    runs: dict[str, Flat]
    values: dict[str, dict[str, Any]] = field(default_factory=dict)
    commands: list[str] = field(default_factory=list)
    format: int = FORMAT
    version: str = __version__

    @classmethod
    def of(
        cls, verb: str, configs: Sequence[Mapping[str, Any]], command: Sequence[str]
    ) -> SweepRecord:
        """Return the record of a launch.

        Args:
            verb: of all runs.
            configs: the plain configuration of every job.
            command: the words of the command line.
        """
        return cls(
            verb,
            list(dict.fromkeys(key for config in configs for key in config["run"]["varied"])),
            {config["run"]["name"]: flat_settings(config, LAUNCH) for config in configs},
            {config["run"]["name"]: dict(config["run"]["axes"]) for config in configs},
            [" ".join(command)],
        )

    @classmethod
    def read(cls, folder: Path) -> SweepRecord | None:
        """Read the record in a sweep's folder; None if there is none.

        Raises:
            UserError: it is damaged.
        """
        file = folder / FILE
        if not is_there(file):
            return None
        body: SweepFile = read_yaml(file, SweepFile)
        runs = {name: {**body["shared"], **run["differs"]} for name, run in body["runs"].items()}
        values = {name: run["axes"] for name, run in body["runs"].items()}
        made_by = format_of(body), body["version"]
        return cls(body["verb"], body["axes"], runs, values, body["commands"], *made_by)

    def write(self, folder: Path) -> None:
        """Write `sweep.yaml`."""
        shared = shared_settings(list(self.runs.values()))
        body = {
            "format": FORMAT,
            "version": __version__,
            "verb": self.verb,
            "commands": self.commands,
            "axes": self.axes,
            "shared": shared,
            "runs": {
                name: {
                    "axes": self.values[name],
                    "config": fingerprint(config),
                    "differs": {key: config[key] for key in config if key not in shared},
                }
                for name, config in self.runs.items()
            },
        }
        write_text(folder / FILE, yaml.safe_dump(body, sort_keys=False, allow_unicode=True))

    def extended(self, new: SweepRecord, folder: Path) -> SweepRecord:
        """Return this record extended by a further launch under the same name.

        An existing run must have the same configuration as before. A new run may differ from
        existing ones only in the axes.

        Args:
            new: the further launch.
            folder: of the sweep.

        Raises:
            UserError: another version began the sweep, or the name is in use with another
                configuration; the message names the first such key.
        """
        check_continues(self.format, f"sweep.name={folder.name}", "so choose another sweep.name")
        if self.version != __version__:
            raise UserError(
                f"sweep.name={folder.name}: was started by sumcirc {self.version}, this is"
                f" {__version__}; use that version (pip install sumcirc=={self.version}), or"
                " choose another sweep.name"
            )
        if new.verb != self.verb:
            raise UserError(
                f"sweep.name={folder.name}: is a sweep of `sumcirc {self.verb}` ({folder});"
                " choose another sweep.name"
            )
        axes = list(dict.fromkeys([*self.axes, *new.axes]))
        varying = {*axes, *_varying(self.runs.values()), *_varying(new.runs.values())}
        one = next(iter(self.runs.values()), None)
        for name, config in new.runs.items():
            before = self.runs.get(name, one)
            if before is None:
                continue
            free = set() if name in self.runs else varying
            key = first_difference(before, config, free)
            if key is not None:
                raise UserError(
                    f"sweep.name={folder.name}: is in use with {key}={_shown(before, key)}, now"
                    f" {key}={_shown(config, key)} ({name}); give that value, or choose another"
                    " sweep.name"
                )
        return SweepRecord(
            self.verb,
            axes,
            {**self.runs, **new.runs},
            {**self.values, **new.values},
            [*self.commands, *(line for line in new.commands if line not in self.commands)],
        )

    def twins(self) -> list[tuple[str, str]]:
        """Return pairs of runs that have the same configuration under two names."""
        seen: dict[str, str] = {}
        return [
            (first, name)
            for name, config in self.runs.items()
            if (first := seen.setdefault(fingerprint(config), name)) != name
        ]


def check_runs(record: SweepRecord, folder: Path) -> None:
    """Compare the configurations in run directories with those of the sweep.

    Args:
        record: the sweep.
        folder: of the sweep.

    Raises:
        UserError: a run's config.yaml differs; the message names the first such key.
    """
    for name, config in record.runs.items():
        run = RunDirectory(folder / name)
        if not run.config_file.exists():
            continue
        body = run.read_config()
        before = flat_settings(body["config"], LAUNCH)
        key = first_difference(before, config)
        if key is not None:
            raise UserError(
                f"{run.config_file}: says {key}={_shown(before, key)}, the sweep says"
                f" {key}={_shown(config, key)}; give that value, or choose another sweep.name"
            )


def fingerprint(config: Flat) -> str:
    """Return a hash that is equal for equal configurations."""
    text = json.dumps(config, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def shared_settings(configs: Sequence[Flat]) -> Flat:
    """Return the settings that have the same value in all configurations."""
    if not configs:
        return {}
    varying = set(_varying(configs))
    return {key: value for key, value in configs[0].items() if key not in varying}


def first_difference(
    before: Flat, now: Flat, free: set[str] | frozenset[str] = frozenset()
) -> str | None:
    """Return the first key whose values differ, or None.

    Args:
        before, now: flat configurations.
        free: keys to ignore, together with those below them.
    """
    for key in dict.fromkeys([*before, *now]):
        parts = key.split(".")
        above = {".".join(parts[: n + 1]) for n in range(len(parts))}
        same = key in before and key in now and before[key] == now[key]
        if not (same or above & free):
            return key
    return None


def _varying(configs: Iterator[Flat] | Sequence[Flat] | Any) -> list[str]:
    """Return the keys whose values differ between the configurations."""
    configs = list(configs)
    keys = dict.fromkeys(key for config in configs for key in config)
    return [
        key
        for key in keys
        if any(key not in config or config[key] != configs[0].get(key) for config in configs)
    ]


def _shown(config: Flat, key: str) -> str:
    return str(config[key]) if key in config else "(not set)"
