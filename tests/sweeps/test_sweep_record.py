"""sweep.yaml: what a sweep consists of, and what may be done under its name."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import pytest
import yaml

from sumcirc.cli.implied import CONF
from sumcirc.errors import UserError
from sumcirc.schema import configuration
from sumcirc.sweeps.sweep_record import (
    FILE,
    LAUNCH,
    VERBS,
    SweepRecord,
    check_runs,
    completed,
    fingerprint,
    first_difference,
)
from sumcirc.tracking.run_directory import RunDirectory
from sumcirc.tracking.session import plain
from sumcirc.tracking.sweep_axes import flat_settings

Config = dict[str, Any]


def config(
    seed: int, layers: Any = "all", varied: tuple[str, ...] = ("seed",), **others: Any
) -> Config:
    """A plain configuration, as `plain` gives it."""
    name = f"{layers}-s{seed}".replace(" ", "")
    return {
        "model": {"name": "tiny", "path": "tiny"},
        "adaptation": {"layers": layers, "rank": others.get("rank", 16)},
        "trainer": {"max_steps": others.get("max_steps", 100)},
        "logger": {"tags": []},
        "callbacks": {"extra": {}},
        "sweep": {"name": "s", "jobs": others.get("jobs"), "gpus": None},
        "run": {"name": name, "varied": list(varied), "axes": {"seed": seed}},
        "runs_dir": others.get("runs_dir", "runs"),
        "cache_dir": "/cache",
        "seed": seed,
    }


def record(*configs: Config, verb: str = "train") -> SweepRecord:
    return SweepRecord.of(verb, configs, ["sumcirc", verb, "-m"])


def test_what_is_written_is_read(tmp_path: Path) -> None:
    made = record(config(1), config(2), config(3, [2, 3]))
    made.write(tmp_path)
    found = SweepRecord.read(tmp_path)
    assert found == made
    body = yaml.safe_load((tmp_path / FILE).read_text())
    assert body["runs"]["all-s2"]["differs"] == {"adaptation.layers": "all", "seed": 2}
    assert body["shared"]["trainer.max_steps"] == 100
    assert body["runs"]["all-s2"]["config"] == fingerprint(made.runs["all-s2"])


def test_no_record_is_none(tmp_path: Path) -> None:
    assert SweepRecord.read(tmp_path / "nowhere") is None


def spoil_yaml(body: Any) -> str:
    return "{"


def spoil_runs(body: Any) -> str:
    return yaml.safe_dump({**body, "runs": 3})


@pytest.mark.parametrize(
    ("spoil", "part"),
    [
        (spoil_yaml, "is not readable YAML"),
        (spoil_runs, "`runs` is 3, not a mapping"),
    ],
)
def test_a_damaged_record_is_refused(
    tmp_path: Path, spoil: Callable[[Any], str], part: str
) -> None:
    record(config(1)).write(tmp_path)
    file = tmp_path / FILE
    file.write_text(spoil(yaml.safe_load(file.read_text())))
    with pytest.raises(UserError, match=part) as refused:
        SweepRecord.read(tmp_path)
    assert str(tmp_path) in str(refused.value)


@pytest.mark.parametrize(
    ("begun", "part"),
    [
        ({"version": "0.0.9"}, "was started by sumcirc 0.0.9, this is"),
        ({"format": 1}, "was started by an earlier version (records of format 1, now 3)"),
        (
            {"format": None},
            "was started by an earlier version (records of format 1, now 3), in which",
        ),
    ],
)
def test_a_sweep_that_another_version_began_is_not_continued(
    tmp_path: Path, begun: dict[str, Any], part: str
) -> None:
    folder = tmp_path / "s"
    record(config(1)).write(folder)
    file = folder / FILE
    body = {**yaml.safe_load(file.read_text()), **begun}
    file.write_text(yaml.safe_dump({key: body[key] for key in body if body[key] is not None}))
    before = SweepRecord.read(folder)
    assert before is not None, "it can be read"
    with pytest.raises(UserError) as refused:
        before.extended(record(config(2)), folder)
    assert str(refused.value).startswith(f"sweep.name=s: {part}")
    assert str(refused.value).endswith("choose another sweep.name")


def test_the_same_command_goes_on(tmp_path: Path) -> None:
    before = record(config(1), config(2))
    assert before.extended(record(config(1), config(2)), tmp_path) == before
    assert before.extended(record(config(2)), tmp_path).runs == before.runs


def test_how_and_where_jobs_run_may_change(tmp_path: Path) -> None:
    before = record(config(1))
    after = before.extended(record(config(1, jobs=4, runs_dir="/elsewhere")), tmp_path)
    assert after.runs == before.runs


def test_values_of_an_axis_may_be_added(tmp_path: Path) -> None:
    before = record(config(1), config(2))
    grown = before.extended(record(config(2), config(3)), tmp_path)
    assert list(grown.runs) == ["all-s1", "all-s2", "all-s3"]
    # another axis, with the value that it had among its values
    wider = record(config(1, varied=("adaptation.layers", "seed")), config(1, [2, 3]))
    grown = before.extended(wider, tmp_path)
    assert list(grown.runs) == ["all-s1", "all-s2", "[2,3]-s1"]
    assert grown.axes == ["seed", "adaptation.layers"]


@pytest.mark.parametrize(
    ("changed", "parts"),
    [
        ([config(1, max_steps=200)], ["trainer.max_steps=100", "now trainer.max_steps=200"]),
        # new runs alone, that would be compared with the old ones
        ([config(3, max_steps=200)], ["trainer.max_steps=100", "now trainer.max_steps=200"]),
        ([config(1), config(3, rank=4)], ["adaptation.rank=16"]),
        ([config(3, [2, 3])], ["adaptation.layers=all", "adaptation.layers=[2, 3]"]),
    ],
)
def test_a_name_in_use_with_another_configuration_is_refused(
    tmp_path: Path, changed: list[Config], parts: list[str]
) -> None:
    if len(changed) > 1:
        changed[0]["adaptation"] = copy.deepcopy(changed[1]["adaptation"])
    with pytest.raises(UserError, match=f"sweep.name={tmp_path.name}") as refused:
        record(config(1), config(2)).extended(record(*changed), tmp_path)
    for part in [*parts, "choose another sweep.name"]:
        assert part in str(refused.value)


def test_another_verb_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a sweep of `sumcirc train`"):
        record(config(1)).extended(record(config(1), verb="evaluate"), tmp_path)


def test_a_run_that_says_something_else_is_named(tmp_path: Path) -> None:
    RunDirectory.create(tmp_path / "all-s1", "train", config(1, runs_dir="/other/machine"))
    check_runs(record(config(1), config(2)), tmp_path)
    with pytest.raises(UserError, match=r"all-s1/config.yaml: says trainer.max_steps=100, the "):
        check_runs(record(config(1, max_steps=7)), tmp_path)


def test_identical_arms_are_found() -> None:
    twin = config(1)
    twin["run"] = {**twin["run"], "name": "other"}
    assert record(config(1), config(2), twin).twins() == [("all-s1", "other")]
    assert not record(config(1), config(2)).twins()


def test_differences_below_a_free_key_do_not_count() -> None:
    before, now = (
        flat_settings(one, LAUNCH)
        for one in (config(1), {**config(2), "model": {"name": "x", "path": "y"}})
    )
    assert first_difference(before, now) == "model.name"
    assert first_difference(before, now, {"model"}) == "seed"
    assert first_difference(before, now, {"model", "seed"}) is None
    assert first_difference({}, {"a": None}) == "a", "a key that is not there is not null"


def test_a_setting_added_since_is_no_difference_at_its_default(tmp_path: Path) -> None:
    """A record of `config` has few settings; today's configuration has all that `added` gives."""

    def added(seed: int, **others: Any) -> Config:
        found = config(seed)
        found["trainer"] |= {"compile": False, "precision": "auto", "extra": {}, **others}
        return found

    record(config(1), config(2)).write(tmp_path)
    RunDirectory.create(tmp_path / "all-s1", "train", config(1))
    begun = SweepRecord.read(tmp_path)
    assert begun is not None
    now = record(added(1), added(2), added(3))
    goes_on = begun.extended(now, tmp_path)
    assert goes_on.runs == now.runs
    check_runs(now, tmp_path)
    # a part of the runs: those that are not launched again have the setting too
    one = begun.extended(record(added(3)), tmp_path)
    assert one.runs["all-s1"]["trainer.compile"] is False
    for changed in ({"compile": True}, {"precision": "bf16"}, {"extra": {"max_time": "1"}}):
        name = f"trainer.{next(iter(changed))}"
        with pytest.raises(UserError, match=f"in use with {name}"):
            begun.extended(record(added(1, **changed)), tmp_path)
        with pytest.raises(UserError, match=f"says {name}"):
            check_runs(record(added(1, **changed)), tmp_path)


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_defaults_have_the_form_of_recorded_configurations(verb: str) -> None:
    configuration.register()
    words = {"compare": ["before=x/y", "after=x/z"], "select": ["selector=middle"]}
    words["select"].append("adaptation=lora")
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        given = ["sweep.name=s", "run.name=r", *words.get(verb, [])]
        composed = hydra.compose(verb, given, return_hydra_config=True)
    recorded = flat_settings(plain(configuration.typed(composed)), LAUNCH)
    defaults = completed({}, list(recorded), verb)
    assert defaults.keys() <= recorded.keys()
    sections = ("encoding.", "generation.", "evaluation.", "trainer.")
    same = {key for key in recorded if key.startswith(sections) and key in defaults}
    assert len(same) > 20
    # conf/trainer/cpu.yaml chooses
    chosen = {"trainer.accelerator", "trainer.devices"}
    assert {key for key in same if defaults[key] != recorded[key]} <= chosen
