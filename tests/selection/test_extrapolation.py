"""Extrapolated attribution against a training loop written out and patched runs, in float64."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import kl_div, log_softmax

from sumcirc.circuits.inputs.example_pairs import TokenPairs, pair_metric
from sumcirc.data.batch_order import Division
from sumcirc.data.batches import TrainingStream
from sumcirc.errors import UserError
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.models.architectures import architecture
from sumcirc.models.loading import load_model
from sumcirc.schema import MODULES
from sumcirc.selection.choosing import select
from sumcirc.selection.context import SelectionContext
from sumcirc.selection.extrapolation import LEAST, MOST, extrapolated, extrapolation
from sumcirc.selection.linear_effects import linear_effects
from sumcirc.training.module import summary_loss
from tests.support.small_evidence import evidence, selecting
from tests.support.small_models import small_config, write_model


@pytest.fixture(params=["gpt2", "llama"])
def looked_at(
    request: pytest.FixtureRequest, tmp_path: Path, tokenizer: Any, news_files: dict[str, Path]
) -> SelectionContext:
    """A model in float64; the Llama has grouped queries and gates."""
    folder = write_model(tmp_path / "model", small_config(request.param), tokenizer)
    config = selecting(folder, news_files, tmp_path, "extrapolated", documents=3)
    config.model.dropout = 0.0
    return evidence(config, load_model(config.model, torch.float64))


def exact(model: Any) -> bool:
    """Whether differences may be small: transformers computes a Llama's norms in float32."""
    return model.config.model_type == "gpt2"


def patched(model: Any, pair: Any, name: str, share: float) -> float:
    """KL(clean || run) where a linear's output in the corrupted run moves towards the clean one."""
    clean, corrupted = (torch.tensor(one.ids)[None] for one in (pair.clean, pair.corrupted))
    linear, seen = model.get_submodule(name), []
    reads = torch.tensor(pair.clean.good >= 0)

    def run(ids: torch.Tensor, hook: Callable[..., Any]) -> torch.Tensor:
        handle = linear.register_forward_hook(hook)
        with torch.no_grad():
            found = log_softmax(model(ids).logits[0][reads], -1)
        handle.remove()
        return found

    target = run(clean, lambda module, given, output: seen.append(output))
    found = run(corrupted, lambda module, given, output: output + share * (seen[0] - output))
    return float(kl_div(found, target, reduction="none", log_target=True).sum(-1).mean())


def naive_effects(model: Any, pairs: Any) -> np.ndarray:
    """- d KL / d share at share 0, summed over the linears of a module, by differences."""
    names, step = architecture(model.config), 1e-3 if exact(model) else 0.05
    return np.array(
        [
            [
                [
                    sum(
                        patched(model, pair, name, -step) - patched(model, pair, name, step)
                        for name in names.linears(layer, module)
                    )
                    / (2 * step)
                    for pair in pairs
                ]
                for module in MODULES
            ]
            for layer in (0, 1)
        ]
    )


def test_effects_are_derivatives_of_patched_runs(looked_at: SelectionContext) -> None:
    pairs = looked_at.pairs
    tokens = TokenPairs.of(pairs)
    metric = pair_metric("kl", tokens)
    found = linear_effects(HookedModel(looked_at.model), tokens, metric, 2)
    wanted = naive_effects(looked_at.model, pairs)
    assert len(pairs) == 3
    assert found == pytest.approx(wanted, rel=2e-3, abs=1e-5 * abs(wanted).max())


def first_steps(context: SelectionContext) -> Any:
    """The copy after one epoch of 1 % of the data, trained in a plain loop."""
    config = context.config
    plain: Any = load_model(config.model, torch.float64)
    pairs = context.data.encoded["train"]
    steps = -(-len(pairs) // (100 * config.trainer.batch_size))
    optimizer = torch.optim.AdamW(plain.parameters(), config.model.learning_rate / 100)
    optimizer.param_groups[0]["weight_decay"] = 0.0
    plain.eval()
    stream = TrainingStream(pairs, Division(config.trainer.batch_size), steps, config.data.seed)
    for batch in stream:
        optimizer.zero_grad()
        summary_loss(plain.base_model, plain.get_output_embeddings(), batch).backward()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
        optimizer.step()
    return plain


def test_scores_are_the_trapezoid_along_a_plain_loops_first_steps(
    looked_at: SelectionContext,
) -> None:
    looked_at.config.model.learning_rate = 0.005
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    found = extrapolated(looked_at)
    assert torch.equal(torch.random.get_rng_state(), state)
    plain, base = first_steps(looked_at), dict(looked_at.model.named_parameters())
    change = {name: one.detach() - base[name].detach() for name, one in plain.named_parameters()}

    def at(moves: float) -> np.ndarray:
        with torch.no_grad():
            for name, weight in plain.named_parameters():
                weight.copy_(base[name] + moves * change[name])
        return naive_effects(plain, looked_at.pairs[:1])

    near = 0.5 if exact(plain) else 5.0
    slopes = {
        moves: (at(moves + near) - at(moves - near)) / (2 * near) for moves in (0, 25, 55, 80)
    }

    # the derivative at K is smooth, so that a cubic through four points stands for all of them
    def slope(moves: float) -> np.ndarray:
        others = list(slopes)
        terms = [
            slopes[one]
            * np.prod([(moves - other) / (one - other) for other in others if other != one])
            for one in others
        ]
        return np.sum(terms, axis=0)

    many = np.linspace(LEAST, MOST, 2001)
    added = np.mean([(slopes[0] + slope(k)) * k / 2 for k in many], axis=0)
    assert abs(added).max() > 0.05 * abs(at(0)).max()
    error = abs(found.values[..., :1] - at(0) - added).max()
    assert error < 0.02 * abs(added).max()


def test_a_quadratic_is_extrapolated_to_its_mean() -> None:
    """The trapezoid is exact for E(x) = a + b x + c x^2."""
    mean, variance = (LEAST + MOST) / 2, (MOST - LEAST) ** 2 / 12  # of K
    found = extrapolation(lambda x: np.array([2 + 3 * x - 0.1 * x * x]))
    assert found == pytest.approx([2 + 3 * mean - 0.1 * (mean**2 + variance)], rel=1e-9)


def test_steps_too_small_to_change_a_weight_are_refused(looked_at: SelectionContext) -> None:
    looked_at.config.model.learning_rate = 0.0
    with pytest.raises(UserError, match=r"selector=extrapolated: the first steps of full fine-"):
        extrapolated(looked_at)


def test_scores_are_kept_for_the_learning_rate_that_gave_them(
    gpt2_folder: Path, news_files: dict[str, Path], tmp_path: Path
) -> None:
    scores = []
    for rate in (1e-3, 1e-3, 1e-2):
        config = selecting(gpt2_folder, news_files, tmp_path, "extrapolated", documents=7)
        config.model.learning_rate = rate
        scores.append([one.score for one in select(evidence(config)).ranking])
    assert scores[0] == scores[1] != scores[2]
    assert len(list((tmp_path / "cache" / "selection").glob("*/scores.json"))) == 2
