"""Components of a model whose activations can be patched into another model of the same sizes.

    output       what a head writes to the residual stream, with the output projection of the model
                 that computed it
    query        a head's query
    key          a key/value head's key, shared by all heads of its group
    value        a key/value head's value, shared by all heads of its group
    pattern      a head's attention pattern: its query and its group's key together
    attention    what a layer's attention writes: all heads and the projection's bias
    mlp          what a layer's MLP writes
    residual     the residual stream: 0 the embedding, l after layer l - 1
    unembedding  the final norm and unembedding

With grouped-query attention, the heads of a group share keys and values, so these are one
component, which is numbered by the key/value head.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sumcirc.errors import UserError
from sumcirc.models.activations.activation_cache import HookPoint
from sumcirc.models.architectures import Shape
from sumcirc.schema import PARTS

KINDS = PARTS
OUTPUT, QUERY, KEY, VALUE, PATTERN, ATTENTION, MLP, RESIDUAL, UNEMBEDDING = KINDS
# hook points of these parts
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
    """A component of a model that can be patched.

    Attributes:
        layer: index of the layer. For the residual stream, 0 is the embedding and l + 1 the stream
            after layer l; for the unembedding, it is the number of layers.
        kind: one of KINDS, which are described at the top of this file.
        index: index of the head, or of the key/value head; 0 if a layer has only one component of
            this kind.
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
        """Whether a layer has several components of this kind."""
        return self.kind in BY_HEAD + BY_GROUP

    def heads(self, shape: Shape) -> range:
        """Return the indices of the query heads that use the component.

        These are one head, or all heads of a group for the keys and values of a key/value head.

        Args:
            shape: sizes of the model.
        """
        if self.kind in BY_GROUP:
            return range(self.index * shape.group, (self.index + 1) * shape.group)
        return range(self.index, self.index + 1)

    @classmethod
    def parse(cls, name: str, shape: Shape, setting: str) -> Component:
        """Return the component with a name such as `output.4.2`, `mlp.5` or `unembedding`.

        Args:
            name: the name to parse.
            shape: sizes of the model.
            setting: name of the setting that contains `name`, for the error message.

        Raises:
            UserError: the kind is unknown, or the model has no such layer or head.
        """
        if name == UNEMBEDDING:
            return cls(shape.layers, UNEMBEDDING)
        found = re.fullmatch(r"([a-z]+)\.(\d+)(?:\.(\d+))?", name)
        if found is not None:
            part = cls(int(found[2]), found[1], int(found[3] or 0))
            # each part has exactly one name: no leading zeros, no head if a layer has one such part
            if str(part) == name and part in set(components(shape, [part.kind])):
                return part
        raise UserError(
            f"{setting}: `{name}` is not a part of this model ({shape.layers} layers of"
            f" {shape.heads} heads, {shape.key_value_heads} key/value heads); write KIND.LAYER.HEAD"
            f" such as output.0.0 or value.0.0, KIND.LAYER such as mlp.0, or {UNEMBEDDING}"
        )


def components(shape: Shape, kinds: Iterable[str]) -> Iterator[Component]:
    """Yield all components of a model that are of the given kinds, kind by kind and layer by layer.

    Args:
        shape: sizes of the model.
        kinds: names of the kinds; names that are not in KINDS are ignored.
    """
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
