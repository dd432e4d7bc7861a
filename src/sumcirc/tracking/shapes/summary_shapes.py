"""The shapes of summary.json of every verb, of samples.json and of documents.parquet."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired, TypedDict

from sumcirc.storage.reading import Count, Keys, Number, Range, Share
from sumcirc.tracking.shapes.circuit_shapes import CircuitSummary
from sumcirc.tracking.shapes.common_shapes import (
    AdapterRecord,
    IntervalRecord,
    NotedSummary,
    Seconds,
)
from sumcirc.tracking.shapes.compare_shapes import CompareSummary

ROUGE = ("rouge1_f1", "rouge2_f1", "rougeL_f1", "rougeLsum_f1")
Scores = Annotated[dict[str, IntervalRecord], Keys((*ROUGE, "length"))]


class RougeRecord(TypedDict):
    """The section `rouge` of summary.json: how ROUGE split texts into words.

    Attributes:
        tokenizer: name of the tokenizer.
        words: description of what counts as a word.
    """

    tokenizer: Literal["ascii", "unicode"]
    words: str


class BestRecord(TypedDict):
    """The section `best` of summary.json: the best checkpoint.

    Attributes:
        metric: the metric by which it was kept.
        value: the metric's best value.
        step: optimizer step of the checkpoint whose weights were loaded.
        loaded: true if its weights, not the last ones, were saved and scored.
    """

    metric: str
    value: float | None
    step: NotRequired[Count]
    loaded: NotRequired[bool]


class StoppedRecord(TypedDict):
    """The section `stopped` of summary.json: metric and step of an early stop."""

    metric: str
    step: Count


class CostRecord(TypedDict):
    """The section `cost` of summary.json: what the optimizer steps cost.

    The fields from `flops` to `flops_per_second` are missing if the run was resumed from a
    checkpoint of a version that did not count them.

    Attributes:
        process_memory: peak memory of the first process from its start to the end of training, in
            bytes; what it did before training is included.
        device_memory: peak memory that tensors took on the first process's GPU during training, in
            bytes; watchers and validation are included.
        flops: floating-point operations of all steps and processes, see `models.flops`.
        tokens: positions that these steps processed, padding included.
        seconds: time of the steps in seconds, without watchers and validation.
        devices: number of processes, each of which has a device.
        flops_per_second: `flops` / `seconds`, over all devices.
        mfu: model FLOPs utilization, the share of what the devices could do at most; missing if
            the device's peak is unknown (`training.peak_flops`).
    """

    process_memory: NotRequired[Count]
    device_memory: NotRequired[Count]
    flops: NotRequired[Annotated[float, Range(0, 1e30)]]
    tokens: NotRequired[Count]
    seconds: NotRequired[Seconds]
    devices: NotRequired[Count]
    flops_per_second: NotRequired[Annotated[float, Range(0, 1e30)]]
    mfu: NotRequired[Annotated[float, Range(0, 1e3)]]


class TextsOfSystem(TypedDict):
    """How well a system predicts a corpus of `evaluation.retention`.

    Attributes:
        nll: mean negative log-likelihood, in nats a token, as a mean over texts.
        perplexity: exp of its mean over the tokens of all texts.
    """

    nll: IntervalRecord
    perplexity: IntervalRecord


class RetentionRecord(TypedDict):
    """A corpus in the section `retention` of summary.json.

    Attributes:
        items: hash of the texts.
        documents: number of texts.
        tokens: number of tokens that were predicted.
        systems: results of `base` and `trained`.
        nll_change: nll of the trained model minus the base's; missing if there is no base.
        kl: mean KL(base || trained) in nats a token; missing if there is no base.
    """

    items: str
    documents: Count
    tokens: Count
    systems: dict[str, TextsOfSystem]
    nll_change: NotRequired[IntervalRecord]
    kl: NotRequired[IntervalRecord]


class ResultSummary(NotedSummary):
    """Contents of summary.json of `sumcirc train` and `sumcirc evaluate`.

    Attributes:
        model: the model.
        items: hash of the test items; null if there are none.
        systems: mean test scores of each system, by the system's name.
        rouge: how ROUGE split texts into words.
        retention: how well other texts are predicted, by the name of the corpus.
        seconds: wall time of each phase in seconds.
        steps: number of optimizer steps.
        total_parameters, trainable_parameters: numbers of parameters of the base model, and of
            trained parameters.
        adapter: where the adapter is.
        best: the best checkpoint, with `trainer.keep_best`.
        stopped: where training stopped early, with `trainer.early_stopping`.
        cost: operations, their rate and peak memory of training.
    """

    model: NotRequired[str]
    items: str | None
    systems: dict[str, Scores]
    rouge: NotRequired[RougeRecord]
    retention: NotRequired[dict[str, RetentionRecord]]
    seconds: NotRequired[dict[str, Seconds]]
    steps: NotRequired[Count]
    total_parameters: NotRequired[Count]
    trainable_parameters: NotRequired[Count]
    adapter: NotRequired[AdapterRecord]
    best: NotRequired[BestRecord]
    stopped: NotRequired[StoppedRecord]
    cost: NotRequired[CostRecord]


TrainSummary = Annotated[ResultSummary, Keys(("trainable_parameters", "steps"))]


class SelectSummary(NotedSummary):
    """Contents of summary.json of `sumcirc select`.

    Attributes:
        adapter: the layers that were chosen.
        seconds: wall time of each phase in seconds.
    """

    adapter: NotRequired[AdapterRecord]
    seconds: NotRequired[dict[str, Seconds]]


SUMMARIES: dict[str, Any] = {
    "train": TrainSummary,
    "evaluate": ResultSummary,
    "circuit": CircuitSummary,
    "compare": CompareSummary,
    "select": SelectSummary,
}


class Sample(TypedDict):
    """A test document in samples.json, with its id, text and reference summary."""

    id: str
    document: str
    reference: str


# columns of retention.parquet
RETENTION_COLUMNS: dict[str, Any] = {
    **dict.fromkeys(("corpus", "id"), str),
    "tokens": Count,
    **dict.fromkeys(("nll", "base_nll", "kl"), Number),  # NaN where it is undefined
}

# columns of documents.parquet that readers rely on, and those that not all data has
DOCUMENT_COLUMNS: dict[str, Any] = {
    **dict.fromkeys(("id", "system"), str),
    "prediction": str | None,  # None where only the numbers were kept
    **dict.fromkeys(ROUGE, Share),
    "length": Annotated[float, Range(0)],
}
