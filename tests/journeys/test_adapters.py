"""A trained adapter of a variant through the commands that read it."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet
import pytest

from tests.support.command_server import CommandServer

EXPECTED = {
    # name: words, parameters of the adapter, and whether its difference can be scaled by any factor
    "pissa": (["adaptation=pissa", "adaptation.rank=4"], 2048, True),
    "adalora": (["adaptation=adalora", "adaptation.budget=4000"], 3612, True),
    "vera": (["adaptation=vera", "adaptation.modules=[c_attn,mlp.c_proj]"], 640, False),
    "ia3": (["adaptation=ia3"], 224, False),
    "dora": (["adaptation=dora", "adaptation.rank=2", "adaptation.modules=c_proj"], 512, False),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_variant_is_trained_evaluated_and_compared(
    name: str, commands: CommandServer, small_run: list[str], gpt2_folder: Path, tmp_path: Path
) -> None:
    words, parameters, scales = EXPECTED[name]

    def done(*given: str) -> str:
        found = commands.run(*given, cwd=tmp_path, figures=False)
        assert found.code == 0, found.output
        return found.output

    size = ["trainer.max_steps=6", "callbacks=none", "adaptation.layers=[1]", "sweep.name=t"]
    done("train", *small_run, *size, f"run.name={name}", *words)
    run = tmp_path / "runs/t" / name
    summary = json.loads((run / "summary.json").read_text())
    assert summary["trainable_parameters"] == summary["adapter"]["parameters"] == parameters
    assert summary["adapter"]["variant"] == name
    assert ("parameters_left" in summary["adapter"]) == (name == "adalora")
    assert (run / "initial_adapter").is_dir() == (name == "pissa")
    if name == "adalora":
        longer = commands.run("train", f"resume={run}", "trainer.max_steps=9", cwd=tmp_path)
        assert longer.code == 2
        assert "adaptation=adalora has removed its ranks" in longer.output.splitlines()[-1]
    here = ("logger=none", "sweep.name=r", f"run.name={name}")
    if name == "pissa":
        done("evaluate", f"checkpoint={run}", *here[:2], "run.name=scored")
        small = ("circuit.documents=2", "circuit.resamples=5", "circuit.steps=1")
        done("circuit", f"checkpoint={run}", *here[:2], "run.name=circuit", *small)
    lambdas = "[0.0,0.5,1.0]" if scales else "[0.0,1.0]"
    compare = ("compare.analyses=[delta_scaling]", f"compare.lambdas={lambdas}", "compare.items=2")
    done("compare", f"after={run}", *here, *compare)
    (file,) = (tmp_path / "runs/r" / name).glob("compare/*/surgery.parquet")
    arms = pyarrow.parquet.read_table(file).to_pandas()
    whole = arms[arms.arm == "whole"].groupby("amount").metric.mean()
    found = json.loads((tmp_path / "runs/r" / name / "summary.json").read_text())["after"][name]
    # scaled to 0 the adapter leaves the true base
    assert whole[0.0] == pytest.approx(found["metric"]["before"]["mean"], abs=1e-6)
    assert whole[1.0] == pytest.approx(found["metric"]["after"]["mean"], abs=1e-6)
    if not scales:
        refused = commands.run(
            *("compare", f"after={run}", "sweep.name=x", "logger=none", compare[0]),
            *("compare.lambdas=[0.5]", compare[2]),
            cwd=tmp_path,
        )
        assert refused.code == 2
        assert "can only be on or off" in refused.output.splitlines()[-1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["adaptation=olora"], "sumcirc: adaptation=olora: PEFT's olora takes Conv1D's"),
        (
            ["adaptation=lora", "adaptation.peft={r: 8}"],
            "sumcirc: adaptation.peft={r: 8}: is set by adaptation.rank",
        ),
        (["adaptation=ia3", "adaptation.rank=8"], "sumcirc: adaptation.rank=8: adaptation=ia3 has"),
        (["adaptation=lora", "adaptation.modules=qk"], "sumcirc: adaptation.modules=qk: unknown"),
        (["adaptation=eva", "trainer.devices=2"], "sumcirc: trainer.devices=2: adaptation=eva is"),
    ],
)
def test_mistakes_are_one_line(
    words: list[str], message: str, commands: CommandServer, small_run: list[str], tmp_path: Path
) -> None:
    done = commands.run("train", *small_run, *words, cwd=tmp_path)
    assert done.code == 2
    assert done.output.splitlines()[-1].startswith(message), done.output
    assert not list(tmp_path.glob("runs/*/*"))
