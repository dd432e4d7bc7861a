"""What an arm is, how it is called, and how arms differ beside their layers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from sumcirc.reporting.arms import (
    Arm,
    control_title,
    in_text,
    make_arms,
    nearest,
    of_few_runs,
    settings_of,
    unlike,
)
from sumcirc.reporting.runs import read_runs
from sumcirc.schema.adapting import Variant
from tests.support.sweeps import config, write_run


def arms_of(folder: Path, *runs: tuple[dict[str, Any], dict[str, Any]]) -> list[Arm]:
    """Arms of runs, each given by its configuration and what `write_run` takes."""
    for i, (settings, options) in enumerate(runs):
        write_run(folder / f"s/run{i}", settings, 0.4, **options)
    arms, notes = make_arms(read_runs([folder / "s"])[0])
    assert not notes
    return arms


def test_seeds_names_and_paths_are_no_arm(tmp_path: Path) -> None:
    other: dict[str, Any] = {
        "runs_dir": "/elsewhere",
        "cache_dir": "/cache",
        "trainer__threads": 3,
        "trainer__checkpoint_every": 7,
        "callbacks__watch": ["activation_drift"],
        "evaluation__base": False,
        "evaluation__bootstrap": 100,
        "logger__project": "mine",
    }
    (arm,) = arms_of(
        tmp_path,
        (config([0, 1]), {}),
        (config([0, 1], seed=2, **other), {}),
        (config([0, 1], seed=3, run={"name": "x", "varied": ["seed"], "axes": {"seed": 3}}), {}),
    )
    assert arm.label == "layers 0,1"
    assert arm.seeds == ["1", "2", "3"]


def test_a_setting_that_is_new_or_unknown_makes_an_arm(tmp_path: Path) -> None:
    arms = arms_of(tmp_path, (config(), {}), (config(seed=2, optimizer__weight_decay=0.5), {}))
    assert [arm.label for arm in arms] == ["all weight_decay=0.01", "all weight_decay=0.5"]


def test_a_setting_that_was_added_since_makes_no_arm(tmp_path: Path) -> None:
    before, now = config(seed=1), config(seed=2)
    del before["kl_penalty"]  # a run of before there was a penalty
    weak = config(seed=1, kl_penalty__texts=["a.jsonl"], kl_penalty__weight=0.1)
    same, penalized = arms_of(tmp_path, (before, {}), (now, {}), (weak, {}))
    assert (same.seeds, penalized.seeds) == (["1", "2"], ["1"])


def test_permuted_summaries_are_a_control_that_is_compared_with_all_layers(tmp_path: Path) -> None:
    before = config(seed=3)
    del before["data"]["permute_summaries"]  # a run of before there was the setting
    arms = arms_of(
        tmp_path,
        (config(seed=1), {}),
        (config(seed=1, data__permute_summaries=1), {}),
        (config(seed=2, data__permute_summaries=1), {}),
        (before, {}),
    )
    assert [arm.label for arm in arms] == ["all", "all permute_summaries=1"]
    assert [arm.seeds for arm in arms] == [["1", "3"], ["1", "2"]]
    assert [arm.all_layers for arm in arms] == [True, False]
    assert unlike(arms[1], arms[0]) == ["other data: data.permute_summaries=1 (not null)"]
    assert unlike(arms[1], replace(arms[0], settings=settings_of(before))) == [
        "other data: data.permute_summaries=1 (not unset)"
    ]


def test_all_draws_of_a_random_selector_are_one_arm(tmp_path: Path) -> None:
    """Whether configuration files keep `auto` or the layers that were drawn."""
    drawn = config([1, 4], seed=3, selector="random")
    drawn["selector"]["seed"] = 7
    (arm,) = arms_of(
        tmp_path,
        (config(seed=1, selector="random"), {}),
        (config([0, 2], seed=2, selector="random"), {}),
        (drawn, {}),
    )
    assert arm.label == arm.selector == "random"
    assert arm.seeds == ["1", "2", "3/7"]


def test_labels_are_as_short_as_tells_arms_apart(tmp_path: Path) -> None:
    preset = config(selector="fixed")
    preset["selector"]["preset"] = "paper"
    runs = [
        config("full"),
        config("all"),
        config(selector="all"),
        config([2, 3, 5]),
        config([2, 3, 5], adaptation__rank=16),
        config(selector="circuit"),
        preset,
    ]
    arms = arms_of(tmp_path, *((settings, {}) for settings in runs))
    labels = [arm.label for arm in arms]
    assert labels[0] == "full"
    assert labels[3:] == ["layers 2,3,5 rank=8", "layers 2,3,5 rank=16", "circuit", "paper"]
    assert len({*labels}) == len(labels)
    assert [arm.all_layers for arm in arms] == [False, True, True, False, False, False, False]
    assert [arm.full for arm in arms].index(True) == 0


def test_arms_name_what_sets_them_apart_from_most(tmp_path: Path) -> None:
    penalty: dict[str, Any] = {"kl_penalty__weight": 0.1, "kl_penalty__texts": ["a.jsonl"]}
    runs = [
        config("all"),
        config("all", adaptation__modules=["qkv", "attn_out"]),
        config("all", adaptation__learning_rate_scale=0.5, optimizer__kind="loraplus"),
        config("all", **penalty),
        config([2, 3, 5], adaptation__rank=8),
        config([2, 3, 5], adaptation__rank=16),
        config([2, 3, 5], adaptation__rank=16, model__tie=True),
    ]
    arms = arms_of(tmp_path, *((settings, {}) for settings in runs))
    assert [arm.label for arm in arms] == [
        "all",
        "all modules=qkv,attn_out",
        "all learning_rate_scale=0.5 optimizer.kind=loraplus",
        "all texts=a.jsonl weight=0.1",
        "layers 2,3,5 rank=8",
        "layers 2,3,5",
        "layers 2,3,5 tie=True",
    ]


def test_titles_name_the_kind_of_adapter() -> None:
    assert control_title("all") == "LoRA, all layers"
    assert control_title("all variant=dora") == "DoRA, all layers"
    assert control_title("random variant=loraga rank=8") == "LoRA-GA, random layers rank=8"
    assert control_title("layers 2,3 variant=eva") == "layers 2,3 variant=eva"
    assert control_title("full rank=8") == "full fine-tuning rank=8"
    assert in_text("DoRA, all layers rank=8") == "DoRA on all layers rank=8"
    known = {one.name for one in Variant} - {"lora"}
    assert all("variant=" not in control_title(f"all variant={name}") for name in known)


def test_a_learning_rate_is_named_once(tmp_path: Path) -> None:
    arms = arms_of(
        tmp_path,
        (config(adaptation__learning_rate_scale=5.0, optimizer__learning_rate=1e-2), {}),
        (config(adaptation__learning_rate_scale=2.0, optimizer__learning_rate=4e-3), {}),
    )
    assert [arm.label for arm in arms] == [
        "all learning_rate_scale=5.0",
        "all learning_rate_scale=2.0",
    ]
    assert unlike(*arms) == []
    assert [arm.learning_rate for arm in arms] == [1e-2, 4e-3]


def test_a_seed_counts_once(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_run(tmp_path / "s" / name, config(), 0.4)
    arms, notes = make_arms(read_runs([tmp_path / "s"])[0])
    assert [len(arm.runs) for arm in arms] == [1]
    assert len(notes) == 1
    assert "s/b repeats" in notes[0]


def test_what_sets_arms_apart(tmp_path: Path) -> None:
    control, *others = arms_of(
        tmp_path,
        (config(), {}),
        (config([0]), {"parameters": 101253}),
        (config([1]), {"parameters": 101254}),
        (config("full"), {"parameters": 983040}),
        (config([2]), {"steps": 50}),
        (config([3], generation__num_beams=4), {}),
        (config([4], data__sizes={"train": 5, "validation": None, "test": None}), {}),
        (config([5], trainer__batch_size=2), {}),
    )
    found = [unlike(arm, control) for arm in others]
    assert found[0] == []  # 3 %
    assert found[1] == [
        "another budget: 101,254 trainable parameters, 1.03 times those of LoRA on all layers"
    ]
    assert found[2] == [
        "another budget: every parameter trains, 10 times those of LoRA on all layers"
    ]
    assert found[3] == ["other steps: 50, not the 100 of LoRA on all layers"]
    assert found[4] == ["other decoding: generation.num_beams=4 (not 1)"]
    assert found[5] == ["other data: data.sizes.train=5 (not null)"]
    assert found[6] == ["other training: trainer.batch_size=2 (not 16)"]


def test_few_and_resumed_runs(tmp_path: Path) -> None:
    one, two = arms_of(
        tmp_path,
        (config(), {}),
        (config([0]), {"resumed": 2}),
        (config([0], seed=2), {}),
    )
    assert of_few_runs(one, 2) == [
        "one seed: its interval is of documents alone",
        "fewer seeds: 1 of 2",
    ]
    assert of_few_runs(two, 2) == ["resumed: its time is that since the last resume"]
    assert of_few_runs(two, 3)[0] == "fewer seeds: 2 of 3"


def test_the_nearest_control(tmp_path: Path) -> None:
    small, large, arm = arms_of(
        tmp_path,
        (config(selector="random"), {}),
        (config(selector="random", adaptation__rank=16), {}),
        (config([0], adaptation__rank=16), {}),
    )
    assert nearest(arm, [small, large]) is large
    assert nearest(arm, []) is None
