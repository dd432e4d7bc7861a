"""Edge scores of the base model, computed once for given pairs, cached, and shared by every run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from transformers import PreTrainedModel

from sumcirc.circuits.discovery import Progress, score_edges, to_store
from sumcirc.circuits.inputs.example_pairs import ExamplePair
from sumcirc.circuits.score_files import DocumentScores
from sumcirc.circuits.tasks import make_task
from sumcirc.models.architectures import shape
from sumcirc.models.fingerprint import model_fingerprint
from sumcirc.schema import CircuitOptions
from sumcirc.storage.cache import Cache

DECIDING = ("method", "steps", "rule", "metric")  # settings that determine the scores
CIRCUITS = Cache("circuits", format=2)
FILE = "scores.safetensors"


def base_scores(
    model: PreTrainedModel,
    pairs: Sequence[ExamplePair],
    options: CircuitOptions,
    cache: Path,
    progress: Progress | None = None,
) -> DocumentScores:
    """Return the base model's edge scores on every pair, from the cache if it contains them.

    Args:
        model: the base model, before it is adapted or trained.
        pairs: clean and corrupted inputs.
        options: settings that determine the attribution method and the metric.
        cache: folder `cache_dir`. If another process is computing the same scores, the call waits
            for it.
        progress: called with the number of newly scored pairs.

    Raises:
        UserError: for the reasons given in `attribute`, or the cache folder can't be written.
    """
    deciding = {name: value for name, value in asdict(options).items() if name in DECIDING}

    def write(folder: Path) -> None:
        task = make_task(model, list(pairs), options, keep_all=True)
        scores = score_edges(model, task, options, progress)
        to_store(scores, options, -1).save(folder / FILE, "float32")

    def read(folder: Path) -> DocumentScores:
        stored = DocumentScores.read(folder / FILE)
        ids = [pair.id for pair in pairs]
        if stored.graph.shape != shape(model.config) or stored.documents != ids:
            raise ValueError("of another model or other pairs")
        return stored

    parts = [model_fingerprint(model), deciding, list(pairs)]
    scores, found = CIRCUITS.get(cache, parts, write, read)
    if found and progress is not None:
        progress(len(pairs))
    return scores
