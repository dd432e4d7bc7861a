"""sumcirc from a script: a circuit, probes and a choice of layers, each in one call.

They take a model and a tokenizer that are in memory, loaded by `load` or by anybody else, and texts
as pairs (document, summary); no configuration, no run directory. The model is left as it was:
weights, modes, hooks, gradients and random state. Examples: docs/howto/library.md; formulas:
docs/method.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sumcirc.circuits.discovery import CircuitResult, judge, make_task, score_edges
from sumcirc.circuits.inputs.corruption import make_pairs, pair_notices
from sumcirc.circuits.inputs.pair_files import read_pairs
from sumcirc.data.datamodule import SummarizationData
from sumcirc.data.documents import Document, corpus_of
from sumcirc.data.encoding import Encoder
from sumcirc.errors import UserError
from sumcirc.evaluation.baselines import oracle_finder
from sumcirc.measures.measure_documents import probe_set
from sumcirc.measures.measuring import measure
from sumcirc.models.adapters import lora_config, resolve_targets
from sumcirc.models.architectures import anatomy, context_length
from sumcirc.models.hooked_model import has_adapter
from sumcirc.models.model_reference import reference
from sumcirc.models.restoring import check_reference, load_reference, load_tokenizer_of
from sumcirc.runtime.notices import Notices
from sumcirc.schema import (
    AUTO,
    Adaptation,
    AdaptationConfig,
    CircuitOptions,
    DataConfig,
    EncodingConfig,
    EvaluationConfig,
    LoggerConfig,
    ModelConfig,
    SelectConfig,
    SelectorConfig,
    SelectorName,
    Source,
    TrainerConfig,
)
from sumcirc.selection.choosing import SELECTORS, check_selection, select
from sumcirc.selection.evidence import Evidence
from sumcirc.selection.ranking import Ranking
from sumcirc.tracking.measure_records import ProbeRecord

__all__ = ["choose_lora", "find_circuit", "load", "probe"]

Texts = Iterable[tuple[str, str]]


def load(
    checkpoint: str | Path, dtype: torch.dtype | None = None
) -> tuple[PreTrainedModel | PeftModel, PreTrainedTokenizerBase]:
    """Load a model in evaluation mode, and the tokenizer that it was trained with.

    Args:
        checkpoint: what `checkpoint=` takes: a run directory, an adapter's folder (with its base,
            revision and tokenizer), a model's folder, a hub id or `tiny`.
        dtype: of the weights; None is float32.

    Raises:
        UserError: it can't be loaded; the reason is in the message.
    """
    found = reference(str(checkpoint), "checkpoint")
    check_reference(found)
    return load_reference(found, dtype), load_tokenizer_of(found)


def find_circuit(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Texts | str | Path,
    options: CircuitOptions | None = None,
    encoding: EncodingConfig | None = None,
) -> CircuitResult:
    """The edges that carry the summary, how faithful and how stable they are.

    Args:
        model: of a known family; an adapter that is on counts.
        texts: (document, summary) pairs, or a file of clean and corrupted texts
            (docs/circuits.md, "Your own").
        options: as under `circuit.` of the command; `documents` is how many pairs are made.
        encoding: prompt and lengths, as under `encoding.`.

    Returns:
        `.faithfulness`, `.largest_edges(20)`, `.stability`, `.save("circuit.json")` and more.

    Raises:
        UserError: no pair can be made, corruption changes nothing, or the model is of no known
            family.
    """
    options = CircuitOptions() if options is None else options
    encoder = _encoder(model, tokenizer, encoding)
    if isinstance(texts, (str, Path)):
        pairs = read_pairs(str(texts), encoder)
    else:
        documents = _documents(texts)
        made = make_pairs(
            encoder,
            documents,
            options.corruption_of(Source.files).value,
            options.documents,
            oracle_finder(EvaluationConfig(), documents),
        )
        pairs, asked = made[0], min(options.documents, len(documents))
        Notices().tell(*pair_notices(encoder, documents, made, asked, "texts"))
    task = make_task(model, pairs, options)
    Notices().tell(*task.notices)
    return judge(task, score_edges(model, task, options), options)


def probe(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Texts,
    base: PreTrainedModel | None = None,
    encoding: EncodingConfig | None = None,
) -> ProbeRecord:
    """What the watchers of a run measure: attention, residual stream, neurons, output, lens.

    Args:
        base: what the model is compared with; of a PEFT model its own base, if none is given.
            Without any there are no differences, only the model's own values.

    Returns:
        `.values["attention/kl_tuned_base"]` and so on (all names are in
        `sumcirc.tracking.measure_records.MEASURES`), with documents on the last axis.

    Raises:
        UserError: no text fits the model's context, or the two models can't be compared.
    """
    documents = _documents(texts)
    encoder = _encoder(model, tokenizer, encoding)
    probes = probe_set(encoder, documents, len(documents), setting="texts")
    Notices().tell(*probes.notices)
    return measure(model, probes, base, decode=encoder.codec.token)


def choose_lora(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Texts,
    selector: str | SelectorConfig,
    encoding: EncodingConfig | None = None,
    cache: str | Path | None = None,
    seed: int = 1,
    **adaptation: Any,
) -> tuple[LoraConfig, Ranking]:
    """Where LoRA adapters go, as PEFT's configuration, and the ranking behind it.

    Args:
        model: the base, without an adapter.
        texts: on these alone it is decided, gradients and all else; not those you will test on.
        selector: its name (docs/selecting.md), which then looks at all texts and chooses a quarter
            of the layers; or its options as under `selector.`.
        cache: where a base's circuit and the like are kept for the next call; None: nowhere.
        seed: of `random`.
        adaptation: as under `adaptation.`: `budget` or `rank`, `granularity`, `modules`, ...

    Raises:
        UserError: no such selector, it and the adaptation don't go together, or the budget is too
            small.
    """
    if has_adapter(model):
        raise UserError("choose_lora: the model has an adapter already; give its base")
    encoder = _encoder(model, tokenizer, encoding)
    documents = _documents(texts)
    options = _selector(selector, len(documents)) if isinstance(selector, str) else selector
    if options.name is None:
        raise UserError("choose_lora: the selector has no name, so nothing is chosen; give it one")
    path = model.name_or_path or ""
    if SELECTORS[options.name].compares and not path:
        raise UserError(
            f"choose_lora: selector={options.name.value} tunes a second model, and this one was"
            " loaded from nowhere; save it to a folder and load it from there"
        )
    with TemporaryDirectory(prefix="sumcirc-") if cache is None else nullcontext(cache) as folder:
        config = SelectConfig(
            model=ModelConfig(name=path, path=path),
            data=DataConfig(name="texts", source=Source.files),
            trainer=TrainerConfig(),
            logger=LoggerConfig(),
            cache_dir=str(folder),
            seed=seed,
            adaptation=AdaptationConfig(kind=Adaptation.lora, layers=AUTO, **adaptation),
            selector=options,
        )
        check_selection(config, model.config)
        data = SummarizationData(config.data, config.trainer, encoder, None, seed)
        corpus = corpus_of(documents)
        for split in ("train", "validation"):
            data.corpora[split] = corpus
            data.encoded[split] = encoder.corpus(corpus, "texts")
        ranking = select(Evidence(config, model, encoder, data))
    targets = resolve_targets(config.adaptation, model.config, ranking.targets)
    return lora_config(config.adaptation, targets, path or None), ranking


def _encoder(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    encoding: EncodingConfig | None,
) -> Encoder:
    config: Any = model.config
    anatomy(config)
    return Encoder(tokenizer, encoding or EncodingConfig(), context_length(config))


def _selector(name: str, documents: int) -> SelectorConfig:
    known = [one.value for one in SelectorName]
    if name not in known:
        raise UserError(f"selector={name}: is none; choose from {', '.join(known)}")
    return SelectorConfig(name=SelectorName(name), documents=documents)


def _documents(texts: Texts) -> list[Document]:
    return [
        Document(str(number), document, (summary,))
        for number, (document, summary) in enumerate(texts)
    ]
