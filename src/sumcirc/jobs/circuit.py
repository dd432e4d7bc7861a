"""`sumcirc circuit`: finds the edges that produce the summary, and tests the circuit they form.

The model can be the built-in one, a hub id, a folder, or with `checkpoint=` a run directory or an
adapter.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sumcirc.runtime.terminal import say
from sumcirc.schema import TAG_LENGTH, CircuitConfig, CircuitMetric, CircuitOptions

if TYPE_CHECKING:
    from sumcirc.circuits.discovery import CircuitResult
    from sumcirc.circuits.inputs.example_pairs import ExamplePair
    from sumcirc.circuits.patching.faithfulness_results import FaithfulnessCurve, Judgement
    from sumcirc.circuits.tasks import Task
    from sumcirc.data.encoding import Encoder
    from sumcirc.runtime.notices import Notice, Notices
    from sumcirc.tracking.run_directory import RunDirectory

log = logging.getLogger(__name__)


def check(config: CircuitConfig) -> None:
    """Check the settings before the job starts, so that it doesn't fail later.

    Args:
        config: configuration of the job.

    Raises:
        UserError: a setting can't work; the message names it, its value and the remedy.
    """
    from sumcirc.circuits.inputs.pair_files import read_pairs
    from sumcirc.data.documents import check_files
    from sumcirc.data.encoding import Encoder
    from sumcirc.errors import UserError
    from sumcirc.jobs._circuit_card import check_other
    from sumcirc.jobs._circuit_spans import divided
    from sumcirc.jobs._encoding import check_encoding
    from sumcirc.models.architectures import architecture, context_length
    from sumcirc.models.loading import load_tokenizer, read_model_config
    from sumcirc.models.model_pairs import check_pair
    from sumcirc.models.restoring import against_of, check_reference, reference_of
    from sumcirc.storage.writing import check_writable
    from sumcirc.training.machine import check_machine

    check_writable("cache_dir", config.cache_dir)
    config.circuit.corruption_of(config.data.source)
    check_machine(config.trainer)
    if config.pairs is None:
        check_files(config.data, ("test",))
    elif config.circuit.metric is CircuitMetric.wrong_fact:
        raise UserError(
            f"circuit.metric=wrong_fact: is made from documents, not from pairs={config.pairs};"
            " leave pairs out, or take circuit.metric=logit_difference, which compares `good` with"
            " `bad`"
        )
    against = against_of(config)
    if against is None:
        check_reference(reference_of(config), analysed=True)
    else:
        check_pair(reference_of(config), [against], "checkpoint" if config.checkpoint else "model")
    check_encoding(config.model, config.encoding)
    model_config = read_model_config(config.model)
    architecture(model_config)
    if config.pairs is not None or config.card.other is not None:
        tokenizer = load_tokenizer(config.model)
        encoder = Encoder(tokenizer, config.encoding, context_length(model_config))
        check_other(config, encoder)
        if config.pairs is not None:
            divided(config, encoder, read_pairs(config.pairs, encoder))


def run(config: CircuitConfig, folder: Path) -> None:
    """Find the model's circuit, test its faithfulness, and write both to the run directory.

    Args:
        config: configuration of the job.
        folder: the run directory.
    """
    from sumcirc.tracking.session import carry_out

    carry_out(config, folder, "circuit", check, _circuit)


def _circuit(config: CircuitConfig, directory: RunDirectory) -> None:
    from sumcirc.circuits.tasks import make_tasks
    from sumcirc.data.encoding import Encoder
    from sumcirc.jobs._circuit_card import FILE, other_pairs, print_card, summarized, write_card
    from sumcirc.jobs._circuit_pair import compare_with
    from sumcirc.jobs._circuit_print import print_circuit
    from sumcirc.jobs._circuit_spans import print_spans
    from sumcirc.models.architectures import context_length
    from sumcirc.models.gguf_files import dequantization
    from sumcirc.models.loading import load_tokenizer
    from sumcirc.models.restoring import load_reference, reference_of
    from sumcirc.reporting.tables import print_tables
    from sumcirc.reporting.views.circuit_change import change_tables
    from sumcirc.runtime.notices import Notices, few
    from sumcirc.tracking.session import Clock
    from sumcirc.tracking.wandb import log_circuit, wandb_job
    from sumcirc.training.machine import device, set_threads

    clock, notices = Clock(), Notices()
    set_threads(config.trainer)
    model: Any = load_reference(reference_of(config))
    tokenizer = load_tokenizer(config.model)
    encoder = Encoder(tokenizer, config.encoding, context_length(model.config))
    with clock.phase("pairs"):
        pairs, dropped = _pairs(config, encoder, notices)
    options = _settled(config, pairs)
    config = replace(config, circuit=options)
    with (
        wandb_job(config, directory, "circuit", _data_name(config)) as wandb_logger,
        clock.phase("circuit"),
    ):
        model.to(device(config.trainer))
        split = make_tasks(model, pairs, options)
        task, held_out = split.task, split.held_out
        found = _found(model, task, held_out, options)
        dropped |= {"unchanged": split.unchanged}
        dropped |= {"untold": split.untold} if split.untold else {}
        notices.tell(
            *split.notices,
            few("circuit.documents", "pairs", len((held_out or task).pairs)),
            _no_edge(found, options),
        )
        summary = _summary(config, task, found, dropped) | dequantization(model.config)
        others = other_pairs(config, encoder, pairs)
        file = directory.circuits / FILE
        card = write_card(config, model, split, found, others, file)
        summary |= summarized(card)
        change = against_card = None
        if config.against is not None:
            summary["against"], change, against_card = compare_with(
                config, directory, model, split, found, others, notices
            )
        summary["notices"] = notices.as_json()
        curves, spans = _write(directory, config, found, summary)
        if wandb_logger is not None:
            log_circuit(wandb_logger, config.logger, config.run.name, summary, directory)
    print_circuit(found, curves, summary)
    print_spans(spans)
    print_card("the circuit", card)
    print_card(f"the circuit of {config.against}", against_card)
    if change is not None:
        print_tables(*change_tables(change))
    say(f"run directory: {directory.path}")
    say(f"figures: {directory.figures}")


def _found(model: Any, task: Task, held_out: Task | None, options: CircuitOptions) -> CircuitResult:
    """Score all edges, choose the circuit and judge it."""
    from sumcirc.circuits.discovery import circuit_runs, judge, score_edges
    from sumcirc.circuits.spans.circuit import find_units
    from sumcirc.runtime.progress import counted

    if options.by_span:
        return find_units(model, task, held_out, options, counted)
    with counted(f"attribute by {options.method.value}", len(task.pairs)) as attributed:
        scores = score_edges(model, task, options, attributed)
    with counted("judge circuits", circuit_runs(task, options, held_out)) as judged:
        return judge(task, scores, options, judged, held_out)


def _pairs(
    config: CircuitConfig, encoder: Encoder, notices: Notices
) -> tuple[list[ExamplePair], dict[str, int]]:
    from sumcirc.circuits.inputs.corruption import corpus_pairs, exchanged_notice
    from sumcirc.circuits.inputs.pair_files import read_pairs
    from sumcirc.data.documents import read_corpus
    from sumcirc.jobs._circuit_spans import divided

    if config.pairs is not None:
        pairs = read_pairs(config.pairs, encoder)
        notices.tell(exchanged_notice("pairs", pairs))
        return divided(config, encoder, pairs), {}
    options, corpus = config.circuit, read_corpus(config.data, "test")
    made = corpus_pairs(
        encoder,
        corpus.documents,
        options.corruption_of(config.data.source),
        options.documents,
        config.evaluation,
        "circuit.documents",
        config.data.seed,
    )
    notices.tell(*corpus.notices, *made.notices)
    return divided(config, encoder, made.pairs, corpus.documents), made.dropped


def _settled(config: CircuitConfig, pairs: Sequence[ExamplePair]) -> CircuitOptions:
    """Return the circuit's options, in which the metric `auto` is replaced by an actual metric."""
    if config.circuit.metric is not CircuitMetric.auto:
        return config.circuit
    told = config.pairs is not None and all(pair.clean.diverges.any() for pair in pairs)
    metric = CircuitMetric.logit_difference if told else CircuitMetric.kl
    return replace(config.circuit, metric=metric)


