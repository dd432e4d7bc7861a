"""JSON and YAML files of an expected shape."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from sumcirc.storage.reading.regular import LARGEST, RecordError, read_text, unfit
from sumcirc.storage.reading.shapes import MOST_NESTED, Unfit, fit, require_plain

MOST_NODES = 2_000_000  # of a YAML file, with its aliases written out
MOST_SETTINGS = 20_000  # of one that Hydra reads, which is slow
LARGEST_CONFIG = 2**24  # bytes of such a file
MOST_FILES = 20_000  # in a folder of such files


def read_json(path: Path | str, shape: Any = Any, largest: int = LARGEST) -> Any:
    """The content of a JSON file of the given shape (`shapes.fit`).

    Raises:
        RecordError: it can't be read, is no JSON, names a key twice, or has another shape.
    """
    return parse_json(read_text(path, largest), path, shape)


def parse_json(text: str, path: Path | str, shape: Any = Any, key: str = "") -> Any:
    """JSON that stands in a file, such as in the metadata of a safetensors file.

    Args:
        path: the file, for messages.
        key: where in the file the text stands.

    Raises:
        RecordError: as `read_json`.
    """
    try:
        value = json.loads(text, object_pairs_hook=_unique)
    except RecursionError:
        reason = f"is nested more than {MOST_NESTED} levels deep"
        raise RecordError(path, reason, key) from None
    except Unfit as error:
        raise unfit(path, error, key) from None
    except ValueError as error:
        raise RecordError(path, f"is not JSON ({error})", key) from None
    return fitted(value, path, shape, key)


def read_yaml(path: Path | str, shape: Any = Any, largest: int = LARGEST) -> Any:
    """The content of a YAML file of the given shape (`shapes.fit`).

    Raises:
        RecordError: it can't be read, is no YAML, names a key twice, or has another shape.
    """
    import yaml

    text = read_text(path, largest)
    check_yaml(text, path)
    try:
        value = yaml.load(text, _yaml_loader())
    # constructors of PyYAML raise AttributeError, KeyError and others for scalars they can't make
    except Exception as error:
        raise RecordError(path, f"is not readable YAML ({error})") from None
    return fitted(value, path, shape)


def check_yaml(text: str, path: Path | str) -> None:
    """Check that YAML can be loaded safely, by its events, without building anything.

    A deeply nested file kills a process in libyaml, and nested aliases multiply.

    Raises:
        RecordError: it is no YAML, is nested too deeply, names a key twice, or has aliases that
            contain themselves or expand to too much.
    """
    import yaml

    try:
        _walk(yaml.parse(text, Loader=_yaml_loader()))
    except Unfit as error:
        raise unfit(path, error) from None
    except Exception as error:
        raise RecordError(path, f"is not readable YAML ({error})") from None


def check_yaml_folder(folder: Path | str) -> None:
    """Check that every YAML file in a folder can be loaded without exhausting memory.

    Files that are no YAML, or hold something unexpected, are left to that library.

    Raises:
        RecordError: one is no regular file, is nested too deeply, or has aliases that expand to too
            much; or the folder holds so many files that it can't be one of configurations.
    """
    import yaml

    count = 0
    for place, folders, names in os.walk(folder):
        count += len(folders) + len(names)
        if count > MOST_FILES:
            raise RecordError(folder, f"holds more than {MOST_FILES:,} files")
        for name in names:
            if not name.endswith((".yaml", ".yml")):
                continue
            path = os.path.join(place, name)
            if not os.path.exists(path):
                continue  # a link that leads nowhere
            text = read_text(path, LARGEST_CONFIG)
            try:
                _walk(yaml.parse(text, Loader=_yaml_loader()), MOST_SETTINGS, unique=False)
            except Unfit as error:
                raise unfit(path, error) from None
            except yaml.YAMLError:
                continue


def fitted(value: Any, path: Path | str, shape: Any, key: str = "") -> Any:
    """A value that stands in a file, checked against a shape.

    Raises:
        RecordError: it holds what no record holds (`shapes.require_plain`), or has another shape.
    """
    try:
        require_plain(value)
        return fit(value, shape)
    except Unfit as error:
        raise unfit(path, error, key) from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise _twice(next(name for name in names if names.count(name) > 1))
    return found


def _twice(name: str) -> Unfit:
    error = Unfit("is there twice")
    error.keys.append(name[:40])
    return error


def _yaml_loader() -> Any:
    """PyYAML's safe loader, in C where PyYAML was built with libyaml: ten times as fast."""
    import yaml

    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Open:
    """A YAML collection whose end has not come yet."""

    def __init__(self, anchor: str | None, mapping: bool) -> None:
        self.anchor = anchor
        self.mapping = mapping
        self.keys: set[str] = set()
        self.children = 0
        self.nodes = 1  # itself and all below it, aliases written out


def _walk(events: Any, most: int = MOST_NODES, *, unique: bool = True) -> None:
    """Count what YAML events describe; raises Unfit.

    Args:
        most: values, with aliases written out.
        unique: whether a key may be in a mapping once only.
    """
    import yaml

    stack: list[_Open] = []
    sizes: dict[str, int] = {}  # nodes behind each anchor
    for event in events:
        nodes = 1
        if isinstance(event, yaml.CollectionStartEvent):
            if len(stack) == MOST_NESTED:
                raise Unfit(f"is nested more than {MOST_NESTED} levels deep")
            _count_key(stack, None)
            stack.append(_Open(event.anchor, isinstance(event, yaml.MappingStartEvent)))
            continue
        if isinstance(event, yaml.CollectionEndEvent):
            closed = stack.pop()
            nodes = closed.nodes
            if closed.anchor is not None:
                sizes[closed.anchor] = nodes
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise Unfit(f"has the alias *{event.anchor} before or within its anchor")
            nodes = sizes[event.anchor]
            _count_key(stack, None)
        elif isinstance(event, yaml.ScalarEvent):
            if event.anchor is not None:
                sizes[event.anchor] = 1
            _count_key(stack, event.value if unique else None)
        else:
            continue
        if stack:
            stack[-1].nodes += nodes
        if nodes > most or (stack and stack[-1].nodes > most):
            raise Unfit(f"expands to more than {most:,} values")


def _count_key(stack: list[_Open], value: str | None) -> None:
    """Note a child of the innermost collection; a key that its mapping has already is refused."""
    if not stack:
        return
    parent = stack[-1]
    parent.children += 1
    if parent.mapping and parent.children % 2 and value is not None:
        if value in parent.keys and value != "<<":
            raise _twice(value)
        parent.keys.add(value)
