"""`sumcirc circuit`: finds the edges that produce the summary, and tests the circuit they form.

For any model: the built-in one, a hub id or folder, or with `checkpoint=` a run directory or an
adapter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sumcirc.runtime.terminal import console, say
from sumcirc.schema import TAG_LENGTH, CircuitConfig, CircuitMetric, CircuitOptions

if TYPE_CHECKING:
    from sumcirc.circuits.discovery import CircuitResult, Task
    from sumcirc.circuits.inputs.example_pairs import ExamplePair
    from sumcirc.data.encoding import Encoder
    from sumcirc.runtime.notices import Notice, Notices
    from sumcirc.tracking.run_directory import RunDirectory

LISTED_EDGES = 15  # rows of the printed table


def check(config: CircuitConfig) -> None:
    """Refuse settings that would fail later.

    Raises:
        UserError: one line that names the setting, its value and the remedy.
    """
    from sumcirc.circuits.inputs.pair_files import read_pairs
    from sumcirc.data.documents import check_files
    from sumcirc.data.encoding import Encoder
    from sumcirc.models.architectures import anatomy, context_length
    from sumcirc.models.loading import load_tokenizer, read_model_config
    from sumcirc.models.restoring import check_reference, reference_of
    from sumcirc.storage.writing import check_writable
    from sumcirc.training.trainer import check_machine

    check_writable("cache_dir", config.cache_dir)
    config.circuit.corruption_of(config.data.source)
    check_machine(config.trainer)
    if config.pairs is None:
        check_files(config.data, ("test",))
    check_reference(reference_of(config), analysed=True)
    model_config = read_model_config(config.model)
    anatomy(model_config)
    if config.pairs is not None:
        encoder = Encoder(
            load_tokenizer(config.model), config.encoding, context_length(model_config)
        )
        read_pairs(config.pairs, encoder)


def run(config: CircuitConfig, folder: Path) -> None:
    """Find the circuit and write it to the run directory.

    Args:
        config: configuration of the job.
        folder: the run directory.
    """
    from sumcirc.tracking.session import carry_out

    carry_out(config, folder, "circuit", check, _circuit)


def _circuit(config: CircuitConfig, directory: RunDirectory) -> None:
    from sumcirc.circuits.discovery import JUDGEMENTS, judge, make_task, score_edges
    from sumcirc.data.encoding import Encoder
    from sumcirc.models.architectures import context_length
    from sumcirc.models.loading import load_tokenizer
    from sumcirc.models.restoring import load_reference, reference_of
    from sumcirc.runtime.notices import Notices, few
    from sumcirc.runtime.progress import counted
    from sumcirc.tracking.session import Clock
    from sumcirc.tracking.wandb import log_circuit, wandb_job
    from sumcirc.training.trainer import device, set_threads

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
        task = make_task(model, pairs, options)
        with counted(f"attribute by {options.method.value}", len(task.pairs)) as attributed:
            scores = score_edges(model, task, options, attributed)
        with counted("judge circuits", JUDGEMENTS) as judged:
            found = judge(task, scores, options, judged)
        dropped |= {"unchanged": task.unchanged} | ({"untold": task.untold} if task.untold else {})
        notices.tell(
            *task.notices,
            few("circuit.documents", "pairs", len(task.pairs)),
            _no_edge(found, options),
        )
        summary = _summary(config, task, found, dropped)
        summary["notices"] = notices.as_json()
        _write(directory, config, found, summary)
        if wandb_logger is not None:
            log_circuit(wandb_logger, config.logger, config.run.name, summary, directory)
    _print(found, summary, directory)


def _pairs(
    config: CircuitConfig, encoder: Encoder, notices: Notices
) -> tuple[list[ExamplePair], dict[str, int]]:
    from sumcirc.circuits.inputs.corruption import corpus_pairs
    from sumcirc.circuits.inputs.pair_files import read_pairs
    from sumcirc.data.documents import read_corpus

    if config.pairs is not None:
        return read_pairs(config.pairs, encoder), {}
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
    return made.pairs, made.dropped


def _settled(config: CircuitConfig, pairs: Sequence[ExamplePair]) -> CircuitOptions:
    """Return the options with the metric that `auto` stands for."""
    if config.circuit.metric is not CircuitMetric.auto:
        return config.circuit
    told = config.pairs is not None and all(pair.clean.diverges.any() for pair in pairs)
    metric = CircuitMetric.logit_difference if told else CircuitMetric.kl
    return replace(config.circuit, metric=metric)


def _data_name(config: CircuitConfig) -> str:
    """Return the name of the pairs' source, short enough for a tag."""
    return config.data.name if config.pairs is None else Path(config.pairs).stem[:TAG_LENGTH]


