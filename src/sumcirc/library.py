"""Use of sumcirc from Python: circuits, measures, path attribution, masks, choice of layers.

The functions take a model and a tokenizer in memory, loaded by `load` or otherwise, and texts as
pairs (document, summary); they need no configuration and no run directory. The model is not
changed: weights, modes, hooks, gradients and random state are restored. Examples:
docs/howto/library.md; formulas: docs/method.md.
"""

from __future__ import annotations

import shutil
import weakref
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sumcirc.callbacks.factory import DEFAULT, PLAIN
from sumcirc.callbacks.measuring import Probing, Watcher
from sumcirc.callbacks.summary_quality import SummaryQuality
from sumcirc.circuits.card.making import make_card
from sumcirc.circuits.discovery import CircuitResult, judge, score_edges
from sumcirc.circuits.inputs.corruption import corpus_pairs
from sumcirc.circuits.inputs.division import covered
from sumcirc.circuits.inputs.pair_files import read_pairs
from sumcirc.circuits.spans.circuit import find_units
from sumcirc.circuits.tasks import make_tasks
from sumcirc.compare.inputs import kept_texts
from sumcirc.compare.items.document_items import items_of
from sumcirc.compare.items.item_set import ItemSet
from sumcirc.compare.masks.learned_masks import LearnedMasks, check_counts, learn_masks
from sumcirc.compare.path.path_attribution import PathAttribution, attribute_path
from sumcirc.data.datamodule import SummarizationData
from sumcirc.data.documents import Document, corpus_of
from sumcirc.data.encoding import Encoder
from sumcirc.errors import UserError
from sumcirc.evaluation.salient_spans import salient_finders
from sumcirc.measures import measuring
from sumcirc.measures.measure_documents import ProbeSet, probe_set
from sumcirc.models.activations.activation_cache import ActivationCache, HookPoint
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.models.adapters import lora_config, require_lora_config, resolve_targets
from sumcirc.models.architectures import architecture, context_length
from sumcirc.models.config_differences import differing_settings, shown
from sumcirc.models.model_reference import reference
from sumcirc.models.restoring import check_reference, load_reference, load_tokenizer_of
from sumcirc.models.unwrapping import base_model, has_adapter
from sumcirc.runtime.notices import Notices
from sumcirc.schema import (
    AUTO,
    Adaptation,
    AdaptationConfig,
    CardOptions,
    CircuitOptions,
    DataConfig,
    EncodingConfig,
    EvaluationConfig,
    GenerationConfig,
    LoggerConfig,
    MaskOptions,
    ModelConfig,
    PathOptions,
    ProbeScheduleConfig,
    SelectConfig,
    SelectorConfig,
    SelectorName,
    Source,
    TrainerConfig,
)
from sumcirc.selection.choosing import SELECTORS, check_selection, select
from sumcirc.selection.context import SelectionContext
from sumcirc.selection.ranking import Ranking
from sumcirc.selection.scores import Scores, rule
from sumcirc.tracking.measure_records import ProbeRecord
from sumcirc.tracking.run_directory import RunDirectory

__all__ = [
    "ActivationCache",
    "CircuitResult",
    "HookPoint",
    "HookedModel",
    "LearnedMasks",
    "PathAttribution",
    "ProbeRecord",
    "Ranking",
    "Scores",
    "SelectionContext",
    "Watcher",
    "attribute_change",
    "choose_lora",
    "find_circuit",
    "load",
    "mask_change",
    "measure",
    "rule",
    "watch",
]

Texts = Iterable[tuple[str, str]]


