"""The base's circuit scores: computed once for given pairs, kept on disk, shared by every run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from transformers import PreTrainedModel

from sumcirc.circuits.finding import Progress, make_task, score_edges, to_store
from sumcirc.circuits.pair import Pair
from sumcirc.circuits.storage import DocumentScores
from sumcirc.files import locked, plain_numbers
from sumcirc.modeling.fingerprint import model_fingerprint
from sumcirc.schema import CircuitOptions

DECIDING = ("method", "steps", "rule", "metric")  # settings on which scores depend
FORMAT = 1  # of the cache; raised when the same input is scored differently


def base_scores(
    model: PreTrainedModel,
    pairs: Sequence[Pair],
    options: CircuitOptions,
    cache: Path,
    progress: Progress | None = None,
) -> DocumentScores:
    """Scores of every edge on every pair, of a model before it is adapted or trained.

    Args:
        cache: folder of circuits of bases; a second process waits for the first.
        progress: called with the number of pairs that were scored.

    Raises:
        UserError: see `circuits.attribution.attribute`, or the folder can't be written.
    """
    parts = [
        FORMAT,
        {name: version(name) for name in ("torch", "transformers")},
        model_fingerprint(model),
        {name: value for name, value in asdict(options).items() if name in DECIDING},
        [plain_numbers(asdict(pair)) for pair in pairs],
    ]
    key = hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:32]
    file = cache / f"{key}.safetensors"
    with locked(file):
        if not file.exists():
            task = make_task(model, list(pairs), options, keep_all=True)
            to_store(score_edges(model, task, options, progress), options, -1).save(file, "float32")
        elif progress is not None:
            progress(len(pairs))
    return DocumentScores.read(file)
