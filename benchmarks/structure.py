"""Count what makes the source easy or hard to read: lines, folders, long functions, docstrings.

python -m benchmarks.structure              # the counts
python -m benchmarks.structure docstrings   # forty public docstrings, drawn with a fixed seed
"""

from __future__ import annotations

import ast
import collections
import io
import random
import re
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src"
SEED, DRAWN = 16, 40
MAX_PARAMETERS, MAX_LINES = 8, 70
# basenames that a folder per concept repeats on purpose: a verb's job, its settings, its watcher
REPEATED_ON_PURPOSE = {"jobs", "schema", "callbacks"}
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Callable:
    """A function, method or class, and where it is defined."""

    name: str  # module and qualified name, below the package
    node: Function | ast.ClassDef

    @property
    def docstring(self) -> str:
        """Its docstring, or an empty text."""
        return ast.get_docstring(self.node) or ""

    @property
    def parameters(self) -> int:
        """The number of its parameters, without self and cls."""
        if isinstance(self.node, ast.ClassDef):
            return 0
        given = self.node.args
        names = [arg.arg for arg in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
        return len([name for name in names if name not in ("self", "cls")])

    @property
    def lines(self) -> int:
        """Its length, including signature and docstring."""
        return (self.node.end_lineno or 0) - self.node.lineno + 1

    @property
    def is_public(self) -> bool:
        """Whether no part of its name begins with an underscore."""
        return not any(part.startswith("_") for part in self.name.split("."))


def modules() -> list[Path]:
    """Return all source files in alphabetical order."""
    return sorted(SOURCE.rglob("*.py"))


def code_lines(file: Path) -> int:
    """Count the lines of a file that hold code: no blanks, comments or docstrings."""
    text = file.read_text(encoding="utf-8")
    texts: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Expr(value=ast.Constant(value=str())):
                texts |= set(range(node.lineno, (node.end_lineno or 0) + 1))
    layout = {
        *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE),
        *(tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER),
    }
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in layout:
            lines |= set(range(token.start[0], token.end[0] + 1))
    return len(lines - texts)


def callables(file: Path) -> Iterator[Callable]:
    """Yield every function, method and class of a file, nested functions left out."""

    def below(node: ast.AST, name: str) -> Iterator[Callable]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (Function, ast.ClassDef)):
                yield Callable(f"{name}.{child.name}", child)
            if isinstance(child, ast.ClassDef):
                yield from below(child, f"{name}.{child.name}")

    module = ".".join(file.relative_to(SOURCE).with_suffix("").parts)
    yield from below(ast.parse(file.read_text(encoding="utf-8")), module)


def repeated(names: Iterator[tuple[str, str]]) -> dict[str, list[str]]:
    """Group places by name, and keep the names that stand in several places."""
    places = collections.defaultdict(list)
    for name, place in names:
        places[name].append(place)
    return {name: found for name, found in sorted(places.items()) if len(found) > 1}


def counts() -> None:
    """Print the counts."""
    files = modules()
    package = collections.Counter({str(file.parent.relative_to(SOURCE)): 0 for file in files})
    number = collections.Counter(str(file.parent.relative_to(SOURCE)) for file in files)
    for file in files:
        package[str(file.parent.relative_to(SOURCE))] += code_lines(file)
    print(f"{sum(package.values()):,} lines of code in {len(files)} files")
    for name in sorted(package):
        print(f"  {name:32} {number[name]:3} files {package[name]:6,} lines")
    everything = [item for file in files for item in callables(file)]
    functions = [item for item in everything if isinstance(item.node, Function)]
    for words, wrong in (
        (f"more than {MAX_PARAMETERS} parameters", [f for f in functions if f.parameters > 8]),
        (f"more than {MAX_LINES} lines", [f for f in functions if f.lines > MAX_LINES]),
    ):
        print(f"functions with {words}: {len(wrong)}", *(f"\n  {item.name}" for item in wrong))
    public = [item for item in functions if item.is_public and "kinds_" not in item.name]
    several = [item for item in public if item.parameters >= 2]
    with_args = [item for item in several if re.search(r"^\s*Args:", item.docstring, re.M)]
    print(f"public functions: {len(public)}, with two parameters or more: {len(several)}")
    print(f"  of these with Args: {len(with_args)} ({len(with_args) / len(several):.0%})")
    classes = ((i.node.name, i.name) for i in everything if isinstance(i.node, ast.ClassDef))
    print("classes of one name:", repeated(classes) or "none")
    stems = (
        (file.stem, str(file.relative_to(SOURCE)))
        for file in files
        if file.stem not in ("__init__", "__main__") and file.parent.name not in REPEATED_ON_PURPOSE
    )
    print("basenames used more than once:")
    for places in repeated(stems).values():
        print("  " + ", ".join(places))


def docstrings() -> None:
    """Print forty docstrings of public functions, methods and classes, drawn with a fixed seed."""
    everything = [item for file in modules() for item in callables(file)]
    public = sorted(
        (item for item in everything if item.is_public and "kinds_" not in item.name),
        key=lambda item: item.name,
    )
    for item in sorted(random.Random(SEED).sample(public, DRAWN), key=lambda item: item.name):
        if isinstance(item.node, ast.ClassDef):
            signature = f"class {item.node.name}"
        else:
            returns = f" -> {ast.unparse(item.node.returns)}" if item.node.returns else ""
            signature = f"def {item.node.name}({ast.unparse(item.node.args)}){returns}"
        print(f"### {item.name}\n\n    {signature}\n\n{item.docstring}\n")


if __name__ == "__main__":
    docstrings() if sys.argv[1:] == ["docstrings"] else counts()