def load(
    checkpoint: str | Path, dtype: torch.dtype | None = None
) -> tuple[PreTrainedModel | PeftModel, PreTrainedTokenizerBase]:
    """Load a model in evaluation mode, and the tokenizer that it was trained with.

    Args:
        checkpoint: a run directory, an adapter's folder, a model folder, a hub id, or `tiny` for
            the built-in model. For an adapter, its base is loaded too.
        dtype: type of the weights; None for float32.

    Raises:
        UserError: the model can't be loaded; the message has the reason.
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
    card: CardOptions | None = None,
) -> CircuitResult:
    """Find the circuit with which a model writes summaries: its graph's most important edges.

    Edges are scored on pairs of a clean and a corrupted document. The circuit's faithfulness is
    measured on pairs of other documents, `options.held_out` of all, and its stability on the pairs
    on which edges are scored.

    Args:
        model: a model of a supported architecture; an active adapter is part of the model.
        tokenizer: the model's tokenizer.
        texts: (document, summary) pairs, from which corrupted documents are made; or the path of a
            file of clean and corrupted texts (docs/circuits.md, "Your own").
        options: settings as under `circuit.`; `documents` is the largest number of pairs that are
            made. None for the defaults.
        encoding: prompt and lengths, as under `encoding.`; None for the defaults.
        card: tests of the circuit, as under `card.`; None for the defaults.

    Returns:
        The circuit, with `.faithfulness`, `.in_sample` (the figures on the pairs on which edges
        were scored; None if there are too few pairs to hold any out), `.largest_edges(20)`,
        `.stability`, `.card` (docs/circuit-card.md), `.save("circuit.json")` and more. With
        `options.by_span` also `.by_span`, the circuit by span (docs/circuits-by-span.md).

    Raises:
        UserError: no pair can be made, corruption doesn't change the model's output, or the
            architecture isn't supported.
    """
    options = CircuitOptions() if options is None else options
    encoder = _encoder(model, tokenizer, encoding)
    if isinstance(texts, (str, Path)):
        pairs = read_pairs(str(texts), encoder)
    else:
        documents = _documents(texts)
        made = corpus_pairs(
            encoder,
            documents,
            options.corruption_of(Source.files),
            min(options.documents, len(documents)),
            EvaluationConfig(),
            "texts",
        )
        pairs = made.pairs
        Notices().tell(*made.notices)
    if options.by_span:
        pairs = covered(pairs, "circuit.by_span=true")
    split = make_tasks(model, pairs, options)
    Notices().tell(*split.notices)
    if options.by_span:
        found = find_units(model, split.task, split.held_out, options)
    else:
        scores = score_edges(model, split.task, options)
        found = judge(split.task, scores, options, held_out=split.held_out)
    card = CardOptions() if card is None else card
    if not card.made:
        return found
    tested = make_card(model, split.task, split.held_out, found, options, card)
    return replace(found, card=tested)


def measure(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Texts,
    base: PreTrainedModel | None = None,
    encoding: EncodingConfig | None = None,
) -> ProbeRecord:
    """Measure a model's attention, residual stream, neurons, output and logit lens, by layer.

    Attention to the salient sentences is that to the sentences with the highest ROUGE against the
    summary.

    Args:
        model: a model of a supported architecture; an active adapter is part of the model.
        tokenizer: the model's tokenizer.
        texts: (document, summary) pairs.
        base: the model to compare with. None means the base of a PEFT model; for other models no
            differences are measured then.
        encoding: prompt and lengths, as under `encoding.`; None for the defaults.

    Returns:
        A record with an array for each measure, such as `.values["attention/kl_tuned_base"]`.
        `sumcirc.tracking.measure_records.MEASURES` has all names, units and axes.

    Raises:
        UserError: no text fits the model's context, or the two models can't be compared.
    """
    encoder = _encoder(model, tokenizer, encoding)
    probes = _probes(encoder, _documents(texts), True)
    return measuring.measure(model, probes, base, decode=encoder.codec.token)


def attribute_change(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Texts,
    base: PreTrainedModel | None = None,
    options: PathOptions | None = None,
    encoding: EncodingConfig | None = None,
) -> PathAttribution:
    """Attribute what fine-tuning gained to parts of the weight change, along the change itself.

    The gain is that of the mean log-probability of each summary's tokens, in nats.

    Args:
        model: the model after fine-tuning, of a supported architecture.
        tokenizer: the model's tokenizer.
        texts: (document, summary) pairs; with fewer than 8 there are no intervals.
        base: the model before fine-tuning. None means the base of a PEFT model.
        options: settings as under `compare.path.`; None for the defaults.
        encoding: prompt and lengths, as under `encoding.`; None for the defaults.

    Returns:
        The scores of every unit for every text: `.score("layer 3")`, `.scores` and `.units` by
        grain, `.converged`, `.integral.errors`, `.effects` of units that are kept and removed, and
        with `options.edges` what the change wrote along each edge, `.edges`.
        `sumcirc.compare.path.path_summary.path_summary` gives means with intervals.

    Raises:
        UserError: no text fits the model's context, the models differ in more than their weights,
            no weight differs, or the gain can't be distinguished from zero.
    """
    items = _items(model, tokenizer, texts, encoding)
    return attribute_path(model, _weights("attribute_change", model, base), items, options)


def mask_change(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Texts,
    base: PreTrainedModel | None = None,
    options: MaskOptions | None = None,
    encoding: EncodingConfig | None = None,
    plain_texts: Iterable[str] = (),
) -> LearnedMasks:
    """Learn which units of the weight change suffice for the gain of fine-tuning.

    The gain is that of the mean log-probability of each summary's tokens, in nats. Units are ranked
    on every other text and judged on the rest.

    Args:
        model, tokenizer, base, encoding: as in `attribute_change`.
        texts: (document, summary) pairs, at least 16.
        options: settings as under `compare.masks.`; None for the defaults. With `retention`,
            `plain_texts` have to be given.
        plain_texts: other texts, 8 or more, on which forgetting is measured. They are read as they
            are, without a prompt, cut to the model's context; texts of one token are left out.

    Returns:
        The rankings, judged: `.order` has the units by the learned ranking, best first, `.judged`
        the metric with each set of units alone and without it, in nats [rankings, sizes, texts].
        With plain texts `.forgetting` has their negative log-likelihood, and KL(base || model),
        with the change of each set alone, in nats a token [rankings, sizes, plain texts].
        `sumcirc.compare.masks.mask_summary.mask_summary` gives means with intervals.

    Raises:
        UserError: there are too few texts or plain texts, or for the reasons given in
            `attribute_change`.
    """
    items = _items(model, tokenizer, texts, encoding)
    encoder = _encoder(model, tokenizer, encoding)
    given = [encoder.text(text) for text in plain_texts]
    read, notices = kept_texts(given, encoder.max_length)
    Notices().tell(*notices)
    if given or (options is not None and options.retention):
        check_counts(len(items), len(read))
    base_weights, ids = _weights("mask_change", model, base), [text.tolist() for text in read]
    return learn_masks(model, base_weights, items, options, texts=ids)


def watch(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Texts,
    watchers: Sequence[str | Watcher] = tuple(DEFAULT),
    schedule: ProbeScheduleConfig | None = None,
    folder: str | Path | None = None,
    encoding: EncodingConfig | None = None,
) -> list[Watcher]:
    """Return callbacks that measure a model while your own Lightning Trainer trains it.

    They share one forward pass per scheduled step and the activations of the base, which is the
    model as it is now, or of a PEFT model the model without its adapter. Values go to the loggers
    of the Trainer.

    Args:
        model: the model, of a supported architecture, that your LightningModule trains.
        tokenizer: the model's tokenizer.
        texts: (document, summary) pairs on which the model is measured.
        watchers: names of watchers (docs/watching.md) and watchers of your own.
        schedule: when to measure, as under `callbacks.schedule.`; None for the defaults.
        folder: folder in whose `probes/` the records are written. None to keep them in memory, as
            `watcher.probing.records`.
        encoding: prompt and lengths, as under `encoding.`; None for the defaults.

    Raises:
        UserError: a watcher is unknown, no text fits the model's context, or the architecture isn't
            supported.
    """
    documents, encoder = _documents(texts), _encoder(model, tokenizer, encoding)
    found = [_watcher(one, encoder, documents) if isinstance(one, str) else one for one in watchers]
    marking = any("spans" in watcher.concerns for watcher in found)
    probes = _probes(encoder, documents, marking)
    # deleted with the Probing, or at the end of the process
    activations = Path(mkdtemp(prefix="sumcirc-base-"))
    store = measuring.prepare_base(model, probes, activations)
    run = None if folder is None else RunDirectory(folder)
    schedule = schedule or ProbeScheduleConfig()
    probing = Probing(run, probes, store, schedule, encoder.codec.token, model)
    weakref.finalize(probing, shutil.rmtree, activations, ignore_errors=True)
    for watcher in found:
        probing.attach(watcher)
    return found


def _watcher(name: str, encoder: Encoder, documents: list[Document]) -> Watcher:
    if name == "summary_quality":
        return SummaryQuality(encoder, documents, GenerationConfig(), EvaluationConfig())
    if name not in PLAIN:
        raise UserError(
            f"watch: {name} can't be used here; choose from {', '.join(PLAIN)}, summary_quality"
        )
    return PLAIN[name]()


probe = measure  # the name before; removed in version 0.2


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
    """Choose the layers or modules that get LoRA adapters, and their ranks.

    Args:
        model: the base model, without an adapter.
        tokenizer: the model's tokenizer.
        texts: (document, summary) pairs on which the selection is based; don't use your test data.
        selector: the name of a selector (docs/selecting.md), which then uses all texts and chooses
            a quarter of the layers; or a selector's settings as under `selector.`.
        encoding: prompt and lengths, as under `encoding.`; None for the defaults.
        cache: folder in which the base's circuit and other results are stored for later calls; None
            for no cache.
        seed: seed of the `random` selector.
        adaptation: settings as under `adaptation.`, such as `budget` or `rank`, `granularity` and
            `modules`.

    Returns:
        PEFT's configuration, and the ranking of the layers or modules from which it was made.

    Raises:
        UserError: the selector is unknown or doesn't fit the adaptation, or the budget is too
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
            " not loaded from a folder; save it to one and load it from there"
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
        require_lora_config(config.adaptation)
        check_selection(config, model.config)
        data = SummarizationData(config.data, config.trainer, encoder, None, seed)
        corpus = corpus_of(documents)
        data.corpora["train"] = corpus
        data.encoded["train"] = encoder.corpus(corpus, "texts")
        ranking = select(SelectionContext(config, model, encoder, data))
    targets = resolve_targets(config.adaptation, model.config, ranking.targets)
    return lora_config(config.adaptation, targets, path or None), ranking


