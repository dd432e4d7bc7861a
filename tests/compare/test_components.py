"""Names of parts, and which a model has."""

from __future__ import annotations

import pytest

from sumcirc.compare.patching.components import KINDS, Component, components
from sumcirc.errors import UserError
from tests.compare.made_findings import SHAPE


def test_every_part_has_a_name_that_is_read_back() -> None:
    found = list(components(SHAPE, KINDS))
    # 2 layers of 4 heads and 2 key/value heads
    by_layer = {"output": 8, "query": 8, "pattern": 8, "key": 4, "value": 4}
    expected = {**by_layer, "attention": 2, "mlp": 2, "residual": 3, "unembedding": 1}
    assert {kind: sum(one.kind == kind for one in found) for kind in KINDS} == expected
    assert len({str(one) for one in found}) == len(found)
    for part in found:
        assert Component.parse(str(part), SHAPE, "compare.sets") == part


def test_kinds_are_in_the_order_asked_for() -> None:
    found = [str(one) for one in components(SHAPE, ["mlp", "unembedding", "value"])]
    values = [f"value.{layer}.{index}" for layer in (0, 1) for index in (0, 1)]
    assert found == ["mlp.0", "mlp.1", "unembedding", *values]
    assert list(components(SHAPE, [])) == []


def test_heads_of_a_part() -> None:
    assert list(Component(0, "value", 1).heads(SHAPE)) == [2, 3]
    assert list(Component(0, "key", 0).heads(SHAPE)) == [0, 1]
    assert list(Component(0, "output", 3).heads(SHAPE)) == [3]


@pytest.mark.parametrize(
    "name",
    [
        "output.2.0",  # layers
        "output.0.4",  # heads
        "value.0.2",  # key/value heads
        "residual.3",
        "mlp.0.0",  # a layer has one
        "output.0",  # a layer has several
        "unembedding.2",
        "output.00.1",
        "head.0.0",
        "output.-1.0",
        "output.0.1 ",
        "Output.0.1",
        "output",
        "",
    ],
)
def test_what_is_no_part_is_refused(name: str) -> None:
    with pytest.raises(UserError) as caught:
        Component.parse(name, SHAPE, "compare.sets")
    assert str(caught.value) == (
        f"compare.sets: `{name}` is not a part of this model (2 layers of 4 heads, 2 key/value"
        " heads); write KIND.LAYER.HEAD such as output.0.0 or value.0.0, KIND.LAYER such as mlp.0,"
        " or unembedding"
    )
