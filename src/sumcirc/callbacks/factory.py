"""Creates the callbacks named in `callbacks.watch`, with the documents and base they share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytorch_lightning as pl

from sumcirc.callbacks.activation_drift import ActivationDrift
from sumcirc.callbacks.attention_entropy import AttentionEntropy
from sumcirc.callbacks.base_divergence import BaseDivergence
from sumcirc.callbacks.circuit_tracker import CircuitTracker
from sumcirc.callbacks.logit_lens import LogitLens
from sumcirc.callbacks.measuring import Probing, Watcher
from sumcirc.callbacks.salient_attention import SalientAttention
from sumcirc.callbacks.summary_quality import SummaryQuality
from sumcirc.circuits.inputs.corruption import corpus_pairs
from sumcirc.data.datamodule import SummarizationData
from sumcirc.data.documents import Document
from sumcirc.data.encoding import Encoder
from sumcirc.data.inspection import seen_before
from sumcirc.evaluation.salient_spans import salient_finders
from sumcirc.measures.measure_documents import in_drawn_order, probe_set
from sumcirc.measures.measuring import prepare_base
from sumcirc.runtime.notices import Notices, few
from sumcirc.runtime.progress import counted
from sumcirc.schema import TrainConfig
from sumcirc.tracking.run_directory import RunDirectory

if TYPE_CHECKING:
    from transformers import PreTrainedModel


# watchers that need no settings: those of callbacks=default, and further ones
DEFAULT = {
    "attention_entropy": AttentionEntropy,
    "base_divergence": BaseDivergence,
    "activation_drift": ActivationDrift,
}
PLAIN = {**DEFAULT, "logit_lens": LogitLens, "salient_attention": SalientAttention}


def make_watchers(
    config: TrainConfig,
    base: PreTrainedModel,
    encoder: Encoder,
    data: SummarizationData,
    run: RunDirectory,
    others: Sequence[pl.Callback] = (),
) -> list[Watcher]:
    """Return the callbacks that `callbacks.watch` names, and the watchers among others.

    All of them share one `Probing`.

    Args:
        config: configuration of the run.
        base: the model before it is adapted or trained. It is measured here unless its measures are
            cached.
        encoder: encodes documents and summaries.
        data: the run's data, to whose notices messages about left-out documents are added.
        run: the run directory.
        others: callbacks from `callbacks.extra`.

    Raises:
        UserError: no document can be measured, or the model's architecture is unknown.
    """
    options = config.callbacks
    own = [callback for callback in others if isinstance(callback, Watcher)]
    if not options.watch and not own:
        return []
    validation = data.corpora["validation"].documents
    ordered = in_drawn_order(validation, config.data.seed)
    watchers: list[Watcher] = [PLAIN[name]() for name in options.watch if name in PLAIN]
    marking = any("spans" in watcher.concerns for watcher in (*watchers, *own))
    probes = probe_set(
        encoder,
        ordered,
        options.probes.documents,
        options.probes.rows,
        options.probes.batch_size,
        spans=salient_finders(config.data, config.evaluation, validation) if marking else None,
    )
    by_id = {item.id: item for item in ordered}
    chosen = [by_id[name] for name in probes.ids]
    seen = seen_before("callbacks.probes", chosen, data.corpora["train"], "data.train")
    data.notices.tell(*probes.notices, seen, few("callbacks.probes", "documents", len(probes)))
    with counted("probe the base", len(probes)) as advance:
        store = prepare_base(base, probes, Path(config.cache_dir), advance)
    probing = Probing(run, probes, store, options.schedule, encoder.codec.token)
    if "summary_quality" in options.watch:
        watchers.append(
            SummaryQuality(
                encoder, chosen, config.generation, config.evaluation, config.logger.samples
            )
        )
    if "circuit_tracker" in options.watch:
        watchers.append(_tracker(config, run, base, encoder, ordered, data.notices))
    watchers += own
    for watcher in watchers:
        probing.attach(watcher)
    return watchers


def _tracker(
    config: TrainConfig,
    run: RunDirectory,
    base: PreTrainedModel,
    encoder: Encoder,
    documents: list[Document],
    notices: Notices,
) -> CircuitTracker:
    options = config.callbacks.circuit
    made = corpus_pairs(
        encoder,
        documents,
        options.corruption_of(config.data.source, "callbacks.circuit."),
        options.documents,
        config.evaluation,
        "callbacks.circuit.documents",
        config.data.seed,
    )
    notices.tell(*made.notices)
    return CircuitTracker(run, base, made.pairs, options, Path(config.cache_dir))
