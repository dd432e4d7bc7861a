"""Chooses the sections and panels of a dashboard by what the runs logged."""

from __future__ import annotations

from dataclasses import dataclass

from sumcirc.reporting.dashboard.axes import distinct, settings_axes, summary_axis
from sumcirc.reporting.dashboard.logged_runs import Material
from sumcirc.reporting.dashboard.panel_catalogue import Shelf
from sumcirc.reporting.dashboard.panels import (
    BarPanel,
    Differences,
    Panel,
    Parallel,
    Pictures,
    Scatter,
    Section,
)
from sumcirc.tracking.measure_records import (
    ATTENTION_KL,
    CKA,
    ENTROPY,
    FAITHFULNESS,
    LENS_AGREEMENT,
    LENS_KL,
    LENS_LOG_PROBABILITY,
    TO_DISTRACTOR,
    TO_SALIENT,
    TRAIN_KL,
    TRAIN_LOSS,
    VALIDATION_LOSS,
)
from sumcirc.tracking.metric_names import Logged, MetricKind
from sumcirc.tracking.score_names import BASE, DEGENERATE, ENTITIES, FAITHFUL, ROUGE, TRAINED
from sumcirc.tracking.score_names import SCORES as HEADINGS

MODELS = (TRAINED, BASE)  # the systems that generate summaries, so that they can fail to end them
SCORES = (*(f"{name}_f1" for name in ROUGE), "facts", *FAITHFUL)


@dataclass(frozen=True)
class Layout:
    """The sections of a dashboard, and the names that they lack because no run logged them.

    Attributes:
        sections: the sections, each of which has panels.
        absent: names for which there would be panels but which no run logged.
        logged: the verbs (such as `circuit`) and watchers that log the names in the panels, see
            `metric_names.Logged.by`.
    """

    sections: tuple[Section, ...]
    absent: dict[str, Logged]
    logged: frozenset[str]

    @property
    def silent(self) -> list[str]:
        """The verbs and watchers that log absent names and logged nothing else."""
        wanted = {entry.by for entry in self.absent.values()}
        return sorted(wanted - self.logged - {"all"})


def layout(material: Material, measure: str) -> Layout:
    """Return the sections and panels of a dashboard for the data that runs logged.

    Args:
        material: the runs and the data that they logged.
        measure: the score by which runs are compared, such as `rougeLsum_f1`.
    """
    shelf = Shelf(material)
    sections = (
        Section(
            "Quality",
            "Does training beat the base and the sentences that lead, chance and an oracle take?"
            " Differences between runs are those of seeds too: see the arms below.",
            quality(shelf),
        ),
        Section(
            "Sweep",
            "Which setting moves the score, and at what number of trainable parameters? One line or"
            " point is one run; a claim needs several seeds and a control of equal size.",
            sweep(material, shelf, measure),
        ),
        Section(
            "Arms",
            "Arms against controls: a difference that is shown holds over seeds and documents.",
            arms(shelf),
        ),
        Section(
            "Attention",
            "Do heads focus (entropy falls) or spread, on what, and in which layers do they leave"
            " the base? A differential score is no circuit.",
            attention(shelf),
        ),
        Section(
            "Drift",
            "How far the residual stream and the predictions are from the base's, layer by layer,"
            " and what each layer would predict.",
            drift(shelf),
        ),
        Section(
            "Circuits",
            "Is the circuit faithful (near 1) where random circuits of its size are not, and when"
            " did it change?",
            circuits(shelf),
        ),
        Section(
            "Models compared",
            "What tuning changed, and whether moving parts across carries the behaviour.",
            compared(material, shelf),
        ),
    )
    shown = tuple(section for section in sections if section.panels)
    return Layout(shown, shelf.absent, frozenset(shelf.present))


