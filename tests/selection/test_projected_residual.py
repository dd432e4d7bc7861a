"""The projected residual norm against ridge regressions of the residual, token by token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sumcirc.errors import UserError
from sumcirc.models.architectures import architecture
from sumcirc.schema import MODULES
from sumcirc.selection.choosing import select
from sumcirc.selection.context import SelectionContext
from sumcirc.selection.projected_residual import RIDGE, resnorm
from sumcirc.training.module import summary_loss
from tests.support.small_evidence import evidence, selecting
from tests.support.small_models import small_config, write_model


@pytest.fixture(params=["gpt2", "llama"])
def looked_at(
    request: pytest.FixtureRequest, tmp_path: Path, tokenizer: Any, news_files: dict[str, Path]
) -> SelectionContext:
    folder = write_model(tmp_path / "model", small_config(request.param), tokenizer)
    return evidence(selecting(folder, news_files, tmp_path, "resnorm", documents=6, batch_size=2))


def tokens_of(context: SelectionContext, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and residuals of a linear, [tokens, in] and [tokens, out], of the mean of losses."""
    model: Any = context.model.double()
    linear = model.get_submodule(name)
    batches = context.training_batches(2)
    inputs, residuals = [], []
    for batch, tokens in zip(batches, context.token_batches(2), strict=True):
        seen: list[Any] = []
        handle = linear.register_forward_hook(lambda _, given, out, s=seen: s.extend([*given, out]))
        loss = summary_loss(model.base_model, model.get_output_embeddings(), batch) / len(batches)
        handle.remove()
        (gradient,) = torch.autograd.grad(loss, seen[1])
        real = tokens.attention_mask
        inputs.append(seen[0].detach()[real].numpy())
        residuals.append(-gradient[real].numpy())
    return np.concatenate(inputs), np.concatenate(residuals)


def removed(inputs: np.ndarray, residuals: np.ndarray) -> float:
    """What the best linear map of the inputs removes of the sum of squared residuals, times N."""
    count, width = inputs.shape
    ridge = RIDGE * (inputs**2).sum() / count / width
    # the ridge as further rows: sqrt(N l) e_i is to be mapped to 0
    above = np.concatenate([inputs, np.sqrt(count * ridge) * np.eye(width)])
    below = np.concatenate([residuals, np.zeros((width, residuals.shape[1]))])
    best = np.linalg.lstsq(above, below, rcond=None)[0]
    return count * float((below**2).sum() - ((below - above @ best) ** 2).sum())


def test_it_is_what_a_regression_of_the_residual_removes(looked_at: SelectionContext) -> None:
    found = resnorm(looked_at)
    assert found.values.shape == (2, 4, 3)
    names = architecture(looked_at.model.config)
    for layer in (0, 1):
        for place, module in enumerate(MODULES):
            wanted = sum(removed(*tokens_of(looked_at, n)) for n in names.linears(layer, module))
            assert found.values[layer, place].mean() == pytest.approx(wanted, rel=2e-3)


def test_the_scale_of_inputs_cancels(looked_at: SelectionContext) -> None:
    """A norm that doubles its output before a weight that is halved changes no score."""
    before = resnorm(looked_at).values
    model: Any = looked_at.model
    block = model.transformer.h[1] if hasattr(model, "transformer") else model.model.layers[1]
    norm = getattr(block, "ln_2", None) or block.post_attention_layernorm
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.mul_(2)
        for name in architecture(model.config).linears(1, "mlp_in"):
            model.get_submodule(name).weight.div_(2)
    place = MODULES.index("mlp_in")
    # of that linear both the gradient and the inputs double
    after = resnorm(looked_at).values
    assert after[1, place] == pytest.approx(before[1, place], rel=1e-3)
    assert after[0] == pytest.approx(before[0], rel=1e-3)


def test_a_layer_that_reads_nothing_is_refused(looked_at: SelectionContext) -> None:
    norm: Any = next(
        module
        for name, module in looked_at.model.named_modules()
        if name.endswith((".0.ln_1", ".0.input_layernorm"))
    )
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.zero_()
    with pytest.raises(UserError, match=r"selector=resnorm: the inputs of qkv in layer 0 are all"):
        resnorm(looked_at)


def test_the_layers_of_a_budget_are_chosen(looked_at: SelectionContext) -> None:
    ranking = select(looked_at)
    assert len(ranking.layers) == 1
