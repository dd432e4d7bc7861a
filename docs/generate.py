"""Write the pages of docs/reference that come from the code: python -m docs.generate.

Keys, types and defaults are those of the dataclasses in sumcirc.schema, what a key does is the
comment beside its field; choices of groups are the files of conf/; measures come from
sumcirc.tracking.measure_records.
"""

from __future__ import annotations

import dataclasses
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from omegaconf import MISSING

from docs.fields import default_of, first_line, meaning, plain, shown, type_of
from sumcirc import schema
from sumcirc.cli import command
from sumcirc.cli import main as cli
from sumcirc.tracking import measure_records as records

REFERENCE = Path(__file__).resolve().parent / "reference"
NOTE = "<!-- Made by `make docs` (docs/generate.py) from the code; changes made here are lost. -->"


def main() -> None:
    """Write every page."""
    for name, text in pages().items():
        (REFERENCE / name).write_text(text, encoding="utf-8")


def pages() -> dict[str, str]:
    """File name and text of each page."""
    return {"configuration.md": configuration(), "measures.md": measures()}


# ---- configuration.md


@dataclasses.dataclass
class Section:
    """A dataclass under a key such as `callbacks.probes`, with the values it has there."""

    key: str
    value: Any

    @property
    def kind(self) -> type:
        """Its dataclass."""
        return self.value if isinstance(self.value, type) else type(self.value)

    def default(self, field: dataclasses.Field[Any]) -> Any:
        """The default of a field under this key."""
        own = default_of(field)
        return own if isinstance(self.value, type) else getattr(self.value, field.name, own)


def section_of(kind: type, field: dataclasses.Field[Any], prefix: str) -> Section | None:
    """The section that a field holds, None where it holds a value."""
    found = getattr(importlib.import_module(kind.__module__), str(field.type), None)
    if not (isinstance(found, type) and dataclasses.is_dataclass(found)):
        return None
    value = default_of(field)
    return Section(f"{prefix}{field.name}", found if value == MISSING else value)


def sections(kind: type, prefix: str = "") -> Iterator[Section]:
    """All sections below a dataclass, outer ones first."""
    for field in dataclasses.fields(kind):
        found = section_of(kind, field, prefix)
        if found is not None:
            yield found
            yield from sections(found.kind, f"{found.key}.")


def configuration() -> str:
    """The page of all settings."""
    verbs = {verb: getattr(schema, f"{verb.title()}Config") for verb in cli.VERBS}
    known: dict[str, Section] = {}
    found = [section for kind in verbs.values() for section in sections(kind)]
    for section in sorted(found, key=lambda section: "." in section.key):
        known.setdefault(section.key, section)
    parts = [OPENING]
    parts += [_verb(verb, kind) for verb, kind in verbs.items()]
    parts += ["## Sections\n", *_sections(known)]
    parts += ["## Choices of groups\n", *_groups()]
    return "\n".join(parts)


OPENING = f"""\
# Configuration

{NOTE}

A setting is given as `KEY=VALUE`, one of a section as `SECTION.KEY=VALUE`, a choice of a group as
`GROUP=CHOICE`; lists as `[2,3,5]`, nothing as `null`. `sumcirc VERB --cfg job` shows what comes
out. A default of `-` is none: a choice of the group brings the value, or it is made up or must be
given.
Text is put in quotes where it has spaces or commas (`'logger.tags=["one, two"]'`).

## Verbs
"""


