"""Files of scores by span: `circuits/span-scores.safetensors` in a run directory.

Like `circuits.score_files`: each document's scores are divided by their largest and stored in half
precision, 3 digits of each. Only existing units are stored, pair of spans by pair of spans, in row
order of the graph.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file

from sumcirc.circuits.graph import Graph
from sumcirc.circuits.score_files import at_places, packed, require_possible, unpacked
from sumcirc.circuits.spans.scores import SpanScores
from sumcirc.circuits.spans.units import SpanPairs
from sumcirc.models.architectures import Shape
from sumcirc.storage.reading import RecordError, parse_json, read_tensors
from sumcirc.storage.writing import write_file

FORMAT = 1


@dataclass(frozen=True)
class SpanHeader:
    """The JSON in the metadata of the file, with the fields of `SpanScores` and `SpanPairs`."""

    shape: Shape
    expand_groups: bool
    documents: list[str]
    spans: list[str]
    pairs: list[list[int]]
    method: str
    metric: str
    interpolation_steps: int


def write_span_scores(path: Path, scores: SpanScores, method: str, metric: str, steps: int) -> None:
    """Write scores of all units to a file atomically.

    Args:
        path: the file to write.
        scores: the scores.
        method, metric, steps: the settings that produced them.

    Raises:
        UserError: a score isn't finite, or the file can't be written.
    """
    exists = scores.units.exists(scores.graph)
    values = np.ascontiguousarray(scores.documents.float().numpy()[:, exists])
    header = SpanHeader(
        scores.graph.shape,
        scores.graph.expand_groups,
        scores.ids,
        list(scores.units.names),
        [list(pair) for pair in scores.units.pairs],
        method,
        metric,
        steps,
    )
    metadata = {"format": str(FORMAT), "spans": json.dumps(asdict(header), ensure_ascii=False)}
    arrays = packed("units", values, path)
    write_file(path, lambda temporary: save_file(arrays, temporary, metadata))


def read_span_scores(path: Path) -> SpanScores:
    """Read a file that `write_span_scores` wrote.

    Args:
        path: the file to read.

    Raises:
        RecordError: the file doesn't exist, or was not written by `write_span_scores`.
    """
    metadata, arrays = read_tensors(path)
    if metadata.get("format") != str(FORMAT) or "spans" not in metadata:
        raise RecordError(path, f"is not a file of scores by span of format {FORMAT}")
    header = parse_json(metadata["spans"], path, SpanHeader, "spans")
    values = unpacked("units", arrays, path)
    require_possible(header.shape, values.shape[1], path)
    graph = Graph(header.shape, header.expand_groups)
    units = SpanPairs(tuple(header.spans), tuple(_pair(one, header, path) for one in header.pairs))
    found = at_places(values, "units", units.exists(graph), len(header.documents), path)
    return SpanScores(graph, units, header.documents, torch.from_numpy(found))


def _pair(one: list[int], header: SpanHeader, path: Path) -> tuple[int, int]:
    count = len(header.spans)
    if len(one) != 2 or not all(0 <= span < count for span in one):
        raise RecordError(path, f"has the pair {one} of {count} spans", "pairs")
    return one[0], one[1]
