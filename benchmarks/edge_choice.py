"""Which score chooses the edges of a circuit best, judged on other documents.

    python benchmarks/edge_choice.py --model RUN_DIR --data test.jsonl [--corruption swap]

Edges are scored on one half of the pairs. Circuits of the same size by every ranking are run on the
other half, and compared by faithfulness in KL. Beside those of two rankings stand random circuits
with as many edges of each kind and layer, each run on some of the pairs as `sumcirc circuit` does.
Intervals resample the judged pairs; differences from the default ranking are paired by document. An
adapter is merged into its base. Scores and circuit runs are kept in the results folder, so that an
interrupted run continues where it stopped; records hold numbers only, no texts.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from data_files import add_data, read_documents
from measurement import parser, prepare, rounded
from numpy.typing import NDArray
from peft import PeftModel

from sumcirc.circuits.aggregation import aggregated
from sumcirc.circuits.attribution.methods import AttributionSettings, attribute
from sumcirc.circuits.edge_selection import matched_circuit, prune, top_n
from sumcirc.circuits.inputs.corruption import corpus_pairs
from sumcirc.circuits.inputs.example_pairs import ExamplePair, TokenPairs, pair_metric
from sumcirc.circuits.inputs.splitting import split_pairs
from sumcirc.circuits.patching.evaluator import Evaluator, share_of
from sumcirc.circuits.patching.patched_run import ALL
from sumcirc.data.encoding import Encoder
from sumcirc.models.architectures import context_length
from sumcirc.models.model_reference import reference
from sumcirc.models.restoring import load_reference, load_tokenizer_of
from sumcirc.schema import Aggregation, EncodingConfig, EvaluationConfig
from sumcirc.statistics import Bootstrap
from sumcirc.tracking.run_directory import git_commit

Values = NDArray[np.float64]
Circuit = NDArray[np.bool_]

SIZES = (0.01, 0.02, 0.05, 0.1, 0.2)
DEFAULT, ABSOLUTE = "kl, |mean|", "kl, mean of |score|"
BATCH, MEMORY = 2, int(2e9)


def signed(scores: Values) -> Values:
    """Mean score; negative ones come last."""
    return aggregated(scores, Aggregation.mean)


def size_of_mean(scores: Values) -> Values:
    """|mean score|."""
    return np.abs(aggregated(scores, Aggregation.mean))


def mean_of_sizes(scores: Values) -> Values:
    """Mean of |score|: effects of opposite sign on two pairs don't cancel."""
    return aggregated(scores, Aggregation.mean_absolute)


# name -> metric whose effect is attributed, how scores of pairs become a ranking
RANKINGS: dict[str, tuple[str, Callable[[Values], Values]]] = {
    DEFAULT: ("kl", size_of_mean),
    ABSOLUTE: ("kl", mean_of_sizes),
    "kl, mean": ("kl", signed),
    "logit difference, |mean|": ("logit_difference", size_of_mean),
    "logit difference, mean of |score|": ("logit_difference", mean_of_sizes),
    "nll, |mean|": ("nll", size_of_mean),
    "nll, mean of |score|": ("nll", mean_of_sizes),
}
CONTROLLED = (DEFAULT, ABSOLUTE)  # rankings with random circuits beside them


def make_pairs(options: argparse.Namespace, encoder: Encoder) -> list[ExamplePair]:
    """Pairs of whole documents of at most `--tokens` tokens, whose summary states a swapped word.

    The last condition is for `swap` alone, the only corruption of files that has an answer.
    """
    documents = read_documents(options, 8 * options.pairs)
    made = corpus_pairs(encoder, documents, options.corruption, None, EvaluationConfig(), "--pairs")
    short = [
        pair
        for pair in made.pairs
        if not pair.clean.truncated
        and len(pair.clean) <= options.tokens
        and (options.corruption != "swap" or pair.clean.diverges.any())
    ]
    if len(short) < options.pairs:
        raise SystemExit(f"--pairs {options.pairs}: only {len(short)} of at most {options.tokens}")
    return short[: options.pairs]


