"""Fields of configuration dataclasses: type, default, and the comment that says what it is for."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import io
import json
import re
import textwrap
import tokenize
from enum import Enum
from typing import Any

from omegaconf import MISSING

# what is written in the code in capitals and reads better as its values
CONSTANTS = {"MODULES", "PARTS", "WATCHERS", "METRICS"}
TYPES = {"int": "integer", "float": "number", "str": "text", "bool": "true or false", "Any": "any"}


def remarks(kind: type) -> dict[str, str]:
    """Comments of a class's own fields or members: above it, and at the end of its lines."""
    source = textwrap.dedent(inspect.getsource(kind))
    comments = {
        token.start[0]: token.string.lstrip("# ").rstrip()
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    lines = source.splitlines()
    found = {}
    body = ast.parse(source).body[0]
    assert isinstance(body, ast.ClassDef)
    for node in body.body:
        if isinstance(node, ast.AnnAssign):
            name = ast.unparse(node.target)
        elif isinstance(node, ast.Assign):
            name = ast.unparse(node.targets[0])
        else:
            continue
        first, last = node.lineno, node.end_lineno or node.lineno
        while first > 1 and lines[first - 2].strip().startswith("#"):
            first -= 1
        words = [comments[line] for line in range(first, last + 1) if line in comments]
        found[name] = _with_values(" ".join(words), kind)
    return found


def meaning(kind: type, field: dataclasses.Field[Any]) -> str:
    """What a field is for: its remark, and what each member of an enumeration stands for."""
    owner = next(one for one in kind.__mro__ if field.name in vars(one).get("__annotations__", {}))
    text = remarks(owner)[field.name]
    choices = _enumeration(kind, field)
    if choices is None:
        return text
    beside = remarks(choices)
    members = "; ".join(f"`{member.name}` {beside[member.name]}".rstrip() for member in choices)
    opening = first_line(choices).rstrip(".")
    return f"{text or opening[0].lower() + opening[1:]}: {members}"


def _with_values(text: str, kind: type) -> str:
    module = importlib.import_module(kind.__module__)
    for name in CONSTANTS:
        if re.search(rf"\b{name}\b", text):
            values = ", ".join(f"`{value}`" for value in getattr(module, name))
            text = re.sub(rf"\b{name}\b", values, text)
    return text


def _enumeration(kind: type, field: dataclasses.Field[Any]) -> type[Enum] | None:
    name = re.sub(r"^(Optional|list)\[(\w+)\]$", r"\2", str(field.type))
    found = getattr(importlib.import_module(kind.__module__), name, None)
    return found if isinstance(found, type) and issubclass(found, Enum) else None


def first_line(kind: type) -> str:
    """The opening of a class's docstring."""
    return (inspect.getdoc(kind) or "").splitlines()[0]


def type_of(kind: type, field: dataclasses.Field[Any]) -> str:
    """The type in words."""
    name, ending = str(field.type), ""
    if inner := re.fullmatch(r"Optional\[(.+)\]", name):
        name, ending = inner[1], " or null"
    many = ""
    while inner := re.fullmatch(r"list\[(.+)\]", name):
        name, many = inner[1], f"{many}list of "
    if _enumeration(kind, field):
        return f"{many}choice{'s' if many else ''}{ending}"
    if name.startswith("dict["):
        return "mapping"
    return f"{many}{TYPES[name]}{'s' if many and name in ('int', 'float') else ''}{ending}"


def default_of(field: dataclasses.Field[Any]) -> Any:
    """The value where none is given; MISSING where there is none."""
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def shown(value: Any) -> str:
    """The same in code quotes; `-` where there is none."""
    if value == MISSING or value is dataclasses.MISSING:
        return "-"
    return f"`{plain(value)}`"


def plain(value: Any) -> str:
    """A value as it is typed in an override."""
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, (list, tuple)):
        return f"[{','.join(plain(part) for part in value)}]"
    if isinstance(value, str) and value and "\n" not in value and value.strip() == value:
        return value
    return json.dumps(value)
