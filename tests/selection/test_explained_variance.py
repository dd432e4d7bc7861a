"""EVA's ranks against those that PEFT gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import EvaConfig, LoraConfig, get_eva_state_dict

from sumcirc.errors import UserError
from sumcirc.models.architectures import architecture
from sumcirc.schema import MODULES
from sumcirc.selection.context import SelectionContext
from sumcirc.selection.explained_variance import RANK, RHO, distributed, eva, explained
from tests.support.small_evidence import evidence, selecting
from tests.support.small_models import small_config, write_model


@pytest.fixture(params=["gpt2", "llama"])
def looked_at(
    request: pytest.FixtureRequest, tmp_path: Path, tokenizer: Any, news_files: dict[str, Path]
) -> SelectionContext:
    folder = write_model(tmp_path / "model", small_config(request.param), tokenizer)
    return evidence(selecting(folder, news_files, tmp_path, "eva", documents=8, batch_size=4))


def test_ranks_are_those_of_peft(looked_at: SelectionContext) -> None:
    names = architecture(looked_at.model.config)
    every = {module: names.linears(layer, module) for layer in (0, 1) for module in MODULES}
    config = LoraConfig(
        r=RANK,
        target_modules=[name.split(".")[-1] for some in every.values() for name in some],
        init_lora_weights="eva",
        eva_config=EvaConfig(rho=RHO),
    )
    # c_proj is the last name of two linears of GPT-2, and all linears are meant anyway
    found = eva(looked_at)
    assert found.values.shape == (2, 4, 2)
    for number, batch in enumerate(looked_at.token_batches(4)):
        inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
        theirs = get_eva_state_dict(looked_at.model, [inputs], config, show_progress_bar=False)
        wanted = [
            [
                np.mean([len(theirs[name]) for name in names.linears(layer, module)])
                for module in MODULES
            ]
            for layer in (0, 1)
        ]
        assert found.values[..., number] == pytest.approx(np.array(wanted), abs=1e-9)


def test_shares_are_those_of_principal_components() -> None:
    random = np.random.default_rng(0)
    inputs = random.normal(size=(200, 40)) * np.geomspace(1, 1e-2, 40) + 3
    values = np.linalg.eigvalsh(np.cov(inputs.T))[::-1]
    found = explained(torch.tensor(inputs, dtype=torch.float32), 16)
    assert found == pytest.approx(values[:16] / values.sum(), rel=1e-3)


def test_ranks_add_up_and_go_to_the_largest_shares() -> None:
    """Two modules, of two and one linears: six ranks of two on average."""
    shares = {(0, 0): np.array([0.5, 0.2, 0.1, 0.05]), (0, 1): np.array([0.4, 0.3, 0.15, 0.12])}
    linears = {(0, 0): 2, (0, 1): 1}
    # sorted: .5 .5 .4 .3 .2 .2
    assert distributed(shares, linears, 2) == {(0, 0): 2.0, (0, 1): 2.0}
    assert distributed(shares, linears, 3) == {(0, 0): 2.5, (0, 1): 4.0}


def test_inputs_that_do_not_vary_are_refused(looked_at: SelectionContext) -> None:
    norm: Any = next(
        module
        for name, module in looked_at.model.named_modules()
        if name.endswith((".1.ln_2", ".1.post_attention_layernorm"))
    )
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.zero_()
    with pytest.raises(
        UserError, match=r"selector=eva: the inputs of mlp_in in layer 1 don't vary"
    ):
        eva(looked_at)
