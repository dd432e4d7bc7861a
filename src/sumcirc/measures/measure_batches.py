"""Measures a model: one forward pass per batch for every measure in `measure_records.MEASURES`.

In two steps, so that processes can share the batches: `measure_batches` runs the model, `assemble`
makes the record. `measures.measuring` does both, for any model and base.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sumcirc.errors import UserError
from sumcirc.measures import representation as rep
from sumcirc.measures.attention import attention_measures, rows_of_query
from sumcirc.measures.base_records import BaseStore
from sumcirc.measures.divergence import output_divergences
from sumcirc.measures.lens import promoted_tokens
from sumcirc.measures.logit_lens import ROWS, check_logit_lens, logit_lens
from sumcirc.measures.measure_documents import ProbeBatch, ProbeSet
from sumcirc.measures.salience import salience_alignment
from sumcirc.models.activations.activation_cache import HookPoint
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.models.activations.hooks import AttentionInputs
from sumcirc.models.architectures import Shape
from sumcirc.models.modes import inference
from sumcirc.statistics import bootstrap_means
from sumcirc.tracking.measure_records import ProbeRecord

IN_STORE = ("attention", "divergence", "drift")  # what the base's own record has
CONCERNS = (*IN_STORE, "logit_lens", "spans")
LENS_TOKENS = 10  # promoted and demoted tokens stored per stream position
TOP_NEURONS = 10  # stored per layer
MARKED = ("salient", "distractor")  # spans whose attention is measured
DIVERGENCES = ("kl_tuned_base", "kl_base_tuned", "js")  # of attention
CKA_ROWS = 1024  # evenly spaced over all documents; the cost of CKA grows with their square

Keep = Callable[[int, dict[str, Tensor]], None]


@dataclass
class BatchResult:
    """The measured values of one batch of documents, on the CPU.

    `groups` is None unless drift is measured; the fields after it are None unless drift is measured
    and a base is given. Rows are the measured query positions of all documents.

    Attributes:
        documents: indices of the documents in the probe set.
        heads: attention measures [layers, batch, heads], by name.
        rows: other measures [streams, batch] or [batch], by name, averaged over the rows of each
            document.
        groups: [rows] index in the probe set of the document that each row belongs to.
        residual, base_residual: [streams, rows, width] residual streams of the model and the base.
        neurons, base_neurons: [layers, batch, neurons] activations of MLP neurons of the model and
            the base, averaged over the rows of each document.
    """

    documents: list[int]
    heads: dict[str, Tensor] = field(default_factory=dict)
    rows: dict[str, Tensor] = field(default_factory=dict)
    groups: Tensor | None = None
    residual: Tensor | None = None
    base_residual: Tensor | None = None
    neurons: Tensor | None = None
    base_neurons: Tensor | None = None


def check_comparable(hooked: HookedModel, shape: Shape, family: str) -> None:
    """Check that a model can be compared with a base component by component.

    Args:
        hooked: the model.
        shape: sizes of the base.
        family: model type of the base.

    Raises:
        UserError: the two models' architectures, numbers of layers or heads, widths or vocabularies
            differ.
    """
    own_shape, own_family = about(hooked)
    if own_family != family:
        raise UserError(
            f"base: is a `{family}`, the model a `{own_family}`; compare models of one architecture"
        )
    differing = [
        f"{name} {theirs} and {ours}"
        for (name, ours), theirs in zip(vars(own_shape).items(), vars(shape).values(), strict=True)
        if ours != theirs
    ]
    if differing:
        raise UserError(
            f"base: differs from the model in {'; '.join(differing)} (base first); compare a model"
            " with the base that it was trained from"
        )


def about(hooked: HookedModel) -> tuple[Shape, str]:
    """Return a model's sizes and its model type, which `check_comparable` compares.

    Args:
        hooked: the model.
    """
    return hooked.shape, hooked.model.config.model_type


def measure_batches(
    hooked: HookedModel,
    probes: ProbeSet,
    base: BaseStore | None = None,
    concerns: Sequence[str] = CONCERNS,
    numbers: Iterable[int] | None = None,
    keep: Keep | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[BatchResult]:
    """Run a model on batches of the probe set, and return the measured values of each batch.

    Args:
        hooked: the model.
        probes: the documents.
        base: activations of the base model; None to measure the model without a comparison.
        concerns: groups of measures to compute, one or more of CONCERNS; `spans` has measures only
            of documents with spans of MARKED.
        numbers: indices of the batches to run; None for all.
        keep: called with the index of each batch and the tensors, by name, that a `BaseStore` of
            this model has to contain; None if they aren't needed.
        progress: called after each batch with its number of documents.

    Raises:
        UserError: the model's attention can't be observed, the base isn't comparable, or the model
            has no logit lens (`check_logit_lens`).
    """
    if base is not None:
        check_comparable(hooked, base.shape, base.family)
    device = hooked.device
    if "logit_lens" in concerns:
        seen = bool({"attention", "divergence", "spans"} & {*concerns})
        check_logit_lens(hooked, probes.batches[0].input_ids[:1], seen)
    unembedding = None
    if base is not None and "divergence" in concerns:
        unembedding = base.to_logits(device)  # type: ignore[arg-type]
    results = []
    with inference(hooked.model):
        for number in range(len(probes.batches)) if numbers is None else numbers:
            batch = probes.batches[number].to(device)  # type: ignore[arg-type]
            run = _Run(hooked, batch, concerns, base, number, unembedding, keep is not None)
            results.append(run.result())
            if keep is not None:
                keep(number, run.kept)
            if progress is not None:
                progress(len(batch.documents))
    return results


class _Run:
    """The measurement of one batch."""

    def __init__(
        self,
        hooked: HookedModel,
        batch: ProbeBatch,
        concerns: Sequence[str],
        base: BaseStore | None,
        number: int,
        unembedding: Callable[[Tensor], Tensor] | None,
        keeping: bool,
    ) -> None:
        self.hooked = hooked
        self.batch = batch
        self.concerns = concerns
        self.base = None if base is None else base.batch(number)
        self.unembedding = unembedding
        self.keeping = keeping
        self.entropies = "attention" in concerns
        self.compares = base is not None and "divergence" in concerns
        marked = MARKED if "spans" in concerns else ()
        self.spans = {name: batch.spans[name] for name in marked if name in batch.spans}
        self.kept: dict[str, Tensor] = {}
        self.heads: list[dict[str, Tensor]] = []

    def result(self) -> BatchResult:
        """Run the model on the batch and return its values."""
        batch, rows, hooked = self.batch, self.batch.rows, self.hooked
        wanted = self.keeping or self.entropies or self.compares or self.spans
        attention = hooked.at_every_layer(HookPoint.ATTENTION, self._see_attention)
        with (
            hooked.hooks(attention if wanted else []),
            hooked.caching(hooked.every(HookPoint.RESIDUAL), keep=rows.of) as streams,
            hooked.caching(hooked.every(HookPoint.NEURONS), keep=self._mean_neurons) as mlps,
        ):
            hidden = hooked.backbone(batch.input_ids, use_cache=False).last_hidden_state
        found = BatchResult(batch.documents)
        found.heads = {
            f"attention/{name}": torch.stack([layer[name] for layer in self.heads]).cpu()
            for name in (self.heads[0] if self.heads else ())
        }
        normed = rows.of(hidden)
        residual = streams.stacked(HookPoint.RESIDUAL)
        neurons = mlps.stacked(HookPoint.NEURONS)
        if self.keeping:
            self.kept |= {"residual": residual, "neurons": neurons, "normed": normed}
        if "drift" in self.concerns:
            self._add_drift(found, residual.float(), neurons)
        if self.compares:
            for name, values in self._output(normed).items():
                found.rows[f"output/{name}"] = self._by_document(values)
        if "logit_lens" in self.concerns:
            for name, values in logit_lens(hooked, residual, batch.targets).items():
                found.rows[f"logit_lens/{name}"] = self._streams(values)
        return found

    def _see_attention(self, layer: int, attention: AttentionInputs) -> None:
        rows = self.batch.rows
        query, key = attention.query, attention.key
        mask, scaling = attention.mask, attention.scaling
        base = None
        if self.compares:
            base = self._base_attention(layer, key.device, scaling, mask)
        reading = self.entropies or bool(self.spans)
        found = attention_measures(attention, rows, base, keys_read=reading)
        read = found.pop("keys") if reading else None
        if not self.entropies:
            found = {name: found[name] for name in DIVERGENCES if name in found}
        if read is not None:
            found |= self._keys_read(read)
        self.heads.append(found)
        if self.keeping:
            self.kept[f"query.{layer}"] = rows_of_query(query, rows, key.shape[2]).to(query.dtype)
            self.kept[f"key.{layer}"] = key
            self.kept[f"scaling.{layer}"] = torch.tensor(scaling, dtype=torch.float64)
            self.kept[f"seen.{layer}"] = self._seen_keys(mask)

    def _keys_read(self, read: Tensor) -> dict[str, Tensor]:
        """Return measures [batch, heads] of the attention to every key, [batch, heads, length]."""
        found = {}
        if self.entropies:
            found["salience_alignment"] = torch.stack(
                [self._alignment(read[i], self.batch.salience[i]) for i in range(len(read))]
            )
        for name, inside in self.spans.items():
            share = torch.einsum("bhs,bs->bh", read, inside.to(read.dtype))
            found[f"to_{name}"] = torch.where(inside.any(1)[:, None], share, torch.nan)
        return found

    def _base_attention(
        self, layer: int, device: torch.device, scaling: float, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return the base's queries and keys, rescaled for the model's attention scaling."""
        assert self.base is not None
        if not torch.equal(self.base[f"seen.{layer}"], self._seen_keys(mask).cpu()):
            raise UserError(
                f"base: heads of layer {layer} see other tokens than the model's (sliding_window in"
                " config.json), so attention has no divergence between them; compare models of one"
                " window, or shorter texts"
            )
        query, key = (self.base[f"{name}.{layer}"].to(device) for name in ("query", "key"))
        own = float(self.base[f"scaling.{layer}"])
        return (query if own == scaling else query * (own / scaling)), key

    def _seen_keys(self, mask: Tensor | None) -> Tensor:
        """Return the number of keys that each measured row attends to, [total]."""
        rows = self.batch.rows
        length = rows.kinds.shape[1]
        causal = torch.arange(1, length + 1, device=rows.index.device)
        return rows.of((causal if mask is None else mask[:, 0].sum(-1)).expand_as(rows.kinds))

    @staticmethod
    def _alignment(read: Tensor, salience: Tensor) -> Tensor:
        of_document = ~salience.isnan()
        return salience_alignment(read[:, of_document], salience[of_document])

    def _mean_neurons(self, neurons: Tensor) -> Tensor:
        return self._by_document(self.batch.rows.of(neurons).float())

    def _by_document(self, values: Tensor) -> Tensor:
        return rep.document_means(values, self.batch.groups, len(self.batch.documents)).cpu()

    def _add_drift(self, found: BatchResult, residual: Tensor, neurons: Tensor) -> None:
        found.groups = torch.tensor(self.batch.documents)[self.batch.groups.cpu()]
        found.rows["residual/magnitude"] = self._streams(rep.magnitude(residual))
        if self.base is None:
            return
        base = self.base["residual"].to(residual.device).float()
        found.rows["residual/relative_change"] = self._streams(rep.relative_change(residual, base))
        found.residual, found.base_residual = residual.cpu(), base.cpu()
        found.neurons, found.base_neurons = neurons, self.base["neurons"]

    def _streams(self, values: Tensor) -> Tensor:
        """Average [streams, rows] over each document's rows that aren't NaN: [streams, batch]."""
        defined = ~values[0].isnan()
        if bool(defined.all()):
            return self._by_document(values.T).T
        groups, count = self.batch.groups[defined], len(self.batch.documents)
        return rep.document_means(values[:, defined].T, groups, count).cpu().T

    def _output(self, normed: Tensor) -> dict[str, Tensor]:
        assert self.base is not None
        assert self.unembedding is not None
        theirs = self.base["normed"].to(normed.device)
        pieces = []
        for own, other in zip(normed.split(ROWS), theirs.split(ROWS), strict=True):
            logits = self.hooked.unembedding(own)
            pieces.append(output_divergences(logits, self.unembedding(other)))
        return {name: torch.cat([piece[name] for piece in pieces]) for name in pieces[0]}


