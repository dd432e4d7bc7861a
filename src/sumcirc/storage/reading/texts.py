"""Reading JSON and YAML files with an expected shape."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from sumcirc.storage.reading.regular import LARGEST, RecordError, read_text, unfit
from sumcirc.storage.reading.shapes import MOST_NESTED, Unfit, fit, require_plain

MOST_NODES = 2_000_000  # of a YAML file, with its aliases expanded
MOST_SETTINGS = 20_000  # of a YAML file that is read by Hydra, which is slow
LARGEST_CONFIG = 2**24  # bytes of such a file
MOST_FILES = 20_000  # in a folder of such files


def read_json(path: Path | str, shape: Any = Any, largest: int = LARGEST) -> Any:
    """Return the contents of a JSON file after checking their shape.

    Args:
        path: the file.
        shape: the expected shape, as in `shapes.fit`.
        largest: largest accepted size in bytes.

    Raises:
        RecordError: the file can't be read, isn't JSON, has a repeated key, or has another shape.
    """
    return parse_json(read_text(path, largest), path, shape)


def parse_json(text: str, path: Path | str, shape: Any = Any, key: str = "") -> Any:
    """Return the value of JSON text that is part of a file, after checking its shape.

    Args:
        text: the JSON text, such as metadata of a safetensors file.
        path: the file, for messages.
        shape: the expected shape, as in `shapes.fit`.
        key: place of the text in the file, for messages.

    Raises:
        RecordError: as in `read_json`.
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
    """Return the contents of a YAML file after checking their shape.

    Args:
        path: the file.
        shape: the expected shape, as in `shapes.fit`.
        largest: largest accepted size in bytes.

    Raises:
        RecordError: the file can't be read, isn't YAML, has a repeated key, or has another shape.
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
    """Check that YAML text can be loaded safely, without creating the values that it describes.

    A deeply nested file would crash libyaml, and nested aliases may expand to any size.

    Args:
        text: the YAML text.
        path: the file that contains it, for messages.

    Raises:
        RecordError: the text isn't YAML, is nested too deeply, has a repeated key, or has aliases
            that contain themselves or expand to too many values.
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

    Files that aren't YAML or have unexpected contents are left to the library that reads them.

    Raises:
        RecordError: a file isn't regular, is nested too deeply, or has aliases that expand to too
            many values; or the folder contains more files than a folder of configurations would.
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
                continue  # a dangling link
            text = read_text(path, LARGEST_CONFIG)
            try:
                _walk(yaml.parse(text, Loader=_yaml_loader()), MOST_SETTINGS, unique=False)
            except Unfit as error:
                raise unfit(path, error) from None
            except yaml.YAMLError:
                continue


def fitted(value: Any, path: Path | str, shape: Any, key: str = "") -> Any:
    """Check a value in a file against a shape, and return it.

    Args:
        value: plain containers, texts and numbers.
        path: the file, for messages.
        shape: the expected shape, as in `shapes.fit`.
        key: place of the value in the file, for messages.

    Raises:
        RecordError: the value contains something that records don't allow
            (`shapes.require_plain`), or has another shape.
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
    error = Unfit("occurs twice")
    error.keys.append(name[:40])
    return error


def _yaml_loader() -> Any:
    """Return PyYAML's safe loader, in C if PyYAML has libyaml, which is ten times faster."""
    import yaml

    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Open:
    """A YAML collection whose end has not been reached yet."""

    def __init__(self, anchor: str | None, mapping: bool) -> None:
        self.anchor = anchor
        self.mapping = mapping
        self.keys: set[str] = set()
        self.children = 0
        self.nodes = 1  # itself and everything below it, with aliases expanded


def _walk(events: Any, most: int = MOST_NODES, *, unique: bool = True) -> None:
    """Count the values that YAML events describe.

    Args:
        events: events of PyYAML's parser.
        most: largest number of values, with aliases expanded.
        unique: whether repeated keys in a mapping are refused.

    Raises:
        Unfit: there are too many, or the events are refused for another reason.
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
    """Count a child of the innermost collection; refuse a key that its mapping already has."""
    if not stack:
        return
    parent = stack[-1]
    parent.children += 1
    if parent.mapping and parent.children % 2 and value is not None:
        if value in parent.keys and value != "<<":
            raise _twice(value)
        parent.keys.add(value)
