"""Which way chooses the edges of a circuit best, judged on other documents.

    python benchmarks/edge_choice.py --model tiny --corruption counterfactual --pairs 32
    python benchmarks/edge_choice.py --model tests/fixtures/sorter --corruption sorter --pairs 48
    python benchmarks/edge_choice.py --model RUN_DIR --data test.jsonl [--corruption swap]

Edges are scored on one half of the pairs. Circuits of the same sizes by every way (edge_ways.py)
are run on the other half, and compared by faithfulness f, by the share of positions at which the
circuit's likeliest token is the model's, and by CPR and CMD over these sizes: the area under f and
|1 - f| over sizes, divided by the range of sizes. *Default* is the ranking by the size of the mean
score (`circuit.aggregation=mean`). Beside it and the learned masks stand
random circuits with as many edges of each kind and layer, each run on some of the pairs as `sumcirc
circuit` does. Intervals resample the judged pairs; differences from the default are paired by
document. `--controls` names other ways that get random circuits. Faithfulness is in KL, for the
sorter in the difference of the two answers' logits. An adapter is merged into its base. All that
was computed is kept in the results folder, so that an interrupted run continues where it stopped;
records hold numbers only, no texts.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import sorter_card
import torch
from data_files import add_data, read_documents
from edge_ways import LEARNED, Scorer, default_way, ways
from measurement import parser, prepare, rounded
from numpy.typing import NDArray
from peft import PeftModel

from sumcirc.circuits.edge_selection import matched_circuit, prune, top_n
from sumcirc.circuits.inputs.corruption import corpus_pairs
from sumcirc.circuits.inputs.example_pairs import ExamplePair, TokenPairs, pair_metric
from sumcirc.circuits.inputs.splitting import split_pairs
from sumcirc.circuits.masks.learning import EdgeMaskSettings
from sumcirc.circuits.patching.evaluator import Evaluator, share_of
from sumcirc.circuits.patching.patched_run import ALL
from sumcirc.data.documents import read_corpus
from sumcirc.data.encoding import Encoder
from sumcirc.models.architectures import context_length
from sumcirc.models.model_reference import reference
from sumcirc.models.restoring import load_reference, load_tokenizer_of
from sumcirc.schema import DataConfig, EncodingConfig, EvaluationConfig, SizesConfig, Source
from sumcirc.statistics import Bootstrap
from sumcirc.tracking.run_directory import git_commit

Values = NDArray[np.float64]
Circuit = NDArray[np.bool_]

WIRE, SORTER = "counterfactual", "sorter"
BATCH = 2


def make_pairs(options: argparse.Namespace, encoder: Encoder | None) -> list[ExamplePair]:
    """Pairs of whole documents of at most `--tokens` tokens, whose summary states a swapped word.

    The last condition is for `swap` alone, the only corruption of files that has an answer.
    """
    if encoder is None:
        return sorter_card.pairs(options.pairs, lambda place: place > 0, "later", 0)[0]
    if options.corruption == WIRE:
        sizes = SizesConfig(test=8 * options.pairs)
        documents = read_corpus(
            DataConfig("wire", Source.wire, test="test", sizes=sizes), "test"
        ).documents
    else:
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


class Judge:
    """Runs circuits on held-out pairs, once each; what was run is kept in a file."""

    def __init__(
        self, model: Any, pairs: list[ExamplePair], metric: str, file: Path, memory: int
    ) -> None:
        tokens = TokenPairs.of(pairs)
        by = pair_metric(metric, tokens)
        self.evaluator = Evaluator(model, tokens, by, batch=BATCH, memory=memory)
        self.file = file
        self.known: dict[str, list[list[float | None]]] = (
            json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        )

    def run(self, circuits: dict[str, Circuit], shares: dict[str, slice] | None = None) -> None:
        """Run the circuits that were not run before, by name, on all documents or some."""
        todo = {name: kept for name, kept in circuits.items() if name not in self.known}
        if not todo:
            return
        began = time.process_time()
        some = [(shares or {}).get(name, ALL) for name in todo]
        found = self.evaluator.run(list(todo.values()), some)
        for name, value in zip(todo, found, strict=True):
            self.known[name] = [
                [None if np.isnan(one) else float(one) for one in values]
                for values in (value.metric, value.agreement)
            ]
        self.file.write_text(json.dumps(self.known), encoding="utf-8")
        seconds = time.process_time() - began
        print(f"{len(todo)} circuits in {seconds:.0f} CPU seconds", flush=True)

    @property
    def whole(self) -> Values:
        """The gap of each document, m(0) - m(G)."""
        return self.evaluator.empty.metric - self.evaluator.full.metric

    def gains(self, names: list[str]) -> Values:
        """Return m(0) - m(C) by document, averaged over the circuits that were run on it."""
        metric = np.array([self.known[name][0] for name in names], dtype=float)
        return self.evaluator.empty.metric - np.nanmean(metric, axis=0)

    def agreement(self, names: list[str]) -> Values:
        """Return the share of the model's top tokens by document, averaged in the same way."""
        return np.nanmean(np.array([self.known[name][1] for name in names], dtype=float), axis=0)

    def share(self, gains: Values, other: Values | float = 0.0) -> dict[str, float]:
        """Return faithfulness, or its difference to another circuit's, with an interval."""
        return self._interval(
            lambda pick: (gains - other)[..., pick].mean(-1) / self.whole[pick].mean(-1)
        )

    def mean(self, values: Values) -> dict[str, float]:
        """Return the mean of values by document, with an interval."""
        return self._interval(lambda pick: values[pick].mean(-1))

    def areas(self, gains: Values, sizes: list[float], other: Values | None = None) -> Any:
        """Return CPR and CMD, or their differences from another way's, with intervals.

        Args:
            gains: [sizes, documents] gains of the circuits of a way.
            sizes: rising shares of the edges.
            other: gains of the other way.
        """
        width = sizes[-1] - sizes[0]

        def area(name: str, of: Values, pick: NDArray[np.int64]) -> Any:
            height = of[:, pick].mean(-1) / self.whole[pick].mean(-1)
            height = height if name == "cpr" else np.abs(1 - height)
            return np.trapezoid(height, sizes, axis=0) / width

        def value(name: str, pick: NDArray[np.int64]) -> Any:
            own = area(name, gains, pick)
            return own if other is None else own - area(name, other, pick)

        return {
            name: self._interval(lambda pick, name=name: value(name, pick))
            for name in ("cpr", "cmd")
        }

    def _interval(self, statistic: Any) -> dict[str, float]:
        found = Bootstrap().interval(statistic, len(self.whole))
        return {"mean": found.mean, "low": found.low, "high": found.high}


