"""Files of edge scores per document: `circuits/step-000200.safetensors` in a run directory.

`measure_records.record_file(folder, step)` names the file. Only existing edges are stored, in row
order of the graph, which takes 65 kB per document for GPT-2 small in half precision. Scores of
different documents and metrics differ by orders of magnitude, and many are below the smallest
number of half precision (those of a KL are about 1e-8), so each document's scores are divided by
their largest, which is stored separately.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from sumcirc.circuits.graph import Graph
from sumcirc.errors import UserError
from sumcirc.models.architectures import Shape
from sumcirc.storage.reading import (
    Count,
    Range,
    RecordError,
    parse_json,
    read_tensors,
    require_array,
)
from sumcirc.storage.writing import write_file
from sumcirc.tracking.measure_records import PLAUSIBLE

FORMAT = 1
MOST_HEADS = 10_000  # in a layer


@dataclass(frozen=True)
class ScoreHeader:
    """The JSON in the metadata of a score file, with the fields of `DocumentScores` and `Graph`."""

    shape: Shape
    expand_groups: bool
    documents: list[str]
    method: str
    metric: str
    interpolation_steps: Count
    step: Annotated[int, Range(-1)]


@dataclass(frozen=True, eq=False)
class DocumentScores:
    """Edge scores of a model at one step on each document, with the settings that produced them.

    Attributes:
        graph: the model's graph.
        scores: [documents, sources, destinations] edge scores; 0 where there is no edge.
        documents: ids of the documents.
        method: attribution method, such as `eap-ig-inputs`.
        metric: the attributed metric, such as `kl`.
        interpolation_steps: number of steps of integrated gradients.
        step: optimizer step at which the model was scored; -1 for the base model.
    """

    graph: Graph
    scores: NDArray[np.float32]
    documents: list[str]
    method: str
    metric: str
    interpolation_steps: int
    step: int

    def save(self, path: Path, precision: Literal["float16", "float32"] = "float16") -> None:
        """Write the scores to a file atomically.

        With float16, 3 digits of a score are kept. For scores below 1/16,000 of the largest |score|
        of their document, the error is at most 3e-8 of this largest |score|.

        Args:
            path: the file to write.
            precision: number format of the stored scores.

        Raises:
            UserError: an edge's score isn't finite, or the file can't be written.
            ValueError: the shape of `scores` doesn't fit `graph` and `documents`.
        """
        expected = (len(self.documents), *self.graph.exists.shape)
        if self.scores.shape != expected:
            raise ValueError(f"expected scores of shape {expected}, got {self.scores.shape}")
        # safetensors writes memory as it is, and this selection is in column order
        edges = np.ascontiguousarray(self.scores[:, self.graph.exists], dtype=np.float32)
        arrays = packed("edges", edges, path, precision)
        header = {
            "shape": asdict(self.graph.shape),
            "expand_groups": self.graph.expand_groups,
            "documents": self.documents,
            "method": self.method,
            "metric": self.metric,
            "interpolation_steps": self.interpolation_steps,
            "step": self.step,
        }
        metadata = {"format": str(FORMAT), "circuit": json.dumps(header, ensure_ascii=False)}
        write_file(path, lambda temporary: save_file(arrays, temporary, metadata))

    @classmethod
    def read(cls, path: Path) -> DocumentScores:
        """Read a file that `save` wrote; the scores are float32, whatever precision is stored.

        Args:
            path: the file to read.

        Raises:
            RecordError: the file doesn't exist, or was not written by `save`.
        """
        metadata, arrays = read_tensors(path)
        if metadata.get("format") != str(FORMAT) or "circuit" not in metadata:
            raise RecordError(
                path, f"is not a file of edge scores of format {FORMAT}; score the circuit again"
            )
        header = parse_json(metadata["circuit"], path, ScoreHeader, "circuit")
        edges = unpacked("edges", arrays, path)
        require_possible(header.shape, edges.shape[1], path)
        graph = Graph(header.shape, header.expand_groups)
        return cls(
            graph,
            at_places(edges, "edges", graph.exists, len(header.documents), path),
            header.documents,
            header.method,
            header.metric,
            header.interpolation_steps,
            header.step,
        )


def packed(
    name: str,
    values: NDArray[np.float32],
    path: Path,
    precision: Literal["float16", "float32"] = "float16",
) -> dict[str, NDArray[np.floating]]:
    """Return the arrays of a file with scores; those of float16 are divided by the largest.

    Args:
        name: name of the array of scores.
        values: [documents, scores] the scores.
        path: the file, for the error message.
        precision: number format of the stored scores.

    Returns:
        `name` with the scores, and for float16 `largest` with the largest |score| of each document.

    Raises:
        UserError: a score isn't finite.
    """
    if not np.isfinite(values).all():
        raise UserError(
            f"{path}: scores that are NaN or infinite can't be stored;"
            " score the circuit again in float32"
        )
    if precision == "float32":
        return {name: values}
    largest = np.abs(values).max(axis=1, initial=0.0)
    largest = np.where(largest > 0, largest, 1.0).astype(np.float32)
    return {name: (values / largest[:, None]).astype(np.float16), "largest": largest}


def unpacked(name: str, arrays: dict[str, NDArray[Any]], path: Path) -> NDArray[np.float32]:
    """Return the scores [documents, scores] that `packed` converted to arrays.

    Args:
        name: name of the array of scores.
        arrays: the arrays of the file.
        path: the file, for the error messages.

    Raises:
        RecordError: an array is missing or has another shape.
    """
    values = require_array(arrays, name, path, ndim=2).astype(np.float32)
    if "largest" in arrays:
        largest = require_array(arrays, "largest", path, ndim=1)
        if len(largest) != len(values):
            raise RecordError(path, f"has {len(largest)} values, not {len(values)}", "largest")
        values *= largest[:, None]
    return values


def at_places(
    values: NDArray[np.float32],
    name: str,
    exists: NDArray[np.bool_],
    documents: int,
    path: Path,
) -> NDArray[np.float32]:
    """Return scores [documents, ...] at the places where there is an edge or a unit, 0 elsewhere.

    Args:
        values: [documents, places] the scores.
        name: name of the array of scores, for the error messages.
        exists: [...] true at the places, in row order.
        documents: number of documents that there should be.
        path: the file, for the error messages.

    Raises:
        RecordError: the numbers of documents or places differ, or a score is impossible.
    """
    expected = (documents, int(exists.sum()))
    if values.shape != expected:
        reason = f"is {values.shape[0]} x {values.shape[1]}, not {expected[0]} x {expected[1]}"
        raise RecordError(path, reason, name)
    if not np.abs(values).max(initial=0) <= PLAUSIBLE:  # also refuses NaN
        raise RecordError(path, "contains a score that is NaN or impossibly large", name)
    found = np.zeros((len(values), *exists.shape), dtype=np.float32)
    found[:, exists] = values
    return found


def require_possible(shape: Shape, edges: int, path: Path) -> None:
    """Check sizes before building a graph from them, which would exhaust memory if they were wrong.

    Args:
        shape: the sizes.
        edges: number of stored values, at least one for each edge.
        path: the file that has them.

    Raises:
        RecordError: no such model is possible, or it has more than `edges` edges.
    """
    layers, heads, groups = shape.layers, shape.heads, shape.key_value_heads
    if not (0 < groups <= heads <= MOST_HEADS and layers > 0 and heads % groups == 0):
        reason = f"has {layers} layers, {heads} heads and {groups} key/value heads"
        raise RecordError(path, reason, "circuit.shape")
    least = heads * heads * layers * (layers - 1) // 2  # from head to query
    if edges < max(least, layers):
        raise RecordError(path, f"has {edges} edges, too few for its shape", "edges")
