"""Overrides that a checkpoint implies.

A run directory provides its model, data, encoding and decoding; an adapter its base, tokenizer and
revision; a folder or hub id is the model itself. What the user types on the command line takes
precedence.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import fields
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sumcirc.errors import UserError
from sumcirc.schema.configuration import quoted
from sumcirc.tracking.sweep_axes import flat_settings

if TYPE_CHECKING:
    from sumcirc.models.model_reference import ModelReference

SECTIONS = ("model", "data", "encoding", "evaluation", "generation")


def overrides_of(
    checkpoint: str,
    given: Set[str],
    sections: Sequence[str] = SECTIONS,
    setting: str = "checkpoint",
) -> list[str]:
    """Return the settings that a checkpoint implies, as overrides KEY=VALUE.

    Sections that the user chose on the command line are left out.

    Args:
        checkpoint: a run directory, an adapter, a model folder, a hub id or `tiny`.
        given: names of the settings that the user typed.
        sections: names of the sections that are taken from a run.
        setting: the setting that names the checkpoint.

    Raises:
        UserError: a model or an experiment is named in addition to the checkpoint; or as in
            `reference`.
    """
    from sumcirc.models.model_reference import reference

    _check_given(checkpoint, given, setting)
    brought = overrides_of_run(checkpoint, given, sections, setting)
    if brought:
        return brought
    if "experiment" in given and setting == "checkpoint":
        raise _no_experiment(checkpoint, setting)
    return _overrides_of_model(reference(checkpoint, setting))


def overrides_of_run(
    checkpoint: str, given: Set[str], sections: Sequence[str], setting: str
) -> list[str]:
    """Return the settings of a training run in some sections, as overrides KEY=VALUE.

    Sections that the user chose on the command line are left out. The list is empty if the path is
    not a run directory.

    Args:
        checkpoint: the path.
        given: names of the settings that the user typed.
        sections: names of the sections.
        setting: the setting that names the checkpoint, for messages.

    Raises:
        UserError: the user named an experiment as well, or the run trained nothing.
    """
    from sumcirc.models.model_reference import training_run

    run = training_run(Path(checkpoint), setting)
    if run is None:
        return []
    if "experiment" in given:
        raise _no_experiment(checkpoint, setting)
    stored = run.read_config()["config"]
    brought = {name: stored[name] for name in sections if name not in given and name in stored}
    settings = flat_settings(brought).items()
    return [f"{name}={_literal(value)}" for name, value in settings if value != {}]


def base_overrides(checkpoint: str, given: Set[str]) -> list[str]:
    """Return overrides that set `model` to the model from which a run or adapter was trained.

    Args:
        checkpoint: a run directory or an adapter's folder.
        given: names of the settings that the user typed.

    Raises:
        UserError: the checkpoint is neither a run nor an adapter, or doesn't name its base model.
    """
    from sumcirc.models.model_reference import reference

    _check_given(checkpoint, given, "after")
    brought = overrides_of_run(checkpoint, given, ("model",), "after")
    if brought:
        return brought
    found = reference(checkpoint, "after")
    if found.weights is None:
        raise UserError(
            f"after={checkpoint}: is neither a run nor an adapter, so the model it was"
            " trained from is unknown; give it with before=MODEL"
        )
    return _overrides_of_model(found.base)


def _check_given(checkpoint: str, given: Set[str], setting: str) -> None:
    for name in ("model", "model.path"):
        if name in given:
            raise UserError(f"{name}: {setting}={checkpoint} provides its model; leave {name}= out")


def _overrides_of_model(found: ModelReference) -> list[str]:
    """Return overrides for the settings of `model` that differ from the defaults."""
    settings = {one.name: getattr(found.model, one.name) for one in fields(found.model)}
    settings["name"] = found.name
    defaults = {one.name: one.default for one in fields(found.model)}
    return [
        f"model.{name}={_literal(value)}"
        for name, value in settings.items()
        if value != defaults[name]
    ]


def _no_experiment(checkpoint: str, setting: str) -> UserError:
    # the checkpoint's settings would silently override the experiment's file
    return UserError(
        f"{setting}={checkpoint}: provides its own settings, so experiment= has no effect; give the"
        " settings that are to differ one by one"
    )


def _literal(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, list):
        return f"[{','.join(map(_literal, value))}]"
    return quoted(value) if isinstance(value, str) else repr(value)
