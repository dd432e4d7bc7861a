"""KappaTune's score against PEFT's helper, where that looks at the same linears."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft.helpers import KappaTuneSelector, find_kappa_target_modules

from sumcirc.errors import UserError
from sumcirc.models.architectures import architecture
from sumcirc.schema import MODULES
from sumcirc.selection.choosing import select
from sumcirc.selection.conditioning import kappa
from sumcirc.selection.context import SelectionContext
from tests.support.small_evidence import evidence, selecting
from tests.support.small_models import small_config, write_model


def looking_at(
    family: str, tmp_path: Path, tokenizer: Any, files: dict[str, Path]
) -> SelectionContext:
    folder = write_model(tmp_path / "model", small_config(family, layers=3), tokenizer)
    return evidence(selecting(folder, files, tmp_path, "kappa", count=1))


def test_it_is_the_condition_number_of_peft(
    tmp_path: Path, tokenizer: Any, news_files: dict[str, Path]
) -> None:
    context = looking_at("llama", tmp_path, tokenizer, news_files)
    theirs = KappaTuneSelector(context.model, show_progress=False)
    theirs._compute_kappas()
    assert theirs._condition_numbers is not None
    names = architecture(context.model.config)
    wanted = np.array(
        [
            [
                np.mean([theirs._condition_numbers[name] for name in names.linears(layer, module)])
                for module in MODULES
            ]
            for layer in range(3)
        ]
    )
    found = kappa(context)
    assert found.values[..., 0] == pytest.approx(-wanted, rel=1e-3)
    # single linears come in the order of PEFT: the best output projection is the first of ours
    outputs = [
        one
        for one in find_kappa_target_modules(context.model, 1.0)["target_modules"] or []
        if one.endswith("o_proj")
    ]
    best = int(np.argmax(found.values[:, MODULES.index("attn_out"), 0]))
    assert names.linears(best, "attn_out") == outputs[:1]


def test_transposed_weights_count_alike_and_nothing_is_read(
    tmp_path: Path, tokenizer: Any, news_files: dict[str, Path]
) -> None:
    """GPT-2's layer 1 gets orthogonal weights, whose condition number is 1."""
    context = looking_at("gpt2", tmp_path, tokenizer, news_files)
    names = architecture(context.model.config)
    for module in MODULES:
        (name,) = names.linears(1, module)
        torch.nn.init.orthogonal_(context.model.get_submodule(name).weight)
    context.data.encoded.clear()
    context.data.corpora.clear()
    found = select(context)
    assert found.layers == [1]
    assert found.ranking[0].score == pytest.approx(-4, rel=1e-4)
    assert (found.size, found.stability, found.ranking[0].low) == (0, None, None)


def test_a_weight_of_zeros_has_no_condition_number(
    tmp_path: Path, tokenizer: Any, news_files: dict[str, Path]
) -> None:
    context = looking_at("gpt2", tmp_path, tokenizer, news_files)
    torch.nn.init.zeros_(context.model.get_submodule("transformer.h.1.mlp.c_fc").weight)
    with pytest.raises(UserError, match=r"selector=kappa: the weight of .*h\.1\.mlp\.c_fc is all"):
        kappa(context)
