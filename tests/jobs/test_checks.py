"""What each job's `check` lets through and refuses, before a model is loaded or a file written."""

from __future__ import annotations

import copy
import importlib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from sumcirc.cli import command
from sumcirc.cli.main import VERBS
from sumcirc.errors import UserError
from sumcirc.schema import CircuitMetric, Corruption, SelectorName, Source, configuration
from tests.support.landscapes import write_example
from tests.support.sweeps import write_sweep

NEEDED = {
    "compare": ["before=tiny", "after=gpt2"],
    "pretrain": ["out=made"],
    "pairs": ["out=pairs.jsonl"],
    "report": ["s"],
    "placement": ["example"],
    "dashboard": ["s"],
    "select": ["selector=random", "adaptation.rank=2"],
}
NOWHERE = "/nowhere/a.jsonl"
# verbs that take a model, data and a machine, with the setting that names their first data file
WORKING = {
    **{"train": "data.train", "evaluate": "data.test", "circuit": "data.test"},
    **{"compare": "data.test", "pairs": "data.test", "select": "data.train"},
}
FILES: dict[str, Any] = {
    "data.source": Source.files,
    **dict.fromkeys(("data.train", "data.validation", "data.test"), NOWHERE),
}
CACHING = ("train", "evaluate", "circuit", "compare", "select")


@cache
def composed(verb: str) -> Any:
    configuration.register()
    (config,) = command.compose(command.read(verb, NEEDED.get(verb, [])))
    return config


@pytest.fixture(autouse=True)
def _workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep `s`, a landscape `example`, a `file` in place of a folder, no way to load weights."""
    from transformers import AutoModelForCausalLM

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a model is loaded")

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", refuse)
    monkeypatch.setattr(torch, "load", refuse)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / "texts.jsonl").write_text('{"document": "a", "summary": "b"}\n')
    write_sweep(tmp_path / "s", {(0,): 0.4}, seeds=(1,))
    write_example(tmp_path / "example")


def check(verb: str, gpt2_folder: Path, settings: dict[str, Any]) -> None:
    """Check the verb's configuration with some settings replaced."""
    config = copy.deepcopy(composed(verb))
    if hasattr(config, "cache_dir"):
        config.cache_dir = "cache"
    if verb == "compare":  # folders, since names are looked up on the hub
        config.before = config.model.path = str(gpt2_folder)
        config.after = str(gpt2_folder)
    for key, value in settings.items():
        node = config
        *sections, last = key.split(".")
        for section in sections:
            node = getattr(node, section)
        setattr(node, last, value)
    importlib.import_module(f"sumcirc.jobs.{verb}").check(config)


def written() -> set[Path]:
    return {path for path in Path.cwd().rglob("*") if "cache" not in path.parts}


@pytest.mark.parametrize("verb", sorted(VERBS.keys() - {"dashboard"}))
def test_what_works_is_let_through(verb: str, gpt2_folder: Path) -> None:
    before = written()
    check(verb, gpt2_folder, {})
    assert written() == before


def test_a_run_that_goes_on_is_checked_by_its_own_configuration(gpt2_folder: Path) -> None:
    unusable = {"cache_dir": "file/x", "model.path": "/nowhere", "trainer.accelerator": "tpu"}
    with pytest.raises(UserError):
        check("train", gpt2_folder, unusable)
    check("train", gpt2_folder, {**unusable, "resume": "s/tiny-0-s1"})