def main() -> None:
    """Score, judge, print and write the record."""
    command = parser(__doc__)
    command.add_argument("--model", required=True, help="run directory, adapter, folder or hub id")
    add_data(command, "JSON lines of documents; not for counterfactual and sorter")
    choices = ("swap", "replace", WIRE, SORTER)
    command.add_argument("--corruption", default="swap", choices=choices)
    command.add_argument("--pairs", type=int, default=16, help="half of them choose edges")
    command.add_argument("--tokens", type=int, default=224, help="longest document with summary")
    command.add_argument("--circuits", type=int, default=10, help="random circuits a size")
    command.add_argument("--sizes", type=float, nargs="*", default=[0.01, 0.02, 0.05, 0.1])
    command.add_argument("--metrics", nargs="*", help="metrics to attribute; by default all")
    command.add_argument("--ways", nargs="*", help="ways beside the default; by default all")
    command.add_argument("--controls", nargs="*", default=[], help="ways that get random circuits")
    command.add_argument("--steps", type=int, default=100, help="steps by which masks are learned")
    command.add_argument("--step-pairs", type=int, default=2, help="pairs of such a step")
    command.add_argument("--memory", type=float, default=4.0, help="GB beside the model")
    command.add_argument("--name", help="name of the model in the record and of its folder")
    options = command.parse_args()
    prepare(options)
    if options.quick:
        options.circuits, options.steps = 1, 3
    folder = options.results / "edge_choice" / (options.name or "") / options.corruption
    folder.mkdir(parents=True, exist_ok=True)
    where = reference(options.model, "--model")
    model: Any = load_reference(where)
    if isinstance(model, PeftModel):
        model = model.merge_and_unload()
    model = model.to(options.device)
    encoder = None
    if options.corruption == SORTER:
        model = model.to(torch.float64)
    else:
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
    """Judge the ways one after the other, then random circuits; write the record after each."""
    metrics = ["kl", "logit_difference", "nll"]
    if options.corruption == "replace":
        metrics.remove("logit_difference")  # there is no other answer
    if options.corruption == SORTER:
        metrics = ["logit_difference", "kl", "nll"]
    metrics = [one for one in metrics if one in (options.metrics or metrics)]
    memory, own = int(1e9 * options.memory), metrics[0]
    judge = Judge(model, held_out, own, folder / "runs.json", memory)
    masks = EdgeMaskSettings(
        options.steps, options.step_pairs, 0.1, least=options.sizes[0], most=options.sizes[-1]
    )
    scorer = Scorer(model, chosen, folder, BATCH, memory, masks)
    default, evaluator = default_way(own), judge.evaluator
    rows: list[dict[str, Any]] = []
    areas: list[dict[str, Any]] = []
    record = {
        "model": options.name or Path(options.model).name,
        "corruption": options.corruption,
        "metric": own,
        "commit": git_commit(),
        "tokens": options.tokens,
        "chosen_on": [pair.clean.id for pair in chosen],
        "judged_on": [pair.clean.id for pair in held_out],
        "random_circuits": options.circuits,
        "masks": asdict(masks),
        "edges": evaluator.graph.edges,
        "sizes": options.sizes,
        "gap_by_document": judge.whole.tolist(),
        "empty_accuracy": judge.mean(evaluator.empty.agreement),
        "rows": rows,
        "areas": areas,
    }

    def write() -> None:
        text = json.dumps(rounded(record), indent=1)
        (folder / "record.json").write_text(text + "\n", encoding="utf-8")

    controlled: dict[str, dict[float, Circuit]] = {}
    for name, way in ways(metrics).items():
        if options.ways and name not in (default, *options.ways):
            continue
        order, graph = way(scorer), evaluator.graph
        circuits = {
            size: prune(top_n(order, graph, graph.edges_in(size), False), graph)
            for size in options.sizes
        }
        judge.run({f"{name} {size:g}": kept for size, kept in circuits.items()})
        rows += [row_of(judge, name, default, size, kept) for size, kept in circuits.items()]
        areas.append(area_row(judge, name, default, options.sizes))
        if name in (default, LEARNED, *options.controls):
            controlled[name] = circuits
        write()
    for name, circuits in controlled.items():
        rows += random_rows(judge, name, circuits, options.circuits)
        write()


