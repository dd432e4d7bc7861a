"""docs/reference/files.md beside what the verbs write: every file, key, column and type, both ways.

The page is read as data: a heading names a file (and the verbs), its tables name keys and values.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from sumcirc.records import MEASURES
from tests.support.manual import DOCS

if TYPE_CHECKING:
    from tests.support.command_server import CommandServer

PAGE = DOCS / "reference" / "files.md"
TYPES = {"text": str, "integer": int, "number": (int, float), "true or false": bool}
ENDS = {"interval": ("mean", "low", "high", "n"), "bounds": ("mean", "low", "high")}
WORDS = {*TYPES, *ENDS, "any", "anything"}
# what some names in capitals may stand for; the others stand for anything
NAMES = {
    "RANKING": "absolute|signed",
    "SET": "edges|nodes",
    "OTHER": "to_first|to_previous|to_last",
}
# written when something goes wrong, or by W&B
NOT_HERE = {"traceback.txt", "wandb/"}

Leaf = tuple[tuple[str, ...], Any]  # keys from the outside in, `[]` for an element; the value


@dataclass
class Section:
    """A file of the page."""

    path: str
    verbs: set[str]
    rows: dict[str, str] = field(default_factory=dict)  # value by key
    like: str | None = None  # the file whose rows may be there as well
    seen: set[str] = field(default_factory=set)

    def matches(self, path: str, verb: str | None) -> bool:
        """Whether it is about a file of a run of this verb."""
        return bool(re.fullmatch(pattern(self.path), path)) and (
            not self.verbs or verb in self.verbs
        )


@cache
def pattern(words: str) -> str:
    """A regular expression of a name with capitals."""
    return "".join(
        f"(?:{NAMES.get(part, '.+')})" if re.fullmatch(r"[A-Z]{3,}", part) else re.escape(part)
        for part in re.split(r"([A-Z]{3,})", words)
    )


def read_page() -> tuple[list[Section], set[str]]:
    """The files that are described from the inside, and the names of the others."""
    described: list[Section] = []
    others: set[str] = set()
    current: Section | None = None
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        heading = re.match(r"### `([^`]+)`(?: of (.+))?$", line)
        if heading:
            verbs = set((heading[2] or "").split(" and ")) - {""}
            current = Section(heading[1], verbs)
            described.append(current)
        elif line.startswith("#"):
            current = None
        cells = re.split(r"(?<!\\)\|", line)[1:-1]
        names = re.findall(r"`([^`]+)`", cells[0]) if cells else []
        if current is None and names and len(cells) == 2 and not names[0].startswith("sumcirc"):
            others |= set(names)
        elif current is not None and names:
            current.rows |= dict.fromkeys(names, cells[1].strip())
        elif current is not None and (like := re.search(r"\b[Aa]s `([^`]+\.\w+)`", line)):
            current.like = current.like or like[1]
    return described, others


def rows_of(section: Section) -> dict[str, str]:
    """What may be in a file: its own rows and those of the file that it is like."""
    other = next((one for one in SECTIONS if one.path == section.like), None)
    return {**(rows_of(other) if other else {}), **section.rows}


def leaves(node: Any, keys: tuple[str, ...] = ()) -> Iterator[Leaf]:
    """Every value at the ends of nested objects and lists; an empty one is an end itself."""
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from leaves(value, (*keys, str(key)))
    elif isinstance(node, list) and node:
        for value in node:
            yield from leaves(value, (*keys, "[]"))
    else:
        yield keys, node


def content(file: Path) -> Any:
    """A file as objects and lists; of safetensors what the header holds."""
    if file.suffix == ".jsonl":
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    if file.suffix == ".json":
        return json.loads(file.read_text(encoding="utf-8"))
    if file.suffix == ".yaml":
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    if file.suffix == ".csv":
        with open(file, encoding="utf-8", newline="") as lines:
            return [{k: number(v) for k, v in row.items()} for row in csv.DictReader(lines)]
    if file.suffix == ".parquet":
        import pyarrow.parquet

        return pyarrow.parquet.read_table(file).to_pylist()
    from safetensors import safe_open

    with safe_open(file, framework="numpy") as opened:
        metadata = opened.metadata()
        assert metadata.pop("format") == "1"
        ((kind, text),) = metadata.items()
        arrays = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    if kind == "record":
        assert set(arrays) <= set(MEASURES)
        assert {array.dtype.name for array in arrays.values()} == {"float32"}
        for name, array in arrays.items():
            assert array.ndim == len(MEASURES[name].axes)
    else:
        kept = {name: array.dtype.name for name, array in arrays.items()}
        assert kept in ({"edges": "float16", "largest": "float32"}, {"edges": "float32"})
    return json.loads(text)


def number(text: str) -> Any:
    """A field of a CSV as the value that it holds."""
    if text in ("True", "False", ""):
        return {"True": True, "False": False, "": None}[text]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def steps_of(key: str) -> tuple[str, ...]:
    """`a[].b` as the keys that lead there."""
    return tuple(part for part in re.split(r"(\[\])|\.", key) if part)


def fits(leaf: Leaf, key: str, value: str) -> bool:
    """Whether a row is about a leaf."""
    keys, found = leaf
    if len(keys) and keys[0] == "[]" and not key.startswith("[]"):
        keys = keys[1:]  # rows of a table
    wanted = steps_of(key)
    ways = [wanted]
    if value in ENDS:
        ways += [(*wanted, end) for end in ENDS[value]]
    for way in ways:
        size = len(way)
        inside = value == "anything" and len(keys) > size
        if (len(keys) == size or inside) and all(
            re.fullmatch(pattern(one), other) for one, other in zip(way, keys, strict=False)
        ):
            if value in ENDS:
                return found is None or way is not wanted
            empty = found in ([], {}) and value == "anything"
            typed = value not in TYPES or isinstance(found, TYPES[value])
            # True is an integer to Python
            typed = typed and not (isinstance(found, bool) and value in ("integer", "number"))
            return found is None or empty or typed
    # an empty list or object where rows say what would be in it
    return (
        found in ([], {})
        and len(wanted) > len(keys)
        and all(re.fullmatch(pattern(one), other) for one, other in zip(wanted, keys, strict=False))
    )


SECTIONS, OTHERS = read_page()


def test_the_page_is_read() -> None:
    assert {"summary.json", "metrics.csv", "probes/step-STEP.safetensors"} <= {
        one.path for one in SECTIONS
    }
    assert all(rows_of(one) for one in SECTIONS)
    assert {value for one in SECTIONS for value in one.rows.values()} <= WORDS
    assert {"log.txt", "lora_config.py", "multirun.yaml"} <= OTHERS


@pytest.mark.parametrize(
    ("leaf", "key", "value", "fitting"),
    [
        ((("a", "b"), 1), "a.b", "integer", True),
        ((("a", "b"), 1.5), "a.b", "integer", False),
        ((("a", "b"), True), "a.b", "integer", False),
        ((("a", "b"), None), "a.b", "integer", True),
        ((("a", "c"), 1), "a.b", "integer", False),
        ((("a", "c"), 1), "a.NAME", "integer", True),
        ((("a", "c", "d"), 1), "a.NAME", "integer", False),
        ((("a", "c", "d"), 1), "a", "anything", True),
        ((("a", "low"), 1.0), "a", "interval", True),
        ((("a", "middle"), 1.0), "a", "interval", False),
        ((("a", "n"), 1), "a", "bounds", False),
        ((("a",), 1.0), "a", "interval", False),
        ((("[]", "a"), "x"), "a", "text", True),
        ((("[]", "a"), "x"), "[].a", "text", True),
        ((("a", "[]"), 1), "a[]", "integer", True),
        ((("a",), []), "a[]", "integer", True),
        ((("a",), []), "b[]", "integer", False),
        ((("other", "x"), 1), "RANKING.x", "integer", False),
    ],
)
def test_rows_and_leaves(leaf: Leaf, key: str, value: str, fitting: bool) -> None:
    assert fits(leaf, key, value) is fitting


SMALL = [
    *("logger=none", "trainer.threads=1", "trainer.batch_size=4", "generation.max_new_tokens=8"),
    *("data.sizes.train=16", "data.sizes.validation=3", "data.sizes.test=3"),
    "evaluation.bootstrap=100",
]
TRAINED = [*SMALL, "trainer.max_steps=2", "trainer.validate_every=1", "callbacks.progress=false"]
CIRCUIT = ["documents=3", "resamples=5", "sizes=[0.01,0.1]", "random_circuits=1"]
WATCHERS = "attention_entropy,base_divergence,activation_drift,summary_quality,circuit_tracker"
FULL, LORA = "runs/arms/tiny-wire-full-s1", "runs/arms/tiny-wire-lora-all-r16-s1"
COMMANDS = [
    ["train", "-m", *TRAINED, "callbacks=none", "adaptation=full,lora", "sweep.name=arms"],
    [
        *("train", *TRAINED, "sweep.name=watched", f"callbacks.watch=[{WATCHERS}]"),
        *("callbacks.probes.documents=3", "callbacks.schedule.points=0"),
        *(f"callbacks.circuit.{word}" for word in CIRCUIT),
        *("adaptation=lora", "adaptation.budget=98304", "selector=page", "selector.documents=4"),
    ],
    ["evaluate", f"checkpoint={FULL}", *SMALL, "sweep.name=evaluated"],
    [
        *("circuit", f"checkpoint={FULL}", *SMALL, "sweep.name=circuit"),
        *(f"circuit.{word}" for word in CIRCUIT),
    ],
    [
        *("select", *SMALL, "sweep.name=selected", "selector=page", "selector.documents=4"),
        "adaptation.budget=98304",
    ],
    [
        *("compare", f"after=[{FULL},{LORA}]", *SMALL, "sweep.name=compared", "compare.items=2"),
        *("compare.random_sets=1", "compare.top=2", "compare.lambdas=[1]"),
        "compare.parts=[output,mlp]",
    ],
    ["pairs", *SMALL[1:2], "data.sizes.test=3", "out=pairs.jsonl", "filter=false"],
    ["report", "runs/arms", "logger=none"],
    ["report", FULL, "logger=none"],
]


@pytest.fixture(scope="module")
def written(
    tmp_path_factory: pytest.TempPathFactory, commands: CommandServer
) -> list[tuple[Path, str, str | None]]:
    """Every file that the verbs wrote, its path as the page gives it, and the verb."""
    place = tmp_path_factory.mktemp("written")
    for words in COMMANDS:
        done = commands.run(*words, cwd=place)
        assert done.code == 0, done.output
    found: list[tuple[Path, str, str | None]] = [(place / "pairs.jsonl", "pairs.jsonl", None)]
    for sweep in (place / "runs").iterdir():
        runs = {file.parent for file in sweep.glob("*/config.yaml")}
        for file in sorted(path for path in sweep.rglob("*") if path.is_file()):
            run = next((run for run in runs if file.is_relative_to(run)), None)
            verb = yaml.safe_load((run / "config.yaml").read_text())["verb"] if run else None
            found.append((file, file.relative_to(run or sweep).as_posix(), verb))
    return found


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_file_and_key_is_on_the_page_and_the_reverse(
    written: list[tuple[Path, str, str | None]],
) -> None:
    measures = set[str]()
    unknown, others = [], set[str]()
    for file, path, verb in written:
        sections = [one for one in SECTIONS if one.matches(path, verb)]
        named = {name for name in OTHERS if re.fullmatch(pattern(name), path)}
        others |= named
        if not sections and not named:
            unknown.append(f"{path} of {verb}")
        for section in sections:
            section.seen.add("")
            for leaf in leaves(content(file)):
                rows = [key for key, value in rows_of(section).items() if fits(leaf, key, value)]
                section.seen |= set(rows)
                if not rows:
                    unknown.append(f"{path} of {verb}: {leaf}")
        if path.startswith("probes/step-"):
            measures |= arrays_in(file) if file.suffix == ".safetensors" else set()
    assert not unknown
    idle = {
        f"{one.path} {one.verbs or ''}: {key}"
        for one in SECTIONS
        for key in ["", *one.rows]
        if key not in one.seen
    }
    assert not idle
    assert measures == set(MEASURES)
    assert others == OTHERS - NOT_HERE


def arrays_in(file: Path) -> set[str]:
    from safetensors import safe_open

    with safe_open(file, framework="numpy") as opened:
        return set(opened.keys())
