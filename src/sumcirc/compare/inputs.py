"""The inputs on which models are compared, made from settings: items, documents, plain text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from sumcirc.compare.items.document_items import (
    FindWrong,
    document_items,
    swapped_wrong,
    wire_wrong,
)
from sumcirc.compare.items.facts import fact_items
from sumcirc.compare.items.item_set import WRONG_FACT, ItemSet
from sumcirc.compare.items.prompts import ContrastPrompt, prompt_items, read_prompts
from sumcirc.compare.items.rephrase import rephrase_prompts
from sumcirc.data.documents import Document, read_corpus
from sumcirc.data.encoding import DOCUMENT, PARTS, PROMPT, SUMMARY, Encoder
from sumcirc.data.examples import ALL, LAST, READ, TokenExample
from sumcirc.data.files import find_files, first_columns, read_rows
from sumcirc.data.wire_spans import FindSpans
from sumcirc.errors import UserError
from sumcirc.evaluation.salient_spans import DISTRACTOR, SALIENT, salient_finders
from sumcirc.measures.measure_documents import ProbeDocument, ProbeSet, probe_set
from sumcirc.runtime.notices import Notice, left_out, missing
from sumcirc.schema import FACTS, REPHRASE, CompareConfig, ItemMetric, Source

POOL = 2000  # number of generated prompts to choose from; the tokenizer rules some out
TEXT = "text"  # column of compare.text
SETTING = "compare.text"
ITEMS = "compare.items"


@dataclass(frozen=True)
class ComparisonInputs:
    """The inputs that every compared model reads.

    Attributes:
        items: the items whose metric is compared.
        dropped: number of documents or prompts of which no item could be made, by reason.
        probes: the documents on which measures are computed.
        texts: token ids of plain documents, for perplexity.
        notices: notices for the user about inputs that were left out or truncated, and about fewer
            items than requested.
    """

    items: ItemSet
    dropped: dict[str, int]
    probes: ProbeSet
    texts: list[np.ndarray]
    notices: list[Notice]

    @property
    def longest(self) -> list[int]:
        """Token ids of the longest input among `items`, `texts` and `probes`."""
        read = [*(item.ids for item in self.items.items), *self.texts]
        read += [document.example.ids for document in self.probes.documents]
        return max(read, key=len).tolist()


def check_places(config: CompareConfig, own: Sequence[ContrastPrompt]) -> None:
    """Check that `compare.positions` and `compare.sources` name spans that the items will have.

    Args:
        config: the settings.
        own: prompts from the user's file, which are used only if `config.prompts` names a file.

    Raises:
        UserError: a setting names an unknown span; the message lists the known ones.
    """
    if config.prompts == FACTS:
        spans: Sequence[str] = ("fact", "distractor", *PARTS)
    elif config.prompts == REPHRASE:
        spans = [span.name for span in rephrase_prompts(config.seed, 1)[0].spans]
    elif config.prompts is not None:
        spans = [span.name for prompt in own for span in prompt.spans]
    else:
        wire = ("distractor",) if config.data.source is Source.wire else ()
        spans = ("salient", *wire, *PARTS)
    known = dict.fromkeys((LAST, READ, ALL, *spans))
    for name in ("positions", "sources"):
        value = getattr(config.compare, name)
        if value is not None and value not in known:
            raise UserError(f"compare.{name}={value}: choose from {', '.join(known)}")


def check_texts(pattern: str) -> None:
    """Check that all files that match a pattern have a column `text`.

    Args:
        pattern: path of one or several files, in which `*` matches any characters.

    Raises:
        UserError: no file matches, or a file lacks the column.
    """
    for file in find_files(pattern, SETTING):
        columns = first_columns(file, SETTING)
        if TEXT not in columns:
            raise UserError(
                f"{SETTING}={file}: has no column `{TEXT}`; it has: {', '.join(columns)}"
            )


def material(config: CompareConfig, encoder: Encoder) -> ComparisonInputs:
    """Return the inputs that the settings ask for, read from files or generated.

    Args:
        config: the settings.
        encoder: turns texts into tokens of the compared models.

    Raises:
        UserError: a file has a mistake, or no item can be made of any document or prompt.
    """
    options, count = config.compare, config.compare.items
    if config.prompts is None:
        corpus = read_corpus(config.data, "test")
        documents, told = corpus.documents, [*corpus.notices]
        finders = salient_finders(config.data, config.evaluation, documents)
        salient, distractor = finders[SALIENT], finders.get(DISTRACTOR)
        wrong = _wrong(config, encoder, documents, salient)
        found, dropped = document_items(encoder, documents, count, salient, distractor, wrong)
        probes = probe_set(encoder, documents, count, batch_size=options.batch_size, setting=ITEMS)
        told += [notice for notice in probes.notices if notice.reason == "cut"]
        wanted = {item.id for item in found}
        texts = [encoder.text(item.document) for item in documents if item.id in wanted]
    else:
        found, dropped = _prompts(config, encoder, count)
        told = []
        probes = _probes(found[:count], options.batch_size)
        texts = [item.ids.tolist() for item in found[:count]]
    if options.text is not None:
        texts = [encoder.text(text) for text in islice(_own_texts(options.text), count)]
    if config.prompts != REPHRASE:  # the rephrase prompts are a pool to choose from
        what = "documents" if config.prompts in (None, FACTS) else "prompts"
        told += left_out(ITEMS, what, dropped, len(found) + sum(dropped.values()))
    found = found[:count]
    told.append(missing(ITEMS, "items", count, len(found), f"there are {len(found):,}"))
    kept, about_texts = kept_texts(texts, encoder.max_length)
    metric = WRONG_FACT if options.metric is ItemMetric.wrong_fact else None
    return ComparisonInputs(ItemSet(found, metric), dropped, probes, kept, [*told, *about_texts])


def _wrong(
    config: CompareConfig, encoder: Encoder, documents: Sequence[Document], salient: FindSpans
) -> FindWrong | None:
    """Return the function that finds wrong facts, or None if the metric doesn't need them."""
    if config.compare.metric is not ItemMetric.wrong_fact:
        return None
    if config.data.source is Source.wire:
        return wire_wrong(encoder, config.data.seed)
    return swapped_wrong(encoder, documents, salient, config.data.seed)


