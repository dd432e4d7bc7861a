"""The record of a sweep: `sweep.yaml` in its folder, written before the first job starts.

The record stores the settings that all runs share once, and for each run the values of its axes
(the swept settings) and its other differences. With the record the same command continues an
interrupted sweep, further values of an axis can be added later, and edits of the configuration are
detected.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import yaml

from sumcirc import __version__
from sumcirc.errors import UserError
from sumcirc.schema import (
    CircuitConfig,
    CompareConfig,
    EvaluateConfig,
    SelectConfig,
    TrainConfig,
)
from sumcirc.schema.defaults import default_settings
from sumcirc.storage.reading import is_there, read_yaml
from sumcirc.storage.writing import write_text
from sumcirc.tracking.record_format import FORMAT, check_continues, format_of
from sumcirc.tracking.run_directory import RunDirectory
from sumcirc.tracking.shapes.common_shapes import Format
from sumcirc.tracking.sweep_axes import flat_settings

FILE = "sweep.yaml"

# settings of where and how jobs run, which are not part of a run's configuration
LAUNCH = ("run", "sweep", "runs_dir", "cache_dir", "resume")

VERBS: dict[str, type] = {
    "train": TrainConfig,
    "evaluate": EvaluateConfig,
    "circuit": CircuitConfig,
    "compare": CompareConfig,
    "select": SelectConfig,
}

Flat = dict[str, Any]  # a configuration with dotted keys


class PlannedRun(TypedDict):
    """The entry of one run in `sweep.yaml`: its swept settings, and all settings not shared."""

    axes: dict[str, Any]
    differs: Flat


class SweepFile(TypedDict):
    """The content of `sweep.yaml`."""

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
        verb: the command of all runs, such as `train`.
        axes: names of the settings that the command line varies.
        runs: the configuration of each run as a dict with dotted keys, by the run's name. It is
            empty if a Hydra sweeper chooses values while the sweep runs.
        values: the value of each axis, by the run's name.
        commands: command lines of all launches.
        format: version of the format of `sweep.yaml` when the sweep began.
        version: version of this package that began the sweep.
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
            verb: the command of all runs, such as `train`.
            configs: configuration of every run, as nested dicts.
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
        """Return the record in a sweep's folder, or None if the folder has no `sweep.yaml`.

        Raises:
            UserError: the file is damaged.
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
        """Write `sweep.yaml` to the sweep's folder."""
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
        """Return this record extended by the runs of a further launch of the same sweep.

        An existing run must have the same configuration as before. A new run may differ from
        existing ones only in the axes.

        Args:
            new: record of the further launch.
            folder: folder of the sweep, which error messages name.

        Raises:
            UserError: another version began the sweep, or the configuration differs in other
                settings than the axes; the message names the first such setting.
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
        keys = list(dict.fromkeys(key for config in new.runs.values() for key in config))
        runs = {name: completed(config, keys, self.verb) for name, config in self.runs.items()}
        varying = {*axes, *_varying(runs.values()), *_varying(new.runs.values())}
        one = next(iter(runs.values()), None)
        for name, config in new.runs.items():
            before = runs.get(name, one)
            if before is None:
                continue
            free = set() if name in runs else varying
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
            {**runs, **new.runs},
            {**self.values, **new.values},
            [*self.commands, *(line for line in new.commands if line not in self.commands)],
        )

    def twins(self) -> list[tuple[str, str]]:
        """Return the names of each two runs that have the same configuration."""
        seen: dict[str, str] = {}
        return [
            (first, name)
            for name, config in self.runs.items()
            if (first := seen.setdefault(fingerprint(config), name)) != name
        ]


def check_runs(record: SweepRecord, folder: Path) -> None:
    """Check that the config.yaml of each run agrees with the sweep's record.

    Runs without a config.yaml are skipped.

    Args:
        record: record of the sweep.
        folder: folder of the sweep.

    Raises:
        UserError: a run's config.yaml differs; the message names the first setting that does.
    """
    for name, config in record.runs.items():
        run = RunDirectory(folder / name)
        if not run.config_file.exists():
            continue
        body = run.read_config()
        before = completed(flat_settings(body["config"], LAUNCH), config, record.verb)
        key = first_difference(before, config)
        if key is not None:
            raise UserError(
                f"{run.config_file}: says {key}={_shown(before, key)}, the sweep says"
                f" {key}={_shown(config, key)}; give that value, or choose another sweep.name"
            )


def completed(before: Flat, known: Collection[str], verb: str) -> Flat:
    """Fill in the defaults of settings that were added since a configuration was recorded.

    Without them a sweep that began before a setting was added would differ from the same command
    today.

    Args:
        before: the earlier configuration, with dotted keys.
        known: keys of today's configuration.
        verb: the command of the run.
    """
    defaults = flat_settings(default_settings(VERBS[verb]))
    return {key: defaults[key] for key in known if key in defaults and key not in before} | before


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
    """Return the first key at which two configurations differ, or None if they are equal.

    Args:
        before, now: configurations as dicts with dotted keys.
        free: keys to ignore; `a` also stands for all keys that begin with `a.`.
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