def _data_name(config: CircuitConfig) -> str:
    """Return the name of the data or of the file of pairs, short enough for a W&B tag."""
    return config.data.name if config.pairs is None else Path(config.pairs).stem[:TAG_LENGTH]


def _summary(
    config: CircuitConfig, task: Task, found: CircuitResult, dropped: dict[str, int]
) -> dict[str, Any]:
    options, graph = config.circuit, found.scores.graph
    summary: dict[str, Any] = {
        "model": config.model.name,
        "method": options.method.value,
        "metric": options.metric.value,
        "corruption": ", ".join(sorted({pair.corruption for pair in task.pairs})),
        "aggregation": options.aggregation.value,
        "sign_filter": options.sign_filter,
        "sign_candidates": found.candidates,
        "select": options.select.value,
        "ablation": options.ablation.value,
        "pairs": len(found.scores.ids),
        "held_out_pairs": len(found.absolute.documents) if found.in_sample else 0,
        "pairs_dropped": dropped,
        "nodes": graph.nodes,
        "edges": graph.edges,
        "circuit_edges": int(found.circuit.sum()),
        "faithfulness": asdict(found.faithfulness.faithfulness),
        "completeness": asdict(found.faithfulness.completeness)
        if found.faithfulness.completeness
        else None,
        "kl": asdict(found.faithfulness.kl),
        "cpr": {
            "value": asdict(found.signed.cpr.value),
            "random": [asdict(one) for one in found.absolute.cpr.random],
        },
        "cmd": asdict(found.absolute.cmd),
        "control": None if found.control is None else asdict(found.control),
        "above_control": None if found.above_control is None else asdict(found.above_control),
        "control_shared": found.control_shared,
        "reached": _reached(found.absolute),
    }
    if found.in_sample is not None:
        summary["in_sample"] = _in_sample(found.in_sample)
    if found.stability is not None:
        summary["jaccard"] = asdict(found.stability.jaccard)
        summary["jaccard_chance"] = float(found.stability.chance)
        summary["spearman"] = asdict(found.stability.spearman)
    if found.scores.spans is not None:
        sizes = found.scores.spans.mean(0).abs().sum((1, 2))
        shares = sizes / sizes.sum()
        names = task.tokens.clean.spans
        summary["score_share_by_span"] = dict(zip(names, map(float, shares), strict=True))
    return summary


