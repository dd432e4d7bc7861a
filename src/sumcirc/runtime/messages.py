"""One-line error messages, KEY=VALUE: REASON, with the setting as the user typed it.

Hydra, OmegaConf and PyYAML spread their information over several lines and exceptions, which
`one_line` joins. The setting at fault may also be implied by another one (`checkpoint=` implies
`model.path`), or be shown differently from how it was typed; `Typed` restores the typed form.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from sumcirc import schema
from sumcirc.errors import Unwritable, UserError

# uninformative parts of Hydra's and OmegaConf's messages: internal names, advice to add a key
NOISE = ("full_key:", "object_type=", "reference_type=", "To append to", "See https://", "^")

KINDS = {"Integer": "a whole number", "Float": "a number", "Path": "a path"}
# OmegaConf's messages about a value, and what to show instead
REASONS: tuple[tuple[str, str], ...] = (
    (r"Value '(?P<value>.*)' of type '\w+' could not be converted to (?P<kind>\w+)", "must be {}"),
    (r"Value '(?P<value>.*)' is not a valid bool \(type \w+\)", "must be true or false"),
    (r"Invalid value '(?P<value>.*)', expected one of \[(?P<known>.*)\]", "choose from {}"),
    (r"Value .* is not a valid input for <enum '(?P<enum>\w+)'>", "choose from {}"),
    (r"Cannot convert '\w+' to string: '(?P<value>.*)'", "must be a text"),
    (r"field '.*' is not Optional|.* not optional and cannot be assigned None", "can't be null"),
    (r"Key '\w+' (is )?not in '\w+'", "no such setting"),
    (r"Non optional ListConfig cannot be constructed from None", "can't be null"),
    (r"Invalid value assigned: (?P<got>\w+) is not a ListConfig, list or tuple", "must be a list"),
    (r"Cannot merge DictConfig with ListConfig", "must be a list"),
    (r"\w+ \(DictConfig\) does not support deletion", "can't be left out; give it a value"),
    (
        r"Invalid type assigned: \w+ is not a subclass of (?P<section>\w+)\. value: (?P<value>.*)",
        "{}",
    ),
)


def one_line(error: BaseException) -> str:
    """Return the message of an error of Hydra, OmegaConf or PyYAML as one line.

    The line has the file if there is one, the setting at fault, and the reason.
    """
    # Hydra's MissingConfigException, without importing Hydra, which `sumcirc status` doesn't need
    missing, options = (getattr(error, name, None) for name in ("missing_cfg_file", "options"))
    if missing and options:
        group, _, name = missing.rpartition("/")
        return f"{group}={name}: no such choice; choose from {', '.join(options)}"
    absent = re.match(r"Could not override '([^']+)'\.\s*No match in the defaults list", str(error))
    if absent:
        return f"{absent[1]}: this verb has no such group; leave it out (--help lists its groups)"
    unknown = re.match(r"Could not override '[^']+'\.\s*To append .* use \+(.*)", str(error))
    if unknown:
        return f"{unknown[1]}: no such setting{_suggestion(error)}; see `--cfg job`"
    text, key = _told(error)
    section = _merged_section(error)
    if section is not None:
        told = f"Invalid type assigned: list is not a subclass of {section}. value: [...]"
        text = text.replace("Cannot merge DictConfig with ListConfig", told)
    # Hydra's "In 'experiment/mine': ConfigKeyError raised while composing config:"
    text = re.sub(r"^In '([^']+)': (\w+ raised while composing config:; )?", r"\1.yaml: ", text)
    file, colon, reason = text.rpartition(".yaml: ")
    word, _, rest = reason.removeprefix("Error merging override ").partition("; ")
    if word != reason.partition("; ")[0]:
        given = word.partition("=")[0].lstrip("+~")
        inner = f"{key}: " if key.startswith(f"{given}.") else ""  # of a mapping
        return f"{word}: {inner}{_meant(rest, given)[0]}"
    reason, value = _meant(reason, key)
    if key and key not in reason.partition(": ")[0]:
        shown = key if value is None else f"{key}={value}"
        reason = f"{shown}: {reason}"
    return f"{file}{colon}{reason}"


def did_you_mean(name: str, known: list[str]) -> str:
    """Return `; did you mean NAME?` with the valid name closest to an unknown one.

    The text is empty if no valid name is close.

    Args:
        name: the unknown name.
        known: the valid names.
    """
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""


@dataclass(frozen=True)
class Typed:
    """The settings of a command as the user typed them; used to word error messages.

    Attributes:
        words: the typed word KEY=VALUE of each setting, by the setting's name. Settings with
            several values, over which a sweep goes, are left out.
        derived: for each setting that another one implies, or each section such as `model.`, the
            typed word KEY=VALUE that implies it.
        experiment: the file in conf/experiment that the user named; None if there is none.
        folders: value of each setting that names a folder to write to, typed or not, by the
            setting's name. A file that can't be written is attributed to the first folder that
            contains it.
    """

    words: Mapping[str, str] = field(default_factory=dict)
    derived: Mapping[str, str] = field(default_factory=dict)
    experiment: Path | None = None
    folders: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def naming(self) -> Iterator[None]:
        """Make UserErrors raised in a `with` block begin with the setting as it was typed."""
        try:
            yield
        except UserError as error:
            raise UserError(self.named(error)) from error

    def named(self, error: UserError) -> str:
        """Return the message of an error, changed to begin with the setting as the user typed it.

        A message that concerns no typed setting is returned unchanged.
        """
        message = self._unwritable(error) if isinstance(error, Unwritable) else str(error)
        start = re.match(r"([a-z_][\w./]*)(=|: )", message)
        if start is None:
            return self._of_path(message)
        key, told = self._key(start[1]), message[start.end() :]
        if start[2] == ": ":
            word = self.words.get(key) or self._behind(key)
            return f"{word}: {told}" if word else self._of_path(message)
        if key in self.words:
            return f"{self.words[key]}: {_after_value(told, self.words[key])}"
        word = self._of_value(told) or self._behind(key)
        if word:
            rest = _after_value(told, word)
            return f"{word}: {rest}" if rest != told else f"{word}: its {key}={told}"
        section = key.partition(".")[0]
        if section != key and section in self.words:  # trainer=gpu sets trainer.accelerator
            return f"{self.words[section]}: {message}"
        return message

    def _behind(self, key: str) -> str | None:
        """Return the typed word that implies a setting, or None."""
        word = self.derived.get(key) or self.derived.get(f"{key.partition('.')[0]}.")
        if word is None and self.experiment is not None:
            settings = OmegaConf.load(self.experiment)
            known = OmegaConf.is_dict(settings) and OmegaConf.select(settings, key) is not None
            return self.words.get("experiment") if known else None
        return word

    def _of_value(self, told: str) -> str | None:
        """Return the typed word whose path a message about another setting shows, or None."""
        paths = (word for word in self.words.values() if "/" in word.partition("=")[2])
        return next((word for word in paths if _after_value(told, word) != told), None)

    def _key(self, key: str) -> str:
        """Resolve a key in a message: `circuit.size` may mean `callbacks.circuit.size`."""
        if key in self.words or key in self.derived:
            return key
        longer = [typed for typed in self.words if typed.endswith(f".{key}")]
        return longer[0] if len(longer) == 1 else key

    def _of_path(self, message: str) -> str:
        """Prefix a message that begins with a path with the setting that names the path."""
        for word in self.words.values():
            value = word.partition("=")[2]
            for path in dict.fromkeys((value, os.path.expanduser(value))):
                if path and message.startswith((f"{path}: ", f"{path}/")):
                    return f"{word}: {message.removeprefix(f'{path}: ')}"
        return message

    def _unwritable(self, error: Unwritable) -> str:
        for key, folder in self.folders.items():
            if error.path.absolute().is_relative_to(Path(folder).expanduser().absolute()):
                remedy = "" if key == "resume" else "; choose another folder"
                return f"{key}={folder}: can't write {error.path} ({error.reason}){remedy}"
        return str(error)


def _told(error: BaseException) -> tuple[str, str]:
    """Return the combined message of an exception and its causes, and the key it concerns."""
    lines: list[str] = []
    key = ""
    cause: BaseException | None = error
    while cause is not None:
        for line in str(cause).splitlines():
            where = re.match(r"\s*full_key: (.+)", line)
            key = where[1] if where and not key else key
            if not line.strip().startswith(NOISE):
                lines.append(line.strip(" ."))
        cause = cause.__cause__
    lines.append(_suggestion(error).strip("; "))
    return "; ".join(dict.fromkeys(line for line in lines if line)), key or _merged_key(error)


def _meant(reason: str, key: str) -> tuple[str, str | None]:
    """Translate OmegaConf's reason into plain words, and extract the value it quotes."""
    for pattern, text in REASONS:
        found = re.fullmatch(f"(?:{pattern})(?P<more>; .*)?", reason, re.DOTALL)
        if found:
            parts = found.groupdict()
            what = ""
            if "kind" in parts:
                what = KINDS.get(parts["kind"], f"of the type {parts['kind']}")
            elif "known" in parts:
                what = parts["known"]
            elif "enum" in parts:
                what = ", ".join(one.name for one in getattr(schema, parts["enum"]))
            elif "section" in parts:
                what = _section(parts["section"], key)
            return text.format(what) + (parts["more"] or ""), parts.get("value")
    return reason, None