def _encoder(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    encoding: EncodingConfig | None,
) -> Encoder:
    config: Any = model.config
    architecture(config)
    return Encoder(tokenizer, encoding or EncodingConfig(), context_length(config))


def _selector(name: str, documents: int) -> SelectorConfig:
    known = [one.value for one in SelectorName]
    if name not in known:
        raise UserError(f"selector={name}: choose from {', '.join(known)}")
    return SelectorConfig(name=SelectorName(name), documents=documents)


def _items(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Texts,
    encoding: EncodingConfig | None,
) -> ItemSet:
    """Return texts as the items on which models are compared."""
    encoder = _encoder(model, tokenizer, encoding)
    found, _ = items_of(_documents(texts), None, lambda item: encoder.example(item).until(-1))
    return ItemSet(found)


def _weights(
    function: str, model: PreTrainedModel | PeftModel, base: PreTrainedModel | None
) -> dict[str, Tensor] | None:
    """Return the weights of the model before fine-tuning; None if it is an adapter's base."""
    if base is None:
        return None
    if differing := differing_settings(base.config, base_model(model).config):
        raise UserError(
            f"{function}: the configurations of base and model differ"
            f" ({shown(differing)}; base first), so more than their weights differs"
        )
    named = base.named_parameters(remove_duplicate=False)
    return {name: parameter.detach() for name, parameter in named}


def _probes(encoder: Encoder, documents: list[Document], marking: bool) -> ProbeSet:
    """Return all documents as probes, with their salient sentences marked if asked."""
    data = DataConfig(name="texts", source=Source.files)
    spans = salient_finders(data, EvaluationConfig(), documents) if marking else None
    probes = probe_set(encoder, documents, len(documents), setting="texts", spans=spans)
    Notices().tell(*probes.notices)
    return probes


def _documents(texts: Texts) -> list[Document]:
    return [
        Document(str(number), document, (summary,))
        for number, (document, summary) in enumerate(texts)
    ]
