"""What the change wrote along edges, as means with intervals for summary.json, and as a file.

`path_edges.safetensors` holds `writes` [items, edges] (float32, existing edges alone, row by row),
`moved` [edges] and `rest` [units, items]; its metadata name items, senders, units and the shape of
the model.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from sumcirc.circuits.edge_sums import by_layer
from sumcirc.circuits.graph import Graph
from sumcirc.circuits.score_files import at_places, packed, unpacked
from sumcirc.compare.path.edge_writes import EdgeWrites, existing
from sumcirc.compare.path.written_changes import Sender
from sumcirc.models.architectures import Shape
from sumcirc.statistics import bootstrap_means, bootstrap_ratios, significantly_different
from sumcirc.storage.reading import RecordError, parse_json, read_tensors, require_array
from sumcirc.storage.writing import write_file

LISTED = 20  # largest number of edges in the summary
FORMAT = 1
FILE = "path_edges.safetensors"

Values = NDArray[np.float64]


def edge_summary(found: EdgeWrites, gain: Values) -> dict[str, Any]:
    """Return the edges with the largest writes, and what all edges add up to.

    Args:
        found: the writes.
        gain: [items] the gain, of which means and intervals are shares.
    """
    exists = found.exists
    values = found.values[:, exists].T  # [edges, items]
    rows, columns = np.nonzero(exists)
    means = values.mean(1)
    first = np.argsort(-np.abs(means), kind="stable")[:LISTED]
    scores = bootstrap_means(values[first])
    shares = bootstrap_ratios(values[first], gain)
    significant = significantly_different(values)
    whole = float(gain.mean())
    largest = [
        {
            "sender": found.senders[rows[edge]].label,
            "destination": found.graph.destinations[columns[edge]],
            "score": _ends(scores, place),
            **_ends(shares, place),
            "significant": bool(significant[edge]),
            "moved": float(found.moved[exists][edge] / whole),
        }
        for place, edge in enumerate(first)
    ]
    by_sender = found.values.mean(0).sum(1)
    size = float(np.abs(means).sum())
    labels = list(found.rest)
    parts = np.stack([values.sum(0), *found.rest.values()])
    ends = bootstrap_ratios(parts, gain)
    sources = found.by_source.mean(0) / whole
    layers = by_layer(np.maximum(sources, 0), found.graph)
    layers = layers - by_layer(np.maximum(-sources, 0), found.graph)
    return {
        "edges": len(means),
        "significant": int(significant.sum()),
        "divided": _ends(ends, 0),
        "cancelled": 1 - float(np.abs(by_sender).sum()) / size if size else float("nan"),
        "rest": [{"unit": label, **_ends(ends, 1 + i)} for i, label in enumerate(labels)],
        "largest": largest,
        "layers": layers.tolist(),
    }


@dataclass(frozen=True)
class EdgeHeader:
    """The JSON in the metadata of the file."""

    shape: Shape
    items: list[str]
    labels: list[str]  # of senders
    sources: list[int]
    rest: list[str]


def write_edges(path: Path, found: EdgeWrites, items: list[str]) -> None:
    """Write what the change wrote along every edge for every item, atomically.

    Args:
        path: the file to write.
        found: the writes.
        items: ids of the items.

    Raises:
        UserError: a write isn't finite, or the file can't be written.
    """
    exists = found.exists
    header = EdgeHeader(
        found.graph.shape,
        items,
        [sender.label for sender in found.senders],
        [sender.source for sender in found.senders],
        list(found.rest),
    )
    rest = np.array(list(found.rest.values())).reshape(len(found.rest), len(items))
    parts = {"writes": found.values[:, exists], "moved": found.moved[exists], "rest": rest}
    arrays = {}
    for name, one in parts.items():
        small = np.ascontiguousarray(one, dtype=np.float32)
        arrays |= packed(name, small, path, "float32")
    metadata = {"format": str(FORMAT), "edges": json.dumps(asdict(header), ensure_ascii=False)}
    write_file(path, lambda temporary: save_file(arrays, temporary, metadata))


def read_edges(path: Path) -> tuple[EdgeWrites, list[str]]:
    """Read a file that `write_edges` wrote: the writes, and the ids of the items.

    Args:
        path: the file to read.

    Raises:
        RecordError: the file doesn't exist, or was not written by `write_edges`.
    """
    metadata, arrays = read_tensors(path)
    if metadata.get("format") != str(FORMAT) or "edges" not in metadata:
        raise RecordError(path, f"is not a file of writes along edges of format {FORMAT}")
    header = parse_json(metadata["edges"], path, EdgeHeader, "edges")
    graph = Graph(header.shape)
    if not all(0 <= source < len(graph.sources) for source in header.sources):
        raise RecordError(path, "names a source that the model doesn't have", "sources")
    senders = [Sender(*one) for one in zip(header.labels, header.sources, strict=True)]
    exists = existing(graph, senders)
    writes = unpacked("writes", arrays, path)
    values = at_places(writes, "writes", exists, len(header.items), path)
    moved = require_array(arrays, "moved", path, ndim=1)[None]
    [moved] = at_places(moved, "moved", exists, 1, path)
    units = np.ones(len(header.items), dtype=bool)
    parts = at_places(unpacked("rest", arrays, path), "rest", units, len(header.rest), path)
    rest = dict(zip(header.rest, parts.astype(np.float64), strict=True))
    found = EdgeWrites(graph, senders, values.astype(np.float64), moved.astype(np.float64), rest)
    return found, header.items


def _ends(ends: tuple[Values, Values, Values], place: int) -> dict[str, float]:
    return {
        name: float(one[place]) for name, one in zip(("mean", "low", "high"), ends, strict=True)
    }
