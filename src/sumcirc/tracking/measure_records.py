"""Catalogue of the measures (names, units, axes), and the files that hold their values.

A record is `probes/step-000200.safetensors` in a run directory: one float32 array per measure and,
as JSON in the header, the step, the ids of the documents, and results that aren't arrays (such as
the tokens promoted by the activation-difference lens). Values are kept per document (the last
axis), so that every mean can be given with an interval. Reading needs no torch.
"""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from sumcirc.storage.reading import (
    Count,
    Range,
    RecordError,
    is_there,
    parse_json,
    read_tensors,
    read_text,
    require_array,
)
from sumcirc.storage.writing import MetricsFile, write_file
from sumcirc.tracking.shapes.compare_shapes import Promoted

FORMAT = 1
LARGEST_METRICS = 2**30  # bytes
PLAUSIBLE = 1e9  # far beyond the values of any network or loss; a larger number means damage
NATS = math.log(PLAUSIBLE)  # bound of an entropy: no context has so many tokens
LN2 = math.log(2)
DIVERGENCE = 1e6  # nats; float32 logits that differ by more don't come from a model
TOLERANCE = 0.01  # of the bounds: in half precision a divergence of 0 can be slightly below 0

# names of measures and curves that code refers to; docs/wandb.md lists all
ENTROPY = "attention/entropy"
ATTENTION_KL = "attention/kl_tuned_base"
TO_SALIENT, TO_DISTRACTOR = "attention/to_salient", "attention/to_distractor"
CKA = "residual/cka"
RELATIVE_CHANGE = "residual/relative_change"
LENS_LOG_PROBABILITY = "logit_lens/log_probability"
LENS_KL = "logit_lens/kl_model_lens"
LENS_AGREEMENT = "logit_lens/top1_agreement"
TRAIN_LOSS = "train/loss"
TRAIN_KL = "train/kl_penalty"
VALIDATION_LOSS = "validation/loss"
FAITHFULNESS = "circuit/faithfulness"

HEADS = ("layer", "head", "document")
STREAM = ("stream", "document")  # 0: the embedding; l: after layer l-1; last: before the final norm
NEURONS = ("layer", "neuron")
DOCUMENTS = ("document",)


@dataclass(frozen=True)
class Measure:
    """Description of a measure, that is, of one array in a record.

    Attributes:
        axes: names of the array's axes, such as `("layer", "head", "document")`.
        unit: unit of the values; empty for a pure number.
        label: name of the measure in figures and tables.
        low, high: bounds of the values.
    """

    axes: tuple[str, ...]
    unit: str
    label: str
    low: float = -PLAUSIBLE
    high: float = PLAUSIBLE

    def impossible(self, values: NDArray[np.floating]) -> float | None:
        """Return the first value that this measure can't have, or None if there is none.

        Such a value is infinite, or outside `low` and `high` by more than a rounding error. NaN is
        allowed, since a value may be undefined for a document.
        """
        bounds = (self.low - TOLERANCE, self.high + TOLERANCE)
        wrong = np.isinf(values) | (values < bounds[0]) | (values > bounds[1])
        return float(values[wrong][0]) if wrong.any() else None


