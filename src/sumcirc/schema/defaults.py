"""Default values of settings, in the form in which configurations are recorded."""

from __future__ import annotations

import dataclasses
import typing
from typing import Any

from omegaconf import MISSING, OmegaConf


def default_settings(kind: type) -> dict[str, Any]:
    """Return a configuration's defaults as nested dictionaries, for settings that have one.

    Enumerated values are replaced by their names.

    Args:
        kind: dataclass of the configuration or of a section of it.
    """
    found: Any = OmegaConf.to_container(OmegaConf.structured(kind), enum_to_str=True)
    hints = typing.get_type_hints(kind)
    for name, value in list(found.items()):
        section = hints[name] if dataclasses.is_dataclass(hints[name]) else None
        if value == MISSING and section is not None:
            found[name] = default_settings(section)
        elif value == MISSING:
            del found[name]
        elif section is not None and isinstance(value, dict):
            found[name] = {key: part for key, part in value.items() if part != MISSING}
    return found
