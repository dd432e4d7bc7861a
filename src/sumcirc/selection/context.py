"""The data that selectors may use, each computed on first access.

All of it is computed on documents of data.train. data.validation, by which learning rates and
checkpoints are chosen, and data.test are never used, so that neither is biased by the selection.
The documents are drawn by data.seed, not by the run's seed: all jobs of a sweep use the same ones,
and share results. A tuned model is measured on documents that it may have been trained on.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from peft import PeftModel
from transformers import PreTrainedModel

from sumcirc.circuits.attribution.base_scores import base_scores
from sumcirc.circuits.discovery import score_edges, to_store
from sumcirc.circuits.inputs.corruption import corpus_pairs
from sumcirc.circuits.inputs.example_pairs import ExamplePair
from sumcirc.circuits.score_files import DocumentScores
from sumcirc.circuits.tasks import make_task
from sumcirc.data.batches import TrainingBatch
from sumcirc.data.datamodule import SummarizationData
from sumcirc.data.documents import Document
from sumcirc.data.encoding import Encoder
from sumcirc.data.examples import TokenBatch, TokenExample, collate
from sumcirc.errors import UserError
from sumcirc.measures.base_records import BaseStore
from sumcirc.measures.measure_documents import ProbeSet, in_drawn_order, probe_set
from sumcirc.measures.measuring import measure, prepare_base
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.runtime.notices import missing
from sumcirc.runtime.progress import counted
from sumcirc.schema import Granularity, SelectConfig, TrainConfig
from sumcirc.selection.tuned import load_tuned, train_fully
from sumcirc.tracking.measure_records import ProbeRecord


@dataclass(frozen=True, eq=False)
class SelectionContext:
    """The data that a selector may use: the base model, documents, and results computed from these.

    Attributes:
        config: configuration of the job.
        model: the base model without an adapter, on the device on which it runs.
        encoder: encodes documents and summaries.
        data: the data, of which at least the training split is already read.
    """

    config: TrainConfig | SelectConfig
    model: PreTrainedModel
    encoder: Encoder
    data: SummarizationData

    @property
    def layers(self) -> int:
        """Number of layers of the model."""
        return int(self.model.config.num_hidden_layers)

    @property
    def granularity(self) -> Granularity:
        """Whether layers or modules are selected."""
        return self.config.adaptation.granularity

    @property
    def seed(self) -> int:
        """Seed of the random selector: `selector.seed`, or the run's seed if that is None."""
        own = self.config.selector.seed
        return self.config.seed if own is None else own

    @property
    def cache(self) -> Path:
        """The folder `cache_dir`, in which runs share results."""
        return Path(self.config.cache_dir)

    @contextmanager
    def preserving_training_state(self) -> Iterator[None]:
        """Run a `with` block, after which torch's random state is restored."""
        device = self.model.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield

    @cached_property
    def hooked(self) -> HookedModel:
        """The base model, wrapped so that its activations can be read and changed."""
        return HookedModel(self.model)

    def training_batches(self, size: int) -> list[TrainingBatch]:
        """Return full batches of training pairs, which are drawn at random by `data.seed`.

        At most `selector.documents` pairs are used.

        Args:
            size: number of pairs in a batch.

        Raises:
            UserError: there are too few pairs for one batch.
        """
        batches = [TrainingBatch.of(batch) for batch in self._batches(size)]
        return [batch.to(self.model.device) for batch in batches]

    def token_batches(self, size: int) -> list[TokenBatch]:
        """Return the batches that `training_batches` returns, with masks of their tokens.

        Args:
            size: number of pairs in a batch.

        Raises:
            UserError: there are too few pairs for one batch.
        """
        return [collate(batch) for batch in self._batches(size)]

    def _batches(self, size: int) -> list[list[TokenExample]]:
        corpus = self.data.encoded["train"]
        order = np.random.default_rng(self.config.data.seed).permutation(len(corpus))
        chosen = [corpus[i] for i in order[: self.config.selector.documents]]
        batches = [chosen[i : i + size] for i in range(0, len(chosen) - size + 1, size)]
        if not batches:
            raise UserError(
                f"selector.batch_size={size}: there are {len(chosen)} documents to look at; lower"
                " it, or raise selector.documents"
            )
        asked, used = self.config.selector.documents, len(batches) * size
        why = f"data.train gives {len(chosen):,}, of which batches of {size} take {used:,}"
        self.data.notices.tell(missing("selector.documents", "documents", asked, used, why))
        return batches

    @cached_property
    def probes(self) -> ProbeSet:
        """The first `selector.documents` training documents, in an order drawn by `data.seed`.

        They are encoded in the same way as the documents on which a training run is measured.
        """
        wanted = self.config.selector.documents
        found = probe_set(self.encoder, self._ordered(), wanted, setting="selector.documents")
        self.data.notices.tell(*found.notices)
        return found

    def _ordered(self) -> list[Document]:
        """Return the training documents in an order drawn by `data.seed`."""
        return in_drawn_order(self.data.corpora["train"].documents, self.config.data.seed)

    @cached_property
    def base(self) -> BaseStore:
        """Stored activations and measures of the base model on `probes`."""
        with counted("probe the base", len(self.probes)) as advance:
            return prepare_base(self.model, self.probes, self.cache, advance)

    @cached_property
    def tuned(self) -> PreTrainedModel | PeftModel:
        """The model that `selector.after` names, or the cached result of a short training run."""
        found = load_tuned(self.config, self.model, self.encoder, self.data)
        return found.to(self.model.device)  # type: ignore[arg-type]

    @cached_property
    def fully_tuned(self) -> PreTrainedModel | PeftModel:
        """The model that `selector.after` names, or the result of a short full fine-tuning."""
        if self.config.selector.after is not None:
            return self.tuned
        with self.preserving_training_state():
            return train_fully(self.config, self.model, self.data)

    def tuned_record(self, concern: str) -> ProbeRecord:
        """Return the measures of the tuned model on `probes`, compared with the base model.

        Args:
            concern: name of the group of measures, see `measures.measure_batches.CONCERNS`.
        """
        with counted("probe the tuned model", len(self.probes)) as advance:
            return measure(self.tuned, self.probes, self.base, concerns=[concern], progress=advance)

    @cached_property
    def pairs(self) -> list[ExamplePair]:
        """Pairs of a training document and its corrupted version, for edge scores.

        Raises:
            UserError: no pair can be made, or the training documents have other documents'
                summaries (`data.permute_summaries`).
        """
        config = self.config
        check_own_summaries(config)
        made = corpus_pairs(
            self.encoder,
            self._ordered(),
            config.selector.circuit.corruption_of(config.data.source, "selector."),
            config.selector.documents,
            config.evaluation,
            "selector.documents",
            config.data.seed,
        )
        self.data.notices.tell(*made.notices)
        return made.pairs

    @cached_property
    def base_circuit(self) -> DocumentScores:
        """The scores of all edges of the base model on `pairs`."""
        options = self.config.selector.circuit
        with counted(f"attribute by {options.method.value}", len(self.pairs)) as advance:
            return base_scores(self.model, self.pairs, options, self.cache, advance)

    def tuned_circuit(self) -> DocumentScores:
        """Return the scores of all edges of the tuned model on `pairs`."""
        options = self.config.selector.circuit
        task = make_task(self.tuned, self.pairs, options, keep_all=True)
        with counted(f"attribute by {options.method.value}, tuned", len(self.pairs)) as advance:
            return to_store(score_edges(self.tuned, task, options, advance), options, 0)


def inputs_fingerprint(context: SelectionContext) -> list[str | int | None]:
    """Return a cache key made of all that determines a selector's documents and their tokens.

    Args:
        context: the configuration, the model and the data.
    """
    return [
        context.encoder.fingerprint,
        context.data.corpora["train"].fingerprint,
        context.config.data.seed,
    ]


def check_own_summaries(config: TrainConfig | SelectConfig) -> None:
    """Refuse to make pairs of training documents that have other documents' summaries.

    Args:
        config: configuration of the job.

    Raises:
        UserError: `data.permute_summaries` is set.
    """
    seed = config.data.permute_summaries
    if seed is not None:
        name = config.selector.name
        raise UserError(
            f"data.permute_summaries={seed}: selector={name and name.value} makes pairs of"
            " documents with their own summaries; take another selector, or name the layers in"
            " adaptation.layers"
        )
