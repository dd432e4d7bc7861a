"""The circuit that carries the summary, at each scheduled step of training."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
from numpy.typing import NDArray
from transformers import PreTrainedModel

from sumcirc.callbacks.probing import Probing, Watcher
from sumcirc.circuits.evolution import Evolution, evolution
from sumcirc.circuits.exchange import write_circuit
from sumcirc.circuits.finding import Found, Task, judge, make_task, score_edges
from sumcirc.circuits.pairing import SummaryPair
from sumcirc.circuits.stability import jaccard
from sumcirc.circuits.storage import DocumentScores
from sumcirc.files import write_json
from sumcirc.modeling.fingerprint import model_fingerprint
from sumcirc.modeling.module import SummarizationModule
from sumcirc.records import record_file, record_files
from sumcirc.schema import CircuitOptions


class CircuitTracker(Watcher):
    """Scores edges on fixed pairs, judges the circuit, and at the end says how it changed.

    Scores by document go to `circuits/step-000200.safetensors`, the circuit in EAP-IG's format
    beside it; `circuits/base.safetensors` is the base's, computed once for all runs that share the
    cache. All pairs are kept at every step, so that circuits of different steps can be compared.

    Args:
        base: the model before it is adapted or trained.
        cache: folder of circuits of bases.
    """

    def __init__(
        self,
        probing: Probing,
        base: PreTrainedModel,
        pairs: list[SummaryPair],
        options: CircuitOptions,
        cache: Path,
    ) -> None:
        super().__init__(probing)
        self.pairs = pairs
        self.options = options
        self.folder = probing.run.path / "circuits"
        self.base = self._base_scores(base, cache)

    def _base_scores(self, base: PreTrainedModel, cache: Path) -> DocumentScores:
        parts = [
            model_fingerprint(base),
            {name: value for name, value in asdict(self.options).items() if name in DECIDING},
            [(pair.id, pair.clean.tolist(), pair.corrupted.tolist()) for pair in self.pairs],
        ]
        key = hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:32]
        file = cache / f"{key}.safetensors"
        if not file.exists():
            self._scores(base, self._task(base), -1).save(file, "float32")
        return DocumentScores.read(file)

    def _task(self, model: Any) -> Task:
        return make_task(model, self.pairs, self.options, keep_all=True)

    def _scores(self, model: Any, task: Task, step: int) -> DocumentScores:
        scores = score_edges(model, task, self.options)
        return DocumentScores(
            scores.graph,
            scores.documents.float().numpy(),
            scores.ids,
            self.options.method.value,
            self.options.metric.value,
            self.options.steps,
            step,
        )

    def observe(self, trainer: pl.Trainer, module: SummarizationModule) -> None:
        """Score, judge, write, log."""
        if not trainer.is_global_zero:
            return
        step = trainer.global_step
        task = self._task(module.model)
        scores = score_edges(module.model, task, self.options)  # type: ignore[arg-type]
        found = judge(task, scores, self.options)
        stored = replace(self.base, scores=scores.documents.float().numpy(), step=step)
        stored.save(record_file(self.folder, step), "float32")
        if step == 0:
            self.base.save(record_file(self.folder, -1), "float32")
        file = record_file(self.folder, step).with_suffix(".json")
        write_circuit(file, found.mean, found.circuit, scores.graph)
        module.record(self._metrics(found, step))
        self.log_table(trainer, "circuit/top_edges", EDGE_COLUMNS, _top_edges(found, step))
        if step == self.probing.last_step:
            self._conclude(found)

    def _metrics(self, found: Found, step: int) -> dict[str, float]:
        count = max(1, round(self.options.size * found.scores.graph.edges))
        base = _circuit_of(self.base, count)
        metrics = {
            "circuit/edges": float(found.circuit.sum()),
            "circuit/faithfulness": found.faithfulness.faithfulness.mean,
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
        # from its file: a resumed run has not seen it
        earlier = [
            file for file in record_files(self.folder) if file < record_file(self.folder, step)
        ]
        if earlier:
            previous = _circuit_of(DocumentScores.read(earlier[-1]), count)
            metrics["circuit/jaccard_previous"] = jaccard(found.circuit, previous)
        return {name: value for name, value in metrics.items() if np.isfinite(value)}

    def _conclude(self, last_found: Found) -> None:
        """Write and draw how the circuit changed from the base to the last step, and the last."""
        from sumcirc.figures.circuit_curves import draw_evolution
        from sumcirc.figures.circuits import draw_circuit

        files = [record_file(self.folder, -1), *record_files(self.folder)]
        last = self.probing.last_step
        read = [one for one in map(DocumentScores.read, files) if one.step <= last]
        count = max(1, round(self.options.size * self.base.graph.edges))
        found = evolution(
            ((one.step, one.scores) for one in read),
            self.base.graph,
            count,
            resamples=self.options.resamples,
        )
        plain = _plain(found)
        write_json(self.folder / "evolution.json", plain)
        figures, shape = self.probing.run.figures, self.base.graph.shape
        tracks = {name: plain[name] for name in ("edges", "nodes")}
        draw_evolution(found.steps, tracks, figures / "circuit_evolution.png")
        edges = [(row[1], row[2], row[3]) for row in _top_edges(last_found, last, DRAWN_EDGES)]
        if edges:
            title = f"step {last}, {self.options.method.value}"
            file = figures / "circuit.png"
            draw_circuit(edges, file, shape.layers, shape.heads, title, "", shape.group)


EDGE_COLUMNS = ("step", "source", "destination", "score")
TOP_EDGES = 50  # logged at each step
DRAWN_EDGES = 150  # more can't be read

# settings on which scores depend
DECIDING = ("method", "steps", "rule", "metric")


def _top_edges(found: Found, step: int, count: int = TOP_EDGES) -> list[tuple[Any, ...]]:
    """Rows of EDGE_COLUMNS, the circuit's edges of largest |score| first."""
    graph, mean = found.scores.graph, found.mean
    rows, columns = np.nonzero(found.circuit)
    order = np.argsort(-np.abs(mean[rows, columns]), kind="stable")[:count]
    return [
        (
            step,
            graph.sources[rows[i]],
            graph.destinations[columns[i]],
            float(mean[rows[i], columns[i]]),
        )
        for i in order
    ]


def _circuit_of(scores: DocumentScores, count: int) -> NDArray[np.bool_]:
    from sumcirc.circuits.selection import prune, top_n

    return prune(top_n(scores.scores.mean(0), scores.graph, count), scores.graph)


def _plain(found: Evolution) -> dict[str, Any]:
    """Overlaps and change rates of edges and nodes as JSON; NaN becomes null."""

    def plain(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return plain(value.tolist())
        if isinstance(value, dict):
            return {name: plain(part) for name, part in value.items()}
        if isinstance(value, list):
            return [plain(part) for part in value]
        if isinstance(value, float) and not np.isfinite(value):
            return None
        return value

    tracks = {"edges": asdict(found.edges), "nodes": asdict(found.nodes)}
    transitions = [asdict(one) for one in found.transitions]
    return plain({"steps": found.steps, **tracks, "transitions": transitions})
