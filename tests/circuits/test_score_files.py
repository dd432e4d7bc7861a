"""Scores come back from a file: exactly, or as exactly as half precision can."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from sumcirc.circuits.graph import Graph
from sumcirc.circuits.score_files import DocumentScores
from sumcirc.errors import UserError
from sumcirc.models.architectures import Shape
from sumcirc.tracking.measure_records import ProbeRecord, record_file

GROUPED = Graph(Shape(3, 4, 2, 16, 64, 128, 256, False))


def small(graph: Graph = GROUPED) -> DocumentScores:
    rng = np.random.default_rng(0)
    # as large and small as scores of a sum of logits and of a KL over the vocabulary
    size = np.array([1e5, 1.0, 1e-9])[:, None, None]
    scores = (rng.normal(size=(3, *graph.exists.shape)) ** 3 * size).astype(np.float32)
    documents = ["wire-0", "wire-é", "3"]
    return DocumentScores(
        graph, scores * graph.exists, documents, "eap-ig-inputs", "kl", 5, step=200
    )


@pytest.mark.parametrize("expand", [False, True])
def test_single_precision_is_exact(expand: bool, tmp_path: Path) -> None:
    before = small(Graph(GROUPED.shape, expand))
    path = record_file(tmp_path / "circuits", 200)
    assert path.name == "step-000200.safetensors"
    before.save(path, "float32")
    after = DocumentScores.read(path)
    assert (after.scores == before.scores).all()
    assert after.scores.dtype == np.float32
    assert after.graph.destinations == before.graph.destinations
    assert after.graph.shape == before.graph.shape
    names = ("documents", "method", "metric", "interpolation_steps", "step")
    assert [getattr(after, n) for n in names] == [getattr(before, n) for n in names]


def test_half_precision_whatever_the_scale(tmp_path: Path) -> None:
    before = small()
    before.save(tmp_path / "half.safetensors", "float16")
    before.save(tmp_path / "single.safetensors", "float32")
    after = DocumentScores.read(tmp_path / "half.safetensors")
    largest = np.abs(before.scores).max(axis=(1, 2), keepdims=True)
    error = np.abs(after.scores - before.scores)
    assert (error <= np.maximum(2.0**-11 * np.abs(before.scores), 3.1e-8 * largest) * 1.001).all()
    assert (np.abs(after.scores).max(axis=(1, 2)) == largest.ravel()).all()
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("half", "single")]
    assert sizes[1] - sizes[0] > 0.9 * 2 * 3 * GROUPED.edges


def test_a_document_of_zeros(tmp_path: Path) -> None:
    before = replace(small(), scores=np.zeros((3, *GROUPED.exists.shape), dtype=np.float32))
    before.save(tmp_path / "zero.safetensors")
    assert not DocumentScores.read(tmp_path / "zero.safetensors").scores.any()


def test_what_cannot_be_saved(tmp_path: Path) -> None:
    record = small()
    with pytest.raises(ValueError, match="expected scores of shape"):
        replace(record, documents=["one"]).save(tmp_path / "c.safetensors")
    record.scores[0, 0, 0] = np.nan
    with pytest.raises(UserError, match="NaN or infinite can't be stored"):
        record.save(tmp_path / "c.safetensors")
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not there"):
        DocumentScores.read(tmp_path / "none.safetensors")
    (tmp_path / "text.safetensors").write_text("{}")
    with pytest.raises(UserError, match="is not a readable safetensors file"):
        DocumentScores.read(tmp_path / "text.safetensors")
    ProbeRecord(0, [], {}).save(tmp_path / "probes.safetensors")
    with pytest.raises(UserError, match="is not a file of edge scores of format 1"):
        DocumentScores.read(tmp_path / "probes.safetensors")
    save_file({"edges": np.zeros((2, 3))}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="is not a file of edge scores of format 1"):
        DocumentScores.read(tmp_path / "other.safetensors")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -1e30, 1e30])
def test_scores_that_none_can_be_are_refused(value: float, tmp_path: Path) -> None:
    before, path = small(), tmp_path / "step-000200.safetensors"
    before.save(path, "float32")
    with safe_open(path, framework="numpy") as file:
        metadata, edges = file.metadata(), file.get_tensor("edges")
    edges[1, 3] = value
    save_file({"edges": edges}, path, metadata)
    with pytest.raises(UserError, match=r"step-000200\.safetensors: `edges` contains a score that"):
        DocumentScores.read(path)
