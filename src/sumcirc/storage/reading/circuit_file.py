"""The shape of circuit files in the JSON format of EAP-IG's tools; see `circuits.eap_ig_format`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict

from sumcirc.storage.reading.shapes import Count, Range
from sumcirc.storage.reading.texts import read_json

LARGEST_CIRCUIT = 2**30  # bytes; a model with 7B parameters has about 2 million edges


class Sizes(TypedDict):
    """Sizes of the model whose circuit a file contains.

    Attributes:
        n_layers, n_heads: number of layers, and of heads in a layer.
        parallel_attn_mlp: whether a block's attention and MLP read the same residual stream.
        d_model: width of the residual stream.
    """

    n_layers: Annotated[int, Range(1, 10_000)]
    n_heads: Annotated[int, Range(1, 10_000)]
    parallel_attn_mlp: NotRequired[bool]
    d_model: NotRequired[Count | None]


class Edge(TypedDict):
    """An edge of the model's graph.

    Attributes:
        score: its attribution score.
        in_graph: whether it is in the circuit.
    """

    score: float
    in_graph: bool


class Node(TypedDict):
    """A node of the model's graph.

    Attributes:
        in_graph: whether it is in the circuit.
        neurons: the node's neurons that are in the circuit, if it is a circuit of neurons.
    """

    in_graph: bool
    neurons: NotRequired[Any]


class CircuitFile(TypedDict):
    """Contents of a circuit file.

    Attributes:
        cfg: sizes of the model.
        nodes: the nodes by name; a truth value stands for a node's `in_graph`.
        edges: the edges by name.
    """

    cfg: Sizes
    nodes: dict[str, Node | bool]
    edges: dict[str, Edge]


def read_circuit_file(path: Path) -> CircuitFile:
    """Return the contents of a circuit file.

    Raises:
        RecordError: the file can't be read, or is not in the format that EAP-IG's tools and this
            package write.
    """
    return read_json(path, CircuitFile, LARGEST_CIRCUIT)
