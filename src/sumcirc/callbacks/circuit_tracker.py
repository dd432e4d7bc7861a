"""Tracks the circuit that produces the summary, at each scheduled step of training."""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
from numpy.typing import NDArray
from transformers import PreTrainedModel

from sumcirc.callbacks.measuring import Watcher
from sumcirc.circuits.aggregation import aggregated, per_document
from sumcirc.circuits.attribution.base_scores import base_scores
from sumcirc.circuits.discovery import (
    CircuitResult,
    circuit_of,
    circuit_runs,
    edges_of,
    judge,
    score_edges,
    selection_of,
    to_store,
)
from sumcirc.circuits.evolution import evolution
from sumcirc.circuits.inputs.example_pairs import ExamplePair
from sumcirc.circuits.score_files import DocumentScores
from sumcirc.circuits.sign_filter import ranking_scores, sign_filter_of
from sumcirc.circuits.stability import jaccard
from sumcirc.circuits.tasks import Task, make_task
from sumcirc.figures.views import draw_all
from sumcirc.reporting.kinds import View
from sumcirc.reporting.views.circuit_curves import evolution as evolution_view
from sumcirc.reporting.views.circuit_graphs import MOST_EDGES
from sumcirc.reporting.views.circuit_graphs import graph as circuit_graph
from sumcirc.runtime.progress import counted
from sumcirc.schema import CircuitOptions
from sumcirc.storage.writing import plain_numbers, write_json
from sumcirc.tracking.measure_records import FAITHFULNESS, record_file, record_files
from sumcirc.tracking.run_directory import RunDirectory
from sumcirc.training.progress_bars import counted_in_training

log = logging.getLogger(__name__)

EDGE_COLUMNS = ("step", "source", "destination", "score")
TOP_EDGES = 50  # logged at each step


class CircuitTracker(Watcher):
    """Watcher that finds and evaluates a circuit on the same pairs at each scheduled step.

    At step 200, for example, it writes the edge scores of each document to
    `circuits/step-000200.safetensors` and the circuit to `circuits/step-000200.json` in EAP-IG's
    format. `circuits/base.safetensors` contains the base model's scores, which are computed once
    for all runs that share the cache. After the last step, `circuits/evolution.json` records how
    the circuit changed.

    Args:
        run: the run directory.
        base: the model before it is adapted or trained.
        pairs: clean and corrupted documents, all of which are used at every step.
        options: settings that determine how the circuit is found and evaluated.
        cache: folder `cache_dir`, in which the base's edge scores are cached.
    """

    def __init__(
        self,
        run: RunDirectory,
        base: PreTrainedModel,
        pairs: list[ExamplePair],
        options: CircuitOptions,
        cache: Path,
    ) -> None:
        self.run = run
        self.pairs = pairs
        self.options = options
        self.folder = run.path / "circuits"
        with counted(f"attribute the base by {options.method.value}", len(pairs)) as advance:
            self.base = base_scores(base, pairs, options, cache, advance)

    def _task(self, model: Any) -> Task:
        return make_task(model, self.pairs, self.options, keep_all=True)

    def observe(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Find the circuit at this step and evaluate it.

        Writes the edge scores and the circuit to files, and logs metrics.

        Args:
            trainer: gives the current step and the rank of this process.
            module: the training module whose model is analysed and whose loggers are used.
        """
        if not trainer.is_global_zero:
            return
        step = trainer.global_step
        model = self.probing.model_of(module)
        task = self._task(model)
        if task.evaluator.doubt is not None:
            log.warning(
                "step %d: %s, so the circuit has no faithfulness", step, task.evaluator.doubt
            )
        options, label = self.options, f"step {step}: attribute by {self.options.method.value}"
        with counted_in_training(trainer, label, len(task.pairs)) as attributed:
            scores = score_edges(model, task, options, attributed)
        runs = circuit_runs(task, options)
        with counted_in_training(trainer, f"step {step}: judge circuits", runs) as judged:
            found = judge(task, scores, options, judged)
        to_store(scores, self.options, step).save(record_file(self.folder, step), "float32")
        if step == 0:
            self.base.save(record_file(self.folder, -1), "float32")
        file = record_file(self.folder, step).with_suffix(".json")
        found.save(file)
        self.log_metrics(trainer, module, self._metrics(found, step))
        rows = [(step, *edge) for edge in found.largest_edges(TOP_EDGES)]
        self.log_table(trainer, "circuit/top_edges", EDGE_COLUMNS, rows)
        self.log_picture(trainer, "circuit", lambda: self._drawn(found, step))
        if step == self.probing.last_step:
            self._conclude(found)

    def _metrics(self, found: CircuitResult, step: int) -> dict[str, float]:
        base = self._circuit_of(self.base)
        metrics = {
            "circuit/edges": float(found.circuit.sum()),
            FAITHFULNESS: found.faithfulness.faithfulness.mean,
            "circuit/kl": found.faithfulness.kl.mean,
            "circuit/cpr": found.signed.cpr.value.mean,
            "circuit/cmd": found.absolute.cmd.value.mean,
            "circuit/jaccard_base": jaccard(found.circuit, base),
        }
        if found.absolute.cmd.random:
            random = [area.mean for area in found.absolute.cmd.random]
            metrics["circuit/cmd_random"] = sum(random) / len(random)
        if found.stability is not None:
            metrics["circuit/jaccard_resamples"] = found.stability.jaccard.mean
        # read from its file, since a resumed run has not computed it
        earlier = [
            file for file in record_files(self.folder) if file < record_file(self.folder, step)
        ]
        if earlier:
            previous = self._circuit_of(DocumentScores.read(earlier[-1]))
            metrics["circuit/jaccard_previous"] = jaccard(found.circuit, previous)
        return {name: value for name, value in metrics.items() if np.isfinite(value)}

    def _drawn(self, found: CircuitResult, step: int) -> View:
        shape, edges = self.base.graph.shape, found.largest_edges(MOST_EDGES)
        title = f"step {step}, {self.options.method.value}"
        size = int(found.circuit.sum())
        return circuit_graph(
            edges, (shape.layers, shape.heads), title, group=shape.group, size=size
        )

    def _circuit_of(self, stored: DocumentScores) -> NDArray[np.bool_]:
        ranking = ranking_scores(stored.scores, stored.graph, self.options)
        return circuit_of(ranking, stored.graph, self.options)

    def _conclude(self, last_found: CircuitResult) -> None:
        """Record and draw how the circuit changed from the base to the last step."""
        files = [record_file(self.folder, -1), *record_files(self.folder)]
        last = self.probing.last_step
        read = [one for one in map(DocumentScores.read, files) if one.step <= last]
        graph, how = self.base.graph, self.options.aggregation
        found = evolution(
            ((one.step, per_document(one.scores, how)) for one in read),
            graph,
            edges_of(aggregated(self.base.scores, how), graph, self.options),
            selection_of(self.options),
            resamples=self.options.resamples,
            sign_filter=sign_filter_of(self.options),
        )
        tracks = plain_numbers({"edges": asdict(found.edges), "nodes": asdict(found.nodes)})
        transitions = plain_numbers([asdict(one) for one in found.transitions])
        record = {"steps": found.steps, **tracks, "transitions": transitions}
        write_json(self.folder / "evolution.json", record)
        views = {
            "circuit_evolution": lambda: evolution_view(record),
            "circuit": lambda: self._drawn(last_found, last),
        }
        for reason in draw_all(views.items(), self.run.figures):
            log.info("figures: %s", reason)
