"""The shape of circuit files in the JSON format of EAP-IG's tools; see `circuits.eap_ig_format`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict

from sumcirc.storage.reading.shapes import Count, Range
from sumcirc.storage.reading.texts import read_json

LARGEST_CIRCUIT = 2**30  # bytes; a model with 7B parameters has about 2 million edges


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
    """Contents of the file."""

    cfg: Sizes
    nodes: dict[str, Node | bool]
    edges: dict[str, Edge]


def read_circuit_file(path: Path) -> CircuitFile:
    """Read a circuit file.

    Raises:
        RecordError: it can't be read, or isn't a file as EAP-IG's tools or this package write it.
    """
    return read_json(path, CircuitFile, LARGEST_CIRCUIT)
