"""Runs circuits on pairs and computes each document's metric, KL divergence and top tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from peft import PeftModel
from torch import Tensor
from torch.nn.functional import kl_div
from transformers import PreTrainedModel

from sumcirc.circuits.attribution.memory import groups, patching_cost
from sumcirc.circuits.graph import Graph
from sumcirc.circuits.inputs.example_pairs import TokenPairs
from sumcirc.circuits.metrics import Metric, log_probabilities
from sumcirc.circuits.patching.patched_run import ALL, Ablation, PatchedRun
from sumcirc.errors import UserError
from sumcirc.models.activations.attention_weights import AttentionWeights
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.statistics import MIN_DOCUMENTS
from sumcirc.statistics.noise import no_gap

Values = NDArray[np.float64]


@dataclass(frozen=True)
class CircuitValues:
    """The results of running one circuit, by document.

    Attributes:
        metric: [documents] value of the metric in the circuit's run.
        kl: [documents] KL(full || circuit) of the next-token distributions in nats, mean over the
            metric's positions.
        agreement: [documents] share of the metric's positions at which the likeliest next token is
            that of the whole model.
    """

    metric: Values
    kl: Values
    agreement: Values


class Evaluator:
    """Runs circuits on pairs, a few documents at a time, and computes the values of each.

    Args:
        model: the model, with or without adapters; see `PatchedRun`.
        pairs: clean and corrupted documents.
        metric: the metric, created for the items of `pairs`.
        graph: the graph whose edges circuits select; it is made from the model by default.
        ablation, means: what patched edges carry, see `PatchedRun`.
        batch: number of documents per pass.
        memory: number of bytes that a pass may need in addition to the model; fewer documents are
            processed at once if necessary. None sets no limit.

    Attributes:
        ablation, means: what patched edges carry.
        full, empty: values of the whole model and of the empty circuit.
        doubt: the reason why corruption has no effect that circuits could explain, so that
            faithfulness is undefined; None if it has an effect. It is determined on `pairs`;
            callers that selected these pairs by their effect set it to the result on all pairs.
        progress: called with the number of documents on which `run` has run a circuit.

    Raises:
        UserError: the metric was created for other items, or a document needs more than `memory`;
            also for the reasons given in `PatchedRun`.
    """

    def __init__(
        self,
        model: PreTrainedModel | PeftModel,
        pairs: TokenPairs,
        metric: Metric,
        graph: Graph | None = None,
        ablation: Ablation = "interchange",
        means: Tensor | None = None,
        batch: int = 8,
        memory: int | None = None,
    ) -> None:
        if metric.positions.shape != pairs.attention_mask.shape:
            raise UserError(
                f"metric {metric.name}: has items and tokens {tuple(metric.positions.shape)}, the"
                f" pairs have {tuple(pairs.attention_mask.shape)}; make it from these pairs"
            )
        self.model, self.pairs, self.metric = model, pairs, metric
        hooked = HookedModel(model)
        self.graph = graph or Graph(hooked.shape)
        self._device = hooked.device
        self.ablation: Ablation = ablation
        self.means = means
        cost = patching_cost(hooked, self.graph)
        self._groups = list(groups(pairs, metric, batch, cost, memory))
        self._weights = AttentionWeights(hooked, self.graph.expand_groups)
        self.progress: Callable[[int], None] = lambda documents: None
        whole = self.graph.exists
        self.empty, self.full = self.run([np.zeros_like(whole), whole])
        reason = no_gap(self.full.metric, self.empty.metric)
        self.doubt = reason and (
            f"corruption raises {metric.name} of {len(pairs)} pairs by {reason}"
        )

    def run(
        self, circuits: Sequence[NDArray[np.bool_]], shares: Sequence[slice] | None = None
    ) -> list[CircuitValues]:
        """Run circuits on the documents and return each circuit's metric and KL divergence.

        The clean and the corrupted run are shared by all circuits, and a circuit that occurs twice
        is run once.

        Args:
            circuits: bool matrices [sources, destinations], True at kept edges; or arrays of
                another shape that the runs of `_patched` take as one circuit.
            shares: for each circuit a slice of the documents in the order of their length; the
                circuit is run on these documents alone, see `share_of`. None for all documents.

        Returns:
            The values of each circuit, in the given order; NaN for documents it wasn't run on.
        """
        shares = [ALL] * len(circuits) if shares is None else shares
        first, origin = _distinct(circuits, shares)
        found = np.full((3, len(circuits), len(self.pairs)), np.nan)
        before = 0
        for items in self._groups:
            columns = self.pairs.columns(items)
            run = self._patched(items)
            positions = self.metric.positions[items][:, columns].to(self._device)
            clean = run.logits(self.graph.exists, positions)
            full, top = log_probabilities(clean), clean.argmax(-1)
            reference = self.metric.reference(clean) if self.metric.against_clean else None
            rows = positions.nonzero()[:, 0]
            for number, (kept, share) in enumerate(zip(circuits, shares, strict=True)):
                some = _within(share, before, len(items))
                mine = items[some]
                if len(mine) and number in first:
                    read = positions[some]
                    logits = run.logits(kept, read, some)
                    chosen = _chosen(rows, some, len(items))
                    ours = None if reference is None else reference[chosen]
                    values = self.metric.values(logits, mine, ours)
                    own = log_probabilities(logits)
                    kl = kl_div(own, full[chosen], reduction="none", log_target=True).sum(-1)
                    places = read.nonzero()[:, 0]
                    total = kl.new_zeros(len(mine)).index_add(0, places, kl)
                    found[0, number, mine] = values.double().cpu()
                    found[1, number, mine] = (total / read.sum(1)).clamp(min=0).double().cpu()
                    same = (logits.argmax(-1) == top[chosen]).double().cpu()
                    agreeing = same.new_zeros(len(mine)).index_add(0, places.cpu(), same)
                    found[2, number, mine] = agreeing / read.sum(1).cpu()
                self.progress(len(mine))
            before += len(items)
        found = found[:, origin]
        return [CircuitValues(*values) for values in found.swapaxes(0, 1)]

    def _patched(self, items: Tensor) -> PatchedRun:
        return PatchedRun(self.model, *self._patching(items))

    def _patching(self, items: Tensor) -> tuple[Any, ...]:
        """Return the arguments of `PatchedRun` after the model, for some documents."""
        documents = self.pairs.cut(items, self._device)
        return (*documents, self.graph, self.ablation, self.means, self._weights)


def share_of(number: int, documents: int) -> slice:
    """Return the subset of the documents on which a random circuit is run.

    Running each on every document would cost more than their mean needs. Each is run on
    `MIN_DOCUMENTS` or more, and those of successive circuits differ.

    Args:
        number: number of the random circuit.
        documents: number of documents.

    Returns:
        A slice of the documents in the order of their length.
    """
    step = max(1, documents // MIN_DOCUMENTS)
    return slice(number % step, None, step)


def _within(share: slice, start: int, count: int) -> slice:
    """Return which of the documents `start` to `start + count` are in `share`, from `start`."""
    step = share.step or 1
    return slice(((share.start or 0) - start) % step, count, step)


def _chosen(rows: Tensor, some: slice, documents: int) -> slice | Tensor:
    """Return an index of the rows that belong to a subset of the documents."""
    if len(range(documents)[some]) == documents:
        return ALL
    kept = torch.zeros(documents, dtype=torch.bool, device=rows.device)
    kept[some] = True
    return kept[rows]


def _distinct(
    circuits: Sequence[NDArray[np.bool_]], shares: Sequence[slice]
) -> tuple[set[int], list[int]]:
    """Return the indices of the distinct circuits, and for each circuit the one it equals."""
    seen: dict[tuple[bytes, str], int] = {}
    keys = [
        (np.packbits(kept).tobytes(), repr(share))
        for kept, share in zip(circuits, shares, strict=True)
    ]
    origin = [seen.setdefault(key, number) for number, key in enumerate(keys)]
    return set(origin), origin
