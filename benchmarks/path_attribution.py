"""Measures the errors of path attribution by the number of points, and what a point costs.

    python benchmarks/path_attribution.py --before tiny --after RUN_DIR --items 8 --threads 1

A point is a lambda at which gradients are taken. There are three parts (--parts):

    cost      CPU seconds of all that is computed at a point, divided by the CPU seconds of one
              forward and backward pass for each item with gradients of the same tensors; the two
              are measured in turns. `whole_ratio` is this ratio for a whole run of 14 points,
              including what is done once.
    adaptive  the scores and errors that `sumcirc compare` reports.
    rules     errors of Gauss-Legendre rules of 3, 5 and 10 points and of the two panels with which
              the adaptive rule begins. Units are compared with those of 28 points in four panels.

The items are articles of the built-in wire, or the first documents of --data that have at most
--tokens tokens and are not cut. The record holds numbers and ids, no texts.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from data_files import add_data, read_documents
from measurement import median_interval, parser, prepare, rounded
from numpy.typing import NDArray

from sumcirc.compare.items.item_set import ItemSet
from sumcirc.compare.path.path_attribution import PathAttribution, PathRuns, attribute_path
from sumcirc.compare.path.quadrature import FINE_WEIGHTS, FIRST, NODES, POINTS
from sumcirc.compare.path.unit_change import unit_change
from sumcirc.data.documents import Document
from sumcirc.data.encoding import Encoder
from sumcirc.data.examples import NoExample, TokenExample
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.models.architectures import context_length
from sumcirc.models.model_reference import ModelReference, reference
from sumcirc.models.restoring import load_reference, load_tokenizer_of
from sumcirc.schema import EncodingConfig, Grain, PathOptions
from sumcirc.tracking.run_directory import git_commit
from sumcirc.wire import articles

Values = NDArray[np.float64]
GAUSS = (3, 5, 10)
PANELS = (0.0, 1 / 32, 1 / 8, 1 / 2, 1.0)  # ends of the panels with which rules are compared
PARTS = ("cost", "adaptive", "rules")
ROUNDS = 8  # lambdas at which slopes and plain passes are timed


def documents(options: argparse.Namespace) -> list[Document]:
    """Return the documents from which items are taken."""
    if options.data is None:
        many = articles("test", 4 * options.items)
        return [Document(one.id, one.document, (one.summary,)) for one in many]
    return read_documents(options)


def items_of(options: argparse.Namespace, encoder: Encoder) -> ItemSet:
    """Return the first documents of at most --tokens tokens, with their summaries."""
    found: list[TokenExample] = []
    for one in documents(options):
        try:
            example = encoder.example(one).until(-1)
        except NoExample:
            continue
        if not example.truncated and len(example) <= options.tokens:
            found.append(example)
        if len(found) == options.items:
            return ItemSet(found)
    raise SystemExit(
        f"--items {options.items}: only {len(found)} have at most {options.tokens} tokens"
    )


def composite(ends: tuple[float, ...]) -> list[tuple[float, float]]:
    """Return the points and weights of panels of 7 points, given the ends of the panels."""
    return [
        (start + (end - start) * (1 + x) / 2, weight * (end - start) / 2)
        for start, end in pairwise(ends)
        for x, weight in zip(POINTS, FINE_WEIGHTS, strict=True)
    ]


def gauss(count: int) -> list[tuple[float, float]]:
    """Return the points and weights of a Gauss-Legendre rule on [0, 1]."""
    x, weights = np.polynomial.legendre.leggauss(count)
    return [((1 + float(a)) / 2, float(b) / 2) for a, b in zip(x, weights, strict=True)]


def rules(model: Any, before: Any, items: ItemSet, options: PathOptions) -> list[dict[str, Any]]:
    """Return the errors of fixed rules as shares of the gain, and the metric along the change."""
    hooked = HookedModel(model)
    named = {f"Gauss-Legendre {count}": gauss(count) for count in GAUSS}
    named["first panels"] = composite(FIRST)
    rows = []
    with unit_change(hooked, before, options.neuron_groups, options.directions) as change:
        run = PathRuns(hooked, change, items, 4)

        def integrated(rule: list[tuple[float, float]]) -> Values:
            return sum((weight * run.slopes(at) for at, weight in rule), np.zeros(()))

        gain = run.metric(1.0) - run.metric(0.0)
        exact = integrated(composite(PANELS))
        for name, rule in {**named, "28 points": composite(PANELS)}.items():
            found = exact if name == "28 points" else integrated(rule)
            missed = found[:, change.summed].sum(1) - gain
            errors = {
                "unit": np.abs((found - exact).mean(0)).max(),
                "total": abs(missed.mean()),
                "document": np.abs(missed).max(),
            }
            shares = {key: float(value / abs(gain.mean())) for key, value in errors.items()}
            rows.append({"rule": name, "points": len(rule), **shares})
            print(rounded(rows[-1]), flush=True)
        curve = [(at, float(run.metric(at).mean())) for at in (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)]
    rows.append({"rule": "metric", "at": curve})
    return rows


def cost(model: Any, before: Any, items: ItemSet, options: PathOptions) -> dict[str, Any]:
    """Measure what a point costs beside plain passes, and what is computed once, in CPU seconds."""
    hooked, began = HookedModel(model), time.process_time()
    plain, slopes = [], []
    with unit_change(hooked, before, options.neuron_groups, options.directions) as change:
        once = time.process_time() - began
        run = PathRuns(hooked, change, items, 4)
        for at in FIRST:
            run.metric(at)
        metrics = time.process_time() - began - once
        for at in np.linspace(0.2, 0.8, ROUNDS):
            change.scale(float(at))
            began = time.process_time()
            for batch in items.batches(1, hooked.device):
                value = batch.read(hooked, batch.run(hooked)).sum()
                torch.autograd.grad(value, change.parameters, allow_unused=True)
            middle = time.process_time()
            run.slopes(float(at))
            plain.append(middle - began)
            slopes.append(time.process_time() - middle)
    points = NODES * (len(FIRST) - 1)
    ratios = np.divide(slopes, plain).tolist()
    low, high, _ = median_interval(ratios)
    passes = metrics + points * float(np.median(plain))
    whole = (once + metrics + points * float(np.median(slopes))) / passes
    return {
        "plain": plain,
        "slopes": slopes,
        "ratio": {"median": float(np.median(ratios)), "low": low, "high": high},
        "once": once,
        "metrics": metrics,
        "whole_ratio": whole,
    }


def summary_of(found: PathAttribution) -> dict[str, Any]:
    """Return the gain, the errors and the mean scores of layers as shares of the gain."""
    integral, gain = found.integral, float(found.gain.mean())
    layers = found.scores[Grain.layer].mean(1) / gain
    return {
        "gain": gain,
        "gain_by_document": found.gain.tolist(),
        "converged": found.converged,
        "points": integral.evaluations,
        "panels": [panel.start for panel in integral.panels] + [1.0],
        "errors": vars(integral.errors),
        "layers": {
            unit.label: float(share)
            for unit, share in zip(found.units[Grain.layer], layers, strict=True)
        },
    }


def weights_of(before: ModelReference, after: ModelReference) -> dict[str, torch.Tensor] | None:
    """Return the weights of the model before; None if the model after is its adapter."""
    if after.adapted:
        return None
    named = load_reference(before).named_parameters(remove_duplicate=False)
    return {name: parameter.detach() for name, parameter in named}


def add_subject(command: argparse.ArgumentParser, items: int, parts: Sequence[str]) -> None:
    """Add the arguments that `subject_of` and `main` read, with a default number of items."""
    command.add_argument("--before", required=True, help="model before fine-tuning")
    command.add_argument("--after", required=True, help="run directory, adapter, folder or hub id")
    add_data(command, "JSON lines of documents; by default the built-in wire")
    command.add_argument("--items", type=int, default=items)
    command.add_argument("--tokens", type=int, default=256, help="longest document with summary")
    command.add_argument("--points", type=int, default=126, help="compare.path.nodes")
    command.add_argument("--parts", nargs="+", choices=parts, default=list(parts))
    command.add_argument("--name", required=True, help="end of the record's name")


def subject_of(
    options: argparse.Namespace,
) -> tuple[Any, dict[str, torch.Tensor] | None, ItemSet]:
    """Return the fine-tuned model, the base's weights (as from `weights_of`), and the items."""
    before, after = reference(options.before, "--before"), reference(options.after, "--after")
    model: Any = load_reference(after)
    limit = min(512, context_length(model.config))
    encoder = Encoder(load_tokenizer_of(after), EncodingConfig(max_length=limit), limit)
    return model, weights_of(before, after), items_of(options, encoder)


def main() -> None:
    """Run the parts that are asked for, print what they measure, and write it to a file."""
    command = parser(__doc__)
    add_subject(command, 8, PARTS)
    options = command.parse_args()
    prepare(options)
    model, weights, items = subject_of(options)
    settings = PathOptions(nodes=options.points, effects=None)
    record = {"commit": git_commit(), "items": items.ids, "tokens": options.tokens}
    if "cost" in options.parts:
        record["cost"] = cost(model, weights, items, settings)
        print(rounded(record["cost"]), flush=True)
    if "adaptive" in options.parts:
        record["adaptive"] = summary_of(attribute_path(model, weights, items, settings))
        print(rounded(record["adaptive"]), flush=True)
    if "rules" in options.parts:
        record["rules"] = rules(model, weights, items, settings)
    options.results.mkdir(parents=True, exist_ok=True)
    file = options.results / f"path-{options.name}.json"
    file.write_text(json.dumps(rounded(record), indent=1) + "\n", encoding="utf-8")
    print(file)


if __name__ == "__main__":
    main()
