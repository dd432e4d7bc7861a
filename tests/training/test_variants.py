"""Every adapter variant: starts as its base, trains, resumes, and is read by PEFT alone."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForCausalLM, LoraConfig
from transformers import AutoModelForCausalLM

from sumcirc.models.loading import load_tokenizer
from sumcirc.models.model_pairs import Models
from sumcirc.models.model_reference import reference
from sumcirc.models.peft_adapters import read_adapter
from sumcirc.models.saving import save_trained
from sumcirc.schema import REWRITING_VARIANTS, Adaptation, Variant
from sumcirc.tracking.run_directory import RunDirectory
from sumcirc.training.best_checkpoint import restore_best
from tests.support.small_training import prepared, small_config, train

IDS = torch.arange(40).view(2, 20)
FAMILIES = ("gpt2", "llama")
CASES = [
    (family, variant)
    for family in FAMILIES
    for variant in Variant
    if variant is not Variant.lora and (family, variant) != ("gpt2", Variant.olora)
]

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    # PEFT's own loader applies AdaLoRA's ranks in another place than where it looks for LoRA's
    pytest.mark.filterwarnings("ignore:The following rank_pattern keys"),
]


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits


def settings(variant: Variant) -> dict[str, Any]:
    rank = None if variant is Variant.ia3 else 4
    return {"kind": Adaptation.lora, "variant": variant, "rank": rank}


@pytest.mark.parametrize(("family", "variant"), CASES)
def test_a_variant_from_start_to_end(
    family: str,
    variant: Variant,
    request: pytest.FixtureRequest,
    news_files: dict[str, Path],
    tmp_path: Path,
) -> None:
    base: Path = request.getfixturevalue(f"{family}_folder")
    truth = logits(AutoModelForCausalLM.from_pretrained(base))
    config = small_config(
        base, news_files, tmp_path, adaptation=settings(variant), optimizer={"learning_rate": 0.02},
        trainer={"keep_checkpoints": -1},
    )  # fmt: skip

    fresh = tmp_path / "fresh"
    fresh.mkdir()
    model, _ = prepared(config, RunDirectory(fresh))
    torch.testing.assert_close(logits(model), truth, rtol=0, atol=1e-5)
    assert any(parameter.requires_grad for parameter in model.parameters())

    done = train(config, tmp_path / "run")
    model = done.module.model
    trained = logits(model)
    assert float((trained - truth).abs().max()) > 1e-3

    # stopped after step 2 and continued, it ends with the same weights and losses
    again = tmp_path / "again"
    shutil.copytree(tmp_path / "run", again)
    for checkpoint in ("step-000004.ckpt", "step-000006.ckpt"):
        (again / "checkpoints" / checkpoint).unlink()
    resumed = train(config, again)
    for name in ("train/loss", "validation/loss"):
        assert resumed.values(name) == done.values(name)
    for name, value in done.weights().items():
        assert torch.equal(resumed.weights()[name], value), name
    assert torch.equal(logits(resumed.module.model), trained)

    folder = save_trained(model, load_tokenizer(config.model), config, done.run)
    assert torch.equal(logits(model), trained), "saving changed the model"
    alone = AutoPeftModelForCausalLM.from_pretrained(str(folder))
    torch.testing.assert_close(logits(alone), trained, rtol=0, atol=1e-5)
    with alone.disable_adapter():
        assert torch.equal(logits(alone), truth), "without the adapter it is not the base"

    after = reference(str(folder), "after")
    models = Models("cpu", IDS[0].tolist())
    with models.use(after.base) as before:
        assert torch.equal(logits(before), truth)
    with models.use(after) as tuned, models.use(after.base) as same:
        assert same is tuned, "the base is the same module with the adapter switched off"
    if variant in REWRITING_VARIANTS:
        stored: Any = read_adapter(folder, "after")
        assert isinstance(stored, LoraConfig)
        assert (stored.init_lora_weights, stored.r) == (True, 8)


def test_the_best_checkpoint_has_its_own_ranks(
    gpt2_folder: Path, news_files: dict[str, Path], tmp_path: Path
) -> None:
    """AdaLoRA goes on removing ranks after the step of the best checkpoint."""
    config = small_config(
        gpt2_folder, news_files, tmp_path, adaptation=settings(Variant.adalora),
        trainer={"keep_best": "validation/loss", "keep_checkpoints": -1},
    )  # fmt: skip
    done = train(config, tmp_path / "run")
    model = done.module.model
    last = dict(model.peft_config["default"].rank_pattern)
    checkpoints = done.run.checkpoints
    shutil.copy(checkpoints / "step-000002.ckpt", checkpoints / "best.ckpt")
    assert restore_best(done.module, done.run, config.trainer.monitors["keep_best"]) == 2
    assert model.peft_config["default"].rank_pattern != last
    folder = save_trained(model, load_tokenizer(config.model), config, done.run)
    alone = AutoPeftModelForCausalLM.from_pretrained(str(folder))
    torch.testing.assert_close(logits(alone), logits(model), rtol=0, atol=1e-5)