def _summary(
    config: CircuitConfig, task: Task, found: CircuitResult, dropped: dict[str, int]
) -> dict[str, Any]:
    options, graph = config.circuit, found.scores.graph
    summary: dict[str, Any] = {
        "model": config.model.name,
        "method": options.method.value,
        "metric": options.metric.value,
        "pairs": len(found.scores.ids),
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
    }
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


def _no_edge(found: CircuitResult, options: CircuitOptions) -> Notice:
    """Return a notice for a circuit that pruning left empty; its count is 0 otherwise."""
    from sumcirc.circuits.discovery import edges_of
    from sumcirc.runtime.notices import Notice

    chosen = edges_of(found.scores.graph, options)
    words = (
        "edges were pruned, being on no path from input to logits: the circuit holds no edge and"
        " has no faithfulness; take a larger circuit.size"
    )
    count = 0 if found.circuit.any() else chosen
    return Notice("circuit.size", "no edge", count, chosen, words, limit=0.0)


def _write(
    directory: RunDirectory, config: CircuitConfig, found: CircuitResult, summary: dict[str, Any]
) -> None:
    import numpy as np

    from sumcirc.circuits.discovery import to_store
    from sumcirc.circuits.edge_selection import by_node
    from sumcirc.figures.circuit_curves import draw_faithfulness
    from sumcirc.figures.circuits import MOST_EDGES, draw_circuit, draw_node_scores
    from sumcirc.storage.writing import plain_numbers, write_json

    options, scores = config.circuit, found.scores
    graph, mean = scores.graph, found.mean
    stored = to_store(scores, options, 0)
    stored.save(directory.circuits / "scores.safetensors")
    found.save(directory.circuits / "circuit.json")
    curves = {"absolute": found.absolute.as_json(), "signed": found.signed.as_json()}
    write_json(directory.circuits / "faithfulness.json", plain_numbers(curves))
    directory.write_summary(summary)
    shape = graph.shape
    unit = "logits" if options.metric.value == "logit_difference" else "nats"
    edges = found.largest_edges(MOST_EDGES)
    if edges:
        draw_circuit(
            edges,
            directory.figures / "circuit.png",
            shape.layers,
            shape.heads,
            f"{config.model.name}, {options.method.value}",
            unit,
            shape.group if not graph.expand_groups else 1,
        )
    outgoing, _ = by_node(mean, graph)
    heads = np.array([outgoing[graph.attention_sources(i)] for i in range(shape.layers)])
    mlps = [float(outgoing[graph.mlp_source(i)]) for i in range(shape.layers)]
    label = f"sum of |score| of outgoing edges ({unit})"
    draw_node_scores(heads, directory.figures / "node_scores.png", label, mlps)
    curves = _drawn_curves(found)
    if curves:
        draw_faithfulness(curves, directory.figures / "faithfulness.png", graph.edges)


