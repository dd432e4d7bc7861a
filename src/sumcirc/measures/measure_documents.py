"""The fixed documents on which models are measured, with their reference summaries as targets.

All models and steps see the same tokens, so a difference between two measurements is due to the
models, not to the texts.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from sumcirc.data.documents import Document
from sumcirc.data.encoding import DOCUMENT, PARTS, Encoder
from sumcirc.data.examples import (
    NONE,
    Characters,
    TokenExample,
    by_length,
    collate,
    first_made,
    padded,
)
from sumcirc.data.word_tokenizers import tokenizer_for
from sumcirc.errors import UserError
from sumcirc.measures.attention import Rows
from sumcirc.measures.salience import token_salience
from sumcirc.runtime.notices import Notice, left_out, missing
from sumcirc.schema import ProbeRows, RougeTokenizer


@dataclass(frozen=True)
class ProbeDocument:
    """A document with its summary, and the positions at which models are measured on it.

    Attributes:
        example: the tokens of prompt, document and summary; every token is in one of the spans that
            PARTS lists. Further spans are inside the document.
        rows: [R] query positions to measure, ascending.
        salience: [length] ROUGE salience (`measures.salience`) of document tokens; 0 elsewhere.
    """

    example: TokenExample
    rows: np.ndarray
    salience: np.ndarray


@dataclass(frozen=True)
class ProbeBatch:
    """A batch of documents padded on the right, so that causal attention needs no mask.

    Attributes:
        documents: indices of the documents in the probe set.
        input_ids: [batch, length] token ids.
        rows: the query positions to measure.
        groups: [measured rows] index in the batch of the document that each row belongs to.
        salience: [batch, length] salience of document tokens; NaN for other tokens and for the
            first token, the attention sink.
        targets: [measured rows] token that each row should predict: its answer, else the token that
            follows; NONE after the last token.
        spans: [batch, length] tokens of the spans besides PARTS, by name; false for a document that
            lacks one.
    """

    documents: list[int]
    input_ids: Tensor
    rows: Rows
    groups: Tensor
    salience: Tensor
    targets: Tensor
    spans: Mapping[str, Tensor]

    def to(self, device: torch.device) -> ProbeBatch:
        """Return the batch with all tensors moved to another device.

        Args:
            device: the device.
        """
        names = ("input_ids", "rows", "groups", "salience", "targets")
        moved = {name: getattr(self, name).to(device) for name in names}
        return replace(self, **moved, spans={n: t.to(device) for n, t in self.spans.items()})


class ProbeSet:
    """The documents on which models are measured, in batches of similar length.

    Args:
        documents: the documents.
        batch_size: number of documents per batch.
        notices: messages for the user about documents that were left out or truncated, and about
            fewer documents than requested.

    Attributes:
        batches: the batches.
        ids: ids of the documents, in the order of `documents`.
        fingerprint: hash of all documents' tokens, spans, rows and salience, and of the batch size.
    """

    def __init__(
        self,
        documents: Sequence[ProbeDocument],
        batch_size: int,
        notices: Sequence[Notice] = (),
    ) -> None:
        self.documents = list(documents)
        self.notices = tuple(notices)
        self.ids = [document.example.id for document in documents]
        lengths = [len(document.example) for document in documents]
        self.batches = [_collate(self.documents, some) for some in by_length(lengths, batch_size)]
        digest = hashlib.sha256(str(batch_size).encode())
        for document in documents:
            example, spans = document.example, document.example.spans
            parts = (spans[name] for name in PARTS)
            for part in (example.ids, *parts, document.rows, document.salience):
                digest.update(f"{part.dtype} {part.shape}".encode())
                digest.update(np.ascontiguousarray(part).data)
        self.fingerprint = digest.hexdigest()

    def __len__(self) -> int:
        return len(self.documents)


def probe_set(
    encoder: Encoder,
    documents: Iterable[Document],
    count: int,
    rows: ProbeRows = ProbeRows.summary,
    batch_size: int = 8,
    setting: str = "callbacks.probes.documents",
    spans: Mapping[str, Callable[[Document], Characters]] | None = None,
) -> ProbeSet:
    """Return a probe set of the first `count` documents whose summaries fit into the context.

    Args:
        encoder: encodes documents and summaries.
        documents: the documents to choose from, in order.
        count: largest number of documents to take.
        rows: which query positions to measure: those that predict the summary, those of the
            document, or all.
        batch_size: number of documents per batch.
        setting: name of the setting that gives `count`, for error messages.
        spans: functions that return character ranges of a document, by the name of the span that
            its tokens form; the first token, an attention sink, is in none.

    Raises:
        UserError: no document fits, or the tokenizer does not provide character spans.
    """
    documents = list(documents)
    tokenizer = tokenizer_for((item.references[0] for item in documents), RougeTokenizer.auto)

    def make(item: Document) -> ProbeDocument:
        example = encoder.located(item)
        places = np.flatnonzero(example.spans[DOCUMENT])
        assert example.offsets is not None
        offsets = [(start, end) for start, end in example.offsets[places].tolist()]
        salience = np.zeros(len(example), dtype=np.float32)
        salience[places] = token_salience(item.document, offsets, item.references[0], tokenizer)
        wanted = {
            # a row predicts the token after it
            ProbeRows.summary: np.flatnonzero(example.reads),
            ProbeRows.document: places,
            ProbeRows.all: np.arange(len(example)),
        }[rows]
        inside = example.spans[DOCUMENT] & (np.arange(len(example)) > 0)
        marked = {name: find(item) for name, find in (spans or {}).items()}
        named = {**example.spans, **example.divided(inside, marked)[0]}
        return ProbeDocument(replace(example, offsets=None, spans=named), wanted, salience)

    found, dropped = first_made(documents, count, make)
    if not found:
        raise UserError("callbacks.probes: no probe document's summary fits the context")
    looked_at = len(found) + sum(dropped.values())
    too_long = {"the summary is too long": sum(dropped.values())}
    why = f"{looked_at:,} documents give {len(found):,}"
    words = f"documents are cut to fit the {encoder.max_length} tokens of the context"
    cut = sum(document.example.truncated for document in found)
    notices = [
        *left_out(setting, "documents", too_long, looked_at),
        missing(setting, "documents", count, len(found), why),
        Notice(setting, "cut", cut, len(found), words),
    ]
    return ProbeSet(found, batch_size, notices)


def in_drawn_order(documents: list[Document], seed: int) -> list[Document]:
    """Return documents in a random order that depends only on a seed and on their ids.

    Args:
        documents: the documents, in any order.
        seed: seed of the order.
    """

    def key(item: Document) -> str:
        return hashlib.sha256(f"{seed}/probe/{item.id}".encode()).hexdigest()

    return sorted(documents, key=key)


def _collate(documents: Sequence[ProbeDocument], places: list[int]) -> ProbeBatch:
    chosen = [documents[place] for place in places]
    examples = [document.example for document in chosen]
    tokens = collate(examples, spans=PARTS)
    others = {name for example in examples for name in example.spans} - {*PARTS}
    marked = collate(examples, spans=sorted(others)).spans
    known = tokens.spans[DOCUMENT].clone()
    known[:, 0] = False  # the sink
    salience = padded([document.salience for document in chosen], math.nan)
    count = max(len(document.rows) for document in chosen)
    index = np.stack([np.pad(one.rows, (0, count - len(one.rows)), mode="edge") for one in chosen])
    real = padded([np.ones(len(one.rows), dtype=bool) for one in chosen], False)
    rows = Rows(
        torch.from_numpy(index),
        real,
        tokens.labels(PARTS),
        torch.zeros(len(chosen), dtype=torch.long),
        index.min(0).tolist(),
        index.max(0).tolist(),
    )
    groups = real.nonzero()[:, 0]
    return ProbeBatch(
        places,
        tokens.input_ids,
        rows,
        groups,
        salience.where(known, math.nan),
        rows.of(padded([_targets(example) for example in examples], NONE)),
        marked,
    )


def _targets(example: TokenExample) -> np.ndarray:
    """Return the token that each position should predict, [length]; NONE if there is none."""
    following = np.append(example.ids[1:], NONE)
    return np.where(example.good == NONE, following, example.good)
