"""The generated pages of docs/reference are those of the code, and leave nothing out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

import pytest
from omegaconf import OmegaConf

from docs.fields import meaning, remarks, type_of
from docs.generate import REFERENCE, pages
from sumcirc.cli import command
from sumcirc.cli import main as cli
from sumcirc.schema import configuration
from sumcirc.tracking import measure_records as records

MADE = pages()
CONFIGURATION = MADE["configuration.md"]
ROW = re.compile(r"^\| `([\w./-]+)` \| (.+) \| (.+) \| (.+) \|$", re.MULTILINE)


@pytest.mark.parametrize("name", MADE)
def test_committed_pages_are_up_to_date(name: str) -> None:
    written = (REFERENCE / name).read_text(encoding="utf-8")
    assert written == MADE[name], "run `make docs` and commit what it changed"


def leaves(node: Any, prefix: str = "") -> Iterator[str]:
    """Keys that hold values, as Hydra composed them."""
    for key in node:
        name = f"{prefix}{key}"
        if OmegaConf.is_dict(node._get_node(key)) and OmegaConf.get_type(node, key) is not dict:
            yield from leaves(node[key], f"{name}.")
        else:
            yield name


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_setting_that_hydra_knows_is_there(verb: str) -> None:
    import hydra

    configuration.register()
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(command.CONF)):
        config = hydra.compose(verb)
    rows = {found[0] for found in ROW.findall(CONFIGURATION)}
    alike = {"callbacks.circuit": "circuit"}  # its rows are those that differ
    for key in leaves(config):
        section, _, last = key.rpartition(".")
        assert key in rows or f"{alike.get(section)}.{last}" in rows, key


def test_every_setting_says_what_it_does() -> None:
    found = ROW.findall(CONFIGURATION)
    assert len(found) > 100
    for key, kind, default, what in found:
        for cell in (kind, default, what):
            assert cell.strip(), key


@pytest.mark.parametrize("file", sorted(command.CONF.glob("*/*.yaml")), ids=lambda file: file.stem)
def test_every_choice_is_there(file: Any) -> None:
    section = CONFIGURATION.split(f"### Choices of {file.parent.name}\n")[1].split("###")[0]
    assert f"| `{file.stem}` | " in section


def test_every_measure_is_there() -> None:
    rows = re.findall(r"^\| `([\w/]+)` \| ([\w, ]+) \|", MADE["measures.md"], re.MULTILINE)
    assert dict(rows) == {name: ", ".join(found.axes) for name, found in records.MEASURES.items()}


class Colour(Enum):
    """What it looks like."""

    red = "red"  # as a rose
    blue = "blue"


@dataclass
class Paint:
    """A made-up section."""

    # bought: where
    # it is cheap
    pots: int | None = 3  # of 5 l
    colour: Colour = Colour.red
    layers: list[int] | None = None  # one after
    plain: str = ""


def test_comments_are_read_from_above_and_beside() -> None:
    assert remarks(Paint) == {
        "pots": "bought: where it is cheap of 5 l",
        "colour": "",
        "layers": "one after",
        "plain": "",
    }


def test_members_of_a_choice_are_explained() -> None:
    (colour,) = [field for field in Paint.__dataclass_fields__.values() if field.name == "colour"]
    assert type_of(Paint, colour) == "choice"
    assert meaning(Paint, colour) == "what it looks like: `red` as a rose; `blue`"
