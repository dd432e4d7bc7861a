"""Sweeps over models that bring settings of their own.

`sumcirc evaluate -m checkpoint=A,B` runs one job for each checkpoint, with the settings that each
of them implies. The folder of a sweep stands for all of its finished training runs.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sumcirc.errors import UserError
from sumcirc.runtime.terminal import say
from sumcirc.schema.configuration import listed
from sumcirc.storage.reading import RecordError
from sumcirc.tracking.run_directory import RunDirectory, runs_inside

# the setting that names the model of a job
SETTINGS = {"evaluate": "checkpoint", "circuit": "checkpoint", "compare": "after"}
SWEEPER = "checkpoints"  # of hydra_plugins.sumcirc_checkpoints
WEIGHTS = ("config.json", "adapter_config.json")  # a folder with one of these is a model itself


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints that a command goes over.

    Attributes:
        setting: name of the setting.
        typed: the setting as the user typed it, KEY=VALUE.
        paths: the checkpoints, in the order of their jobs.
    """

    setting: str
    typed: str
    paths: list[str]

    @property
    def override(self) -> str:
        """The setting with all checkpoints, in Hydra's grammar."""
        from sumcirc.cli.words import in_quotes

        return f"{self.setting}=choice({','.join(map(in_quotes, self.paths))})"

    def alone(self, path: str) -> str:
        """Return the setting with one of the checkpoints, in Hydra's grammar."""
        from sumcirc.cli.words import in_quotes

        return f"{self.setting}={in_quotes(path)}"


def renamed(verb: str, words: Sequence[str]) -> list[str]:
    """Return the words with `checkpoint=` of `sumcirc compare` replaced by `after=`."""
    if verb != "compare" or any(word.startswith("after=") for word in words):
        return list(words)
    return [
        f"after={word.removeprefix('checkpoint=')}" if word.startswith("checkpoint=") else word
        for word in words
    ]


def swept(verb: str, words: Sequence[str], multirun: bool) -> Checkpoints | None:
    """Return the checkpoints of a sweep, or None if the command names at most one checkpoint.

    Args:
        verb: the verb.
        words: the settings as typed, KEY=VALUE.
        multirun: whether the command has `-m`, so that commas separate checkpoints.

    Raises:
        UserError: a folder that holds runs has no finished training run, or a checkpoint is named
            twice.
    """
    setting = SETTINGS.get(verb)
    word = next((one for one in words if setting and one.startswith(f"{setting}=")), "")
    value = word.partition("=")[2]
    if setting is None or not value or value[0] in "'\"[":
        return None
    whole = os.path.expanduser(value)
    named = listed(f"[{value}]") if multirun and not os.path.exists(whole) else [whole]
    paths: list[str] = []
    for name in named:
        found = _runs_of_sweep(setting, Path(name))
        paths += [name] if found is None else found
    if paths == named and len(named) == 1:
        return None
    twice = next((path for path in paths if paths.count(path) > 1), None)
    if twice is not None:
        raise UserError(f"{word}: names {twice} twice; give each checkpoint once")
    return Checkpoints(setting, word, paths)


def _runs_of_sweep(setting: str, folder: Path) -> list[str] | None:
    """Return the finished training runs in the folder of a sweep, or None for any other path.

    A line is printed for every other run in the folder.
    """
    own = (RunDirectory(folder).status_file.name, *WEIGHTS)
    if not folder.is_dir() or any(os.path.lexists(folder / name) for name in own):
        return None
    inside = runs_inside(folder)
    if not inside:
        return None
    found = []
    for path in inside:
        reason = _why_not(RunDirectory(path))
        if reason is None:
            found.append(str(path))
        else:
            say(f"{setting}={folder}: {path.name} is left out ({reason})")
    if not found:
        raise UserError(
            f"{setting}={folder}: holds no finished training run; give a run, or the folder of a"
            " sweep of `sumcirc train`"
        )
    return found


def _why_not(run: RunDirectory) -> str | None:
    """Return why a run has no trained model to take, or None if it has one."""
    try:
        status = run.status()
    except RecordError as error:
        return error.below(run.path)
    verb = status.get("verb", "train")
    if verb != "train":
        return f"a run of `sumcirc {verb}`, which trains nothing"
    return None if status["state"] == "done" else status["state"]
