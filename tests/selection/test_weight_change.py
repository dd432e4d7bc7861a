"""The energy of the change that a short full fine-tuning makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from sumcirc.data.batch_order import Division
from sumcirc.data.batches import TrainingStream
from sumcirc.errors import UserError
from sumcirc.models.architectures import architecture
from sumcirc.schema import MODULES
from sumcirc.selection.choosing import check_selection, select
from sumcirc.selection.weight_change import delta_energy
from sumcirc.training.module import summary_loss
from tests.support.small_evidence import evidence, selecting


def energies(before: Any, after: Any) -> np.ndarray:
    """[layers, modules] of sums of squared differences of weights, read from the parameters."""
    names = architecture(before.config)
    weights = [{n: p.detach() for n, p in one.named_parameters()} for one in (before, after)]
    return np.array(
        [
            [
                sum(
                    float((weights[1][f"{n}.weight"] - weights[0][f"{n}.weight"]).square().sum())
                    for n in names.linears(layer, module)
                )
                for module in MODULES
            ]
            for layer in range(before.config.num_hidden_layers)
        ]
    )


def test_it_is_that_of_a_training_loop_written_out(
    gpt2_folder: Path, news_files: dict[str, Path], tmp_path: Path
) -> None:
    config = selecting(gpt2_folder, news_files, tmp_path, "delta_energy", probe_steps=10)
    config.model.dropout = 0.0
    context = evidence(config)
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    found = delta_energy(context)
    assert torch.equal(torch.random.get_rng_state(), state)

    plain: Any = AutoModelForCausalLM.from_pretrained(gpt2_folder)
    rate = config.model.learning_rate
    optimizer = torch.optim.AdamW(plain.parameters(), lr=rate, weight_decay=0.0)
    stream = TrainingStream(context.data.encoded["train"], Division(4), 10, config.data.seed)
    for step, batch in enumerate(stream):
        optimizer.param_groups[0]["lr"] = rate * min(1.0, step / 1)  # one step of warm-up
        optimizer.zero_grad()
        summary_loss(plain.base_model, plain.get_output_embeddings(), batch).backward()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
        optimizer.step()
    wanted = energies(context.model, plain)
    assert wanted.min() > 0
    assert found.values[..., 0] == pytest.approx(wanted, rel=1e-3)


def test_a_given_model_is_compared_and_its_change_is_found(
    gpt2_folder: Path, news_files: dict[str, Path], tmp_path: Path
) -> None:
    model: Any = AutoModelForCausalLM.from_pretrained(gpt2_folder)
    with torch.no_grad():
        model.transformer.h[1].mlp.c_proj.weight += 0.01
    model.save_pretrained(tmp_path / "after")
    after = {"after": str(tmp_path / "after"), "count": 1}
    config = selecting(gpt2_folder, news_files, tmp_path, "delta_energy", **after)
    context = evidence(config)
    wanted = np.zeros((2, 4))
    wanted[1, MODULES.index("mlp_out")] = 1e-4 * model.transformer.h[1].mlp.c_proj.weight.numel()
    assert delta_energy(context).values[..., 0] == pytest.approx(wanted, rel=1e-4)
    assert select(context).layers == [1]


def test_a_model_that_did_not_change_is_refused(
    gpt2_folder: Path, news_files: dict[str, Path], tmp_path: Path
) -> None:
    config = selecting(gpt2_folder, news_files, tmp_path, "delta_energy", after=str(gpt2_folder))
    with pytest.raises(UserError, match=r"selector=delta_energy: the tuned model's weights are"):
        delta_energy(evidence(config))
    none = selecting(gpt2_folder, news_files, tmp_path, "delta_energy", probe_steps=0)
    with pytest.raises(UserError, match=r"selector=delta_energy: compares the base"):
        check_selection(none, evidence(none).model.config)
