"""Shapes that the files of several verbs share."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired, TypedDict

from sumcirc.storage.reading import Count, Number, Range
from sumcirc.tracking.record_format import FIRST, FORMAT

State = Literal["pending", "running", "done", "failed"]
Verb = Literal["train", "evaluate", "circuit", "compare", "select"]  # the verbs that make a run
Seconds = Annotated[float, Range(0, 1e12)]
Layer = Annotated[int, Range(0, 999)]  # also the index of a head or of a stream position
Step = Annotated[int, Range(-1, 10**15)]  # -1: the base model
Scalar = str | int | float | bool | None
Format = Annotated[int, Range(FIRST, FORMAT)]


class Bounds(TypedDict):
    """A mean with its interval, which extends from `low` to `high`."""

    mean: Number
    low: Number
    high: Number


class IntervalRecord(Bounds):
    """A mean over `n` documents with its interval, which extends from `low` to `high`."""

    n: Count


class NoticeRecord(TypedDict):
    """A notice about the data of a run; see `sumcirc.runtime.notices`.

    Attributes:
        text: the notice as a sentence.
        warning: whether the notice affects so many items that the results have to be read
            differently.
    """

    text: str
    warning: bool


class NotedSummary(TypedDict):
    """Fields that every summary.json may contain."""

    format: NotRequired[Format]
    notices: NotRequired[list[NoticeRecord]]


class AdapterRecord(TypedDict):
    """The section `adapter` of summary.json.

    Attributes:
        layers: the layers that have an adapter.
    """

    layers: NotRequired[list[Layer]]
