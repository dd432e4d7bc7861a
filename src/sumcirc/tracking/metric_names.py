"""All names logged to Weights & Biases, with unit, source and condition (docs/wandb.md).

Words in braces are placeholders: `{place}` is `layer_03`, or `embedding` for the residual stream;
`{measure}` is a score such as `rougeLsum_f1`; `{share}` is `rougeLsum`, `facts` or another share;
`{system}` is a scored system; `{corpus}` is one of `evaluation.retention`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from sumcirc.tracking.measure_records import (
    ATTENTION_KL,
    CKA,
    ENTROPY,
    FAITHFULNESS,
    LENS_AGREEMENT,
    LENS_KL,
    LENS_LOG_PROBABILITY,
    MEASURES,
    TO_DISTRACTOR,
    TO_SALIENT,
    TRAIN_KL,
    TRAIN_LOSS,
    VALIDATION_LOSS,
)
from sumcirc.tracking.score_names import SHARES

STEP = "trainer/global_step"  # optimizer steps: the x axis of every curve

# how a curve is reduced to the run's single value, by which tables of a sweep are sorted
SUMMARIES = {
    TRAIN_LOSS: "min",
    VALIDATION_LOSS: "min",
    "validation/perplexity": "min",
}


@dataclass(frozen=True)
class Watched:
    """The measures that an analysis callback (a watcher) logs during training.

    Attributes:
        overall: names of the measures (keys of `measure_records.MEASURES`) whose mean over layers,
            heads and documents is logged, under the measure's name.
        by_layer: names of the measures whose mean in each layer is logged, as `MEASURE/layer_03`.
    """

    overall: tuple[str, ...] = ()
    by_layer: tuple[str, ...] = ()


WATCHED = {
    "attention_entropy": Watched(
        overall=(
            ENTROPY,
            "attention/normalized_entropy",
            "attention/effective_keys",
            "attention/entropy_no_sink",
            "attention/mass_sink",
            "attention/mass_document",
            "attention/mass_prompt",
            "attention/mass_summary",
            "attention/salience_alignment",
        ),
        by_layer=(ENTROPY, "attention/salience_alignment"),
    ),
    "base_divergence": Watched(
        overall=(
            ATTENTION_KL,
            "attention/kl_base_tuned",
            "attention/js",
            "output/kl_tuned_base",
            "output/kl_base_tuned",
            "output/js",
            "output/top1_agreement",
        ),
        by_layer=(ATTENTION_KL, "attention/js"),
    ),
    "activation_drift": Watched(
        by_layer=(
            CKA,
            "residual/rsa",
            "residual/centered_cosine",
            "residual/relative_change",
            "residual/magnitude",
        )
    ),
    "logit_lens": Watched(by_layer=(LENS_LOG_PROBABILITY, LENS_KL, LENS_AGREEMENT)),
    "salient_attention": Watched(overall=(TO_SALIENT, TO_DISTRACTOR), by_layer=(TO_SALIENT,)),
}


class MetricKind(Enum):
    """The forms in which W&B stores what is logged."""

    curve = "curve"  # one value per logged optimizer step
    summary = "summary"  # one value per run
    table = "table"
    image = "image"
    artifact = "artifact"


@dataclass(frozen=True)
class Logged:
    """Description of one name, or one pattern of names, that is logged to W&B.

    Attributes:
        name: the name; it may contain placeholders in braces, such as `{system}`.
        kind: the form in which W&B stores the value.
        by: the verbs that log the value, or the analysis callback that logs it in `sumcirc train`.
        unit: the unit of the value; empty for a pure number.
        what: a short description of the value.
        when: the condition under which the value is logged; empty if it is always logged.
    """

    name: str
    kind: MetricKind
    by: str
    unit: str
    what: str
    when: str = ""

    def matches(self, name: str) -> bool:
        """Return whether a logged name, with placeholders filled in, fits this entry."""
        parts = re.split(r"(\{\w+\})", self.name)
        pattern = "".join(_pattern(part) for part in parts)
        return re.fullmatch(pattern, name) is not None


def _pattern(part: str) -> str:
    if part == "{place}":
        return r"(embedding|layer_\d+)"
    if part == "{figure}":
        return ".+"  # may be in a folder of its own
    if part == "{main}":
        return f"({'|'.join(map(re.escape, sorted(SHARES)))})"
    return r"[^/]+" if part.startswith("{") else re.escape(part)


def _curve(by: str, name: str, unit: str, what: str, when: str = "") -> Logged:
    return Logged(name, MetricKind.curve, by, unit, what, when)


def _summary(by: str, name: str, unit: str, what: str, when: str = "") -> Logged:
    return Logged(name, MetricKind.summary, by, unit, what, when)


def _table(by: str, name: str, what: str, when: str = "") -> Logged:
    return Logged(name, MetricKind.table, by, "", what, when)


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
    """Return the condition under which a measure is defined."""
    conditions = {"residual/rsa": "five probe documents or more", TO_DISTRACTOR: "data=wire"}
    return conditions.get(measure, "")


AT_END = "evaluation.at_end"
RETENTION = "evaluation.retention"
KL_PENALTY = "kl_penalty.texts"
SEVERAL = "two probe documents or more"
HELD_OUT = "circuit.held_out"
CARD = "card.lines"
ENOUGH = "eight probe documents or more"

LOGGED = (
    _curve("train", STEP, "steps", "optimizer steps, the axis of every curve"),
    _curve("train", TRAIN_LOSS, "nats per token", "mean since the last logged step"),
    _curve(
        "train",
        TRAIN_KL,
        "nats per token",
        "KL(base || model) on the texts of the penalty, before its weight; mean since the last"
        " logged step",
        KL_PENALTY,
    ),
    _curve("train", "train/learning_rate", "", "learning rate of the first parameter group"),
    _curve("train", "train/epoch", "epochs", "passes over the training data"),
    _curve("train", "time/tokens_per_second", "tokens/s", "measuring and validation excluded"),
    _curve("train", VALIDATION_LOSS, "nats per token", "mean over all validation summaries"),
    _curve("train", "validation/perplexity", "", "exp of the validation loss"),
    *_watched(),
    _curve("attention_entropy", "attention/heads_fell", "", "share of heads below the base"),
    _curve("attention_entropy", "attention/heads_fell/{end}", "", "its interval", ENOUGH),
    _curve(
        "attention_entropy",
        "attention/heads_fell_significantly",
        "",
        "the significant ones (Wilcoxon, 5 % false discovery rate)",
        SEVERAL,
    ),
    _curve(
        "summary_quality",
        "summaries/{share}_x100",
        "",
        "ROUGE F1 and faithfulness of probe documents x 100",
    ),
    _curve("summary_quality", "summaries/{measure}", "", "score on the probe documents"),
    _curve("summary_quality", "summaries/{measure}/{end}", "", "its interval", ENOUGH),
    _curve("circuit_tracker", "circuit/edges", "edges", "edges in the circuit"),
    _curve("circuit_tracker", FAITHFULNESS, "", "1: as faithful as the whole model"),
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
    _summary("train", "trainable_parameters", "parameters", "parameters that are trained"),
    _summary("train", "total_parameters", "parameters", "parameters of the base model"),
    _summary("train", "steps", "steps", "optimizer steps of the run"),
    _summary("train", "rank", "", "rank of the adapter", "adaptation=lora"),
    _summary("train", "data/{split}/{count}", "documents", "items; cut and skipped items"),
    _summary("train, evaluate", "time/{phase}", "s", "wall time by phase"),
    _summary("train", "cost/flops", "FLOPs", "operations of all optimizer steps"),
    _summary("train", "cost/tokens", "tokens", "positions of the steps, padding included"),
    _summary("train", "cost/seconds", "s", "time of the steps, without watchers and validation"),
    _summary("train", "cost/devices", "", "devices, one for each process"),
    _summary("train", "cost/flops_per_second", "FLOP/s", "operations per second of the steps"),
    _summary("train", "cost/mfu", "", "model FLOPs utilization", "a GPU of known peak"),
    _summary("train", "cost/device_memory", "bytes", "peak memory of tensors in training", "a GPU"),
    _summary("train", "cost/process_memory", "bytes", "peak memory of the whole process"),
    _summary("train, evaluate", "test/{system}/{share}_x100", "", "mean test score x 100", AT_END),
    _summary("train, evaluate", "test/{system}/{main}", "", "the same, from 0 to 1", AT_END),
    *(
        _summary("train, evaluate", f"retention/{{corpus}}/{name}{end}", unit, what, RETENTION)
        for name, unit, text in (
            ("{system}/nll", "nats per token", "mean over the texts of a corpus"),
            ("{system}/perplexity", "", "over all tokens of a corpus"),
            ("nll_change", "nats per token", "nll of the trained model minus the base's"),
            ("kl", "nats per token", "KL(base || trained) on a corpus"),
        )
        for end, what in (("", text), ("/{end}", f"{text} (interval)"))
    ),
    _summary("circuit", "circuit/pairs", "pairs", "pairs on which edges are chosen"),
    _summary("circuit", "circuit/held_out_pairs", "pairs", "pairs that judge; 0: in-sample"),
    _summary("circuit", "circuit/graph_nodes", "nodes", "nodes of the model's graph"),
    _summary("circuit", "circuit/graph_edges", "edges", "edges of the model's graph"),
    _summary("circuit", "circuit/edges", "edges", "edges in the circuit"),
    *(
        _summary("circuit", f"circuit/{name}{end}", "", f"{what}{' (interval)' * bool(end)}")
        for name, what in (
            ("faithfulness", "faithfulness of the circuit"),
            ("cpr", "area under faithfulness over sizes"),
            ("cmd", "area of |1 - faithfulness| over sizes"),
        )
        for end in ("", "/{end}")
    ),
    *(
        _summary("circuit", f"circuit/in_sample/{name}{end}", "", f"{what}, in-sample", HELD_OUT)
        for name, what in (
            ("faithfulness", "faithfulness of the circuit"),
            ("cpr", "area under faithfulness over sizes"),
            ("cmd", "area of |1 - faithfulness| over sizes"),
        )
        for end in ("", "/{end}")
    ),
    _summary("circuit", "circuit/control", "", "faithfulness of matched random circuits"),
    _summary("circuit", "circuit/control_shared", "", "fraction of its edges in these"),
    _summary("circuit", "circuit/control/{end}", "", "its interval", "eight pairs or more"),
    _summary(
        "circuit",
        "circuit/reached_edges",
        "edges",
        "edges of the smallest circuit with a faithfulness of 0.9",
        "a size reaches it",
    ),
    _summary(
        "circuit", "circuit/jaccard", "", "overlap of resamples of the pairs", "several pairs"
    ),
    _summary("circuit", "circuit/jaccard_chance", "", "overlap by chance", "several pairs"),
    _summary("circuit", "circuit/spearman", "", "of scores between resamples", "several pairs"),
    *(
        _summary("circuit", f"circuit/card/{name}", "lines", f"lines of the card {what}", CARD)
        for name, what in (
            ("passed", "that passed"),
            ("failed", "that failed"),
            ("not_tested", "that weren't tested"),
        )
    ),
    _summary(
        "compare", "compare/{model}/{side}/{end}", "", "the metric `before`, `after`, `difference`"
    ),
    _table("train, evaluate", "test/scores", "every score of a system, its interval", AT_END),
    _table("train, evaluate", "samples", "documents, references, summaries", AT_END),
    _table(
        "summary_quality", "summaries/samples", "references, summaries of probes", "logger.samples"
    ),
    _table("attention_entropy", "probes/attention_entropy", "entropy by head and step"),
    _table("base_divergence", "probes/base_divergence", "divergence by head and step"),
    _table("salient_attention", "probes/salient_attention", "attention to the facts by head"),
    _table("circuit_tracker", "circuit/top_edges", "the 50 largest edges of a step"),
    _table("compare", "compare/{model}/{analysis}", "contributions and patching effects"),
    _table("select", "selection", "every layer's or module's score"),
    _table("report", "arms", "the arms of a sweep"),
    _table("report", "differences", "arms against controls", "a control among the arms"),
    *(
        Logged(
            f"figures/{name}",
            MetricKind.image,
            "all",
            "",
            what,
            f"{watcher}: at each measured step",
        )
        for name, watcher, what in (
            ("attention_divergence", "base_divergence", "attention KL by layer and head"),
            ("entropy_difference", "attention_entropy", "entropy's change by layer and head"),
            ("drift", "activation_drift", "drift curves up to the step"),
            ("logit_lens", "logit_lens", "the lens by layer, a curve for each step"),
            ("salient_attention", "salient_attention", "attention to the facts by layer and head"),
            ("circuit", "circuit_tracker", "the circuit as a graph"),
        )
    ),
    Logged("figures/{figure}", MetricKind.image, "all", "", "every PNG of the run's figures/"),
    Logged(
        "{run}",
        MetricKind.artifact,
        "train",
        "",
        "what was trained, type `model`",
        "logger.artifact",
    ),
    Logged(
        "{run}-circuits",
        MetricKind.artifact,
        "train, circuit",
        "",
        "the folder circuits/, type `circuit`",
        "logger.artifact",
    ),
)


def find(name: str, kind: MetricKind) -> Logged | None:
    """Return the entry of `LOGGED` that describes a logged name, or None if there is none.

    If several entries match, the most specific one is returned.

    Args:
        name: the logged name, in which placeholders are filled in.
        kind: the form in which W&B stores the value.
    """
    found = [entry for entry in LOGGED if entry.kind is kind and entry.matches(name)]
    # `{run}-circuits` is more specific than `{run}`
    return min(found, key=lambda entry: (entry.name.count("{"), -len(entry.name)), default=None)
