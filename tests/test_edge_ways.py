"""benchmarks/edge_ways.py: scores are combined as the page of edge choice says."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sumcirc.schema import Method

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
SCORES = np.array([[[4.0, -1.0]], [[-2.0, 0.5]], [[0.1, 0.1]]])
GAPS = np.array([2.0, -1.0, 0.01])  # the last is below a quarter of the median size, 1


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("edge_ways")


def combined(module: Any, way: str) -> np.ndarray:
    asked: list[tuple[str, Method]] = []

    def documents(metric: str, method: Method = Method.eap_ig_inputs) -> np.ndarray:
        asked.append((metric, method))
        return SCORES

    scorer = SimpleNamespace(documents=documents, gaps=lambda metric: GAPS)
    found = module.ways(["kl", "nll"])[way](scorer)
    assert asked == [("nll", Method.relp) if "RelP" in way else ("kl", Method.eap_ig_inputs)]
    return np.asarray(found)


def test_scores_by_gap_are_shares_of_gaps_bounded_from_below(module: Any) -> None:
    found = combined(module, "kl, |mean| by gap")
    expected = [abs(4 / 2 - 2 / 1 + 0.1 / 0.25) / 3, abs(-1 / 2 + 0.5 / 1 + 0.1 / 0.25) / 3]
    assert found == pytest.approx(np.array([expected]))


def test_in_shares_by_document_all_documents_count_alike(module: Any) -> None:
    found = combined(module, "kl, share by document")
    expected = [(4 / 5 + 2 / 2.5 + 0.5) / 3, (1 / 5 + 0.5 / 2.5 + 0.5) / 3]
    assert found == pytest.approx(np.array([expected]))


def test_relp_attributes_a_metric_that_has_a_gradient_at_the_clean_run(module: Any) -> None:
    found = combined(module, "nll, RelP, mean of |score|")
    assert found == pytest.approx(np.array([[6.1 / 3, 1.6 / 3]]))
    assert combined(module, "nll, RelP, |mean|") == pytest.approx(np.array([[2.1 / 3, 0.4 / 3]]))
