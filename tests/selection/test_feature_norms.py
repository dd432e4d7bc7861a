"""PLoP's normalized feature norm against a computation token by token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sumcirc.errors import UserError
from sumcirc.models.architectures import architecture
from sumcirc.schema import MODULES
from sumcirc.selection.context import SelectionContext
from sumcirc.selection.feature_norms import gains, plop
from tests.support.small_evidence import evidence, selecting
from tests.support.small_models import small_config, write_model


@pytest.fixture(params=["gpt2", "llama"])
def looked_at(
    request: pytest.FixtureRequest, tmp_path: Path, tokenizer: Any, news_files: dict[str, Path]
) -> SelectionContext:
    folder = write_model(tmp_path / "model", small_config(request.param), tokenizer)
    return evidence(selecting(folder, news_files, tmp_path, "plop", documents=3))


def naive(context: SelectionContext, layer: int, module: str, document: int) -> float:
    """Mean NFN of a module's linears on one document, with 100,000 random inputs."""
    model: Any = context.model
    ids = context.training_batches(1)[document].input_ids
    values = []
    for name in architecture(model.config).linears(layer, module):
        linear, seen = model.get_submodule(name), []
        handle = linear.register_forward_hook(
            lambda _, given, out, seen=seen: seen.append(given[0])
        )
        with torch.no_grad():
            model(ids)
        handle.remove()
        weight = linear.weight.detach()
        weight = weight.T if model.config.model_type == "gpt2" else weight
        actual = [float((weight @ z).norm() / z.norm()) for z in seen[0][0]]
        random = torch.randn(100_000, weight.shape[1])
        usual = (random @ weight.T).norm(dim=1) / random.norm(dim=1)
        values.append(np.mean(actual) / float(usual.mean()))
    return float(np.mean(values))


def test_it_is_the_ratio_of_norms(looked_at: SelectionContext) -> None:
    found = plop(looked_at)
    assert found.values.shape == (2, 4, 3)
    torch.manual_seed(1)
    for layer in (0, 1):
        for place, module in enumerate(MODULES):
            wanted = naive(looked_at, layer, module, 2)
            # 4,096 draws, whose gains vary by a tenth
            assert -found.values[layer, place, 2] == pytest.approx(wanted, rel=0.01)


def test_aligned_weights_have_the_largest_norm() -> None:
    """A weight that sees one direction gains sqrt(width) on it compared with a random one."""
    direction = torch.nn.functional.normalize(torch.arange(1.0, 65), dim=0)
    weight = direction[:, None] @ torch.ones(1, 8)
    inputs = torch.stack([3 * direction, torch.zeros(64)])
    assert gains(inputs, weight) == pytest.approx(np.sqrt([8]))


def test_a_layer_that_reads_nothing_is_refused(looked_at: SelectionContext) -> None:
    norm: Any = next(
        module
        for name, module in looked_at.model.named_modules()
        if name.endswith((".0.ln_1", ".0.input_layernorm"))
    )
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.zero_()
    with pytest.raises(UserError, match=r"selector=plop: inputs or weights of qkv in layer 0"):
        plop(looked_at)
