"""benchmarks/adapter_arms.py: parts of a change, and the rows that it writes of a run."""

from __future__ import annotations

import copy
import csv
import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.helpers import rescale_adapter_scale

from sumcirc import library
from tests.support.command_server import CommandServer

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    importlib.import_module("placement_outcomes")
    return importlib.import_module("adapter_arms")


@torch.no_grad()
@pytest.mark.parametrize("amount", [0.0, 0.25, 1.0])
def test_a_part_of_a_lora_is_its_scale(script: Any, amount: float) -> None:
    """Also with the embeddings that GPT-2 uses again as the unembedding."""
    torch.manual_seed(0)
    base, _ = library.load("tiny")
    config = LoraConfig(r=2, target_modules=["c_attn", "wte"], fan_in_fan_out=True)
    model = get_peft_model(copy.deepcopy(base), config).eval()
    for name, weight in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.05)
    assert isinstance(model, PeftModel)
    ids = torch.tensor([[5, 9, 2, 77]])
    own = base(input_ids=ids).logits
    with rescale_adapter_scale(model, amount):
        backbone = model.base_model.model.transformer(input_ids=ids).last_hidden_state
    target = script.merged(copy.deepcopy(model))
    # what the unembedding makes of the moved embeddings is checked by the weights below
    with script.partly(base, target, amount):
        found = base.transformer(input_ids=ids).last_hidden_state
        moved = {name: value.clone() for name, value in base.state_dict().items()}
    assert torch.allclose(found, backbone, atol=1e-4)
    for name, value in base.state_dict().items():
        expected = value + amount * (target[name] - value)
        assert torch.allclose(moved[name], expected, atol=1e-6), name
    assert torch.equal(base(input_ids=ids).logits, own)


def test_other_weights_are_refused(script: Any) -> None:
    base, _ = library.load("tiny")
    with (
        pytest.raises(ValueError, match="other weights"),
        script.partly(base, {"a": torch.ones(1)}, 1.0),
    ):
        pass


def test_rows_of_a_sweep(
    script: Any, commands: CommandServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With adapters that rewrite the base, and full fine-tuning; the base is the first row."""
    sizes = ["data.sizes.train=16", "data.sizes.validation=3", "data.sizes.test=4"]
    words = [
        *("model=tiny", "data=wire", *sizes, "trainer.max_steps=2", "trainer.threads=1"),
        *("logger=none", "callbacks=none", "evaluation.base=false", "evaluation.bootstrap=100"),
        *("generation.max_new_tokens=4", "sweep.name=arms"),
    ]
    for name, given in {"pissa": ["adaptation=pissa"], "full": ["adaptation=full"]}.items():
        done = commands.run(
            "train", *words, *given, f"run.name={name}-s1", cwd=tmp_path, figures=False
        )
        assert done.code == 0, done.output
    outcomes = importlib.import_module("placement_outcomes")
    monkeypatch.setattr(outcomes, "ARTICLES", 3)
    records = tmp_path / "records"
    records.mkdir()
    monkeypatch.setattr("sys.argv", ["script", str(records), str(tmp_path / "runs/arms")])
    script.main()
    with (records / "learning-forgetting.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["arm"] for row in rows] == ["base", *["full"] * 4, *["pissa"] * 4]
    assert [row["amount"] for row in rows[1:5]] == ["0.25", "0.5", "0.75", "1.0"]
    kl = np.array([float(row["article_kl"]) for row in rows]).reshape(-1)
    assert kl[0] == 0
    assert (np.diff(kl[1:5]) > 0).all()
    assert (np.diff(kl[5:]) > 0).all()
    # KL grows with the square of a small change
    assert kl[1] < kl[4] / 4
    with (records / "costs.csv").open() as file:
        costs = {row["arm"]: row for row in csv.DictReader(file)}
    assert int(costs["full"]["parameters"]) == 1746944
    assert float(costs["full"]["flops"]) > 0

    # a run that has no rows yet is measured, and the others stay as they are
    file = records / "learning-forgetting.csv"
    whole = file.read_text()
    kept = [line.replace("full,1,1.0,", "full,1,1.0,9") for line in whole.splitlines()[:6]]
    file.write_text("".join(f"{line}\n" for line in kept))
    script.main()
    assert file.read_text() == whole.replace("full,1,1.0,", "full,1,1.0,9")
    file.write_text("arm,seed\n")
    with pytest.raises(SystemExit, match="has other columns"):
        script.main()
