"""The shape of a circuit as a JSON file of EAP-IG's tools; see `circuits.exchange`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict

from sumcirc.storage.reading.shapes import Count, Range
from sumcirc.storage.reading.texts import read_json

LARGEST_CIRCUIT = 2**30  # bytes; a model of 7B parameters has some 2 million edges


class Sizes(TypedDict):
    """Sizes of the model."""

    n_layers: Annotated[int, Range(1, 10_000)]
    n_heads: Annotated[int, Range(1, 10_000)]
    parallel_attn_mlp: NotRequired[bool]
    d_model: NotRequired[Count | None]


class Edge(TypedDict):
    """An edge, in the circuit or not."""

    score: float
    in_graph: bool


class Node(TypedDict):
    """A node, in the circuit or not."""

    in_graph: bool
    neurons: NotRequired[Any]


class CircuitFile(TypedDict):
    """The file's content."""

    cfg: Sizes
    nodes: dict[str, Node | bool]
    edges: dict[str, Edge]


def read_circuit_file(path: Path) -> CircuitFile:
    """The content of a circuit file.

    Raises:
        RecordError: it can't be read, or is not what EAP-IG's tools or we write.
    """
    return read_json(path, CircuitFile, LARGEST_CIRCUIT)
