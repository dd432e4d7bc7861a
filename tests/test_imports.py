"""Which part may import which: design in one table, read from the source with `ast`.

Imports inside functions count as well, but not those for type checkers alone.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import pytest

import sumcirc

ROOT = Path(sumcirc.__file__).resolve().parent

# Rooms that any other may import; among themselves they import each other.
GROUND = {"errors", "schema", "runtime", "storage", "statistics"}

# room: the rooms it may import, beside itself and the ground; docs/layout.md shows the same order
MAY_IMPORT: dict[str, set[str]] = {
    "assets": set(),
    "wire": set(),
    "data": {"wire"},
    "tracking": set(),
    "models": {"tracking", "assets"},
    "measures": {"data", "models", "tracking"},
    "circuits": {"data", "models", "tracking", "wire", "evaluation"},
    "evaluation": {"data", "models", "tracking", "wire", "measures"},
    "reporting": {"data", "tracking", "evaluation"},
    "figures": {"reporting"},
    "placement": {"reporting", "tracking"},
    "training": {"data", "models", "tracking", "wire"},
    "compare": {
        *("data", "models", "tracking", "wire"),
        "measures",
        "circuits",
        "evaluation",
        "reporting",
        "figures",
    },
    "selection": {
        *("data", "models", "tracking"),
        "measures",
        "circuits",
        "evaluation",
        "training",
    },
    "callbacks": {
        *("data", "models", "tracking", "reporting", "figures"),
        *("measures", "circuits", "evaluation", "training"),
    },
    "library": {
        *("data", "models", "tracking", "measures", "circuits", "evaluation", "selection"),
        *("callbacks", "compare"),
    },
    "sweeps": {"tracking", "reporting"},
    "jobs": {
        *("data", "models", "tracking", "figures", "measures", "circuits", "evaluation"),
        *("training", "compare", "selection", "callbacks", "reporting", "placement"),
    },
    "cli": {"models", "tracking", "reporting", "sweeps", "jobs"},
    "__main__": {"cli"},
}

FORBIDDEN = {"torch", "transformers", "pytorch_lightning", "peft", "datasets", "wandb"}


def room_of(module: str) -> str:
    """`sumcirc.wire.event_kind` is in the room `data`."""
    return module.split(".")[1] if "." in module else "__init__"


def is_for_types(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.If)
        and isinstance(node.test, ast.Name)
        and node.test.id == "TYPE_CHECKING"
    )


def imports(tree: ast.AST, package: str) -> Iterator[str]:
    """Full names of the modules that a module imports, at its top and in its functions."""
    for node in ast.iter_child_nodes(tree):
        if is_for_types(node):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join(parents) if node.level else ""
            name = ".".join(filter(None, [base, node.module]))
            # `from sumcirc import hub` imports a module, `from sumcirc.storage.hub import X` a name
            yield from (
                f"{name}.{alias.name}" if name == "sumcirc" else name for alias in node.names
            )
        else:
            yield from imports(node, package)


@cache
def edges() -> dict[str, dict[str, set[str]]]:
    """For each room: the rooms it imports, each with the files that do."""
    found: dict[str, dict[str, set[str]]] = {}
    for file in sorted(ROOT.rglob("*.py")):
        relative = file.relative_to(ROOT)
        room = relative.parts[0].removesuffix(".py")
        package = ".".join(["sumcirc", *relative.parts[:-1]])
        for name in imports(ast.parse(file.read_text(encoding="utf-8")), package):
            if name.split(".")[0] == "sumcirc":
                found.setdefault(room, {}).setdefault(room_of(name), set()).add(str(relative))
    return found


def test_the_reader_of_imports_sees_them_all() -> None:
    source = """
import os, sumcirc.storage.hub
from sumcirc import errors
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from sumcirc.jobs import train
class A:
    def f(self):
        from ..data.wire import twin
        try:
            from . import gone
        except ImportError:
            import sumcirc.cli.main as cli
