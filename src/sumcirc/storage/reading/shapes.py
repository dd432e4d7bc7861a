"""Type hints as the expected shape of data read from a file.

A shape is an ordinary hint: `int`, `float`, `str`, `bool`, `None`, `Any`, `Literal`, unions,
`list[X]`, `dict[str, X]`, a `TypedDict`, a dataclass, or `Annotated[X, Range(...)]`. The contents
of a file are thus declared once, and code that uses the data is type-checked against the same
declaration.

    class Status(TypedDict):
        state: Literal["pending", "running", "done", "failed"]
        resumed: NotRequired[Annotated[int, Range(0)]]

    fit(json.loads(text), Status)

Keys that a `TypedDict` or dataclass doesn't declare are allowed: a later version may write more.
"""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Callable
from functools import cache
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

MOST_NESTED = 100  # levels of nesting; our own files have fewer than ten
_SHOWN = 40  # characters of a refused value

Fit = Callable[[Any], Any]


class Unfit(Exception):
    """A value doesn't have the expected shape.

    Attributes:
        reason: what is wrong with the value.
        keys: place of the value in the data, from the outermost key or index to the innermost.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.keys: list[str] = []

    @property
    def key(self) -> str:
        """The place in `keys` as text, such as `systems.trained.mean`; empty for the whole data."""
        return ".".join(self.keys)


@dataclasses.dataclass(frozen=True)
class Range:
    """Inclusive bounds of a number, for `Annotated[float, Range(0, 1)]`."""

    low: float = -math.inf
    high: float = math.inf

    def __str__(self) -> str:
        if self.high == math.inf:
            return f"{self.low:g} or more"
        return (
            f"at most {self.high:g}" if self.low == -math.inf else f"{self.low:g} to {self.high:g}"
        )


@dataclasses.dataclass(frozen=True)
class Keys:
    """A rule for the keys of a mapping, for `Annotated[dict[str, int], Keys(("a", "b"))]`.

    Attributes:
        required: keys that the mapping must have.
        allowed: the only keys that the mapping may have; None for any.
    """

    required: tuple[str, ...] = ()
    allowed: tuple[str, ...] | None = None


@dataclasses.dataclass(frozen=True)
class NullIsNan:
    """A rule for numbers: null in a file stands for an undefined number and is read as NaN."""


Share = Annotated[float, Range(0, 1)]
Count = Annotated[int, Range(0)]
Number = Annotated[float, NullIsNan()]


def fit(value: Any, shape: Any) -> Any:
    """Check a value against a shape, and return it.

    Args:
        value: plain containers, texts and numbers.
        shape: the expected shape as a type hint, such as a `TypedDict` or `list[int]`.

    Returns:
        The value, with dataclass instances in place of the dictionaries that describe them.

    Raises:
        Unfit: the value has another shape.
    """
    return _checker(shape)(value)


def require_plain(value: Any) -> None:
    """Check that a value consists of JSON types, with finite numbers of at most 64 bits.

    Raises:
        Unfit: the value contains NaN, an infinity, a larger number or another type, or is nested
            more than 100 levels deep.
    """
    _plain(value, 0)


def _plain(value: Any, depth: int) -> None:
    if value is None or isinstance(value, (str, bool)):
        return
    if isinstance(value, float):
        if not math.isfinite(value):
            raise Unfit(f"is {value}, not a finite number")
    elif isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise Unfit("is a whole number of more than 64 bits")
    elif depth == MOST_NESTED:
        raise Unfit(f"is nested more than {MOST_NESTED} levels deep")
    elif isinstance(value, dict):
        for name, part in value.items():
            if not isinstance(name, str):
                raise Unfit(f"has the key {shown(name)}, which is not a text")
            _within(name, _plain, part, depth + 1)
    elif isinstance(value, list):
        for index, part in enumerate(value):
            _within(index, _plain, part, depth + 1)
    else:
        raise Unfit(f"is a {type(value).__name__}, which no record holds")


def shown(value: Any) -> str:
    """Return a short text on one line that shows a value in an error message."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    words = {True: "true", False: "false", None: "null"}
    if value is None or isinstance(value, bool):
        return words[value]
    text = f'"{value}"' if isinstance(value, str) else ascii(value)
    text = "".join(one if one.isprintable() else "?" for one in text)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def _within(key: Any, check: Callable[..., Any], *arguments: Any) -> Any:
    """Run the check of a part, adding its key to the error it raises."""
    try:
        return check(*arguments)
    except Unfit as error:
        error.keys.insert(0, _short(key))
        raise


