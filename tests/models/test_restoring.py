"""Which weights a checkpoint stands for."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import PeftModel

from sumcirc.errors import UserError
from sumcirc.models.adapters import adapt
from sumcirc.models.loading import load_model
from sumcirc.models.restoring import load_reference, reference_of
from sumcirc.schema import Adaptation, AdaptationConfig, ModelConfig

IDS = torch.arange(20)[None]


def given(base: Path, checkpoint: Path | None) -> Any:
    model = ModelConfig(name="small", path=str(base))
    return SimpleNamespace(model=model, checkpoint=None if checkpoint is None else str(checkpoint))


def load_checkpoint(config: Any) -> Any:
    return load_reference(reference_of(config))


def changed(base: Path, seed: int = 0) -> Any:
    """An adapted model that no longer writes what its base does."""
    torch.manual_seed(seed)
    config = AdaptationConfig(kind=Adaptation.lora, rank=2)
    adapted = adapt(load_model(ModelConfig(name="small", path=str(base))), config)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.1)
    return adapted.eval()


def write_config(run: Path, base: Path) -> None:
    (run / "config.yaml").write_text(
        f"{{verb: train, config: {{model: {{name: small, path: '{base}'}}}}, environment: {{}}}}"
    )


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(IDS).logits


def test_without_a_checkpoint_it_is_the_model(gpt2_folder: Path) -> None:
    found = load_checkpoint(given(gpt2_folder, None))
    assert torch.equal(logits(found), logits(load_model(given(gpt2_folder, None).model)))


def test_adapter_is_put_on_its_base(gpt2_folder: Path, tmp_path: Path) -> None:
    adapted = changed(gpt2_folder)
    adapted.save_pretrained(tmp_path, save_embedding_layers=False)
    found = load_checkpoint(given(gpt2_folder, tmp_path))
    assert isinstance(found, PeftModel)
    assert not found.training
    assert torch.equal(logits(found), logits(adapted))


@pytest.mark.parametrize("kind", ["adapter", "model"])
def test_run_directory_stands_for_what_it_trained(
    kind: str, gpt2_folder: Path, tmp_path: Path
) -> None:
    write_config(tmp_path, gpt2_folder)
    (tmp_path / "status.json").write_text('{"state": "done"}')
    trained = changed(gpt2_folder)
    if kind == "model":
        trained = trained.merge_and_unload()
    trained.save_pretrained(tmp_path / kind)
    assert torch.equal(logits(load_checkpoint(given(gpt2_folder, tmp_path))), logits(trained))


def test_run_that_did_not_finish_is_refused(gpt2_folder: Path, tmp_path: Path) -> None:
    write_config(tmp_path, gpt2_folder)
    (tmp_path / "status.json").write_text('{"state": "done"}')
    with pytest.raises(UserError, match="training did not finish"):
        load_checkpoint(given(gpt2_folder, tmp_path))