def _reached(curve: FaithfulnessCurve) -> dict[str, Any] | None:
    """Return the size of the smallest circuit of the curve that is faithful enough, or None."""
    from sumcirc.circuits.patching.faithfulness_results import REACHED

    first = curve.reached
    if first is None:
        return None
    return {"faithfulness": REACHED, "fraction": first.fraction, "edges": first.edges}


def _in_sample(found: Judgement) -> dict[str, Any]:
    """Return the summary's figures on the pairs on which the edges were chosen."""
    one = found.faithfulness
    return {
        "faithfulness": asdict(one.faithfulness),
        "completeness": None if one.completeness is None else asdict(one.completeness),
        "kl": asdict(one.kl),
        "cpr": asdict(found.signed.cpr.value),
        "cmd": asdict(found.absolute.cmd.value),
        "reached": _reached(found.absolute),
    }


def _no_edge(found: CircuitResult, options: CircuitOptions) -> Notice:
    """Return a notice that the circuit is empty, with the reason.

    The notice's count is 0 if the circuit has an edge.
    """
    from sumcirc.circuits.discovery import edges_of
    from sumcirc.runtime.notices import Notice

    chosen = edges_of(found.aggregated, found.scores.graph, options)
    setting, remedy = "circuit.size", "a larger circuit.size"
    if options.threshold is not None:
        setting, remedy = "circuit.threshold", "a smaller circuit.threshold"
    words = (
        "edges were pruned, being on no path from input to logits: the circuit holds no edge and"
        f" has no faithfulness; take {remedy}"
    )
    if not chosen:  # by a threshold that no edge reaches
        chosen = found.scores.graph.edges
        words = (
            f"edges have a |score| below {options.threshold:g}: the circuit holds no edge and has"
            f" no faithfulness; take {remedy}"
        )
    count = 0 if found.circuit.any() else chosen
    return Notice(setting, "no edge", count, chosen, words, limit=0.0)


def _write(
    directory: RunDirectory, config: CircuitConfig, found: CircuitResult, summary: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Write records and figures, and return the content of faithfulness.json and spans.json."""
    import numpy as np

    from sumcirc.circuits.discovery import to_store
    from sumcirc.circuits.edge_sums import by_node
    from sumcirc.figures.views import draw_all
    from sumcirc.jobs._circuit_spans import FIGURE, summarized, write_spans
    from sumcirc.reporting.views.circuit_curves import faithfulness
    from sumcirc.reporting.views.circuit_graphs import MOST_EDGES, graph, node_scores
    from sumcirc.reporting.views.circuit_spans import spans_view
    from sumcirc.storage.writing import plain_numbers, write_json

    options, scores = config.circuit, found.scores
    edges = scores.graph
    to_store(scores, options, 0).save(directory.circuits / "scores.safetensors")
    found.save(directory.circuits / "circuit.json")
    curves: dict[str, Any] = {
        "absolute": found.absolute.as_json(),
        "signed": found.signed.as_json(),
    }
    if found.in_sample is not None:
        curves["in_sample"] = {
            "absolute": found.in_sample.absolute.as_json(),
            "signed": found.in_sample.signed.as_json(),
        }
    curves = plain_numbers(curves)
    write_json(directory.circuits / "faithfulness.json", curves)
    spans = write_spans(directory, found, options)
    summary |= summarized(spans)
    directory.write_summary(summary)
    shape = edges.shape
    unit = options.metric.unit
    title = f"{config.model.name}, {options.method.value}"
    group = shape.group if not edges.expand_groups else 1
    outgoing, _ = by_node(found.aggregated, edges)
    heads = np.array([outgoing[edges.attention_sources(i)] for i in range(shape.layers)])
    mlps = [float(outgoing[edges.mlp_source(i)]) for i in range(shape.layers)]
    drawn = found.largest_edges(MOST_EDGES)
    size = int(found.circuit.sum())
    views = {
        "circuit": lambda: graph(
            drawn, (shape.layers, shape.heads), title, unit=unit, group=group, size=size
        ),
        "node_scores": lambda: node_scores(heads, "sum of |score| of outgoing edges", unit, mlps),
        "faithfulness": lambda: faithfulness(curves, edges.edges),
    }
    if spans is not None:
        views[FIGURE] = lambda: spans_view(spans)
    for reason in draw_all(views.items(), directory.figures):
        log.info("figures: %s", reason)
    return curves, spans