MEASURES = {
    ENTROPY: Measure(HEADS, "nats", "attention entropy", low=0, high=NATS),
    "attention/normalized_entropy": Measure(
        HEADS, "", "attention entropy / log visible keys", low=0, high=1
    ),
    "attention/effective_keys": Measure(HEADS, "keys", "effective keys, exp(entropy)", low=0),
    "attention/entropy_no_sink": Measure(
        HEADS, "nats", "attention entropy without the sink", low=0, high=NATS
    ),
    "attention/normalized_entropy_no_sink": Measure(
        HEADS, "", "attention entropy / log visible keys, without the sink", low=0, high=1
    ),
    "attention/effective_keys_no_sink": Measure(
        HEADS, "keys", "effective keys without the sink", low=0
    ),
    "attention/mass_sink": Measure(HEADS, "", "attention to the first position", low=0, high=1),
    "attention/mass_document": Measure(HEADS, "", "attention to the document", low=0, high=1),
    "attention/mass_prompt": Measure(HEADS, "", "attention to the prompt", low=0, high=1),
    "attention/mass_summary": Measure(HEADS, "", "attention to the summary so far", low=0, high=1),
    "attention/salience_alignment": Measure(
        HEADS, "", "Spearman correlation of attention with ROUGE salience", low=-1, high=1
    ),
    TO_SALIENT: Measure(HEADS, "", "attention to the salient span", low=0, high=1),
    TO_DISTRACTOR: Measure(HEADS, "", "attention to the other event's facts", low=0, high=1),
    ATTENTION_KL: Measure(HEADS, "nats", "attention KL(tuned || base)", low=0, high=DIVERGENCE),
    "attention/kl_base_tuned": Measure(
        HEADS, "nats", "attention KL(base || tuned)", low=0, high=DIVERGENCE
    ),
    "attention/js": Measure(
        HEADS, "nats", "attention Jensen-Shannon divergence from the base", low=0, high=LN2
    ),
    # both are stored as jackknife pseudo-values per document, which may lie outside [-1, 1]
    CKA: Measure(STREAM, "", "linear CKA with the base (debiased)"),
    "residual/rsa": Measure(STREAM, "", "RSA with the base (Spearman)"),
    "residual/centered_cosine": Measure(STREAM, "", "centred cosine with the base", low=-1, high=1),
    RELATIVE_CHANGE: Measure(STREAM, "", "norm of the change / norm of the base", low=0),
    "residual/magnitude": Measure(STREAM, "", "mean absolute activation, ActMag", low=0),
    "mlp/activation_change": Measure(NEURONS, "", "mean change of the neuron's activation"),
    "mlp/activation_change_error": Measure(NEURONS, "", "its standard error over documents", low=0),
    "output/kl_tuned_base": Measure(
        DOCUMENTS, "nats", "next-token KL(tuned || base)", low=0, high=DIVERGENCE
    ),
    "output/kl_base_tuned": Measure(
        DOCUMENTS, "nats", "next-token KL(base || tuned)", low=0, high=DIVERGENCE
    ),
    "output/js": Measure(
        DOCUMENTS, "nats", "next-token Jensen-Shannon divergence from the base", low=0, high=LN2
    ),
    "output/top1_agreement": Measure(
        DOCUMENTS, "", "share of equal most likely tokens", low=0, high=1
    ),
    LENS_LOG_PROBABILITY: Measure(
        STREAM, "nats", "log-probability of the reference under the logit lens", high=0
    ),
    LENS_KL: Measure(STREAM, "nats", "KL(model || logit lens)", low=0, high=DIVERGENCE),
    LENS_AGREEMENT: Measure(
        STREAM, "", "share of most likely tokens equal under the logit lens", low=0, high=1
    ),
}


# metrics in metrics.csv besides the measures
METRIC_BOUNDS = {
    TRAIN_LOSS: (0.0, PLAUSIBLE),
    VALIDATION_LOSS: (0.0, PLAUSIBLE),
    "validation/perplexity": (1.0, math.inf),
}


def bounds_of(metric: str) -> tuple[float, float]:
    """Return the lowest and the highest value that a metric in metrics.csv can have.

    The bounds are infinite for an unknown metric.

    Args:
        metric: name of the metric, such as `train/loss` or `attention/js/layer_03`.
    """
    measure = MEASURES.get("/".join(metric.split("/")[:2]))
    if measure is not None:
        return measure.low, measure.high
    return METRIC_BOUNDS.get(metric, (-math.inf, math.inf))


class Neuron(TypedDict):
    """One of the neurons of a layer whose activation differs most from the base model's.

    Attributes:
        neuron: index of the neuron in its layer.
        change: mean change of its activation.
        low, high: ends of the interval of the change; None without an interval.
    """

    neuron: Count
    change: float
    low: float | None
    high: float | None


class FoundParts(TypedDict):
    """The results in `ProbeRecord.found`, where they are described."""

    neurons: NotRequired[list[list[Neuron]]]
    lens: NotRequired[list[list[Promoted]]]
    name: NotRequired[str]


class Header(TypedDict):
    """The JSON text in the metadata of a record's file; see `ProbeRecord` for the fields."""

    step: Annotated[int, Range(-1)]
    documents: list[str]
    found: FoundParts


