"""The computational graph of a transformer: nodes that write to and read from the residual stream.

Sources are the embedding (`input`), every head (`a3.h7`) and every MLP (`m3`); destinations are the
query, key and value input of every head (`a3.h7<q>`), every MLP and the `logits`. An edge goes from
a source to each destination that comes after it. Under grouped-query attention keys and values are
destinations of a key/value head (`a3.g1<k>`), or with `expand_groups` of every query head, as in
other tools. The order of sources and destinations is that of EAP-IG (hannamw/EAP-IG).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sumcirc.models.architectures import Shape


@dataclass(frozen=True)
class Graph:
    """The nodes and edges of a model, and their places in a score matrix [sources, destinations].

    Args:
        shape: sizes of the model.
        expand_groups: whether every query head, rather than every key/value head, has its own key
            and value destinations. This makes no difference without grouped-query attention.

    Attributes:
        sources: name of the source of each row.
        destinations: name of the destination of each column.
        exists: [sources, destinations] True where there is an edge.
    """

    shape: Shape
    expand_groups: bool = False
    # derived from the shape, so they don't take part in comparisons
    sources: list[str] = field(init=False, compare=False)
    destinations: list[str] = field(init=False, compare=False)
    exists: NDArray[np.bool_] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        size = self.shape
        sources, destinations, reads = ["input"], [], []
        per_head = self.key_value_destinations == size.heads
        for layer in range(size.layers):
            before = len(sources)
            heads = [f"a{layer}.h{head}" for head in range(size.heads)]
            kind = "h" if per_head else "g"
            groups = [f"a{layer}.{kind}{i}" for i in range(self.key_value_destinations)]
            destinations += [f"{name}<q>" for name in heads]
            destinations += [f"{name}<k>" for name in groups]
            destinations += [f"{name}<v>" for name in groups]
            reads += [before] * (len(heads) + 2 * len(groups))
            sources += heads
            destinations.append(f"m{layer}")
            reads.append(before if size.parallel else len(sources))
            sources.append(f"m{layer}")
        destinations.append("logits")
        reads.append(len(sources))
        exists = np.arange(len(sources))[:, None] < np.array(reads)
        for name, value in (
            ("sources", sources),
            ("destinations", destinations),
            ("exists", exists),
        ):
            object.__setattr__(self, name, value)

    @property
    def key_value_destinations(self) -> int:
        """Number of key destinations in a layer, which is also the number of value destinations."""
        return self.shape.heads if self.expand_groups else self.shape.key_value_heads

    @property
    def nodes(self) -> int:
        """Number of nodes: the sources and the logits."""
        return len(self.sources) + 1

    @property
    def edges(self) -> int:
        """Number of edges of the graph."""
        return int(self.exists.sum())

    def edges_in(self, share: float) -> int:
        """Return the number of edges that a share of all edges stands for.

        It is rounded down, as in EAP-IG, and is at least 1 for a positive share.

        Args:
            share: fraction of all edges, from 0 to 1.
        """
        # 0.29 * 100 is 28.999999999999996 in floating point, and is meant to be 29
        return max(int(share > 0), math.floor(round(share * self.edges, 6)))

    def attention_sources(self, layer: int) -> slice:
        """Return the range of rows that belong to a layer's heads.

        Args:
            layer: index of the layer.
        """
        first = 1 + layer * (self.shape.heads + 1)
        return slice(first, first + self.shape.heads)

    def mlp_source(self, layer: int) -> int:
        """Return the index of the row that belongs to a layer's MLP.

        Args:
            layer: index of the layer.
        """
        return (layer + 1) * (self.shape.heads + 1)

    def _first_destination(self, layer: int) -> int:
        return layer * (self.shape.heads + 2 * self.key_value_destinations + 1)

    def query_columns(self, layer: int) -> slice:
        """Return the range of columns that belong to a layer's queries.

        Args:
            layer: index of the layer.
        """
        first = self._first_destination(layer)
        return slice(first, first + self.shape.heads)

    def key_columns(self, layer: int) -> slice:
        """Return the range of columns that belong to a layer's keys.

        Args:
            layer: index of the layer.
        """
        first = self.query_columns(layer).stop
        return slice(first, first + self.key_value_destinations)

    def value_columns(self, layer: int) -> slice:
        """Return the range of columns that belong to a layer's values.

        Args:
            layer: index of the layer.
        """
        first = self.key_columns(layer).stop
        return slice(first, first + self.key_value_destinations)

    def mlp_destination(self, layer: int) -> int:
        """Return the index of the column that belongs to a layer's MLP.

        Args:
            layer: index of the layer.
        """
        return self.value_columns(layer).stop

    def attention_reads(self, layer: int) -> int:
        """Return the number of sources before a layer's attention, which all have edges into it.

        Args:
            layer: index of the layer.
        """
        return self.attention_sources(layer).start

    def mlp_reads(self, layer: int) -> int:
        """Return the number of sources before a layer's MLP, which all have edges into it.

        Args:
            layer: index of the layer.
        """
        return self.attention_reads(layer) if self.shape.parallel else self.mlp_source(layer)

    def edge_names(self) -> list[tuple[str, int, int]]:
        """Return (name, row, column) of every edge, row by row; names are `source->destination`."""
        rows, columns = np.nonzero(self.exists)
        return [
            (f"{self.sources[row]}->{self.destinations[column]}", int(row), int(column))
            for row, column in zip(rows, columns, strict=True)
        ]
