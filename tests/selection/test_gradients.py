"""Gradient selectors against naive gradients, and PAGE against adapters that were really made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sumcirc.models.adapters import adapt
from sumcirc.models.architectures import architecture
from sumcirc.models.unwrapping import base_model
from sumcirc.schema import MODULES, Adaptation, AdaptationConfig
from sumcirc.selection.context import SelectionContext
from sumcirc.selection.gradients import fisher, gradient_norm, page
from sumcirc.training.module import summary_loss
from tests.support.small_evidence import evidence, selecting
from tests.support.small_models import small_config, write_model


@pytest.fixture(params=["gpt2", "llama", "gpt_neox"])
def looked_at(
    request: pytest.FixtureRequest, tmp_path: Path, tokenizer: Any, news_files: dict[str, Path]
) -> SelectionContext:
    folder = write_model(tmp_path / "model", small_config(request.param), tokenizer)
    return evidence(selecting(folder, news_files, tmp_path, "page"))


def naive(looked_at: SelectionContext, size: int) -> list[dict[str, torch.Tensor]]:
    """Gradients of every parameter by `backward`, batch by batch."""
    found = []
    model: Any = looked_at.model
    for batch in looked_at.training_batches(size):
        model.zero_grad()
        summary_loss(model.base_model, model.get_output_embeddings(), batch).backward()
        found.append({name: p.grad.clone() for name, p in model.named_parameters()})
    model.zero_grad()
    return found


def expected(looked_at: SelectionContext, size: int, value: Any) -> np.ndarray:
    """[layers, modules, batches] of sums over linears of `value(gradient, inputs)`."""
    names = architecture(looked_at.model.config)
    is_conv = looked_at.model.config.model_type == "gpt2"
    return np.array(
        [
            [
                [
                    sum(
                        value(gradients[f"{name}.weight"], 0 if is_conv else 1)
                        for name in names.linears(layer, module)
                    )
                    for gradients in naive(looked_at, size)
                ]
                for module in MODULES
            ]
            for layer in range(2)
        ]
    )


def test_fisher_is_of_single_documents(looked_at: SelectionContext) -> None:
    wanted = expected(looked_at, 1, lambda g, _: float(g.square().sum()))
    found = fisher(looked_at)
    assert found.values.shape == (2, 4, 8)
    assert found.values == pytest.approx(wanted, rel=1e-5)


def test_gradient_norm_is_a_length(looked_at: SelectionContext) -> None:
    squares = expected(looked_at, 2, lambda g, _: float(g.square().sum()))
    found = gradient_norm(looked_at)
    assert found.values == pytest.approx(np.sqrt(squares), rel=1e-5)
    layer = found.of_targets([0, 1, 2, 3], whole=True)[:, 0]
    assert layer == pytest.approx(np.sqrt(squares.sum(1)), rel=1e-5)


def test_page_is_the_energy_over_inputs(looked_at: SelectionContext) -> None:
    wanted = expected(looked_at, 2, lambda g, axis: float(g.square().sum()) / (3 * g.shape[axis]))
    assert page(looked_at).values == pytest.approx(wanted, rel=1e-5)


def test_the_model_is_left_as_it_was(looked_at: SelectionContext) -> None:
    model = looked_at.model
    model.train()
    model.base_model.requires_grad_(False)
    before = [p.requires_grad for p in model.parameters()]
    fisher(looked_at)
    assert model.training
    assert [p.requires_grad for p in model.parameters()] == before
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("family", ["gpt2", "qwen2"])
def test_page_is_what_fresh_adapters_get_on_average(
    family: str, tmp_path: Path, tokenizer: Any, news_files: dict[str, Path]
) -> None:
    folder = write_model(tmp_path / "model", small_config(family), tokenizer)
    found = evidence(selecting(folder, news_files, tmp_path, "page", batch_size=6))
    predicted = page(found).values[..., 0]
    batch = found.training_batches(6)[0]
    rank, draws, scale = 8, 150, 2
    config = AdaptationConfig(kind=Adaptation.lora, rank=rank)
    names = architecture(found.model.config)
    adapted: Any = adapt(found.model, config).eval()
    base = base_model(adapted)
    linears = {
        (layer, place): [base.get_submodule(name) for name in names.linears(layer, module)]
        for layer in range(2)
        for place, module in enumerate(MODULES)
    }
    torch.manual_seed(0)
    energy = np.zeros((2, 4))
    for _ in range(draws):
        for group in linears.values():
            for linear in group:
                linear.reset_lora_parameters("default", True)  # type: ignore[operator]
        adapted.zero_grad()
        summary_loss(base.base_model, base.get_output_embeddings(), batch).backward()
        for place, group in linears.items():
            assert all(not one.lora_A["default"].weight.grad.any() for one in group)
            energy[place] += sum(
                float(one.lora_B["default"].weight.grad.square().sum()) for one in group
            )
    # each mean has an error of about sqrt(2 / (8 x 150)), more where few directions matter
    assert energy / draws / (scale**2 * rank) == pytest.approx(predicted, rel=0.15)


def test_documents_do_not_depend_on_the_runs_seed(
    gpt2_folder: Path, news_files: dict[str, Path], tmp_path: Path
) -> None:
    found = []
    for seed in (1, 2):
        config = selecting(gpt2_folder, news_files, tmp_path, "page")
        config.seed = seed
        found.append([batch.input_ids for batch in evidence(config).training_batches(2)])
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)