def _section(name: str, key: str) -> str:
    """Explain a section of the configuration to a user who assigned it a value."""
    kind: Any = getattr(schema, name, None)
    if kind is None:
        return "is a section of settings, not one of them"
    first = [one.name for one in dataclasses.fields(kind)][:3]
    purpose = (kind.__doc__ or "").partition("\n")[0].rstrip(".")
    settings = ", ".join(f"{key}.{one}" for one in first)
    return f"is a section of settings ({purpose}); give them one by one: {settings}, ..."


def _merged_key(error: BaseException) -> str:
    """Return the key of a failed merge, which is available only in OmegaConf's stack frames."""
    frames = traceback.walk_tb(error.__traceback__)
    merges = [frame.f_locals for frame, _ in frames if frame.f_code.co_name == "_map_merge"]
    return ".".join(str(found["key"]) for found in merges if "key" in found)


def _merged_section(error: BaseException) -> str | None:
    """Return the section that a list was merged into, or None."""
    frames = traceback.walk_tb(error.__traceback__)
    nodes = [frame.f_locals["self"] for frame, _ in frames if frame.f_code.co_name == "_merge_with"]
    into = OmegaConf.get_type(nodes[-1]) if nodes else None
    return into.__name__ if into is not None and into not in (list, dict) else None


def _suggestion(error: BaseException | None) -> str:
    """Suggest the known key closest to the unknown one that an error names."""
    while error is not None:
        kind, key = getattr(error, "object_type", None), getattr(error, "key", None)
        if isinstance(kind, type) and dataclasses.is_dataclass(kind) and isinstance(key, str):
            known = [one.name for one in dataclasses.fields(kind)]
            return "" if key in known else did_you_mean(key, known)
        error = error.__cause__
    return ""


def _renderings(word: str) -> list[str]:
    """Return the forms in which a message may show the value of KEY=VALUE, longest first."""
    typed = word.partition("=")[2]
    found = [typed, os.path.expanduser(typed)]
    try:
        value = yaml.safe_load(typed)
    except yaml.YAMLError:
        value = typed
    found += [str(value), repr(value), repr(typed)]
    with suppress(ValueError):
        found.append(str(float(typed)))
    # longest first, since `1` is the beginning of `1.0`
    return sorted(set(found), key=len, reverse=True)


def _after_value(text: str, word: str) -> str:
    """Strip a leading `VALUE: ` from a message; return it unchanged if another value is shown."""
    for value in _renderings(word):
        if text.startswith(f"{value}: "):
            return text[len(value) + 2 :]
    return text
