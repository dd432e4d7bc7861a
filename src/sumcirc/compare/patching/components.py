"""Parts of a model that can be moved into another one of the same sizes.

    output       what a head writes into the residual stream, through its own model's projection
    query        a head's query
    key          a key/value head's key, seen by all heads of its group
    value        a key/value head's value, read by all heads of its group
    pattern      where a head looks: its query and its group's key together
    attention    what a layer's attention writes: all heads and the projection's bias
    mlp          what a layer's MLP writes
    residual     the residual stream: 0 the embedding, l after layer l - 1
    unembedding  the final norm and unembedding

Under grouped queries the heads of a group share key and value, so these are one part and are moved
together; its number is that of the key/value head.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sumcirc.errors import UserError
from sumcirc.models.activation_cache import HookPoint
from sumcirc.models.architectures import Shape
from sumcirc.schema import PARTS

KINDS = PARTS
OUTPUT, QUERY, KEY, VALUE, PATTERN, ATTENTION, MLP, RESIDUAL, UNEMBEDDING = KINDS
# where in the model these parts are
HOOK_POINTS = {
    QUERY: HookPoint.QUERY,
    KEY: HookPoint.KEY,
    VALUE: HookPoint.VALUE,
    ATTENTION: HookPoint.ATTENTION_OUTPUT,
    MLP: HookPoint.MLP_OUTPUT,
    RESIDUAL: HookPoint.RESIDUAL,
}
BY_HEAD = (OUTPUT, QUERY, PATTERN)
BY_GROUP = (KEY, VALUE)


@dataclass(frozen=True, order=True)
class Component:
    """One part.

    Attributes:
        layer: 0 to layers - 1; of the residual stream 0 to layers; of the unembedding the number of
            layers.
        index: the head, or the key/value head; 0 where a layer has one such part.
    """

    layer: int
    kind: str
    index: int = 0

    def __str__(self) -> str:
        if self.kind == UNEMBEDDING:
            return UNEMBEDDING
        return f"{self.kind}.{self.layer}" + (f".{self.index}" if self.by_head else "")

    @property
    def by_head(self) -> bool:
        """Whether a layer has several."""
        return self.kind in BY_HEAD + BY_GROUP

    def heads(self, shape: Shape) -> range:
        """The query heads that it belongs to: a group's for keys and values."""
        if self.kind in BY_GROUP:
            return range(self.index * shape.group, (self.index + 1) * shape.group)
        return range(self.index, self.index + 1)

    @classmethod
    def parse(cls, name: str, shape: Shape, setting: str) -> Component:
        """From a name such as `output.4.2`, `mlp.5` or `unembedding`.

        Raises:
            UserError: no such kind, or the model has no such layer or head.
        """
        if name == UNEMBEDDING:
            return cls(shape.layers, UNEMBEDDING)
        found = re.fullmatch(r"([a-z]+)\.(\d+)(?:\.(\d+))?", name)
        if found is not None:
            part = cls(int(found[2]), found[1], int(found[3] or 0))
            # one name for each: no leading zeros, no head where a layer has one part
            if str(part) == name and part in set(components(shape, [part.kind])):
                return part
        raise UserError(
            f"{setting}: `{name}` is no part of this model ({shape.layers} layers of {shape.heads}"
            f" heads, {shape.key_value_heads} key/value heads); write KIND.LAYER.HEAD such as"
            f" output.0.0 or value.0.0, KIND.LAYER such as mlp.0, or {UNEMBEDDING}"
        )


def components(shape: Shape, kinds: Iterable[str]) -> Iterator[Component]:
    """All parts of some kinds, kind by kind and layer by layer."""
    counts: dict[str, int] = dict.fromkeys(BY_HEAD, shape.heads)
    counts |= dict.fromkeys(BY_GROUP, shape.key_value_heads)
    for kind in kinds:
        if kind not in KINDS:
            continue
        if kind == UNEMBEDDING:
            yield Component(shape.layers, UNEMBEDDING)
            continue
        for layer in range(shape.layers + (kind == RESIDUAL)):
            yield from (Component(layer, kind, index) for index in range(counts.get(kind, 1)))
