"""Measure the memory and time that circuits and probes of one long document need.

    python benchmarks/long_documents.py --model FOLDER --data FILE.jsonl [--tokens 2048]

The longest articles of the file (JSON lines with `document` and `summary`) are cut to T tokens.
Phases, each with the peak memory of the whole process and its CPU seconds: `attribution`, EAP-IG of
all edges on one clean and corrupted pair (m=5, KL, `swap`); `patching`, the corrupted run, the
whole model and a circuit of 5 % of the edges on the same pair; `measures`, what the default
watchers measure on one document against the base. What is left of `--memory` after the model is
loaded is the memory budget of both, so a document that doesn't fit is refused with the figure that
it needs.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from measurement import (
    in_use,
    parser,
    peak,
    prepare,
    release,
    save_result,
    show,
    timed,
)
from subjects import LocalModel, load

from sumcirc.circuits.discovery import circuit_of, score_edges
from sumcirc.circuits.inputs.corruption import corpus_pairs
from sumcirc.circuits.tasks import make_task
from sumcirc.data.documents import Document, read_corpus
from sumcirc.data.encoding import Encoder
from sumcirc.errors import UserError
from sumcirc.measures.measure_batches import measure_batches
from sumcirc.measures.measure_documents import probe_set
from sumcirc.measures.measuring import prepare_base
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.models.loading import load_tokenizer
from sumcirc.schema import (
    CircuitOptions,
    Corruption,
    DataConfig,
    EncodingConfig,
    EvaluationConfig,
    ModelConfig,
    Source,
)

CLAIM = "a circuit and the measures of an article of 2,048 tokens need at most 8 GB in all"
MEMORY = 8.0  # GB, of the whole process
DONORS = 32  # articles that words for the corrupted document come from


def longest(options: argparse.Namespace, encoder: Encoder) -> list[Document]:
    """Return the articles with the most tokens."""
    data = DataConfig(name="long", source=Source.files, test=str(options.data))
    found = read_corpus(data, "test").documents
    ordered = sorted(found, key=lambda item: -len(item.document))[: 2 * DONORS]
    sized = sorted(ordered, key=lambda item: -len(encoder.codec.ids(item.document)))
    return sized[:DONORS]


class Phases:
    """Runs pieces of work and notes the peak memory of the process and the time of each."""

    def __init__(self, options: argparse.Namespace, about: dict[str, Any]) -> None:
        self.options, self.about = options, about
        self.figures: dict[str, dict[str, Any]] = {}

    def run(self, name: str, work: Callable[[], Any], **facts: Any) -> Any:
        """Do a piece of work and return what it returns."""
        results: list[Any] = []
        device = self.options.device
        release(device)
        before = in_use(device)
        used, lap = timed(device, lambda: peak(device, lambda: results.append(work())))
        share = (before + used) / (1e9 * self.options.memory)
        whole = {"ratio": share, "ratio_cpu": share}
        self.figures[f"{name}_{self.options.tokens}"] = {
            **whole,
            "megabytes": (before + used) / 1e6,
            "megabytes_before": before / 1e6,
            "megabytes_limit": 1e3 * self.options.memory,
            "seconds": lap.wall,
            "cpu_seconds": lap.cpu,
            "at_most": 1.0,
            **facts,
            "shape": self.about,
        }
        show("long_documents", {f"{name}_{self.options.tokens}": whole})
        # each phase may take minutes, and an interrupted run keeps what it has
        save_result("long_documents", self.options, CLAIM, None, self.figures)
        return results[0]


def circuits(phases: Phases, model: Any, encoder: Encoder, documents: list[Document]) -> None:
    """Attribute and patch the first pair that can be made."""
    options = phases.options
    left = options.memory - in_use(options.device) / 1e9
    if left <= 0:
        raise SystemExit(f"--memory {options.memory:g}: the model alone needs more; give more")
    settings = CircuitOptions(memory_budget=left, documents=1, held_out=0.0)
    made = corpus_pairs(encoder, documents, Corruption.swap, 1, EvaluationConfig(), "--data")
    pairs = made.pairs
    facts = {"tokens": len(pairs[0].clean), "memory_budget": left}
    task = phases.run("ends", lambda: make_task(model, pairs, settings, keep_all=True), **facts)
    facts |= {"positions_read": int(task.metric.counts[0]), "steps": settings.steps}
    scores = phases.run("attribution", lambda: score_edges(model, task, settings), **facts)
    circuit = circuit_of(scores.mean.double().numpy(), scores.graph, settings)
    phases.run("patching", lambda: task.evaluator.run([circuit]), **facts, edges=int(circuit.sum()))


def measures(phases: Phases, model: Any, encoder: Encoder, documents: list[Document]) -> None:
    """Measure the first document that fits, as its own base."""
    probes = probe_set(encoder, documents, 1, setting="--data")
    with tempfile.TemporaryDirectory() as cache:
        base = prepare_base(model, probes, Path(cache))
        phases.run(
            "measures",
            lambda: measure_batches(HookedModel(model), probes, base),
            tokens=probes.batches[0].input_ids.shape[1],
            rows=probes.batches[0].rows.index.shape[1],
        )


def command_line() -> argparse.Namespace:
    """Read the command line."""
    line = parser(__doc__)
    line.add_argument("--model", type=Path, required=True, help="folder with model and tokenizer")
    line.add_argument("--data", type=Path, required=True, help="JSON lines of document and summary")
    line.add_argument("--tokens", type=int, default=2048, metavar="T")
    line.add_argument("--memory", type=float, default=MEMORY, help=f"GB in all ({MEMORY:g})")
    return line.parse_args()


def main() -> None:
    """Run the phases, print and write their figures."""
    options = command_line()
    prepare(options)
    subject = LocalModel(options.model, options.tokens)
    tokenizer = load_tokenizer(ModelConfig(name="subject", path=str(options.model)))
    encoder = Encoder(tokenizer, EncodingConfig(max_length=options.tokens), options.tokens)
    phases = Phases(options, subject.about())
    try:
        documents = longest(options, encoder)
        model = load(subject, options.device).eval()
        circuits(phases, model, encoder, documents)
        measures(phases, model, encoder, documents)
    except UserError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