def quality(shelf: Shelf) -> tuple[Panel, ...]:
    """Return panels of test scores, losses, and measures of summaries generated in training.

    Args:
        shelf: makes panels of the names that were logged.
    """
    panels: list[Panel] = []
    systems = {name.split("/")[1] for name in shelf.having(MetricKind.summary, "test/")}
    # the trained model, the base, then the baselines
    order = [*(name for name in MODELS if name in systems)]
    order += sorted(systems - {*MODELS})
    for measure in SCORES:
        names = [
            shelf.scaled(MetricKind.summary, f"test/{system}/{measure}")
            for system in order or [TRAINED]
            if measure != "unended" or system in MODELS
        ]
        found = shelf.take(MetricKind.summary, *names)
        if found:
            panels.append(BarPanel(f"{heading(measure, found[0])} on the test items", found))
    panels += shelf.rows("every test score with its interval", "test/scores")
    panels += shelf.curves("loss", TRAIN_LOSS, VALIDATION_LOSS, unit="nats per token")
    panels += shelf.curves(
        "KL(base || model) on the texts of the penalty", TRAIN_KL, unit="nats per token"
    )
    panels += shelf.curves("validation perplexity", "validation/perplexity")
    rouge = [
        shelf.scaled(MetricKind.curve, f"summaries/{name}_f1")
        for name in ("rouge1", "rouge2", "rougeLsum")
    ]
    title = heading("ROUGE", rouge[0])
    panels += shelf.curves(f"{title} of the probe documents while training", *rouge)
    panels += shelf.curves("words of a summary", "summaries/length", unit="words")
    panels += shelf.curves(
        "how much is copied, how much is new",
        *("summaries/coverage", "summaries/novel_ngrams_1", "summaries/novel_ngrams_2"),
    )
    for title, scores in (
        ("entities supported and recalled", ENTITIES),
        ("degenerate", DEGENERATE),
    ):
        names = [shelf.scaled(MetricKind.curve, f"summaries/{name}") for name in scores]
        panels += shelf.curves(f"{heading(title, names[0])}, probe documents", *names)
    panels += shelf.curves("learning rate", "train/learning_rate")
    panels += shelf.curves("speed", "time/tokens_per_second", unit="tokens/s")
    panels += shelf.rows("sample summaries", "samples")
    panels += shelf.rows("summaries of the probe documents while training", "summaries/samples")
    return tuple(panels)


def heading(measure: str, logged: str) -> str:
    """Return the heading of a score, with `x 100` if it is logged so.

    Args:
        measure: name of the score in files, or the heading itself.
        logged: name under which the score is logged.
    """
    return f"{HEADINGS.get(measure, measure)}{' x 100' if logged.endswith('_x100') else ''}"


def sweep(material: Material, shelf: Shelf, measure: str) -> tuple[Panel, ...]:
    """Return panels that show how the scores of training runs depend on the settings that differ.

    Args:
        material: the runs and the data that they logged.
        shelf: makes panels of the names that were logged.
        measure: the score by which runs are compared.
    """
    if len(material.trained) < 2:
        return ()
    axes = settings_axes(material.trained)
    cost = [
        summary_axis(name, label)
        for name, label in (
            ("trainable_parameters", "trainable parameters"),
            ("validation/loss.min", "lowest validation loss"),
        )
        if shelf.take(MetricKind.summary, name)
    ]
    score = shelf.scaled(MetricKind.summary, f"test/{TRAINED}/{measure}")
    scored = bool(shelf.take(MetricKind.summary, score))
    target = [summary_axis(score, heading(measure, score))] if scored else cost[1:]
    label = target[0].label if target else ""
    panels: list[Panel] = []
    through = [axis for axis in axes if axis.name != "arm"]
    drawn = (*through, *cost, *(target if scored else ()))
    panels.append(Parallel("settings, cost and score", drawn))
    for y in target:
        others = [axis for axis in (*cost, *axes) if axis.numeric and axis != y]
        panels += [Scatter(f"{label} over {x.label}", x, y) for x in others]
    if scored:
        words = distinct([axis for axis in axes if not axis.numeric], material.trained)
        panels += [BarPanel(f"{label} by {axis.label}", (score,), axis) for axis in words]
    panels += shelf.rows("what the selector ranked", "selection")
    panels += shelf.pictures("what the selector chose", "selection")
    panels.append(Differences("settings that differ"))
    return tuple(panels)


def arms(shelf: Shelf) -> tuple[Panel, ...]:
    """Return panels with the comparison of arms that `sumcirc report` logged.

    Args:
        shelf: makes panels of the names that were logged.
    """
    return (
        *shelf.rows("arms", "arms"),
        *shelf.rows("differences from controls", "differences"),
        *shelf.pictures("arms in pictures", "parameters", "differences", "validation_loss"),
    )


