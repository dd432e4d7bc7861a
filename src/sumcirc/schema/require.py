"""Functions by which a configuration refuses values."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from sumcirc.errors import UserError

NAME_BYTES = 255  # length of a file name on common file systems


def require(condition: bool, message: str) -> None:
    """Raise UserError with a message unless a condition is true."""
    if not condition:
        raise UserError(message)


def at_least(config: Any, section: str, least: int, *names: str) -> None:
    """Raise an error if a setting is below a limit, infinite or NaN; null is accepted.

    Args:
        config: the section that contains the settings.
        section: prefix of the section's settings in messages, such as `trainer.`.
        least: smallest accepted value.
        names: names of the settings to check.

    Raises:
        UserError: a setting is refused; the message names the first one.
    """
    for name, value, null in _given(config, names):
        require(
            math.isfinite(value) and value >= least,
            f"{section}{name}={value}: must be {least} or more{null}",
        )


def positive(config: Any, section: str, *names: str) -> None:
    """Raise an error if a setting is not a finite number above 0; null is accepted.

    Args:
        config: the section that contains the settings.
        section: prefix of the section's settings in messages, such as `trainer.`.
        names: names of the settings to check.

    Raises:
        UserError: a setting is refused; the message names the first one.
    """
    for name, value, null in _given(config, names):
        require(
            math.isfinite(value) and value > 0,
            f"{section}{name}={value}: must be a positive number{null}",
        )


def folder_name(setting: str, value: str) -> None:
    """Raise an error if a setting's value can't be the name of a folder.

    Args:
        setting: name of the setting, for messages.
        value: value of the setting.

    Raises:
        UserError: the value is empty, `.` or `..`, is too long, or contains a slash or NUL.
    """
    fits = value not in ("", ".", "..") and "/" not in value and "\0" not in value
    require(
        fits and len(value.encode()) <= NAME_BYTES,
        f"{setting}={value}: names one folder, so it must have 1 to {NAME_BYTES} characters and no"
        " slash; a path goes into runs_dir",
    )


def _given(config: Any, names: tuple[str, ...]) -> list[tuple[str, Any, str]]:
    """Return name, value and a hint on null for each setting that is not null."""
    defaults = {field.name: field.default for field in dataclasses.fields(config)}
    return [
        (name, getattr(config, name), ", or null" if defaults[name] is None else "")
        for name in names
        if getattr(config, name) is not None
    ]