def _verb(verb: str, kind: type) -> str:
    primary = yaml.safe_load((command.CONF / f"{verb}.yaml").read_text(encoding="utf-8"))
    entries = [entry for entry in primary["defaults"] if isinstance(entry, dict)]
    groups = {key: name for entry in entries for key, name in entry.items() if "/" not in key}
    values = {key: value for key, value in _flat(primary).items() if key.split(".")[0] != "hydra"}
    own = [field for field in dataclasses.fields(kind) if not section_of(kind, field, "")]
    within = [
        found.key
        for f in dataclasses.fields(kind)
        if (found := section_of(kind, f, "")) is not None
    ]
    lines = [f"### sumcirc {verb}\n", f"{cli.VERBS[verb][0].upper()}{cli.VERBS[verb][1:]}.\n"]
    if groups:
        chosen = [f"[`{key}={plain(name)}`](#choices-of-{key})" for key, name in groups.items()]
        lines.append(f"Groups, with their default: {', '.join(chosen)}.\n")
    if within:
        lines.append(f"Sections: {', '.join(f'[`{key}`](#{_anchor(key)})' for key in within)}.\n")
    if values:
        lines.append(f"Set for this verb: {', '.join(f'`{k}={v}`' for k, v in values.items())}.\n")
    rows = [(field.name, kind, field, default_of(field)) for field in own]
    return "\n".join([*lines, _table(rows)])


def _sections(known: dict[str, Section]) -> Iterator[str]:
    first: dict[type, str] = {}
    for key, section in known.items():
        fields = [
            f for f in dataclasses.fields(section.kind) if not section_of(section.kind, f, "")
        ]
        lines = [f"### `{key}`\n"]
        alike = first.setdefault(section.kind, key)
        if alike != key:
            fields = [f for f in fields if section.default(f) != known[alike].default(f)]
            lines.append(f"As [`{alike}`](#{_anchor(alike)}), with other defaults:\n")
        else:
            lines.append(f"{first_line(section.kind)}\n")
        rows = [(f"{key}.{f.name}", section.kind, f, section.default(f)) for f in fields]
        yield "\n".join([*lines, _table(rows)])


def _groups() -> Iterator[str]:
    for folder in sorted(path for path in command.CONF.iterdir() if path.is_dir()):
        lines = [
            f"### Choices of {folder.name}\n",
            "| choice | what it is | sets |",
            "|---|---|---|",
        ]
        for file in sorted(folder.glob("*.yaml")):
            text = file.read_text(encoding="utf-8")
            opening = next(line for line in text.splitlines() if not line.startswith("# @package"))
            what = opening.lstrip("# ").rpartition(": sumcirc ")[0]
            content = yaml.safe_load(text)
            within = "" if folder.name == "experiment" else f"{folder.name}."
            given = [
                f"{key.removeprefix('override /')}={name}"
                for entry in content.get("defaults", [])
                for key, name in (
                    entry if isinstance(entry, dict) else {folder.name: entry}
                ).items()
            ]
            given += [f"{within}{key}={plain(value)}" for key, value in _flat(content).items()]
            sets = ", ".join(f"`{item}`" for item in given)
            lines.append(f"| `{file.stem}` | {_cell(what)} | {_cell(sets)} |")
        yield "\n".join([*lines, ""])


def _flat(node: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in node.items():
        if key == "defaults":
            continue
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def _table(rows: list[tuple[str, type, dataclasses.Field[Any], Any]]) -> str:
    if not rows:
        return ""
    lines = ["| setting | type | default | what it does |", "|---|---|---|---|"]
    for key, kind, field, default in rows:
        words = [f"`{key}`", type_of(kind, field), shown(default), meaning(kind, field)]
        lines.append(f"| {' | '.join(_cell(word) for word in words)} |")
    return "\n".join([*lines, ""])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _anchor(key: str) -> str:
    return re.sub(r"[^\w-]", "", key.lower())


# ---- measures.md


def measures() -> str:
    """The page of what probes measure."""
    lines = [
        "# Measures\n",
        NOTE + "\n",
        "Arrays of a probe record (`probes/step-000200.safetensors`, float32), by name; see",
        "[watching](../watching.md) for how each is computed. The axis `document` has the order of",
        "`documents` in the file's header; NaN where a document leaves a value undefined.",
        "`stream` 0 is the embedding, l what stands after layer l-1, the last before the final",
        "norm.\n",
        "| array | axes | unit | what it is |",
        "|---|---|---|---|",
    ]
    for name, measure in records.MEASURES.items():
        axes = ", ".join(measure.axes)
        words = [f"`{name}`", axes, measure.unit or "-", measure.label]
        lines.append(f"| {' | '.join(_cell(word) for word in words)} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
