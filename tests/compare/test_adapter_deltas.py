"""Which pairs are refused for surgery before a weight is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from peft import LoraConfig

from sumcirc.compare.deltas.adapter_deltas import check_delta_scaling, check_path
from sumcirc.errors import UserError
from sumcirc.models.model_reference import ModelReference
from sumcirc.schema import ModelConfig

BASE = ModelConfig(name="base", path="base")
BEFORE = ModelReference("base", BASE, None)


def adapter(folder: Path, model: ModelConfig = BASE, **changes: Any) -> ModelReference:
    LoraConfig(target_modules=["c_attn"], **changes).save_pretrained(str(folder))
    return ModelReference("tuned", model, folder)


def test_what_can_be_scaled_is_let_through(tmp_path: Path) -> None:
    check_delta_scaling(BEFORE, adapter(tmp_path), [0.0, 0.5, 1.5])
    check_delta_scaling(
        BEFORE, ModelReference("whole", ModelConfig(name="x", path="x"), tmp_path / "x"), [0.5]
    )


def test_switched_adapters_take_both_ends_alone(tmp_path: Path) -> None:
    side = adapter(tmp_path, use_dora=True)
    check_delta_scaling(BEFORE, side, [0.0, 1.0])
    with pytest.raises(UserError, match=r"`tuned` is DoRA, which can only be on or .*=\[0.0,1.0\]"):
        check_delta_scaling(BEFORE, side, [0.0, 0.5, 1.0])


def test_trained_biases_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"bias=all trains biases of the base, so without"):
        check_delta_scaling(BEFORE, adapter(tmp_path, bias="all"), [0.0])


def test_an_adapter_on_a_third_model_is_refused(tmp_path: Path) -> None:
    other = adapter(tmp_path, ModelConfig(name="other", path=str(tmp_path)))
    for before, after in ((BEFORE, other), (other, BEFORE)):
        with pytest.raises(UserError, match=r"is an adapter, .* merge it into its base"):
            check_delta_scaling(before, after, [0.0])


def test_single_trained_tokens_have_no_path(tmp_path: Path) -> None:
    check_path(BEFORE)
    check_path(adapter(tmp_path / "one", use_dora=True))
    with pytest.raises(UserError, match=r"single rows .* leave path and masks out of compare"):
        check_path(adapter(tmp_path / "two", trainable_token_indices=[1, 2]))
