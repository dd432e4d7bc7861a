"""Records of an earlier format are read, marked where numbers differ, and never continued."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import yaml

from sumcirc.cli import main as cli
from sumcirc.errors import UserError
from sumcirc.reporting.arms import make_arms
from sumcirc.reporting.runs import read_runs
from sumcirc.schema import CircuitConfig, TrainConfig
from sumcirc.schema.penalizing import KLPenaltyConfig
from sumcirc.sweeps.run_states import read_run
from sumcirc.tracking.record_format import (
    ADDED,
    ADDED_TO_TRAINING,
    FORMAT,
    check_continues,
    completed,
    earlier,
    value_before,
)
from sumcirc.tracking.run_directory import RunDirectory
from sumcirc.tracking.run_records import RunRecords
from tests.support.sweeps import config, write_run, write_sweep

TINY: dict[str, Any] = {
    "model": {"path": "tiny"},
    "data": {"source": "wire"},
    "trainer": {"accumulate": 1, "devices": 1, "num_nodes": 1},
}


def changed(section: str, key: str, value: Any) -> dict[str, Any]:
    return {**TINY, section: {**TINY[section], key: value}}


def age(run: Path) -> None:
    """Make a run's records those of the first format, of a run that accumulated batches."""
    for name in ("status.json", "summary.json"):
        file = run / name
        if file.exists():
            body = json.loads(file.read_text())
            body.pop("format", None)
            file.write_text(json.dumps(body))
    file = run / "config.yaml"
    body = yaml.safe_load(file.read_text())
    del body["format"]
    body["config"]["trainer"]["accumulate"] = 4
    file.write_text(yaml.safe_dump(body))