@cache
def _checker(shape: Any) -> Fit:
    """Return a function that checks values against a shape."""
    origin, parts = get_origin(shape), get_args(shape)
    if shape is Any:
        return lambda value: value
    if origin is Annotated:
        return _ruled(_checker(parts[0]), parts[1:])
    if origin is Literal:
        return _one_of(parts)
    if origin in (Union, types.UnionType):
        return _either(parts)
    if origin is list:
        return _list_of(_checker(parts[0]))
    if origin is dict:
        return _mapping_of(_checker(parts[1]))
    if is_typeddict(shape) or dataclasses.is_dataclass(shape):
        return _fields_of(shape)
    return _scalar(shape)


_NAMES: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
    types.NoneType: "null",
    None: "null",
    list: "a list",
    dict: "a mapping",
}


def _name(shape: Any) -> str:
    if get_origin(shape) is Annotated:
        return _name(get_args(shape)[0])
    return _NAMES.get(get_origin(shape) or shape, "a mapping")


def _scalar(shape: Any) -> Fit:
    wanted: Any = {float: (int, float), None: types.NoneType}.get(shape, shape)
    number = shape in (int, float)

    def check(value: Any) -> Any:
        # True is an instance of int in Python, but not a number in JSON
        if not isinstance(value, wanted) or (number and isinstance(value, bool)):
            raise Unfit(f"is {shown(value)}, not {_name(shape)}")
        return value

    return check


def _ruled(inner: Fit, rules: tuple[Any, ...]) -> Fit:
    undefined = NullIsNan() in rules

    def check(value: Any) -> Any:
        if undefined and value is None:
            return math.nan
        value = inner(value)
        for rule in rules:
            if isinstance(rule, Range) and not rule.low <= value <= rule.high:
                raise Unfit(f"is {shown(value)}, not {rule}")
            if isinstance(rule, Keys):
                _check_keys(value, rule)
        return value

    return check


def _check_keys(value: dict[str, Any], rule: Keys) -> None:
    for name in rule.required:
        if name not in value:
            raise _at_key(name, "is missing")
    for name in value if rule.allowed is not None else ():
        if name not in (rule.allowed or ()):
            raise _at_key(name, f"is none of {', '.join(rule.allowed or ())}")


def _one_of(choices: tuple[Any, ...]) -> Fit:
    def check(value: Any) -> Any:
        if not any(value == one and type(value) is type(one) for one in choices):
            raise Unfit(f"is {shown(value)}, none of {', '.join(map(str, choices))}")
        return value

    return check


def _either(parts: tuple[Any, ...]) -> Fit:
    checkers = [_checker(part) for part in parts]

    def check(value: Any) -> Any:
        deepest: Unfit | None = None
        for checker in checkers:
            try:
                return checker(value)
            except Unfit as error:
                if error.keys and (deepest is None or len(error.keys) > len(deepest.keys)):
                    deepest = error
        # the kind was right, but something inside was not
        if deepest is not None:
            raise deepest
        raise Unfit(f"is {shown(value)}, not {' or '.join(dict.fromkeys(map(_name, parts)))}")

    return check


def _list_of(inner: Fit) -> Fit:
    def check(value: Any) -> Any:
        if not isinstance(value, list):
            raise Unfit(f"is {shown(value)}, not a list")
        return [_within(index, inner, part) for index, part in enumerate(value)]

    return check


def _mapping_of(inner: Fit) -> Fit:
    def check(value: Any) -> Any:
        if not isinstance(value, dict):
            raise Unfit(f"is {shown(value)}, not a mapping")
        return {name: _within(name, inner, part) for name, part in value.items()}

    return check


def _fields_of(shape: Any) -> Fit:
    """Return the check of a `TypedDict`, or of a dataclass, which is created from the mapping."""
    hints = get_type_hints(shape, include_extras=True)
    made = dataclasses.is_dataclass(shape)
    if made:
        fields = dataclasses.fields(shape)
        hints = {one.name: hints[one.name] for one in fields if one.init}
        missing = dataclasses.MISSING
        optional = {
            one.name
            for one in fields
            if one.default is not missing or one.default_factory is not missing
        }
    else:
        optional = {name for name, hint in hints.items() if get_origin(hint) is NotRequired}
    parts = {
        name: get_args(hint)[0] if get_origin(hint) is NotRequired else hint
        for name, hint in hints.items()
    }

    def check(value: Any) -> Any:
        if not isinstance(value, dict):
            raise Unfit(f"is {shown(value)}, not a mapping")
        found = {} if made else dict(value)
        for name, part in parts.items():
            if name in value:
                found[name] = _within(name, _checker(part), value[name])
            elif name not in optional:
                raise _at_key(name, "is missing")
        return shape(**found) if made else found

    return check


def _at_key(name: str, reason: str) -> Unfit:
    error = Unfit(reason)
    error.keys.append(_short(name))
    return error


def _short(key: Any) -> str:
    """Shorten a key for an error message."""
    return "".join(c if c.isprintable() else "?" for c in str(key)[:_SHOWN])