def attention(shelf: Shelf) -> tuple[Panel, ...]:
    """Return panels of attention: its entropy, where it goes, and its divergence from the base.

    Args:
        shelf: makes panels of the names that were logged.
    """
    nats = "nats"
    return (
        *shelf.curves("attention entropy", ENTROPY, "attention/entropy_no_sink", unit=nats),
        *shelf.curves("entropy / log visible keys", "attention/normalized_entropy"),
        *shelf.curves("effective keys, exp(entropy)", "attention/effective_keys", unit="keys"),
        *shelf.curves(
            "share of heads whose entropy fell",
            *("attention/heads_fell", "attention/heads_fell_significantly"),
        ),
        *shelf.curves(
            "where attention goes",
            *(f"attention/mass_{part}" for part in ("sink", "document", "prompt", "summary")),
        ),
        *shelf.curves("alignment with ROUGE salience", "attention/salience_alignment"),
        *shelf.curves("attention to the facts and to the other event's", TO_SALIENT, TO_DISTRACTOR),
        *shelf.curves(
            "attention divergence from the base",
            *(ATTENTION_KL, "attention/kl_base_tuned", "attention/js"),
            unit=nats,
        ),
        *shelf.by_arm("attention KL(tuned || base) by arm", ATTENTION_KL),
        *shelf.by_arm("share of heads whose entropy fell, by arm", "attention/heads_fell"),
        *shelf.by_layer(
            *(ENTROPY, ATTENTION_KL, "attention/js"),
            *("attention/salience_alignment", TO_SALIENT),
        ),
        *shelf.pictures(
            "heads by layer",
            *("entropy_difference", "attention_divergence", "layer_divergence"),
            "salient_attention",
        ),
        *shelf.rows("entropy of every head", "probes/attention_entropy"),
        *shelf.rows("divergence of every head", "probes/base_divergence"),
        *shelf.rows("attention of every head to the facts", "probes/salient_attention"),
    )


def drift(shelf: Shelf) -> tuple[Panel, ...]:
    """Return panels of the residual stream, neurons and predictions, and of the logit lens.

    Args:
        shelf: makes panels of the names that were logged.
    """
    return (
        *shelf.by_layer(
            *(CKA, "residual/rsa", "residual/centered_cosine"),
            *("residual/relative_change", "residual/magnitude"),
        ),
        *shelf.curves(
            "next-token divergence from the base",
            *("output/kl_tuned_base", "output/kl_base_tuned", "output/js"),
            unit="nats",
        ),
        *shelf.curves("share of equal most likely tokens", "output/top1_agreement"),
        *shelf.by_arm("next-token KL(tuned || base) by arm", "output/kl_tuned_base"),
        *shelf.by_arm("share of equal most likely tokens by arm", "output/top1_agreement"),
        *shelf.by_layer(LENS_LOG_PROBABILITY, LENS_KL, LENS_AGREEMENT),
        *shelf.pictures("drift by layer and step", "drift", "magnitude", "neurons"),
        *shelf.pictures("the logit lens by layer and step", "logit_lens"),
    )


def circuits(shelf: Shelf) -> tuple[Panel, ...]:
    """Return panels of circuits that were tracked in training or found by `sumcirc circuit`.

    Args:
        shelf: makes panels of the names that were logged.
    """
    alone = shelf.take(
        MetricKind.summary,
        "circuit/graph_edges",
        FAITHFULNESS,
        "circuit/cpr",
        "circuit/cmd",
    )
    return (
        *shelf.curves("faithfulness of the circuit", FAITHFULNESS),
        *shelf.curves("KL(model || circuit)", "circuit/kl", unit="nats"),
        *shelf.curves("CPR: area under faithfulness", "circuit/cpr"),
        *shelf.curves("CMD beside random circuits", "circuit/cmd", "circuit/cmd_random"),
        *shelf.curves(
            "overlap of circuits (Jaccard)",
            *("circuit/jaccard_base", "circuit/jaccard_previous", "circuit/jaccard_resamples"),
        ),
        *shelf.curves("edges in the circuit", "circuit/edges", unit="edges"),
        *shelf.by_arm("faithfulness by arm", FAITHFULNESS),
        *shelf.by_arm("overlap with the base's circuit by arm", "circuit/jaccard_base"),
        # the size of the graph is logged only by `sumcirc circuit`
        *([BarPanel("circuits of finished models", alone[1:])] if alone[:1] and alone[1:] else []),
        *shelf.pictures("circuits", "circuit", "circuit_evolution", "faithfulness", "node_scores"),
        *shelf.rows("the largest edges", "circuit/top_edges"),
    )


def compared(material: Material, shelf: Shelf) -> tuple[Panel, ...]:
    """Return panels with the results of `sumcirc compare` for each pair of models.

    Args:
        material: the runs and the data that they logged.
        shelf: makes panels of the names that were logged.
    """
    panels: list[Panel] = []
    values = shelf.having(MetricKind.summary, "compare/")
    for model in dict.fromkeys(name.split("/")[1] for name in values):
        sides = [f"compare/{model}/{side}/mean" for side in ("before", "after", "difference")]
        panels.append(
            BarPanel(f"{model}: the metric and the gap", shelf.take(MetricKind.summary, *sides))
        )
        for name in shelf.having(MetricKind.table, f"compare/{model}/"):
            panels += shelf.rows(f"{model}: {name.rpartition('/')[2]}", name)
    runs = [run for run in material.runs if run.verb == "compare"]
    pictures = sorted({name for run in runs for name in run.names[MetricKind.image]})
    if pictures:
        panels.append(Pictures("what was moved across, and what changed", tuple(pictures)))
    return tuple(panels)