def assemble(
    results: Sequence[BatchResult],
    probes: ProbeSet,
    step: int,
    hooked: HookedModel,
    decode: Callable[[int], str] | None = None,
) -> ProbeRecord:
    """Combine the results of all batches into one record of the model's measures.

    Args:
        results: results of all batches, in any order.
        probes: the documents.
        step: optimizer step at which the model was measured; -1 for the base model.
        hooked: the model.
        decode: converts a token id to text, for the lens (`measures.lens`); None omits the lens.
    """
    order = np.argsort([place for result in results for place in result.documents])
    values: dict[str, Any] = {}
    for name in results[0].heads:
        # [layers, batch, heads] per batch
        joined = np.concatenate([result.heads[name].numpy() for result in results], axis=1)
        values[name] = joined[:, order].transpose(0, 2, 1)
    for name in results[0].rows:
        joined = np.concatenate([result.rows[name].numpy() for result in results], axis=-1)
        values[name] = joined[..., order]
    record = ProbeRecord(step, probes.ids, values)
    if results[0].residual is not None:
        _add_streams(record, results, hooked, decode)
        _add_neurons(record, results, order)
    for name, value in record.values.items():
        record.values[name] = value.astype(np.float32)
    return record


def _add_streams(
    record: ProbeRecord,
    results: Sequence[BatchResult],
    hooked: HookedModel,
    decode: Callable[[int], str] | None,
) -> None:
    """Add measures over all documents together: CKA, RSA, centred cosine, the lens."""
    # float64 is not to be had on every device
    device = hooked.device if hooked.device.type == "cuda" else torch.device("cpu")
    groups = torch.cat([result.groups for result in results]).to(device)  # type: ignore[misc]
    count = len(record.documents)
    chosen = _spread(groups, CKA_ROWS)
    found: dict[str, list[Tensor]] = {"cka": [], "rsa": [], "centered_cosine": []}
    differences = []
    for stream in range(hooked.shape.layers + 1):
        own = torch.cat([r.residual[stream] for r in results]).to(device)  # type: ignore[index]
        base = torch.cat([r.base_residual[stream] for r in results]).to(device)  # type: ignore[index]
        means = [rep.document_means(side, groups, count) for side in (own, base)]
        found["cka"].append(rep.debiased_cka(own[chosen], base[chosen], groups[chosen])[1])
        found["rsa"].append(rep.rsa(*means)[1])
        cosine = rep.centered_cosine(own, base)
        found["centered_cosine"].append(rep.document_means(cosine, groups, count))
        differences.append((means[0] - means[1]).mean(0))
    for name, streams in found.items():
        record.values[f"residual/{name}"] = torch.stack(streams).cpu().numpy()
    if decode is not None:
        with inference(hooked.model):
            record.found["lens"] = promoted_tokens(
                torch.stack(differences).to(hooked.device),
                hooked.final_norm,
                hooked.unembedding,
                decode,
                LENS_TOKENS,
            )


