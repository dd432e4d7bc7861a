"""Enumerated settings: found by name, by value and by the words of earlier versions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from sumcirc.cli.command import compose, read
from sumcirc.errors import UserError
from sumcirc.schema import (
    Analysis,
    CircuitConfig,
    CircuitMetric,
    CompareOptions,
    Corruption,
    Method,
    old_words,
)
from sumcirc.schema.configuration import register

RENAMED = [
    ("circuit", "circuit.metric", "surprise", "nll"),
    ("circuit", "circuit.corruption", "twin", "counterfactual"),
    ("pairs", "metric", "surprise", "nll"),
    ("compare", "compare.analyses", "[surgery]", "[delta_scaling]"),
    ("compare", "compare.parts", "[mlp,readout]", "[mlp,unembedding]"),
    ("compare", "compare.sets", "[[mlp.1,readout]]", "[[mlp.1,unembedding]]"),
]
NEEDED = {
    "compare": ["after=tiny", "before=tiny", "sweep.name=s"],
    "pairs": ["out=a.jsonl"],
    "circuit": ["sweep.name=s"],
}


def composed(verb: str, *words: str) -> Any:
    register()
    (found,) = compose(read(verb, [*NEEDED[verb], *words]))
    return found


@pytest.mark.parametrize(("verb", "key", "old", "new"), RENAMED)
def test_an_old_word_works_and_one_line_names_the_new_one(
    verb: str, key: str, old: str, new: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = composed(verb, f"{key}={old}")
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert said.startswith(f"{key}={old}: `")
    assert f"is called `{new.strip('[]').split(',')[-1]}` now" in said
    after = composed(verb, f"{key}={new}")
    assert capsys.readouterr().out == ""
    assert before == after


def test_an_old_word_in_a_file_of_settings_is_named_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "experiment").mkdir()
    text = "# @package _global_\ncompare:\n  analyses: [surgery]\n"
    (tmp_path / "experiment/mine.yaml").write_text(text)
    found = composed("compare", "--config-dir", str(tmp_path), "experiment=mine")
    assert found.compare.analyses == [Analysis.delta_scaling]
    assert "surgery: `surgery` is called `delta_scaling` now" in capsys.readouterr().out


def test_a_job_of_a_launch_says_nothing_again(capsys: pytest.CaptureFixture[str]) -> None:
    composed("circuit", "circuit.metric=surprise", "hydra.run.dir=r")
    assert capsys.readouterr().out == ""


def test_stored_configurations_are_read(capsys: pytest.CaptureFixture[str]) -> None:
    stored = {"circuit": {"metric": "surprise", "corruption": "twin", "method": "eap"}}
    merged = OmegaConf.merge(OmegaConf.structured(CircuitConfig), stored)
    assert merged.circuit.metric is CircuitMetric.nll
    assert merged.circuit.corruption is Corruption.counterfactual
    assert capsys.readouterr().out == ""


def test_members_are_found_by_name_and_by_value() -> None:
    for word in ("eap_ig_inputs", "eap-ig-inputs", Method.eap_ig_inputs):
        assert Method.of(word, "circuit.method") is Method.eap_ig_inputs
    with old_words() as renamed:
        assert Method.of("eap-ig-inputs", "circuit.method") is Method.eap_ig_inputs
        assert CircuitMetric.of("surprise", "circuit.metric") is CircuitMetric.nll
        assert CompareOptions(parts=["readout"]).parts == ["unembedding"]
    assert renamed == {"surprise": "nll", "readout": "unembedding"}


def test_what_is_no_member_is_refused_with_the_choices() -> None:
    known = "choose from kl, nll, logit_difference, wrong_fact$"
    for word in ("bleu", "auto"):
        with pytest.raises(UserError, match=f"^circuit.metric={word}: {known}"):
            CircuitMetric.of(word, "circuit.metric", CircuitMetric.auto)


def test_printed_and_listed_by_the_word_that_is_typed() -> None:
    assert f"{Method.eap_ig_inputs}" == "eap_ig_inputs"
    names = ["auto", "kl", "nll", "logit_difference", "wrong_fact"]
    assert [str(one) for one in CircuitMetric] == names
