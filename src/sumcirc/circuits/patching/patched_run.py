"""Runs a live model as a circuit: the kept edges carry this run, all others are patched.

A circuit is a boolean matrix [sources, destinations]. Every destination v (the query, key and value
input of each head, each MLP, the logits) reads its own residual stream

    x_v = sum of a_u over kept edges u->v + sum of p_u over cut edges u->v + biases and positions,

where a_u is what source u writes in this run and p_u its patch: u's output on the corrupted tokens
(interchange), zero, or a mean. The sources are computed in order, so what a kept edge carries
already reflects earlier patches. With all edges cut the model behaves as on the corrupted tokens,
with all kept as on the clean ones. `patched_pass` implements it. Source: M. Hanna et al., Have
Faith in Faithfulness, 2024, arXiv:2403.17806, and hannamw/EAP-IG (`evaluate_graph`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel

from sumcirc.circuits.graph import Graph
from sumcirc.circuits.patching.patched_pass import PatchedPass, Workspace
from sumcirc.errors import UserError
from sumcirc.models.activations.activation_cache import ActivationCache, ActivationKey, HookPoint
from sumcirc.models.activations.attention_weights import AttentionWeights
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.models.modes import inference

Ablation = Literal["interchange", "zero", "mean"]
Circuit = NDArray[np.bool_] | Tensor

# outputs of sources, and inputs of destinations other than the projections
SOURCES = (HookPoint.EMBEDDING, HookPoint.MLP_OUTPUT)  # besides HookedModel.head_points
DESTINATIONS = (HookPoint.ATTENTION_INPUT, HookPoint.MLP_INPUT, HookPoint.FINAL_NORM)
MEMORY = 1 << 30  # bytes
ALL = slice(None)  # documents


class PatchedRun:
    """Runs clean documents through a model as circuits: edges that are not kept are patched.

    The corrupted run is computed once, when the object is created. Weights are read at the same
    time, so a new object is needed after a training step. The model is not changed: hooks, modes,
    random state and gradients are restored.

    Args:
        model: the model, with or without adapters.
        clean_ids: [documents, positions] token ids.
        corrupted_ids: [documents, positions] token ids; needed only for interchange.
        attention_mask: [documents, positions] 1 at real tokens of both inputs, which may be padded
            on either side; None if there is no padding.
        graph: the graph whose edges are kept or cut; by default it is made from the model, with one
            key and one value destination per key/value head.
        ablation: what a cut edge carries: the source's output in the corrupted run (`interchange`),
            zero (`zero`), or the source's mean output from `means` (`mean`).
        means: [sources, width] mean output of each source, see `source_means`; needed only for the
            ablation `mean`.
        weights: the model's attention weights, created with the graph's `expand_groups`; several
            runs may share them. None creates them.

    Attributes:
        memory: number of bytes of source differences that are held at once. To stay below it, a few
            documents and circuits are processed at a time, but at least one of each.
        corrupted: activations of the corrupted run; None for ablations other than interchange.
        differences, streams: memory that the passes share for what sources write, and for what
            destinations read.

    Raises:
        UserError: the architecture is unknown, shapes differ, or an argument that the ablation
            needs is missing.
    """

    def __init__(
        self,
        model: PreTrainedModel | PeftModel,
        clean_ids: Tensor,
        corrupted_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        graph: Graph | None = None,
        ablation: Ablation = "interchange",
        means: Tensor | None = None,
        weights: AttentionWeights | None = None,
    ) -> None:
        self.model = HookedModel(model)
        self.graph = graph or Graph(self.model.shape)
        _check(self.model, self.graph, clean_ids, corrupted_ids, attention_mask, ablation, means)
        self.weights = weights or AttentionWeights(self.model, self.graph.expand_groups)
        self.weights.read()
        self.clean_ids = clean_ids
        self.attention_mask = attention_mask
        self.memory = MEMORY
        self.means = means if ablation == "mean" else None
        self._clean: Tensor | None = None
        self.differences, self.streams = (Workspace(self.weights.output(0)) for _ in range(2))
        self.corrupted: ActivationCache | None = None
        if ablation == "interchange":
            assert corrupted_ids is not None
            sources = (*SOURCES, *self.model.head_points)
            points = (*sources, *self.model.projections, *DESTINATIONS)
            keys = [*self.model.every(*points), (HookPoint.RESIDUAL, self.graph.shape.layers)]
            with self.model.ungrouped(self.graph.expand_groups):
                self.corrupted = _run(self.model, corrupted_ids, attention_mask, keys)

    @property
    def clean(self) -> Tensor:
        """The clean run's residual stream after the final norm, [documents, positions, width]."""
        if self._clean is None:
            with inference(self.model.model):
                self._clean = self.model.hidden(self.attention_mask, input_ids=self.clean_ids)
        return self._clean

    def hidden(self, kept: Circuit, documents: slice = ALL) -> Tensor:
        """Return the residual stream after the final norm when the model runs as a circuit.

        Args:
            kept: one circuit [sources, destinations], or several circuits [sets, sources,
                destinations], True at kept edges; entries where the graph has no edge are ignored.
            documents: the documents to run; by default all.

        Returns:
            [documents, positions, width]; for several circuits [sets, documents, positions, width].
        """
        circuits = _as_bool(kept, self.graph)
        with inference(self.model.model):
            found = self._hidden(circuits.reshape(-1, *self.graph.exists.shape), documents)
        return found if circuits.ndim == 3 else found[0]

    def logits(
        self, kept: Circuit, positions: Tensor | None = None, documents: slice = ALL
    ) -> Tensor:
        """Return the logits when the model runs as a circuit.

        Args:
            kept: one or several circuits, as in `hidden`.
            positions: [documents, positions] True where logits are needed; None for all positions.
            documents: the documents to run; by default all. `positions` has rows for these alone.

        Returns:
            [documents, positions, vocabulary], or, if `positions` is given, [selected positions,
            vocabulary] document by document. For several circuits, there is a first dimension
            [sets].
        """
        found = self.hidden(kept, documents)
        if positions is not None:
            found = found[..., positions.bool(), :]
        with inference(self.model.model):
            return self.model.unembedding(found)

    def _hidden(self, kept: NDArray[np.bool_], chosen: slice) -> Tensor:
        terms, from_corrupted = self._terms(kept, self.graph.exists & ~kept)
        if not terms.any():
            whole = self._without_terms(from_corrupted)[chosen]
            return whole.expand(len(kept), *whole.shape)
        places = range(len(self.clean_ids))[chosen]
        each = self._bytes(int(terms.any(axis=(0, 2)).sum()))
        at_once = min(len(places), max(1, self.memory // (each * len(kept))))
        sets = min(len(kept), max(1, self.memory // (each * at_once)))
        return torch.cat(
            [
                torch.cat(
                    [
                        PatchedPass(
                            self,
                            terms[a : a + sets],
                            from_corrupted,
                            slice_of(places, b, at_once),
                        ).run()
                        for b in range(0, len(places), at_once)
                    ],
                    dim=1,
                )
                for a in range(0, len(kept), sets)
            ]
        )

    def _terms(
        self, kept: NDArray[np.bool_], cut: NDArray[np.bool_]
    ) -> tuple[NDArray[np.bool_], bool]:
        """Return the fewer of kept and cut edges, and whether inputs start from the corrupted run.

        They do so if the kept edges are the fewer; see `patched_pass`.
        """
        from_corrupted = self.corrupted is not None and bool(kept.sum() < cut.sum())
        return (kept if from_corrupted else cut), from_corrupted

    def _without_terms(self, from_corrupted: bool) -> Tensor:
        """Return the streams, clean or corrupted, to which a pass adds differences."""
        if from_corrupted and self.corrupted is not None:
            return self.corrupted[HookPoint.FINAL_NORM, 0]
        return self.clean

    def _bytes(self, sources: int) -> int:
        """Return the size of the differences of a number of sources, of one document."""
        positions, width = self.clean_ids.shape[1], self.model.shape.width
        return sources * positions * width * self.weights.dtype.itemsize


def slice_of(places: range, start: int, count: int) -> slice:
    """Return the slice of documents that are numbers `start` to `start + count` of `places`."""
    some = places[start : start + count]
    return slice(some.start, some.stop, some.step)


def source_means(
    model: PreTrainedModel | PeftModel,
    ids: Tensor,
    attention_mask: Tensor | None = None,
    batch_size: int = 8,
) -> Tensor:
    """Return the mean output of every source over the tokens of some documents.

    Args:
        model: the model, with or without adapters.
        ids: [documents, positions] token ids.
        attention_mask: [documents, positions] 1 at real tokens, over which means are taken; None if
            there is no padding.
        batch_size: number of documents processed at once.

    Returns:
        [sources, width].
    """
    hooked = HookedModel(model)
    graph, device = Graph(hooked.shape), hooked.model.device
    mask = torch.ones_like(ids) if attention_mask is None else attention_mask
    keys = hooked.every(*SOURCES, *hooked.head_points)
    sums: dict[ActivationKey, Tensor] = {}
    for batch, real in zip(ids.split(batch_size), mask.split(batch_size), strict=True):
        seen = _run(hooked, batch.to(device), real.to(device), keys)
        for layer in range(hooked.shape.layers):
            seen[HookPoint.HEAD_OUTPUTS, layer] = hooked.scaled_heads(seen, layer)
        for key in hooked.every(*SOURCES, HookPoint.HEAD_OUTPUTS):
            total = seen[key][real.bool().to(device)].sum(0, dtype=torch.float64)
            sums[key] = sums[key] + total if key in sums else total
    dtype = hooked.attention_output(0).weight.dtype
    mean = {key: (total / mask.sum()).to(dtype) for key, total in sums.items()}
    means = mean[HookPoint.EMBEDDING, 0].new_empty(len(graph.sources), hooked.shape.width)
    means[0] = mean[HookPoint.EMBEDDING, 0]
    for layer in range(hooked.shape.layers):
        means[graph.mlp_source(layer)] = mean[HookPoint.MLP_OUTPUT, layer]
        weight = hooked.attention_output(layer).weight
        heads = mean[HookPoint.HEAD_OUTPUTS, layer].unflatten(0, weight.shape[:2])
        means[graph.attention_sources(layer)] = torch.bmm(heads[:, None], weight)[:, 0]
    return means


def _run(
    model: HookedModel, ids: Tensor, attention_mask: Tensor | None, keys: Sequence[ActivationKey]
) -> ActivationCache:
    """Record activations of a run without gradients."""
    with inference(model.model), model.caching(keys) as cache:
        model.hidden(attention_mask, input_ids=ids)
    return cache


def _as_bool(kept: Circuit, graph: Graph) -> NDArray[np.bool_]:
    circuits = kept.cpu().numpy() if isinstance(kept, Tensor) else np.asarray(kept)
    if circuits.ndim not in (2, 3) or circuits.shape[-2:] != graph.exists.shape:
        raise ValueError(f"kept: shape {circuits.shape}, that of the graph {graph.exists.shape}")
    return circuits.astype(bool) & graph.exists


def _check(
    hooked: HookedModel,
    graph: Graph,
    clean_ids: Tensor,
    corrupted_ids: Tensor | None,
    attention_mask: Tensor | None,
    ablation: str,
    means: Tensor | None,
) -> None:
    if graph.shape != hooked.shape:
        raise UserError(
            f"graph: was made for {graph.shape}, the model has {hooked.shape}; make it from that"
        )
    needs: dict[str, Sequence[Any]] = {
        "interchange": (corrupted_ids,),
        "zero": (),
        "mean": (means,),
    }
    if ablation not in needs:
        raise UserError(f"ablation={ablation}: not known; take one of {', '.join(needs)}")
    if any(value is None for value in needs[ablation]):
        missing = "corrupted documents" if ablation == "interchange" else "means of the sources"
        raise UserError(f"ablation={ablation}: needs {missing}; give them or take ablation=zero")
    for name, value in (("corrupted_ids", corrupted_ids), ("attention_mask", attention_mask)):
        if value is not None and value.shape != clean_ids.shape:
            raise UserError(
                f"{name}: shape {tuple(value.shape)}, the clean documents {tuple(clean_ids.shape)};"
                " make pairs of equal numbers of tokens"
            )
    expected = (len(graph.sources), hooked.shape.width)
    if means is not None and tuple(means.shape) != expected:
        raise UserError(f"means: shape {tuple(means.shape)}, needed {expected}; see source_means")