"""
    assert set(imports(ast.parse(source), "sumcirc.measures")) == {
        *("os", "sumcirc.storage.hub", "sumcirc.errors", "typing"),
        *("sumcirc.data.wire", "sumcirc.measures", "sumcirc.cli.main"),
    }


def test_every_room_is_in_the_table() -> None:
    aside = {"__pycache__", "conf", "py.typed"}
    rooms = {path.name.removesuffix(".py") for path in ROOT.iterdir()} - aside
    assert rooms - {"__init__"} <= set(MAY_IMPORT) | GROUND


@pytest.mark.parametrize("room", [*MAY_IMPORT, *sorted(GROUND), "__init__"])
def test_imports_go_one_way(room: str) -> None:
    allowed = GROUND | MAY_IMPORT.get(room, set()) | {room, "__init__", "__version__"}
    wrong = {
        other: sorted(files)
        for other, files in edges().get(room, {}).items()
        if other not in allowed
    }
    assert not wrong


def test_the_table_has_no_way_back() -> None:
    """Going from room to room never returns: the table is a partial order."""
    rest = dict(MAY_IMPORT)
    while rest:
        lowest = [room for room, below in rest.items() if not below & set(rest)]
        assert lowest, f"a circle among {sorted(rest)}"
        for room in lowest:
            del rest[room]


def test_only_the_command_line_imports_jobs() -> None:
    """It does so by name (`sumcirc.jobs.{verb}`), so that a verb costs nothing until it runs."""
    importers = [room for room, others in edges().items() if "jobs" in others]
    assert set(importers) <= {"cli", "jobs"}
    naming = [
        str(file.relative_to(ROOT))
        for file in ROOT.rglob("*.py")
        if 'f"sumcirc.jobs.' in file.read_text(encoding="utf-8")
    ]
    assert naming == ["cli/main.py"]


# ---- what is loaded in the end


def loaded(script: str) -> set[str]:
    """Names of all modules and packages that a process has imported after running a script."""
    done = subprocess.run(
        [sys.executable, "-c", f"{script}\nimport sys, json\nprint(json.dumps(list(sys.modules)))"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=True,
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


RUN = """
import contextlib, io
from sumcirc.cli.main import main
printed = io.StringIO()
with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
    main({arguments!r})
"""


def culprits(scripts: Sequence[str], heavy: set[str]) -> dict[str, set[str]]:
    """Scripts that import something heavy, with what they import.

    All run in one process, which takes a tenth of the time; only where that has imported something
    heavy, each runs in a process of its own.
    """
    if not loaded("\n".join(scripts)) & heavy:
        return {}
    found = {script: loaded(script) & heavy for script in scripts}
    return {script: modules for script, modules in found.items() if modules} or {
        "together": loaded("\n".join(scripts)) & heavy
    }


def test_help_imports_next_to_nothing() -> None:
    found = loaded(RUN.format(arguments=["--help"]))
    assert "sumcirc.cli.main" in found
    assert not found & {*FORBIDDEN, "hydra", "omegaconf", "yaml", "numpy", "rich"}
    assert {name for name in found if name.startswith("sumcirc.")} == {
        "sumcirc.cli",
        "sumcirc.cli.main",
        "sumcirc.cli.verbs",
        "sumcirc.errors",
        "sumcirc.runtime",
        "sumcirc.runtime.pipes",
        "sumcirc.runtime.quoting",
        "sumcirc.runtime.terminal",
    }


SHOWING = [
    ["train", "--cfg", "job"],
    ["train", "--help"],
    ["evaluate", "--cfg", "job", "--resolve"],
    ["pretrain", "--cfg", "job"],
    ["report", "--cfg", "job"],
    ["dashboard", "--cfg", "job"],
    ["--shell-completion", "install=bash"],
]


def test_showing_a_configuration_imports_nothing_heavy() -> None:
    heavy = {*FORBIDDEN, "numpy", "pyarrow", "matplotlib", "rich", "sumcirc.storage.hub"}
    scripts = [f"{RUN.format(arguments=words)}assert printed.getvalue()" for words in SHOWING]
    assert not culprits(scripts, heavy)


def test_a_mistake_in_a_key_is_found_before_anything_heavy_is_imported() -> None:
    assert not loaded(RUN.format(arguments=["train", "trainer.max_stps=3"])) & FORBIDDEN


READING = ("figures", "reporting", "placement")


def readers() -> list[str]:
    """Modules that read records: figures and reports."""
    found = [path for room in READING for path in (ROOT / room).rglob("*.py")]
    names = [".".join(["sumcirc", *path.relative_to(ROOT).with_suffix("").parts]) for path in found]
    return sorted(name.removesuffix(".__init__") for name in names)


def test_readers_of_records_import_no_torch() -> None:
    others = [
        "sumcirc.evaluation.results",
        "sumcirc.statistics",
        "sumcirc.compare.record_differences",
    ]
    assert not culprits([f"import {module}" for module in [*readers(), *others]], FORBIDDEN)
