"""What training leaves is read by PEFT and transformers alone, and gives the same logits."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from huggingface_hub.utils import are_progress_bars_disabled
from peft import AutoPeftModelForCausalLM
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from sumcirc.data.batches import EvaluationBatches
from sumcirc.models.loading import load_tokenizer
from sumcirc.models.saving import save_merged, save_trained
from sumcirc.schema import Adaptation
from sumcirc.training.module import SummarizationModule
from tests.support.small_training import Trained, prepared, small_config, train

LORA = {"kind": Adaptation.lora, "rank": 4, "layers": [1], "modules": ["qkv", "mlp_out"]}
STEEP = {"learning_rate": 0.02}
IDS = torch.arange(40).view(2, 20)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("saving asked the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(IDS).logits


def saved(found: Trained) -> Path:
    tokenizer = load_tokenizer(found.config.model)
    return save_trained(found.module.model, tokenizer, found.config, found.run)


@pytest.mark.parametrize("folder", ["gpt2_folder", "llama_folder"])
@pytest.mark.usefixtures("no_network")
def test_adapter_is_read_by_peft_alone(
    folder: str,
    news_files: dict[str, Path],
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base: Path = request.getfixturevalue(folder)
    monkeypatch.chdir(base.parent)  # a relative path has to be found from elsewhere too
    config = small_config(Path(base.name), news_files, tmp_path, adaptation=LORA)
    trained = train(config, tmp_path / "run")
    target = saved(trained)
    assert target == tmp_path / "run" / "adapter"
    monkeypatch.chdir(tmp_path)
    loaded = AutoPeftModelForCausalLM.from_pretrained(str(target))
    assert torch.equal(logits(loaded), logits(trained.module.model))
    stored = load_file(target / "adapter_model.safetensors")
    assert len(stored) == len(trained.weights())
    assert all("lora_" in name and ".1." in name for name in stored)
    numbers = sum(value.numel() for value in stored.values())
    assert (target / "adapter_model.safetensors").stat().st_size < 4 * numbers + 3000
    assert AutoTokenizer.from_pretrained(target)("storm").input_ids


@pytest.mark.parametrize("folder", ["gpt2_folder", "llama_folder"])
@pytest.mark.usefixtures("no_network")
def test_model_is_read_by_transformers_alone(
    folder: str, news_files: dict[str, Path], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    trained = train(
        small_config(request.getfixturevalue(folder), news_files, tmp_path), tmp_path / "run"
    )
    before = are_progress_bars_disabled()
    target = saved(trained)
    assert are_progress_bars_disabled() == before, "bars of later downloads are as they were"
    assert target == tmp_path / "run" / "model"
    loaded = AutoModelForCausalLM.from_pretrained(target)
    assert torch.equal(logits(loaded), logits(trained.module.model))
    tokenizer = AutoTokenizer.from_pretrained(target)
    assert tokenizer.get_vocab() == load_tokenizer(trained.config.model).get_vocab()


@pytest.mark.parametrize("folder", ["gpt2_folder", "llama_folder"])
@pytest.mark.filterwarnings("ignore:.*does not have many workers.*")
def test_adapter_merged_model_and_checkpoint_are_one_model(
    folder: str, news_files: dict[str, Path], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """In plain PEFT, plain transformers and a Trainer of one's own: the same loss and logits."""
    base: Path = request.getfixturevalue(folder)
    config = small_config(base, news_files, tmp_path, adaptation=LORA, optimizer=STEEP)
    trained = train(config, tmp_path / "run")
    adapter = AutoPeftModelForCausalLM.from_pretrained(str(saved(trained)))

    fresh, data = prepared(config)
    assert not torch.allclose(logits(fresh), logits(adapter), atol=1e-3)
    module = SummarizationModule(fresh, config.optimizer, total_steps=6)
    last = max(trained.run.checkpoints.glob("*.ckpt"))
    trainer = pl.Trainer(logger=False, accelerator="cpu", enable_progress_bar=False)
    batches = EvaluationBatches(data.encoded["validation"], 4, 0, 1)
    (tested,) = trainer.test(module, batches, ckpt_path=str(last), verbose=False)
    assert torch.equal(logits(module.model), logits(adapter))

    merged_folder = save_merged(
        trained.module.model, load_tokenizer(config.model), config, trained.run
    )
    merged = AutoModelForCausalLM.from_pretrained(merged_folder)
    assert not list(merged_folder.glob("adapter*"))
    torch.testing.assert_close(logits(merged), logits(adapter), atol=1e-5, rtol=0)

    for model in (adapter, merged):
        losses, tokens = 0.0, 0
        for batch in batches:
            with torch.no_grad():
                found = model.eval()(batch.input_ids).logits.flatten(0, 1)[batch.positions]
            losses += float(F.cross_entropy(found, batch.labels, reduction="sum"))
            tokens += len(batch.labels)
        assert tested["test/loss"] == pytest.approx(losses / tokens, abs=1e-5)
    assert tested["test/loss"] == pytest.approx(trained.values("validation/loss")[6], abs=1e-6)


def test_card_says_what_was_done(
    gpt2_folder: Path, news_files: dict[str, Path], tmp_path: Path
) -> None:
    trained = train(
        small_config(gpt2_folder, news_files, tmp_path, adaptation=LORA), tmp_path / "run"
    )
    folder = saved(trained)
    card = (folder / "README.md").read_text()
    assert "LoRA of rank 4 on layers 1: qkv+mlp_out" in card
    assert f"{sum(v.numel() for v in trained.weights().values()):,} parameters" in card
    assert r"'{document}\nTL;DR:'" in card
    assert "AutoPeftModelForCausalLM" in card
    stored = json.loads((folder / "adapter_config.json").read_text())
    assert stored["base_model_name_or_path"] == str(gpt2_folder)


def test_saving_again_replaces_the_folder(
    gpt2_folder: Path, news_files: dict[str, Path], tmp_path: Path
) -> None:
    trained = train(small_config(gpt2_folder, news_files, tmp_path), tmp_path / "run")
    folder = saved(trained)
    (folder / "stale").touch()
    assert saved(trained) == folder
    assert not (folder / "stale").exists()
    assert not list((tmp_path / "run").glob(".*"))