def scored(model: Any, pairs: list[ExamplePair], name: str, folder: Path) -> Values:
    """Return scores [pairs, sources, destinations] by a metric, from the file if it exists."""
    file = folder / f"scores-{name}.npz"
    if not file.exists():
        tokens, began = TokenPairs.of(pairs), time.process_time()
        metric = pair_metric(name, tokens)
        found = attribute(
            model, tokens, metric, AttributionSettings(), batch_size=BATCH, memory=MEMORY
        )
        seconds = time.process_time() - began
        np.savez(file, scores=found.documents.numpy(), seconds=seconds)
        print(f"{name}: scored in {seconds:.0f} CPU seconds", flush=True)
    return np.load(file)["scores"].astype(np.float64)


class Judge:
    """Runs circuits on held-out pairs, once each; what was run is kept in a file."""

    def __init__(self, model: Any, pairs: list[ExamplePair], file: Path) -> None:
        tokens = TokenPairs.of(pairs)
        metric = pair_metric("kl", tokens)
        self.evaluator = Evaluator(model, tokens, metric, batch=BATCH, memory=MEMORY)
        self.file = file
        self.known: dict[str, list[float | None]] = (
            json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        )

    def run(self, circuits: dict[str, Circuit], shares: dict[str, slice] | None = None) -> None:
        """Run the circuits that were not run before, by name, on all documents or some."""
        todo = {name: kept for name, kept in circuits.items() if name not in self.known}
        if not todo:
            return
        began = time.process_time()
        some = [(shares or {}).get(name, ALL) for name in todo]
        values = self.evaluator.run(list(todo.values()), some)
        for name, value in zip(todo, values, strict=True):
            self.known[name] = [None if np.isnan(one) else float(one) for one in value.metric]
        self.file.write_text(json.dumps(self.known), encoding="utf-8")
        seconds = time.process_time() - began
        print(f"{len(todo)} circuits in {seconds:.0f} CPU seconds", flush=True)

    def gains(self, names: list[str]) -> Values:
        """Return m(0) - m(C) of each circuit, averaged over those run on a document."""
        metric = np.array([self.known[name] for name in names], dtype=float)
        return self.evaluator.empty.metric - np.nanmean(metric, axis=0)

    def share(self, gains: Values, other: Values | float = 0.0) -> dict[str, float]:
        """Faithfulness, or its difference to another circuit's, with an interval."""
        whole = self.evaluator.empty.metric - self.evaluator.full.metric
        found = Bootstrap().interval(
            lambda pick: (gains - other)[pick].mean(-1) / whole[pick].mean(-1), len(whole)
        )
        return {"mean": found.mean, "low": found.low, "high": found.high}


def main() -> None:
    """Score, judge, print and write the records."""
    command = parser(__doc__)
    command.add_argument("--model", required=True, help="run directory, adapter, folder or hub id")
    add_data(command, "JSON lines of documents", required=True)
    command.add_argument("--corruption", default="swap", choices=("swap", "replace"))
    command.add_argument("--pairs", type=int, default=16, help="half of them choose edges")
    command.add_argument("--tokens", type=int, default=224, help="longest document with summary")
    command.add_argument("--circuits", type=int, default=10, help="random circuits a size")
    command.add_argument("--metrics", nargs="*", help="metrics to attribute; by default all")
    command.add_argument("--name", help="name of the model in the record and of its folder")
    options = command.parse_args()
    prepare(options)
    if options.quick:
        options.circuits = 1
    folder = options.results / "edge_choice" / (options.name or "") / options.corruption
    folder.mkdir(parents=True, exist_ok=True)
    where = reference(options.model, "--model")
    model: Any = load_reference(where)
    if isinstance(model, PeftModel):
        model = model.merge_and_unload()
    model = model.to(options.device)
    limit = min(1024, context_length(model.config))
    encoder = Encoder(load_tokenizer_of(where), EncodingConfig(max_length=limit), limit)
    chosen, held_out = split_pairs(make_pairs(options, encoder), 0.5)
    compare(model, chosen, held_out, options, folder)


