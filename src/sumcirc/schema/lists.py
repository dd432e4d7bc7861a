"""Accepts a single value for a list in the schema: `selector.layers=2` means `[2]`.

This holds for every list field of every dataclass, wherever the value comes from: an override, a
YAML file, a sweep, a stored configuration or a constructor call. A value that isn't of the element
type is still refused (`selector.layers=maybe`).
"""

from __future__ import annotations

import dataclasses
import typing
from enum import Enum
from numbers import Number
from typing import Any

from omegaconf import MISSING, Container, DictConfig, ListConfig, Node, OmegaConf

SCALARS = (str, Number, Enum)
PACKAGE = __name__.rpartition(".")[0]


def accept_scalars() -> None:
    """Make OmegaConf accept a single value where the schema has a list.

    A method of OmegaConf is replaced, since there is no hook for conversions. Lists in dataclasses
    of other packages are not affected, and repeated calls have no effect.
    """
    original: Any = ListConfig._set_value_impl
    if hasattr(original, "accepts_scalars"):
        return

    def set_value(self: ListConfig, value: Any, flags: dict[str, bool] | None = None) -> None:
        plain = value._value() if isinstance(value, Node) else value
        special = isinstance(plain, str) and ("${" in plain or plain == MISSING)
        if isinstance(plain, SCALARS) and not special and _is_of_schema(self):
            value = [plain]
        original(self, value, flags)

    set_value.accepts_scalars = True  # type: ignore[attr-defined]
    ListConfig._set_value_impl = set_value  # type: ignore[method-assign]


def lists_of_one(config: Any) -> None:
    """Replace each single value in a field for a list by a list of this value, in place.

    The elements of lists of lists are converted as well.

    Args:
        config: a dataclass of the schema.
    """
    for name, element in list_elements(type(config)).items():
        value = as_list(getattr(config, name))
        if typing.get_origin(element) is list:
            value = [as_list(one) for one in value]
        setattr(config, name, value)


def as_list(value: Any) -> Any:
    """Return a text, number or enumeration member as a list of it, and a tuple or range as a list.

    Any other value is returned unchanged.
    """
    if isinstance(value, (tuple, range)):
        return list(value)
    return [value] if isinstance(value, SCALARS) else value


def list_elements(kind: type) -> dict[str, Any]:
    """Return the element type of each field of a dataclass that is a list or an optional list.

    Args:
        kind: the dataclass.

    Returns:
        The element types by the name of the field.
    """
    hints = typing.get_type_hints(kind)
    found = {}
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        lists = [one for one in (hint, *typing.get_args(hint)) if typing.get_origin(one) is list]
        if lists:  # the first is the outer one: of list[list[str]] the elements are lists
            (found[field.name],) = typing.get_args(lists[0])
    return found


def _is_of_schema(node: ListConfig) -> bool:
    """Return whether a (possibly nested) list belongs to a dataclass of the schema."""
    holder: Container | None = node
    while isinstance(holder, ListConfig):
        holder = holder._get_parent_container()
    kind = OmegaConf.get_type(holder) if isinstance(holder, DictConfig) else None
    return kind is not None and kind.__module__.startswith(f"{PACKAGE}.")
