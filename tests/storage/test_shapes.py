"""Type hints as shapes: what fits, and where what doesn't fit is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import pytest

from sumcirc.storage.reading.shapes import Count, Range, Share, Unfit, fit, require_plain


class Inner(TypedDict):
    mean: float
    n: NotRequired[Count]


@dataclass(frozen=True)
class Part:
    name: str
    score: float | None
    tags: list[str] = field(default_factory=list)


class Whole(TypedDict):
    state: Literal["done", "failed"]
    scores: dict[str, Inner]
    parts: NotRequired[list[Part]]


@pytest.mark.parametrize(
    ("shape", "value"),
    [
        (int, 3),
        (float, 3),
        (float, 0.5),
        (str, ""),
        (bool, False),
        (None, None),
        (Any, {"x": [1]}),
        (float | None, None),
        (list[int], []),
        (dict[str, list[float]], {"a": [1, 2.5]}),
        (Literal["a", 1], 1),
        (Share, 1),
        (Annotated[int, Range(low=-1)], -1),
        (Whole, {"state": "done", "scores": {"x": {"mean": 1, "n": 0}}, "later": object}),
    ],
)
def test_what_fits_comes_back_as_it_is(shape: Any, value: Any) -> None:
    assert fit(value, shape) == value


@pytest.mark.parametrize(
    ("shape", "value", "key", "reason"),
    [
        (int, True, "", "is true, not a whole number"),
        (int, 3.0, "", "is 3.0, not a whole number"),
        (float, "3", "", 'is "3", not a number'),
        (bool, 1, "", "is 1, not true or false"),
        (str, None, "", "is null, not a text"),
        (int | None, "x", "", 'is "x", not a whole number or null'),
        (Literal["a", 1], True, "", "is true, none of a, 1"),
        (Share, 1.5, "", "is 1.5, not 0 to 1"),
        (Share, float("nan"), "", "is nan, not 0 to 1"),
        (Count, -1, "", "is -1, not 0 or more"),
        (Annotated[float, Range(high=2)], 3, "", "is 3, not at most 2"),
        (list[int], {"0": 1}, "", "is a mapping, not a list"),
        (list[int], [1, "2"], "1", 'is "2", not a whole number'),
        (dict[str, int], [], "", "is a list, not a mapping"),
        (Whole, {"scores": {}}, "state", "is missing"),
        (Whole, {"state": "gone", "scores": {}}, "state", 'is "gone", none of done, failed'),
        (Whole, {"state": "done", "scores": {"x": {}}}, "scores.x.mean", "is missing"),
        (
            Whole,
            {"state": "done", "scores": {}, "parts": [{"name": "a", "score": "b"}]},
            "parts.0.score",
            'is "b", not a number or null',
        ),
        (Whole | None, {"state": "done", "scores": {"x": 1}}, "scores.x", "is 1, not a mapping"),
    ],
)
def test_what_does_not_fit_is_named_with_its_place(
    shape: Any, value: Any, key: str, reason: str
) -> None:
    with pytest.raises(Unfit) as caught:
        fit(value, shape)
    assert (caught.value.key, caught.value.reason) == (key, reason)


def test_dataclasses_are_made_of_mappings() -> None:
    found = fit([{"name": "a", "score": None, "later": 1}], list[Part])
    assert found == [Part("a", None)]


def test_a_long_or_hostile_value_is_shown_short() -> None:
    with pytest.raises(Unfit) as caught:
        fit("\x1b[31m\n" + 10_000 * "x", int)
    assert len(caught.value.reason) < 80
    assert caught.value.reason.isprintable()


def nested(levels: int) -> Any:
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "key", "reason"),
    [
        ({"a": [1.0, float("nan")]}, "a.1", "is nan, not a finite number"),
        ({"a": float("inf")}, "a", "is inf, not a finite number"),
        (2**63, "", "is a whole number of more than 64 bits"),
        ({1: "x"}, "", "has the key 1, which is not a text"),
        ({"a": {1, 2}}, "a", "is a set, which no record holds"),
    ],
)
def test_what_no_record_holds(value: Any, key: str, reason: str) -> None:
    with pytest.raises(Unfit) as caught:
        require_plain(value)
    assert (caught.value.key, caught.value.reason) == (key, reason)


def test_nesting_is_limited() -> None:
    require_plain(nested(99))
    with pytest.raises(Unfit, match="nested more than 100 levels"):
        require_plain(nested(100))
