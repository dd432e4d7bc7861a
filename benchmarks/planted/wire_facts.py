"""Which event's facts a model states, at facts that it was and that it was not to change."""

from __future__ import annotations

from functools import lru_cache
from itertools import islice
from typing import Any

import torch

from benchmarks.planted.models import Planted
from benchmarks.planted.wire_bases import WireBase, predictions
from benchmarks.planted.wire_task import FACT, OTHER, Report, batch_of, reports

ARTICLES, CHUNK = 24, 12  # of the split `validation`, and in a batch

Stated = dict[str, list[float]]


def stated_facts(made: Planted) -> dict[str, Stated]:
    """Return what the base states, and the model with only the plant or only the decoys.

    It is, for each of `FACT` and `OTHER`, the share of articles in which the most probable first
    token is the main event's, that in which it is the second event's, and the mean log-probability
    of the second event's in nats. No article is among those
    on which models are trained or measured.

    Args:
        made: the model, with a planted route.
    """
    assert isinstance(made.base, WireBase)
    some = _articles(made.base)
    models = {
        "before": made.base.model,
        "plant": made.model(decoys=False),
        "decoys": made.model([]),
    }
    return {name: _stated(model, some) for name, model in models.items()}


@lru_cache(maxsize=1)
def _articles(base: WireBase) -> list[Report]:
    return list(islice(reports(base.encoder, "validation", 0), ARTICLES))


def _stated(model: Any, some: list[Report]) -> Stated:
    found: Stated = {}
    for role in (FACT, OTHER):
        sums = torch.zeros(3)
        for start in range(0, len(some), CHUNK):
            part = some[start : start + CHUNK]
            ids, _ = batch_of(part)
            rows, at = torch.arange(len(part)), torch.tensor([one.reads[role] for one in part])
            with torch.no_grad():
                logs = predictions(model, {}, ids, (rows, at)).log_softmax(-1)
            main, best = ids[rows, at + 1], logs.argmax(-1)
            second = torch.tensor([one.second[role] for one in part])
            hits = [(best == main).float(), (best == second).float()]
            sums += torch.stack([*hits, logs[rows, second]]).sum(1)
        found[role] = (sums / len(some)).tolist()
    return found