def row_of(judge: Judge, name: str, default: str, size: float, kept: Circuit) -> dict[str, Any]:
    """Return the figures of a way's circuit of one size, beside the default's."""
    one, other = [f"{name} {size:g}"], [f"{default} {size:g}"]
    gains, own = judge.gains(one), judge.agreement(one)
    row = {
        "way": name,
        "size": size,
        "edges": int(kept.sum()),
        "faithfulness": judge.share(gains),
        "minus_default": judge.share(gains, judge.gains(other)),
        "accuracy": judge.mean(own),
        "accuracy_minus_default": judge.mean(own - judge.agreement(other)),
        "by_document": gains.tolist(),
        "accuracy_by_document": own.tolist(),
    }
    print(name, size, row["edges"], rounded(row["faithfulness"]), flush=True)
    return row


def area_row(judge: Judge, name: str, default: str, sizes: list[float]) -> dict[str, Any]:
    """Return CPR and CMD of a way, and how they differ from the default's."""
    own, other = (
        np.array([judge.gains([f"{one} {size:g}"]) for size in sizes]) for one in (name, default)
    )
    return {
        "way": name,
        **judge.areas(own, sizes),
        "minus_default": judge.areas(own, sizes, other),
    }


def random_rows(
    judge: Judge, name: str, circuits: dict[float, Circuit], count: int
) -> list[dict[str, Any]]:
    """Judge random circuits with as many edges of each kind and layer; one row for each size."""
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
        kept, one = circuits[size], [f"{name} {size:g}"]
        gains, own = judge.gains(list(of_size)), judge.agreement(list(of_size))
        row = {
            "way": f"random, matched to {name}",
            "size": size,
            "edges": int(kept.sum()),
            "faithfulness": judge.share(gains),
            "circuit_minus_random": judge.share(judge.gains(one), gains),
            "accuracy": judge.mean(own),
            "shared": float(
                np.mean([(other & kept).sum() / max(1, kept.sum()) for other in of_size.values()])
            ),
            "by_document": gains.tolist(),
        }
        rows.append(row)
        print(row["way"], size, rounded(row["faithfulness"]), f"shares {row['shared']:.2f}")
    return rows


if __name__ == "__main__":
    main()