def compare(
    model: Any,
    chosen: list[ExamplePair],
    held_out: list[ExamplePair],
    options: argparse.Namespace,
    folder: Path,
) -> None:
    """Judge the rankings one after the other, then random circuits; write the record after each."""
    judge = Judge(model, held_out, folder / "runs.json")
    graph = judge.evaluator.graph
    rows: list[dict[str, Any]] = []
    record = {
        "model": options.name or Path(options.model).name,
        "corruption": options.corruption,
        "commit": git_commit(),
        "tokens": options.tokens,
        "chosen_on": [pair.clean.id for pair in chosen],
        "judged_on": [pair.clean.id for pair in held_out],
        "random_circuits": options.circuits,
        "edges": graph.edges,
        "gap_by_document": (judge.evaluator.empty.metric - judge.evaluator.full.metric).tolist(),
        "rows": rows,
    }

    def write() -> None:
        text = json.dumps(rounded(record), indent=1)
        (folder / "record.json").write_text(text + "\n", encoding="utf-8")

    controlled: dict[str, dict[float, Circuit]] = {}
    for name, (metric, rank) in RANKINGS.items():
        if metric == "logit_difference" and options.corruption != "swap":
            continue
        if options.metrics and metric not in options.metrics:
            continue
        order = rank(scored(model, chosen, metric, folder))
        circuits = {
            size: prune(top_n(order, graph, graph.edges_in(size), False), graph) for size in SIZES
        }
        judge.run({f"{name} {size:g}": kept for size, kept in circuits.items()})
        for size, kept in circuits.items():
            rows.append(row_of(judge, name, size, kept))
        if name in CONTROLLED:
            controlled[name] = circuits
        write()
    for name, circuits in controlled.items():
        rows += random_rows(judge, name, circuits, options.circuits)
        write()


def row_of(judge: Judge, name: str, size: float, kept: Circuit) -> dict[str, Any]:
    """Return the faithfulness of a ranking's circuit of one size, beside the default's."""
    gains, default = judge.gains([f"{name} {size:g}"]), judge.gains([f"{DEFAULT} {size:g}"])
    row = {
        "ranking": name,
        "size": size,
        "edges": int(kept.sum()),
        "faithfulness": judge.share(gains),
        "minus_default": judge.share(gains, default),
        "by_document": gains.tolist(),
    }
    print(name, size, row["edges"], rounded(row["faithfulness"]), flush=True)
    return row


def random_rows(
    judge: Judge, name: str, circuits: dict[float, Circuit], count: int
) -> list[dict[str, Any]]:
    """Return random circuits that match those of a ranking by kind and layer, pooled by size."""
    rows, graph, documents = [], judge.evaluator.graph, len(judge.evaluator.pairs)
    draws = [np.random.default_rng(seed).random(graph.exists.shape) for seed in range(count)]
    matched = {
        size: {
            f"random {seed} for {name} {size:g}": matched_circuit(draw, kept, graph)
            for seed, draw in enumerate(draws)
        }
        for size, kept in circuits.items()
    }
    shares = {
        one: share_of(seed, documents)
        for of_size in matched.values()
        for seed, one in enumerate(of_size)
    }
    judge.run({one: kept for some in matched.values() for one, kept in some.items()}, shares)
    for size, of_size in matched.items():
        kept = circuits[size]
        gains = judge.gains(list(of_size))
        row = {"ranking": f"random, matched to {name}", "size": size, "edges": int(kept.sum())}
        row["faithfulness"] = judge.share(gains)
        chosen = judge.gains([f"{name} {size:g}"])
        row["circuit_minus_random"] = judge.share(chosen, gains)
        shared = [(one & kept).sum() / kept.sum() for one in of_size.values()]
        row["shared"] = float(np.mean(shared))
        row["by_document"] = gains.tolist()
        row["runs"] = {one: judge.known[one] for one in of_size}
        rows.append(row)
        print(row["ranking"], size, rounded(row["faithfulness"]), f"shares {row['shared']:.2f}")
    return rows


if __name__ == "__main__":
    main()
