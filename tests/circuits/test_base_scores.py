"""The base's scores: those of the base, kept for equal pairs and settings only."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sumcirc.circuits.attribution import base_scores as base
from sumcirc.circuits.attribution.base_scores import base_scores
from sumcirc.circuits.discovery import score_edges
from sumcirc.circuits.tasks import make_task
from sumcirc.schema import Method
from tests.support.small_evidence import evidence, selecting


def test_they_are_computed_once(
    gpt2_folder: Path,
    news_files: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = evidence(selecting(gpt2_folder, news_files, tmp_path, "circuit"))
    options, pairs = found.config.selector.circuit, list(found.pairs)
    wanted = score_edges(found.model, make_task(found.model, pairs, options, True), options)
    first = base_scores(found.model, pairs, options, tmp_path)
    assert np.array_equal(first.scores, wanted.documents.float().numpy())
    assert first.step == -1

    def refuse(*arguments: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(base, "score_edges", refuse)
    again = base_scores(found.model, pairs, replace(options, batch_size=1), tmp_path)
    assert np.array_equal(again.scores, first.scores)
    for other, changed in (
        (pairs[:-1], options),
        (pairs, replace(options, method=Method.clean_corrupted)),
    ):
        with pytest.raises(AssertionError, match="computed again"):
            base_scores(found.model, other, changed, tmp_path)
