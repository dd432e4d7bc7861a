"""Wrong values for every setting of every verb, and a check that they are refused properly.

For each key of a verb's schema: values of a wrong type, values out of range, and paths that are not
there. A good refusal leaves with code 2 and one line that begins with the setting as typed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import io
import types
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Union

from sumcirc import schema
from sumcirc.cli import main as cli
from sumcirc.cli.verbs import STARTING
from sumcirc.schema import configuration

configuration.register()

CONFIGS = {
    "train": schema.TrainConfig,
    "evaluate": schema.EvaluateConfig,
    "circuit": schema.CircuitConfig,
    "compare": schema.CompareConfig,
    "pairs": schema.PairsConfig,
    "report": schema.ReportConfig,
    "dashboard": schema.DashboardConfig,
    "placement": schema.PlacementConfig,
    "select": schema.SelectConfig,
    "pretrain": schema.PretrainConfig,
}
# what a verb can't do without
NEEDED = {
    "pretrain": ["out=made"],
    "pairs": ["out=made.jsonl"],
    "compare": ["before=tiny", "after=tiny"],
    "report": ["."],
    "dashboard": ["."],
    "placement": ["."],
}
PATHS = {
    *("model.path", "model.tokenizer", "resume", "checkpoint", "before", "after", "pairs"),
    *("prompts", "selector.after", "compare.text", "paths"),
    *("data.train", "data.validation", "data.test"),
}
# splits of data.* that a verb reads; the others may name anything
SPLITS = {
    **{key: {"test"} for key in ("evaluate", "circuit", "compare", "pairs")},
    "select": {"train", "validation"},
    "train": {"train", "validation", "test"},
}
# folders that are made: a wrong one lies beneath a file
FOLDERS = {"runs_dir", "cache_dir", "out"}
# texts of which only some are known
WORDS = {
    *("trainer.accelerator", "trainer.strategy", "split", "compare.positions", "compare.sources"),
    *("optimizer._target_", "scheduler._target_"),
    *("selector.score", "encoding.prompt", "encoding.summary", "data.references_column"),
}
NAMES = {"run.name", "sweep.name"}  # of folders
# negative numbers that mean something
SIGNED = {"generation.length_penalty", "compare.lambdas"}
# `Any` in the schema: wrong values of its own
LOOSE = {
    "adaptation.layers": ["maybe", "{a:1}", "[a]", "1.5", "[-7]", "-7"],
    "trainer.devices": ["maybe", "{a:1}", "[a]", "1.5", "0"],
    "after": ["{a:1}"],
    "score": ["maybe", "{a:1}", "[a]", "1.5", "0"],
}
# made by the command itself or without meaning for the verb
SKIPPED = {
    "run.varied",
    "run.axes",
    "callbacks.extra",
    *("optimizer.arguments", "scheduler.arguments"),
    "adaptation.peft",
}


@dataclass(frozen=True)
class Probe:
    """One wrong word.

    Args:
        kind: `type`, `range` or `path`.
        needed: the other words of the command.
    """

    verb: str
    key: str
    value: str
    kind: str
    needed: tuple[str, ...] = ()

    @property
    def word(self) -> str:
        """The word as it is typed."""
        return f"{self.key}={self.value}"


def probes(verbs: Sequence[str] = tuple(CONFIGS)) -> Iterator[Probe]:
    """All wrong words of some verbs."""
    for verb in verbs:
        for key, hint in settings(CONFIGS[verb]):
            if key in SKIPPED:
                continue
            needed = tuple(_needed(verb, key))
            for kind, values in (
                ("type", _wrong_types(key, hint)),
                ("range", _out_of_range(key, hint)),
                ("path", _not_there(verb, key)),
            ):
                for value in values:
                    yield Probe(verb, key, value, kind, needed)


def settings(kind: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every key below a dataclass with its type; sections come before what they hold."""
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        yield f"{prefix}{field.name}", hint
        if dataclasses.is_dataclass(hint):
            yield from settings(hint, f"{prefix}{field.name}.")  # type: ignore[arg-type]


def plain_type(hint: Any) -> tuple[Any, bool]:
    """A type without its `Optional`, and whether it had one."""
    if typing.get_origin(hint) in (Union, types.UnionType):
        inner = [one for one in typing.get_args(hint) if one is not type(None)]
        return inner[0], len(inner) < len(typing.get_args(hint))
    return hint, False