def kept_texts(texts: Sequence[list[int]], length: int) -> tuple[list[np.ndarray], list[Notice]]:
    """Cut plain texts to the context, and leave out those with fewer than two tokens.

    Args:
        texts: token ids of each text.
        length: the largest number of tokens that are kept.

    Returns:
        The token ids of the texts that are kept, and notices about what was cut and left out.
    """
    kept = [np.array(ids[:length]) for ids in texts if len(ids) > 1]
    cut = sum(len(ids) > length for ids in texts)
    short = {"they have fewer than two tokens": len(texts) - len(kept)}
    words = f"texts are cut to the {length} tokens of the context, for perplexity"
    notice = Notice(SETTING, "cut", cut, len(texts), words)
    return kept, [notice, *left_out(SETTING, "texts", short, len(texts))]


def _prompts(
    config: CompareConfig, encoder: Encoder, count: int
) -> tuple[list[TokenExample], dict[str, int]]:
    if config.prompts == FACTS:
        documents = read_corpus(config.data, "test").documents
        return fact_items(encoder, documents, count, config.data.seed)
    if config.prompts == REPHRASE:
        return prompt_items(rephrase_prompts(config.seed, POOL), encoder)
    assert config.prompts is not None
    return prompt_items(read_prompts(config.prompts, encoder), encoder)


def _probes(items: Sequence[TokenExample], batch_size: int) -> ProbeSet:
    """Return prompts as documents to measure, at the positions where the answer is read."""
    found = []
    for item in items:
        spans = {name: item.spans.get(name, np.zeros(len(item), dtype=bool)) for name in PARTS}
        spans[DOCUMENT] = ~(spans[PROMPT] | spans[SUMMARY])  # all other tokens
        salience = np.zeros(len(item), dtype=np.float32)
        found.append(
            ProbeDocument(replace(item, spans=spans), np.flatnonzero(item.reads), salience)
        )
    return ProbeSet(found, batch_size)


def _own_texts(pattern: str) -> Iterator[str]:
    for file in find_files(pattern, SETTING):
        for place, row in read_rows(file, SETTING, (TEXT,)):
            if not isinstance(row[TEXT], str):
                raise UserError(f"{SETTING}={file}: {place} has no text in its column `{TEXT}`")
            yield row[TEXT]