def _drawn_curves(found: CircuitResult) -> dict[str, dict[str, list[float]]]:
    """Return faithfulness by circuit size for both rankings and for random circuits.

    Random circuits are averaged over seeds. Circuits whose faithfulness is undefined are omitted.
    """
    import numpy as np

    curves: dict[str, dict[str, list[float]]] = {}
    for name, one in (("by |score|", found.absolute), ("by score", found.signed)):
        points = [point for point in one.points if np.isfinite(point.faithfulness.mean)]
        curves[name] = {
            "size": [point.edges for point in points],
            "mean": [point.faithfulness.mean for point in points],
            "low": [point.faithfulness.low for point in points],
            "high": [point.faithfulness.high for point in points],
        }
    series = found.absolute.random
    kept = [
        i
        for i in range(len(series[0]))
        if all(np.isfinite(points[i].faithfulness.mean) for points in series)
    ]
    values = np.array([[points[i].faithfulness.mean for i in kept] for points in series])
    curves["random"] = {
        "size": [float(np.mean([points[i].edges for points in series])) for i in kept],
        "mean": values.mean(0).tolist(),
        "low": values.min(0).tolist(),
        "high": values.max(0).tolist(),
    }
    return {name: one for name, one in curves.items() if one["size"]}


def _print(found: CircuitResult, summary: dict[str, Any], directory: RunDirectory) -> None:
    from rich.table import Table

    from sumcirc.runtime.notices import print_lines

    shown = console()
    table = Table(title="faithfulness (1: the whole model, 0: all edges patched)")
    for name in ("edges", "share", "by |score|", "random", "KL in nats"):
        table.add_column(name, justify="right")
    for i, point in enumerate(found.absolute.points):
        f = point.faithfulness
        control = [points[i].faithfulness.mean for points in found.absolute.random]
        table.add_row(
            str(point.edges),
            f"{100 * (point.fraction or 0):g} %",
            _bracketed(asdict(f), ".2f") if point.edges else "no edge",
            _mean(control, ".2f"),
            f"{point.kl.mean:.3f}",
        )
    shown.print(table)
    edges = Table(title=f"largest of {summary['circuit_edges']} edges in the circuit")
    edges.add_column("edge")
    edges.add_column("score", justify="right")
    for source, destination, score in found.largest_edges(LISTED_EDGES):
        edges.add_row(f"{source} -> {destination}", f"{score:.4f}")
    shown.print(edges)
    say(f"{summary['pairs']} pairs, metric {summary['metric']}")
    print_lines(summary["notices"])
    one = found.faithfulness
    # the reason why one is undefined is among the notices
    faithful = _defined(asdict(one.faithfulness), ".2f")
    say(f"circuit of {one.edges} edges: faithfulness {faithful}, KL {one.kl.mean:.3f} nats")
    for name in ("cpr", "cmd"):
        area = summary[name]["value"]
        control = [one["mean"] for one in summary[name]["random"]]
        say(f"{name.upper()} {_defined(area, '.3f')}, random {_mean(control, '.3f')}")
    if "jaccard" in summary:
        one, why = summary["jaccard"], ""
        if math.isnan(one["mean"]):
            why = f" ({'all' if found.circuit.any() else 'no'} edges are in the circuit)"
        say(
            f"Jaccard between resamples of the documents {_defined(one, '.2f')}{why},"
            f" chance level {_mean([summary['jaccard_chance']], '.3f')}"
        )
    say(f"run directory: {directory.path}")
    say(f"figures: {directory.figures}")


def _defined(interval: dict[str, Any], form: str) -> str:
    return "not defined" if math.isnan(interval["mean"]) else _bracketed(interval, form)


def _mean(values: Sequence[float], form: str) -> str:
    """Format the mean of the finite values; `-` if there are none."""
    found = [value for value in values if math.isfinite(value)]
    return format(sum(found) / len(found), form) if found else "-"


def _bracketed(interval: dict[str, Any], form: str) -> str:
    from sumcirc.statistics import bracketed

    return bracketed(interval["mean"], interval["low"], interval["high"], form)