def fault(probe: Probe) -> str | None:
    """Return what is wrong with the refusal of a probe; None if nothing is."""
    accepted, code, out, error = run(probe.verb, [*probe.needed, probe.word])
    lines = error.splitlines()
    if accepted:
        return "accepted"
    if "Traceback" in error:
        return f"traceback: {lines[-1]}"
    if code != 2:
        return f"exit code {code}: {error.strip()}"
    if len(lines) != 1 or not error.startswith("sumcirc: "):
        return f"{len(lines)} lines: {error.strip()}"
    if out.strip() not in ("", f"{probe.verb}: {STARTING}"):
        return f"prints {out.strip()}"
    if not error.startswith(f"sumcirc: {probe.word}: "):
        return f"names another: {error.strip()}"
    return None


def run(verb: str, words: Sequence[str]) -> tuple[bool, int, str, str]:
    """Run a command whose job does nothing: whether it came to it, exit code, stdout and stderr."""
    job: Any = importlib.import_module(f"sumcirc.jobs.{verb}")
    came: list[Any] = []
    out, error, code = io.StringIO(), io.StringIO(), 0
    before, job.run = job.run, lambda config, folder: came.append(config)
    register, configuration.register = configuration.register, lambda: None  # takes a third
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
            cli.main([verb, *words])
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else 1
    except BaseException as other:
        code = 1
        error.write(f"Traceback of {type(other).__name__}: {other}\n")
    finally:
        job.run, configuration.register = before, register
    return bool(came), code, out.getvalue(), error.getvalue()


def _needed(verb: str, key: str) -> Iterator[str]:
    """What else has to be said so that a setting matters."""
    for word in NEEDED.get(verb, []):
        if word.partition("=")[0] != key and not (key == "paths" and "=" not in word):
            yield word
    section, _, name = key.partition(".")
    if verb == "train" and section in ("adaptation", "selector"):
        yield "adaptation=lora"
    if section == "selector" and name and verb in ("train", "select"):
        chosen = {"layers": "fixed", "preset": "fixed", "score": "own", "after": "drift"}
        yield f"selector={chosen.get(name, 'circuit')}"
    if section == "data" and name in ("train", "validation", "test", "references_column"):
        yield "data=files"
        for split in ("train", "validation", "test"):
            if split != name:
                yield f"data.{split}=news.jsonl"


def _wrong_types(key: str, hint: Any) -> list[str]:
    if key in LOOSE:
        return LOOSE[key]
    kind, optional = plain_type(hint)
    null = [] if optional else ["null"]
    if dataclasses.is_dataclass(kind):
        return ["3", "nonsense", "[1]"]
    if typing.get_origin(kind) is list:
        (element,) = typing.get_args(kind)
        numbers = ["maybe", "[a]"] if element in (int, float) else []
        words = ["nonsense"] if isinstance(element, type) and issubclass(element, Enum) else []
        return [*numbers, *words, "{a:1}", *null]
    if typing.get_origin(kind) is dict:
        return ["3", "[a]"]
    if isinstance(kind, type) and issubclass(kind, Enum):
        return ["nonsense", "[a]", "{a:1}", *null]
    if kind is str:
        return [] if key in PATHS | FOLDERS else ["{a:1}", "[a]", *null]
    return {
        int: ["one", "1.5", "[1]", "{a:1}", *null],
        float: ["x", "[1]", "{a:1}", *null],
        bool: ["maybe", "[true]", "{a:1}", *null],
    }.get(kind, [])


def _out_of_range(key: str, hint: Any) -> list[str]:
    if key in WORDS:
        return ["nonsense"]
    if key in NAMES:
        return ["a/b", "..", "''"]
    if key in LOOSE:
        return []
    kind, _ = plain_type(hint)
    negative = [] if key in SIGNED else ["-7"]
    if typing.get_origin(kind) is list:
        (element,) = typing.get_args(kind)
        return {
            int: ["[-7]", "[7,7]", "[[7]]", "[]"],
            float: [*(f"[{one}]" for one in negative), "[nan]", "[0.5,0.5]", "[]"],
        }.get(element, ["[[]]"])
    return {int: ["-7"], float: [*negative, "nan", "inf"]}.get(kind, [])


def _not_there(verb: str, key: str) -> list[str]:
    section, _, name = key.partition(".")
    if section == "data" and name not in SPLITS.get(verb, set()):
        return []
    if key in FOLDERS:
        return ["file/made.jsonl"]
    return ["/nowhere/at/all"] if key in PATHS else []
