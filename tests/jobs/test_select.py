"""`sumcirc select` as a user types it, and training with what a selector chose."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
import yaml
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from tests.support.command_server import CommandServer

SMALL = ["selector.documents=6", "selector.batch_size=2", "selector.resamples=50", "sweep.name=s"]


@pytest.fixture
def words(gpt2_folder: Path, news_files: dict[str, Path], tmp_path: Path) -> list[str]:
    files = [f"data.{split}={path}" for split, path in news_files.items()]
    return [
        *(f"model.path={gpt2_folder}", "data=files", *files, *SMALL),
        *("trainer.threads=1", "logger=none", f"cache_dir={tmp_path / 'cache'}"),
    ]


def trainable(model: Any) -> dict[str, int]:
    return {name: p.numel() for name, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize(
    ("selector", "granularity"), [("page", "module"), ("circuit", "layer"), ("random", "layer")]
)
def test_what_it_writes_works_on_a_plain_model(
    commands: CommandServer,
    words: list[str],
    tmp_path: Path,
    gpt2_folder: Path,
    selector: str,
    granularity: str,
) -> None:
    mine = [f"selector={selector}", f"adaptation.granularity={granularity}", "selector.count=1"]
    done = commands.run("select", *words, *mine, "adaptation.budget=5001", cwd=tmp_path)
    assert done.code == 0, done.output
    (run,) = (tmp_path / "runs" / "s").iterdir()
    assert f"run directory: {run}" in done.output
    assert "of the budget of 5,001" in done.output
    ranking = json.loads((run / "ranking.json").read_text())
    assert sum(one["chosen"] for one in ranking["ranking"]) == 1
    adapter = json.loads((run / "summary.json").read_text())["adapter"]
    assert 0.97 * 5001 <= adapter["parameters"] <= 5001

    built = runpy.run_path(str(run / "lora_config.py"))["config"]
    stored = LoraConfig.from_pretrained(str(run / "lora"))
    found = []
    for config in (built, stored):
        plain = AutoModelForCausalLM.from_pretrained(gpt2_folder)
        found.append(trainable(get_peft_model(plain, config)))
    assert found[0] == found[1]
    assert sum(found[0].values()) == adapter["parameters"]
    assert {name.removeprefix("base_model.model.").split(".lora_")[0] for name in found[0]} == set(
        adapter["targets"]
    )
    assert (run / "figures" / "selection.png").exists()


def test_only_training_documents_are_read(
    commands: CommandServer, words: list[str], tmp_path: Path
) -> None:
    gone = [f"data.{split}={tmp_path / 'none.jsonl'}" for split in ("validation", "test")]
    done = commands.run("select", *words, *gone, "selector=cka_redundancy", cwd=tmp_path)
    assert done.code == 0, done.output
    assert "encode validation" not in done.output


@pytest.mark.slow
def test_training_takes_what_was_chosen_and_computes_it_once(
    commands: CommandServer, words: list[str], tmp_path: Path
) -> None:
    train = [
        *("adaptation=lora", "adaptation.budget=6000", "selector=page,random", "seed=1,2"),
        *("trainer.max_steps=2", "evaluation.at_end=false", "callbacks=none"),
    ]
    done = commands.run("train", "-m", *words, *train, cwd=tmp_path)
    assert done.code == 0, done.output
    runs = {run.name: run for run in (tmp_path / "runs" / "s").iterdir() if run.is_dir()}
    names = {name.partition("-lora-")[2] for name in runs}
    assert names == {f"{one}-b6000-s{seed}" for one in ("page", "random") for seed in (1, 2)}
    printed = [(run / "output.txt").read_text() for run in runs.values()]
    assert sum("gradients: " in text for text in printed) == 1
    kept = list(tmp_path.glob("cache/selection/*/scores.json"))
    assert len(kept) == 1
    for run in runs.values():
        summary = json.loads((run / "summary.json").read_text())
        assert summary["trainable_parameters"] == summary["adapter"]["parameters"] <= 6000
        assert summary["adapter"]["used"] >= 0.97
        stored = json.loads((run / "adapter" / "adapter_config.json").read_text())
        assert set(stored["target_modules"]) == set(summary["adapter"]["targets"])
        assert "select" in summary["seconds"]
        assert (run / "figures" / "selection.png").exists()
        layers = ", ".join(map(str, summary["adapter"]["layers"]))
        assert (
            f"layers {layers}: qkv+attn_out+mlp_in+mlp_out"
            in (run / "adapter" / "README.md").read_text()
        )


def test_a_resumed_run_keeps_its_layers(
    commands: CommandServer, words: list[str], tmp_path: Path
) -> None:
    train = [
        *("adaptation=lora", "adaptation.rank=2", "selector=random", "trainer.max_steps=2"),
        *("evaluation.at_end=false", "callbacks=none"),
    ]
    done = commands.run("train", *words, *train, cwd=tmp_path, figures=False)
    assert done.code == 0, done.output
    (run,) = (tmp_path / "runs" / "s").iterdir()
    ranking = json.loads((run / "ranking.json").read_text())
    (chosen,) = (one for one in ranking["ranking"] if one["chosen"])
    (other,) = (one for one in ranking["ranking"] if not one["chosen"])
    # as if it had been cut off after its selection, which had another outcome
    chosen["chosen"], other["chosen"] = False, True
    (run / "ranking.json").write_text(json.dumps(ranking))
    for file in (run / "checkpoints").iterdir():
        file.unlink()
    status = json.loads((run / "status.json").read_text())
    (run / "status.json").write_text(json.dumps(status | {"state": "pending"}))
    resumed = commands.run("train", f"resume={run}", cwd=tmp_path, figures=False)
    assert resumed.code == 0, resumed.output
    summary = json.loads((run / "summary.json").read_text())
    assert summary["adapter"]["layers"] == [other["layer"]]


def test_what_was_asked_for_is_in_the_configuration(
    commands: CommandServer, words: list[str], tmp_path: Path
) -> None:
    done = commands.run("select", *words, "selector=last", "adaptation.budget=6000", cwd=tmp_path)
    assert done.code == 0, done.output
    (run,) = (tmp_path / "runs" / "s").iterdir()
    config = yaml.safe_load((run / "config.yaml").read_text())["config"]
    assert config["selector"]["name"] == "last"
    assert config["adaptation"]["layers"] == "auto"


@pytest.mark.parametrize(
    ("verb", "given", "parts"),
    [
        ("select", ["selector=observed"], ["selector=observed", "layer 9 is out of range"]),
        ("select", ["adaptation.budget=10"], ["adaptation.budget=10", "raise the budget"]),
        ("select", ["adaptation=full"], ["selector=circuit", "adaptation=lora"]),
        ("select", ["~selector"], ["~selector: can't be left out; choose from all, "]),
        ("select", ["selector=best"], ["selector=best", "circuit"]),
        ("train", ["selector=page"], ["selector=page", "adaptation=lora"]),
        ("train", ["adaptation=lora", "adaptation.layers=auto"], ["give selector=NAME"]),
        ("train", ["adaptation=lora", "selector.count=2"], ["selector.count", "selector=NAME"]),
        (
            "train",
            ["adaptation=lora", "selector=drift", "selector.probe_steps=0"],
            ["sumcirc train adaptation=lora", "selector.after=RUN_DIR"],
        ),
        (
            "train",
            ["adaptation=lora", "adaptation.budget=6000", "adaptation.alpha=8"],
            ["adaptation.alpha=8", "rslora"],
        ),
    ],
)
def test_mistakes_are_one_line(
    commands: CommandServer,
    words: list[str],
    tmp_path: Path,
    verb: str,
    given: list[str],
    parts: list[str],
) -> None:
    plain = [word for word in words if not word.startswith("selector.")]
    line = commands.run(verb, *plain, *given, cwd=tmp_path).refusal
    for part in parts:
        assert part in line
    assert not (tmp_path / "runs").exists()