CASES: list[tuple[str, dict[str, Any], str]] = [
    *((verb, {"cache_dir": "file/x"}, "cache_dir=file/x: can't be written") for verb in CACHING),
    *((verb, {"trainer.accelerator": "tpu"}, "trainer.accelerator=tpu: ") for verb in WORKING),
    *((verb, FILES, f"{key}={NOWHERE}: no such file") for verb, key in WORKING.items()),
    *(
        (verb, {"model.path": "/nowhere"}, "model.path=/nowhere: no such folder")
        for verb in ("train", "evaluate", "circuit", "pairs", "select")
    ),
    ("circuit", {"pairs": NOWHERE}, f"pairs={NOWHERE}: no such file"),
    (
        "circuit",
        {"data.source": Source.files, "circuit.corruption": Corruption.counterfactual},
        "circuit.corruption=counterfactual: is for data=wire",
    ),
    *(
        (
            verb,
            {
                "data.source": Source.files,
                f"{section}metric": CircuitMetric.wrong_fact,
                f"{section}corruption": Corruption.replace,
            },
            f"{section}metric=wrong_fact: needs wrong facts, which {section}corruption=replace",
        )
        for verb, section in (("circuit", "circuit."), ("pairs", ""))
    ),
    (
        "train",
        {
            "data.source": Source.files,
            **dict.fromkeys(("data.train", "data.validation", "data.test"), "texts.jsonl"),
            "callbacks.watch": ["circuit_tracker"],
            "callbacks.circuit.metric": CircuitMetric.wrong_fact,
            "callbacks.circuit.corruption": Corruption.replace,
        },
        "callbacks.circuit.metric=wrong_fact: needs wrong facts, which"
        " callbacks.circuit.corruption=replace does not tell; take"
        " callbacks.circuit.corruption=swap",
    ),
    (
        "circuit",
        {"pairs": NOWHERE, "circuit.metric": CircuitMetric.wrong_fact},
        f"circuit.metric=wrong_fact: is made from documents, not from pairs={NOWHERE};",
    ),
    (
        "pairs",
        {"data.source": Source.files, "corruption": Corruption.counterfactual},
        "corruption=counterfactual: is for data=wire",
    ),
    (
        "pairs",
        {"data.permute_summaries": 0, "split": "train"},
        "data.permute_summaries=0: is for training",
    ),
    ("pairs", {"out": "file/x.jsonl"}, "out=file/x.jsonl: can't be written"),
    ("pairs", {"out": "made"}, "out=made: holds JSON lines; name it NAME.jsonl"),
    ("compare", {"before": "/nowhere", "model.path": "/nowhere"}, "before=/nowhere: no such fold"),
    ("compare", {"prompts": "facts", "data.source": Source.files}, "prompts=facts: is made from"),
    ("compare", {"prompts": NOWHERE}, f"prompts={NOWHERE}: no such file"),
    ("compare", {"compare.sets": [["layer 9"]]}, "compare.sets: `layer 9` is not a part of"),
    ("compare", {"compare.text": "/nowhere.txt"}, "compare.text=/nowhere.txt: no such file"),
    ("report", {"paths": []}, "name a run or a sweep: sumcirc report runs/SWEEP"),
    ("report", {"paths": ["/nowhere"]}, "/nowhere: no such directory"),
    ("report", {"out": "file/x"}, "out=file/x: can't be written"),
    ("dashboard", {"paths": []}, "name a sweep: sumcirc dashboard runs/SWEEP"),
    ("dashboard", {"paths": ["/nowhere"]}, "/nowhere: no such directory"),
    ("placement", {"paths": []}, "name a sweep or a stored landscape: sumcirc placement runs/"),
    ("placement", {"paths": ["/nowhere"]}, "/nowhere: no such directory"),
    ("placement", {"paths": ["s"]}, "s: "),
    ("placement", {"metric": "nll"}, "metric=nll: example has no such score; choose from"),
    ("placement", {"score": "[0,1]"}, "score=[0,1]: "),
    ("placement", {"score": "/nowhere.py"}, "score=/nowhere.py: no such file"),
    ("placement", {"cache_dir": "file/x"}, "cache_dir=file/x: can't be written"),
    ("placement", {"out": "file/x"}, "out=file/x: can't be written"),
    ("select", {"selector.name": None}, "selector: none is given"),
    ("select", {"selector.name": SelectorName.fixed, "selector.layers": [7]}, "selector.layers="),
    ("pretrain", {"out": "file"}, "out=file: exists already; name a new folder"),
    ("pretrain", {"out": "s"}, "out=s: exists already; name a new folder"),
    ("pretrain", {"out": "file/x"}, "out=file/x: can't be written"),
]


@pytest.mark.parametrize(("verb", "settings", "start"), CASES)
def test_what_would_fail_later_is_refused(
    verb: str, settings: dict[str, Any], start: str, gpt2_folder: Path
) -> None:
    if verb == "dashboard":
        pytest.importorskip("wandb_workspaces")
    before = written()
    with pytest.raises(UserError) as refused:
        check(verb, gpt2_folder, settings)
    assert str(refused.value).startswith(start)
    assert "\n" not in str(refused.value)
    assert written() == before


def test_every_job_is_checked_here() -> None:
    assert {verb for verb, _, _ in CASES} == VERBS.keys()
