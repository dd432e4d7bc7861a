"""Settings that a verb doesn't read are refused, and those that it accepts are read."""

from __future__ import annotations

import dataclasses
import sys
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sumcirc import schema
from sumcirc.cli import command
from sumcirc.cli import main as cli
from sumcirc.cli.without_effect import INSTEAD, UNREAD
from sumcirc.errors import UserError

VERBS = {
    "evaluate": schema.EvaluateConfig,
    "circuit": schema.CircuitConfig,
    "compare": schema.CompareConfig,
    "select": schema.SelectConfig,
    "pairs": schema.PairsConfig,
}
SECTIONS = {
    "evaluation": schema.EvaluationConfig,
    "generation": schema.GenerationConfig,
    "trainer": schema.TrainerConfig,
}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["compare", "after=x", "evaluation.retention=[a.txt]"],
            "evaluation.retention=[a.txt]: has no effect on `sumcirc compare`; leave it out, or use"
            " compare.text=FILE with compare.masks.retention=true",
        ),
        (["compare", "after=x", "generation.num_beams=2"], "generation.num_beams=2: has no effect"),
        (
            ["circuit", "-m", "seed=1,2"],
            "seed=1,2: has no effect on `sumcirc circuit`; leave it out, or use data.seed",
        ),
        (
            ["circuit", "trainer.extra.limit_val_batches=1"],
            "trainer.extra.limit_val_batches=1: has",
        ),
        (["evaluate", "evaluation.base=false"], "evaluation.base=false: has no effect on"),
        (["select", "evaluation.nli=x"], "evaluation.nli=x: has no effect on `sumcirc select`"),
        (["pairs", "out=p.jsonl", "model.dropout=0.1"], "model.dropout=0.1: has no effect on"),
    ],
)
def test_a_setting_without_effect(
    refused: Callable[..., str], arguments: list[str], message: str
) -> None:
    assert refused(*arguments).startswith(f"sumcirc: {message}")


def test_what_a_checkpoint_provides_is_not_refused(finished_run: Path) -> None:
    found = command.read("compare", [f"after={finished_run}"]).overrides
    assert any(item.startswith("evaluation.retention=") for item in found)
    with pytest.raises(UserError, match=r"evaluation\.at_end=true: has no effect"):
        command.read("compare", [f"after={finished_run}", "evaluation.at_end=true"])


@pytest.mark.parametrize("verb", VERBS)
def test_they_are_settings_of_the_verb(verb: str) -> None:
    for key in UNREAD[verb]:
        kind: Any = VERBS[verb]
        for name in key.split("."):
            assert name in {field.name for field in dataclasses.fields(kind)}, key
            kind = typing.get_type_hints(kind)[name]
    given = [name for one, name in INSTEAD if one == verb]
    covered = [key for key in given if key.startswith(UNREAD[verb])]
    assert covered == given


# accepted by verbs although they read them only with other data, other models or other settings
CONDITIONAL = {
    "evaluation": {"bertscore", "bertscore_layer", "nli", "nli_sentences", "retention"}
    | {"retention_column", "retention_documents", "rouge_tokenizer", "sentences"}
    | {"min_sentence_words"},
    "generation": {"length_penalty"},
    "trainer": {"devices", "num_nodes", "strategy", "batch_size"},
}


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("verb", ["evaluate", "circuit", "compare", "select"])
def test_a_job_reads_what_is_accepted_and_no_more(
    verb: str,
    gpt2_folder: Path,
    news_files: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read: dict[str, set[str]] = {name: set() for name in SECTIONS}
    for section, kind in SECTIONS.items():
        names = {field.name for field in dataclasses.fields(kind)}
        monkeypatch.setattr(kind, "__getattribute__", _recording(names, read[section]))
    words = [*(f"data.{split}={path}" for split, path in news_files.items()), "data=files"]
    words += ["logger=none", "sweep.name=s", "trainer.threads=1", f"model.path={gpt2_folder}"]
    given = {
        "evaluate": ["evaluation.bootstrap=100", "generation.max_new_tokens=4"],
        "circuit": ["circuit.documents=3", "circuit.random_circuits=1", "card.lines=none"],
        "compare": [f"after={gpt2_folder}", f"before={gpt2_folder}", "compare.items=2"],
        "select": ["selector=page", "adaptation.budget=6000", "selector.documents=8"],
    }[verb]
    if verb == "compare":
        words = [word for word in words if not word.startswith("model.")]
        given.append("compare.analyses=[differences]")
    cli.main([verb, *words, *given])
    for section, kind in SECTIONS.items():
        names = {field.name for field in dataclasses.fields(kind)}
        unread = {name for name in names if {section, f"{section}.{name}"} & set(UNREAD[verb])}
        assert not read[section] & unread - {"precision"}, section  # checked against the machine
        assert names - read[section] - unread <= CONDITIONAL[section], section


def _recording(names: set[str], read: set[str]) -> Callable[[Any, str], Any]:
    """Add the names of fields to `read` that are read by code other than the schema's own."""

    def get(self: Any, name: str) -> Any:
        if name in names:
            frame: Any = sys._getframe(1)
            checks = False
            while frame.f_globals["__name__"].startswith("sumcirc.schema"):
                checks |= frame.f_code.co_name == "__post_init__"
                frame = frame.f_back
            if not checks and frame.f_globals["__name__"].startswith("sumcirc."):
                read.add(name)
        return object.__getattribute__(self, name)

    return get