@dataclass
class ProbeRecord:
    """Values of the measures for a model at one step of training, on a fixed set of documents.

    Attributes:
        step: optimizer step; -1 for the base model.
        documents: ids of the documents, in the order of the document axis of every array.
        values: array of each measure by its name (a key of `MEASURES`, which has the axes); NaN
            where a value is undefined for a document.
        found: results that aren't arrays, as plain JSON. `lens` has the tokens that the model's
            change promotes, for the embedding and after every layer; `neurons` has each layer's
            most changed neurons; `name` is the name of a model that isn't a step of a run.
    """

    step: int
    documents: list[str]
    values: dict[str, NDArray[np.float32]]
    found: dict[str, Any] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write the record to a file, which is replaced only once the new one is complete.

        Raises:
            ValueError: a name in `values` is not in `MEASURES`, or its array has another number of
                axes.
        """
        for name, array in self.values.items():
            axes = MEASURES[name].axes if name in MEASURES else None
            if axes is None or len(axes) != array.ndim:
                raise ValueError(f"{name}: shape {array.shape} does not fit {axes}")
        header = {"step": self.step, "documents": self.documents, "found": self.found}
        metadata = {"format": str(FORMAT), "record": json.dumps(header, ensure_ascii=False)}
        arrays = {
            # an activation that overflowed is undefined
            name: np.ascontiguousarray(
                np.where(np.abs(array) > PLAUSIBLE, np.nan, array), dtype=np.float32
            )
            for name, array in self.values.items()
        }
        write_file(path, lambda temporary: save_file(arrays, temporary, metadata))

    @classmethod
    def read(cls, path: Path) -> ProbeRecord:
        """Read a record from a file, and check its values.

        Raises:
            RecordError: the file is missing or isn't what `save` writes.
        """
        metadata, arrays = read_tensors(path)
        if metadata.get("format") != str(FORMAT):
            raise RecordError(
                path, f"is not a probe record of format {FORMAT}; probe the model again"
            )
        header: Header = parse_json(metadata.get("record", ""), path, Header, "record")
        sizes: dict[str, int] = {"document": len(header["documents"])}
        for name in arrays:
            if name not in MEASURES:
                raise RecordError(path, "is not a measure", name)
            array = require_array(arrays, name, path, ndim=len(MEASURES[name].axes))
            for axis, size in zip(MEASURES[name].axes, array.shape, strict=True):
                if sizes.setdefault(axis, size) != size:
                    reason = f"has {size} along the axis {axis}, others have {sizes[axis]}"
                    raise RecordError(path, reason, name)
            if not array.size:
                raise RecordError(path, "is empty", name)
            wrong = MEASURES[name].impossible(array)
            if wrong is not None:
                raise RecordError(path, f"holds {wrong:g}, which it can't be", name)
        return cls(header["step"], header["documents"], arrays, dict(header["found"]))

    @property
    def sizes(self) -> dict[str, int]:
        """Length of each axis of the arrays in `values`, by the axis's name."""
        return {
            axis: size
            for name, array in self.values.items()
            for axis, size in zip(MEASURES[name].axes, array.shape, strict=True)
        }


def record_file(folder: Path, step: int) -> Path:
    """Return the path of the record of an optimizer step.

    Args:
        folder: the folder of the records, such as `probes/` of a run.
        step: optimizer step; -1 for the base model.
    """
    return folder / (f"step-{step:06d}.safetensors" if step >= 0 else "base.safetensors")


def record_files(folder: Path) -> list[Path]:
    """Return the paths of the records in a folder in the order of their names.

    The record of the base model is not included.

    Args:
        folder: the folder of the records, such as `probes/` of a run.
    """
    return sorted(folder.glob("step-*.safetensors"))


def read_metrics(path: Path) -> list[tuple[int, str, float]]:
    """Return the values in a metrics.csv as (step, metric, value), or [] if there is no file.

    An incomplete last line is ignored. A value may be NaN or infinite if training diverged.

    Raises:
        RecordError: a line is not a step, a name and a number, or the metric can't have this value.
    """
    if not is_there(path):
        return []
    text = read_text(path, LARGEST_METRICS)
    whole = text[: text.rfind("\n") + 1]
    found: list[tuple[int, str, float]] = []
    reader = csv.reader(io.StringIO(whole))
    try:
        if next(reader, None) not in (None, list(MetricsFile.HEADER)):
            raise ValueError(f"is not {','.join(MetricsFile.HEADER)}")
        for row in reader:
            if len(row) != len(MetricsFile.HEADER):
                raise ValueError(f"has {len(row)} fields, not {len(MetricsFile.HEADER)}")
            step = int(row[0])
            if not 0 <= step < 2**63:
                raise ValueError(f"has the step {step:.3g}")
            name, value = row[1], float(row[2])
            low, high = bounds_of(name)
            if not low - TOLERANCE <= value <= high + TOLERANCE and math.isfinite(value):
                raise ValueError(f"holds {name}={value:g}, which it can't be")
            found.append((step, name, value))
    except (ValueError, csv.Error) as error:
        raise RecordError(path, str(error), f"line {reader.line_num}") from None
    return found
