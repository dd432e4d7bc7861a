"""Selectors read documents of the training split and no others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sumcirc.errors import UserError
from sumcirc.schema import SelectorName
from sumcirc.selection.choosing import check_selection, select
from sumcirc.selection.registry import SELECTORS
from tests.support.small_evidence import evidence, selecting
from tests.support.small_models import small_config

READING = [
    name.value
    for name in SelectorName
    if name is not SelectorName.own and SELECTORS[name].measures and SELECTORS[name].documents
]


@pytest.mark.parametrize("name", READING)
def test_a_choice_depends_on_training_documents_alone(
    name: str, gpt2_folder: Path, news_files: dict[str, Path], tmp_path: Path
) -> None:
    """Other files give the same scores for the same training split, and others for another."""
    train = news_files["train"]
    missing = {"validation": tmp_path / "none.jsonl", "test": tmp_path / "none.jsonl"}
    swapped = {"train": news_files["validation"], "validation": train, "test": train}
    found = {}
    for run, files in (("one", news_files), ("gone", {"train": train} | missing), ("two", swapped)):
        config = selecting(gpt2_folder, files, tmp_path / run, name, documents=6, resamples=2)
        found[run] = SELECTORS[SelectorName(name)].score(evidence(config, splits=["train"]))
    assert (found["one"].values == found["gone"].values).all()
    assert found["one"].values.shape == found["two"].values.shape
    assert not np.allclose(found["one"].values, found["two"].values)


@pytest.mark.parametrize("name", READING)
def test_a_run_that_has_validation_documents_does_not_look_at_them(
    name: str, gpt2_folder: Path, news_files: dict[str, Path], tmp_path: Path
) -> None:
    """Training reads both splits; the selector gets a corpus that fails when it is used."""
    config = selecting(gpt2_folder, news_files, tmp_path, name, documents=6, resamples=2)
    context = evidence(config)
    context.data.corpora["validation"] = Unreadable()  # type: ignore[assignment]
    context.data.encoded["validation"] = Unreadable()  # type: ignore[assignment]
    select(context)


class Unreadable:
    def __getattribute__(self, name: str) -> Any:
        raise AssertionError("the validation split is read")


@pytest.mark.parametrize("name", ["circuit", "circuit_delta", "extrapolated"])
def test_pairs_need_documents_with_their_own_summaries(
    name: str, gpt2_folder: Path, news_files: dict[str, Path], tmp_path: Path
) -> None:
    config = selecting(gpt2_folder, news_files, tmp_path, name)
    config.data.permute_summaries = 1
    with pytest.raises(UserError, match=rf"data\.permute_summaries=1: selector={name} makes"):
        check_selection(config, small_config("gpt2"))
    with pytest.raises(UserError, match=r"data\.permute_summaries=1"):
        _ = evidence(config).pairs