def _spread(groups: Tensor, most: int) -> Tensor:
    """Return indices of at most about `most` rows: every k-th of each document, and its first."""
    step = -(-len(groups) // most)
    places = [(groups == group).nonzero()[:, 0][::step] for group in groups.unique()]
    return torch.cat(places)


def _add_neurons(record: ProbeRecord, results: Sequence[BatchResult], order: np.ndarray) -> None:
    changes = [result.neurons - result.base_neurons for result in results]  # type: ignore[operator]
    # [layers, neurons, documents]
    change = torch.cat(changes, 1)[:, order].transpose(1, 2).numpy()
    mean, count = change.mean(-1), change.shape[-1]
    record.values["mlp/activation_change"] = mean
    spread = change.std(-1, ddof=1) if count > 1 else np.full_like(mean, np.nan)
    record.values["mlp/activation_change_error"] = spread / np.sqrt(count)
    record.found["neurons"] = []
    for layer in range(len(change)):
        top = np.argsort(-np.abs(mean[layer]), kind="stable")[:TOP_NEURONS]
        means, low, high = bootstrap_means(change[layer, top])
        record.found["neurons"].append(
            [
                {
                    "neuron": int(neuron),
                    "change": float(means[i]),
                    "low": _number(low[i]),
                    "high": _number(high[i]),
                }
                for i, neuron in enumerate(top)
            ]
        )


def _number(value: float) -> float | None:
    """Return None for NaN, which JSON lacks."""
    return None if np.isnan(value) else float(value)
