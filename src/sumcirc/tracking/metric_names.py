"""What Weights & Biases is given, in one table: names, units, by whom, when (docs/wandb.md).

Words in braces stand for what differs: `{place}` is `layer_03`, or `embedding` of the residual
stream; `{measure}` a score such as `rougeLsum_f1`; `{system}` one of those that were scored.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from sumcirc.tracking.measure_records import MEASURES

STEP = "trainer/global_step"  # optimizer steps: the axis of every curve

# how a curve becomes the run's one number; also what a sweep's table sorts by
SUMMARIES = {
    "train/loss": "min",
    "validation/loss": "min",
    "validation/perplexity": "min",
}


@dataclass(frozen=True)
class Watched:
    """Measures of `records.MEASURES` that a watcher logs.

    Attributes:
        overall: the mean over layers, heads and documents, under the measure's name.
        by_layer: the mean of each layer, as `MEASURE/layer_03`.
    """

    overall: tuple[str, ...] = ()
    by_layer: tuple[str, ...] = ()


WATCHED = {
    "attention_entropy": Watched(
        overall=(
            "attention/entropy",
            "attention/normalized_entropy",
            "attention/effective_keys",
            "attention/entropy_no_sink",
            "attention/mass_sink",
            "attention/mass_document",
            "attention/mass_prompt",
            "attention/mass_summary",
            "attention/salience_alignment",
        ),
        by_layer=("attention/entropy", "attention/salience_alignment"),
    ),
    "base_divergence": Watched(
        overall=(
            "attention/kl_tuned_base",
            "attention/kl_base_tuned",
            "attention/js",
            "output/kl_tuned_base",
            "output/kl_base_tuned",
            "output/js",
            "output/top1_agreement",
        ),
        by_layer=("attention/kl_tuned_base", "attention/js"),
    ),
    "activation_drift": Watched(
        by_layer=(
            "residual/cka",
            "residual/rsa",
            "residual/centered_cosine",
            "residual/relative_change",
            "residual/magnitude",
        )
    ),
}


class Kind(Enum):
    """How W&B keeps a thing."""

    curve = "curve"  # a value at each logged optimizer step
    summary = "summary"  # one value of the run
    table = "table"
    image = "image"
    artifact = "artifact"


@dataclass(frozen=True)
class Logged:
    """One name, or all names of one pattern.

    Attributes:
        by: verb, or of `sumcirc train` the watcher.
        unit: empty for a pure number.
        when: what it takes; empty where it is always logged.
    """

    name: str
    kind: Kind
    by: str
    unit: str
    what: str
    when: str = ""

    def matches(self, name: str) -> bool:
        """Whether a logged name is meant."""
        parts = re.split(r"(\{\w+\})", self.name)
        pattern = "".join(_pattern(part) for part in parts)
        return re.fullmatch(pattern, name) is not None


def _pattern(part: str) -> str:
    if part == "{place}":
        return r"(embedding|layer_\d+)"
    if part == "{figure}":
        return ".+"  # may lie in a folder of its own
    return r"[^/]+" if part.startswith("{") else re.escape(part)


def _curve(by: str, name: str, unit: str, what: str, when: str = "") -> Logged:
    return Logged(name, Kind.curve, by, unit, what, when)


def _summary(by: str, name: str, unit: str, what: str, when: str = "") -> Logged:
    return Logged(name, Kind.summary, by, unit, what, when)


def _table(by: str, name: str, what: str, when: str = "") -> Logged:
    return Logged(name, Kind.table, by, "", what, when)


def _watched() -> Iterable[Logged]:
    for watcher, names in WATCHED.items():
        for name in names.overall:
            measure = MEASURES[name]
            yield _curve(watcher, name, measure.unit, measure.label, _when(name))
        for name in names.by_layer:
            measure = MEASURES[name]
            label = f"{measure.label}, by layer"
            yield _curve(watcher, f"{name}/{{place}}", measure.unit, label, _when(name))


def _when(measure: str) -> str:
    """What it takes for a measure to be defined."""
    return "five probe documents or more" if measure == "residual/rsa" else ""


AT_END = "evaluation.at_end"
SEVERAL = "two probe documents or more"

LOGGED = (
    _curve("train", STEP, "steps", "optimizer steps, the axis of every curve"),
    _curve("train", "train/loss", "nats per token", "mean since the last logged step"),
    _curve("train", "train/learning_rate", "", "of the first group of parameters"),
    _curve("train", "train/epoch", "epochs", "passes over the training data"),
    _curve("train", "time/tokens_per_second", "tokens/s", "probing and validation left out"),
    _curve("train", "validation/loss", "nats per token", "over all validation summaries"),
    _curve("train", "validation/perplexity", "", "exp of the validation loss"),
    *_watched(),
    _curve("attention_entropy", "attention/heads_fell", "", "share of heads below the base"),
    _curve("attention_entropy", "attention/heads_fell/{end}", "", "its interval", SEVERAL),
    _curve(
        "attention_entropy",
        "attention/heads_fell_significantly",
        "",
        "those after Wilcoxon's test at 5 % false discoveries",
        SEVERAL,
    ),
    _curve("summary_quality", "summaries/{measure}", "", "score on the probe documents"),
    _curve("summary_quality", "summaries/{measure}/{end}", "", "its interval", SEVERAL),
    _curve("circuit_tracker", "circuit/edges", "edges", "edges in the circuit"),
    _curve("circuit_tracker", "circuit/faithfulness", "", "of the circuit; 1: the whole model"),
    _curve("circuit_tracker", "circuit/kl", "nats", "KL(model || circuit)"),
    _curve("circuit_tracker", "circuit/cpr", "", "area under faithfulness over sizes"),
    _curve("circuit_tracker", "circuit/cmd", "", "area of |1 - faithfulness| over sizes"),
    _curve(
        "circuit_tracker",
        "circuit/cmd_random",
        "",
        "the same of random circuits",
        "callbacks.circuit.random_circuits",
    ),
    _curve("circuit_tracker", "circuit/jaccard_base", "", "overlap with the base's circuit"),
    _curve(
        "circuit_tracker",
        "circuit/jaccard_previous",
        "",
        "overlap with the step before",
        "after the first step",
    ),
    _curve(
        "circuit_tracker",
        "circuit/jaccard_resamples",
        "",
        "overlap of resamples of the pairs",
        "several pairs",
    ),
    *(
        _summary("train", f"{name}.{how}", "", f"the curve's {how}imum")
        for name, how in SUMMARIES.items()
    ),
    _summary("train", "trainable_parameters", "parameters", "those that train"),
    _summary("train", "total_parameters", "parameters", "those of the base"),
    _summary("train", "steps", "steps", "optimizer steps of the run"),
    _summary("train", "rank", "", "of the adapter", "adaptation=lora"),
    _summary("train", "data/{split}/{count}", "documents", "items, those cut, those left out"),
    _summary("train, evaluate", "time/{phase}", "s", "wall time by phase"),
    _summary("train, evaluate", "test/{system}/{measure}", "", "mean test score", AT_END),
    _summary("train, evaluate", "test/{system}/{measure}/{end}", "", "its interval", AT_END),
    _summary("circuit", "circuit/pairs", "pairs", "of which it is made"),
    _summary("circuit", "circuit/graph_nodes", "nodes", "of the model"),
    _summary("circuit", "circuit/graph_edges", "edges", "of the model"),
    _summary("circuit", "circuit/edges", "edges", "edges in the circuit"),
    *(
        _summary("circuit", f"circuit/{name}{end}", "", f"{what}{' (interval)' * bool(end)}")
        for name, what in (
            ("faithfulness", "of the circuit"),
            ("cpr", "area under faithfulness over sizes"),
            ("cmd", "area of |1 - faithfulness| over sizes"),
        )
        for end in ("", "/{end}")
    ),
    _summary(
        "circuit", "circuit/jaccard", "", "overlap of resamples of the pairs", "several pairs"
    ),
    _summary("circuit", "circuit/jaccard_chance", "", "the same by chance", "several pairs"),
    _summary("circuit", "circuit/spearman", "", "of scores of resamples", "several pairs"),
    _summary(
        "compare", "compare/{model}/{side}/{end}", "", "the metric `before`, `after`, `difference`"
    ),
    _table("train, evaluate", "samples", "documents, references, summaries", AT_END),
    _table("attention_entropy", "probes/attention_entropy", "entropy by head and step"),
    _table("base_divergence", "probes/base_divergence", "divergence by head and step"),
    _table("circuit_tracker", "circuit/top_edges", "the 50 largest edges of a step"),
    _table("compare", "compare/{model}/{analysis}", "what parts contribute and carry"),
    _table("select", "selection", "every layer's or module's score"),
    _table("report", "arms", "the arms of a sweep"),
    _table("report", "differences", "arms against controls", "a control among the arms"),
    Logged("figures/{figure}", Kind.image, "all", "", "every PNG of the run's figures/"),
    Logged(
        "{run}", Kind.artifact, "train", "", "what was trained, type `model`", "logger.artifact"
    ),
    Logged(
        "{run}-circuits",
        Kind.artifact,
        "train, circuit",
        "",
        "the folder circuits/, type `circuit`",
        "logger.artifact",
    ),
)


def find(name: str, kind: Kind) -> Logged | None:
    """The entry that a logged name is of; the narrowest where several patterns fit."""
    found = [entry for entry in LOGGED if entry.kind is kind and entry.matches(name)]
    # `{run}-circuits` says more than `{run}`
    return min(found, key=lambda entry: (entry.name.count("{"), -len(entry.name)), default=None)