def test_every_record_carries_the_format(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", "train", {})
    run.write_summary({"model": "tiny", "loss": float("nan")})
    assert yaml.safe_load(run.config_file.read_text())["format"] == FORMAT
    assert json.loads(run.status_file.read_text())["format"] == FORMAT
    summary = json.loads(run.summary_file.read_text())
    assert summary == {"format": FORMAT, "model": "tiny", "loss": None}


@pytest.mark.parametrize(
    ("config", "part"),
    [
        (changed("trainer", "accumulate", 4), "mean over its batches and processes"),
        (changed("trainer", "devices", 2), "mean over its batches and processes"),
        (changed("trainer", "devices", "auto"), "mean over its batches and processes"),
        (changed("model", "path", "gpt2"), "dropout was off"),
        (changed("model", "path", "gpt2"), "one end token alone"),
        (changed("data", "source", "files"), "special tokens' spelling"),
    ],
)
def test_what_gives_other_numbers_is_marked(config: dict[str, Any], part: str) -> None:
    assert part in (earlier(1, config) or "")
    assert earlier(FORMAT, config) is None


def test_circuits_of_text_whose_corruption_was_not_chosen_are_marked() -> None:
    part = "corruption=auto was `replace`"
    files = changed("data", "source", "files")
    auto, chosen = {"corruption": "auto"}, {"corruption": "replace"}
    for circuit, marked in ((auto, True), (chosen, False)):
        tracked = {"callbacks": {"watch": ["circuit_tracker"], "circuit": circuit}}
        idle = {"callbacks": {"watch": [], "circuit": circuit}}
        for settings in (
            {"circuit": circuit},
            tracked,
            {"selector": {"name": "circuit", **circuit}},
        ):
            assert (part in (earlier(2, files | settings) or "")) == marked
            assert part not in (earlier(2, TINY | settings) or "")
        assert earlier(2, files | idle | {"selector": {"name": "first", **circuit}}) is None
    assert earlier(2, files | {"circuit": auto, "pairs": "own.jsonl"}) is None


def test_choices_by_validation_documents_are_marked() -> None:
    for name, marked in (("drift", True), ("own", True), ("page", False), ("random", False)):
        settings = TINY | {"selector": {"name": name}}
        assert ("documents of data.validation" in (earlier(2, settings) or "")) == marked
        assert earlier(FORMAT, settings) is None


def test_what_gives_the_same_numbers_is_not_marked() -> None:
    assert earlier(1, TINY) is None
    assert earlier(1, {}) is not None, "what isn't known may differ"


def test_no_run_of_an_earlier_format_is_continued() -> None:
    check_continues(FORMAT, "runs/x", "so start it again")
    with pytest.raises(UserError) as refused:
        check_continues(1, "runs/x", "so start it again")
    assert str(refused.value).startswith("runs/x: was started by an earlier version (records of ")
    assert str(refused.value).endswith("can't be continued, so start it again")


def test_a_format_of_the_future_is_refused(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", "train", {})
    run.set_status("done", format=FORMAT + 1)
    with pytest.raises(UserError, match=f"`format` is {FORMAT + 1}"):
        run.status()


def test_a_table_of_old_and_new_runs_says_which_are_old(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = write_sweep(tmp_path / "s", {(2,): 0.3, (3,): 0.2}, seeds=(1, 2, 3))
    old = sorted(run for run in sweep.iterdir() if run.is_dir())[:2]
    for run in old:
        age(run)
    for run in sweep.iterdir():
        records = RunRecords(run)
        assert bool(records.earlier) == (run in old)
        assert bool(records.summary.get("notices")) == (run in old)
    mark = f"made by an earlier version (records of format 1, now {FORMAT})"
    cli.main(["status", str(sweep)])
    assert f"WARNING: 2 of 6 runs: {mark}" in " ".join(capsys.readouterr().out.split())
    cli.main(["report", str(sweep)])
    assert mark in (sweep / "comparison/comparison.md").read_text()
    page = (sweep / "comparison/report.html").read_text()
    assert mark in page
    assert "(2 of 6 runs)" in page


def test_a_setting_that_is_newer_than_a_run_tells_no_arms_apart(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "s", {(2,): 0.3, (3,): 0.2}, seeds=(1, 2, 3))
    for run in sorted(run for run in sweep.iterdir() if run.is_dir())[:2]:
        file = run / "config.yaml"
        body = yaml.safe_load(file.read_text())
        del body["config"]["model"]["dropout"], body["config"]["evaluation"]["rouge_tokenizer"]
        del body["config"]["callbacks"]["circuit"]["aggregation"]
        del body["config"]["callbacks"]["circuit"]["sign_filter"]
        del body["config"]["selector"]["aggregation"]
        before = yaml.safe_dump(body["config"])
        added = completed(body["config"], trains=True)
        assert added["callbacks"]["circuit"]["aggregation"] == "mean"
        assert added["callbacks"]["circuit"]["sign_filter"] is None
        assert yaml.safe_dump(body["config"]) == before
        file.write_text(yaml.safe_dump(body))
    runs, left_out = read_runs([sweep])
    arms, notes = make_arms(runs)
    assert {arm.label: len(arm.runs) for arm in arms} == {"layers 2": 3, "layers 3": 3}
    assert not left_out
    assert not notes


# settings whose default is another one by now than what runs did before there was the setting
CHANGED_SINCE = {("circuit", "aggregation"), ("callbacks.circuit", "aggregation")}


def test_added_settings_are_at_the_defaults_of_the_schema() -> None:
    for sections in (*ADDED.values(), *ADDED_TO_TRAINING.values()):
        for section, settings in sections.items():
            hints: Any = CircuitConfig if section == "circuit" else TrainConfig
            for part in section.split("."):
                hints = get_type_hints(hints)[part]
            known = {
                one.name: one.default
                if one.default_factory is dataclasses.MISSING
                else one.default_factory()
                for one in dataclasses.fields(hints)
            }
            for name, value in settings.items():
                same = getattr(known[name], "value", known[name]) == value
                assert same == ((section, name) not in CHANGED_SINCE)


def test_a_section_that_is_newer_than_a_run_is_added_to_training_only() -> None:
    before = {"trainer": {"max_steps": 3}}
    added = completed(before, trains=True)
    assert added["kl_penalty"]["texts"] == []
    assert completed(before, trains=False) == before == {"trainer": {"max_steps": 3}}
    own = {"kl_penalty": {"texts": ["a.jsonl"], "weight": 0.1}}
    assert completed(own, trains=True) == own
    names = {one.name for one in dataclasses.fields(KLPenaltyConfig)}
    assert set(added["kl_penalty"]) == names  # all of it is as new as the section
    assert (value_before("kl_penalty.weight"), value_before("data.event")) == (1.0, None)
    assert value_before("circuit.aggregation") == "mean"
    assert value_before("trainer.buckets") is None


def test_a_run_that_died_before_it_wrote_its_configuration_is_listed(tmp_path: Path) -> None:
    run = write_run(tmp_path / "s/run", config([2]), 0.3, state="failed", reason="killed")
    run.config_file.unlink()
    run.status_file.write_text('{"state": "failed", "reason": "killed"}')
    assert read_run(run.path).state == "failed"
