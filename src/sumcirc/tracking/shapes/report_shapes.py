"""The shape of comparison.json, which `sumcirc report` writes for a sweep."""

from __future__ import annotations

from typing import Any, Literal, TypedDict

from sumcirc.storage.reading import Count, Share
from sumcirc.tracking.shapes.common_shapes import Bounds


class ArmScore(Bounds):
    """The mean of one score over an arm's seeds and documents.

    Attributes:
        mean: the mean.
        low, high: ends of the mean's interval.
    """


class ArmRecord(TypedDict):
    """An arm in comparison.json: a configuration that was trained with several seeds.

    Attributes:
        arm: name of the arm.
        seeds: seeds with which the arm was trained.
        trainable_parameters: number of parameters that are trained.
        lowest_validation_loss: the arm's lowest validation loss in nats per summary token; null if
            it is unknown.
        remarks: differences from the control other than the layers.
        scores: mean of each score, by its name.
    """

    arm: str
    seeds: list[str]
    trainable_parameters: float
    lowest_validation_loss: float | None
    remarks: list[str]
    scores: dict[str, ArmScore]


class OptionsRecord(TypedDict):
    """The section `options` of comparison.json.

    Attributes:
        metric: the score by which arms are compared.
        confidence: level of the intervals, such as 0.95.
    """

    metric: Literal["rouge1_f1", "rouge2_f1", "rougeL_f1", "rougeLsum_f1", "facts"]
    confidence: Share


class ComparisonFile(TypedDict):
    """Contents of comparison/comparison.json.

    Attributes:
        command: the command that made the file.
        options: settings of the comparison.
        documents: number of test documents.
        arms: the compared arms.
        differences: differences between arms and controls.
        notes: notices about the runs' data, and remarks on the comparison.
        in_words: the results as sentences.
    """

    command: str
    options: OptionsRecord
    documents: Count
    arms: list[ArmRecord]
    differences: list[dict[str, Any]]
    notes: list[str]
    in_words: list[str]
