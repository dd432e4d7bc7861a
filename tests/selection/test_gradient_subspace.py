"""LoRA-GA's gradient against the first step of the adapters that PEFT initializes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, LoraGAConfig, get_peft_model
from peft.tuners.lora.loraga import preprocess_loraga

from sumcirc.models.architectures import architecture
from sumcirc.models.modes import evaluating
from sumcirc.schema import MODULES
from sumcirc.selection.context import SelectionContext
from sumcirc.selection.gradient_subspace import RANK, approximation, loraga
from sumcirc.training.module import summary_loss
from tests.support.small_evidence import evidence, selecting
from tests.support.small_models import small_config, write_model


@pytest.fixture(params=["gpt2", "llama"])
def looked_at(
    request: pytest.FixtureRequest, tmp_path: Path, tokenizer: Any, news_files: dict[str, Path]
) -> SelectionContext:
    folder = write_model(tmp_path / "model", small_config(request.param), tokenizer)
    return evidence(selecting(folder, news_files, tmp_path, "loraga", documents=6, batch_size=2))


def first_step(module: Any, gradient: torch.Tensor) -> torch.Tensor:
    """G A'A + B B'G of an adapter of PEFT, with rows of A and columns of B of length 1."""
    gradient = gradient.T if module.fan_in_fan_out else gradient
    a = torch.nn.functional.normalize(module.lora_A["default"].weight.detach(), dim=1)
    b = torch.nn.functional.normalize(module.lora_B["default"].weight.detach(), dim=0)
    return gradient @ a.T @ a + b @ b.T @ gradient


@pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")
def test_it_is_the_energy_of_the_first_step_of_pefts_adapters(looked_at: SelectionContext) -> None:
    found = loraga(looked_at)
    assert found.values.shape == (2, 4, 3)
    names = architecture(looked_at.model.config)
    every = [name for layer in (0, 1) for one in MODULES for name in names.linears(layer, one)]
    config = LoraConfig(
        r=RANK,
        target_modules=every,
        init_lora_weights="lora_ga",
        lora_ga_config=LoraGAConfig(direction="ArB2r"),
        fan_in_fan_out=looked_at.model.config.model_type == "gpt2",
    )
    model: Any = looked_at.model

    def gradients() -> None:
        with evaluating(model):  # PEFT has just switched dropout on
            for batch in looked_at.training_batches(2):
                summary_loss(model.base_model, model.get_output_embeddings(), batch).backward()

    preprocess_loraga(model, config, gradients)
    mean = {name: model.get_submodule(name)._peft_loraga_grad for name in every}
    adapted: Any = get_peft_model(model, config)
    step = {
        name: first_step(adapted.base_model.model.get_submodule(name), mean[name]) for name in every
    }
    for layer in (0, 1):
        for place, module in enumerate(MODULES):
            some = names.linears(layer, module)
            wanted = sum(float(step[name].square().sum()) for name in some)
            assert found.values[layer, place].mean() == pytest.approx(wanted, rel=1e-3)


def test_the_approximation_is_the_best_of_its_rank() -> None:
    torch.manual_seed(0)
    matrix = torch.randn(60, 50) * torch.logspace(0, -3, 50)
    left, sizes, right = torch.linalg.svd(matrix, full_matrices=False)
    wanted = (left[:, :6] * sizes[:6]) @ right[:6]
    assert (approximation(matrix, 6) - wanted).norm() < 0.01 * sizes[6]
