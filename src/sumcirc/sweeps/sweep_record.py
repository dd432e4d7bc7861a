"""What a sweep consists of: `sweep.yaml` beside its runs, written before the first job starts.

Settings that all runs share stand there once, for each run its axes and what else differs. By it
the same command goes on where it was cut off, more values of an axis may be added later, and a
configuration that was edited in between is noticed.
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

FILE = "sweep.yaml"

# where runs lie and how their jobs are run: no part of what a run is
LAUNCH = ("run", "sweep", "runs_dir", "cache_dir", "resume")

Flat = dict[str, Any]  # a configuration by dotted key


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
        axes: keys that the command line varies.
        runs: flat configuration by run name; empty where a sweeper makes up its values as it goes.
        values: the axes' values by run name.
        format, version: of what began it.
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
        """The record of a launch.

        Args:
            configs: the plain configuration of every job.
            command: the words that were typed.
        """
        return cls(
            verb,
            list(dict.fromkeys(key for config in configs for key in config["run"]["varied"])),
            {config["run"]["name"]: flat(config) for config in configs},
            {config["run"]["name"]: dict(config["run"]["axes"]) for config in configs},
            [" ".join(command)],
        )

    @classmethod
    def read(cls, folder: Path) -> SweepRecord | None:
        """The record in a sweep's folder; None where there is none.

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
        """This record and a further launch under the same name, together.

        A run that is there already must be configured as it was. A new one may differ from those
        there by what the axes vary, in nothing else.

        Args:
            folder: the sweep's; runs lie in it.

        Raises:
            UserError: another version began it, or the name is in use with another configuration;
                the first such key is named.
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
        """Pairs of runs whose configurations are the same under two names."""
        seen: dict[str, str] = {}
        return [
            (first, name)
            for name, config in self.runs.items()
            if (first := seen.setdefault(fingerprint(config), name)) != name
        ]


def check_runs(record: SweepRecord, folder: Path) -> None:
    """Compare what lies in run directories with what the sweep would do there.

    Raises:
        UserError: a run's config.yaml says something else; the first such key is named.
    """
    for name, config in record.runs.items():
        run = RunDirectory(folder / name)
        if not run.config_file.exists():
            continue
        body = run.read_config()
        before = flat(body["config"])
        key = first_difference(before, config)
        if key is not None:
            raise UserError(
                f"{run.config_file}: says {key}={_shown(before, key)}, the sweep says"
                f" {key}={_shown(config, key)}; give that value, or choose another sweep.name"
            )


def flat(config: Mapping[str, Any], prefix: str = "") -> Flat:
    """A plain configuration by dotted key, without what only says where and how it is run."""
    found: Flat = {}
    for key, value in config.items():
        if not prefix and key in LAUNCH:
            continue
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def fingerprint(config: Flat) -> str:
    """A hash that is equal for equal configurations."""
    text = json.dumps(config, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def shared_settings(configs: Sequence[Flat]) -> Flat:
    """The settings that have one value in all configurations."""
    if not configs:
        return {}
    varying = set(_varying(configs))
    return {key: value for key, value in configs[0].items() if key not in varying}


def first_difference(
    before: Flat, now: Flat, free: set[str] | frozenset[str] = frozenset()
) -> str | None:
    """The first key with another value; keys in `free`, or below one of them, don't count."""
    for key in dict.fromkeys([*before, *now]):
        parts = key.split(".")
        above = {".".join(parts[: n + 1]) for n in range(len(parts))}
        same = key in before and key in now and before[key] == now[key]
        if not (same or above & free):
            return key
    return None


def _varying(configs: Iterator[Flat] | Sequence[Flat] | Any) -> list[str]:
    """Keys that don't have one value in all configurations."""
    configs = list(configs)
    keys = dict.fromkeys(key for config in configs for key in config)
    return [
        key
        for key in keys
        if any(key not in config or config[key] != configs[0].get(key) for config in configs)
    ]


def _shown(config: Flat, key: str) -> str:
    return str(config[key]) if key in config else "(not set)"
