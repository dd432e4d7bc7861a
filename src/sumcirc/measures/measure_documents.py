"""The fixed documents on which models are probed, teacher-forced with their reference summaries.

All models and all steps see the same tokens, so a difference between two of them is one of the
models, not of texts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sumcirc.data.documents import Document
from sumcirc.data.encoding import DOCUMENT, Encoder
from sumcirc.data.word_tokenizers import tokenizer_for
from sumcirc.errors import UserError
from sumcirc.measures.attention import NO_KEY, Rows
from sumcirc.measures.salience import token_salience
from sumcirc.runtime.notices import Notice, left_out, missing
from sumcirc.schema import ProbeRows, RougeTokenizer


@dataclass(frozen=True)
class ProbeDocument:
    """One document with its summary as tokens.

    Attributes:
        ids: [length] tokens of document, prompt, summary and EOS.
        kinds: [length] index into the encoder's PARTS.
        rows: query positions that are measured, ascending.
        salience: [length] ROUGE salience of document tokens; 0 elsewhere.
    """

    id: str
    ids: np.ndarray
    kinds: np.ndarray
    rows: np.ndarray
    salience: np.ndarray


@dataclass(frozen=True)
class ProbeBatch:
    """Documents padded on the right; no mask is needed under causal attention.

    Attributes:
        documents: their places in the probe set.
        groups: [measured rows] place in the batch of each row's document.
        salience: [batch, length]; NaN where a key is no document token.
    """

    documents: list[int]
    input_ids: Tensor
    rows: Rows
    groups: Tensor
    salience: Tensor

    def to(self, device: torch.device) -> ProbeBatch:
        """The same on another device."""
        ids, groups, salience = (
            part.to(device) for part in (self.input_ids, self.groups, self.salience)
        )
        return ProbeBatch(self.documents, ids, self.rows.to(device), groups, salience)


class ProbeSet:
    """Probe documents in batches of similar length.

    Attributes:
        ids: of the documents, in their order.
        notices: what was passed over, missing or cut.
        fingerprint: a hash of all tokens, rows, kinds and of how they are batched.
    """

    def __init__(
        self,
        documents: Sequence[ProbeDocument],
        batch_size: int,
        notices: Sequence[Notice] = (),
    ) -> None:
        self.documents = list(documents)
        self.notices = tuple(notices)
        self.ids = [document.id for document in documents]
        order = sorted(range(len(documents)), key=lambda i: len(documents[i].ids))
        self.batches = [
            _collate(self.documents, order[i : i + batch_size])
            for i in range(0, len(order), batch_size)
        ]
        digest = hashlib.sha256(str(batch_size).encode())
        for document in documents:
            for part in (document.ids, document.kinds, document.rows, document.salience):
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
) -> ProbeSet:
    """The first `count` documents whose summary fits, encoded for probing.

    Args:
        setting: which says how many are wanted.

    Raises:
        UserError: none fits, or the tokenizer does not know its tokens' places.
    """
    documents = list(documents)
    tokenizer = tokenizer_for((item.references[0] for item in documents), RougeTokenizer.auto)
    found: list[ProbeDocument] = []
    passed_over = cut = 0
    for item in documents:
        if len(found) == count:
            break
        placed = encoder.placed(item)
        if placed is None:
            passed_over += 1
            continue
        cut += placed.pair.cut
        pair, kinds = placed.pair, placed.parts
        salience = np.zeros(len(pair), dtype=np.float32)
        places = np.flatnonzero(kinds == DOCUMENT)
        spans = [span for span in placed.places if span is not None]
        salience[places] = token_salience(item.document, spans, item.references[0], tokenizer)
        wanted = {
            # a row predicts the token after it
            ProbeRows.summary: np.arange(pair.summary_start - 1, len(pair) - 1),
            ProbeRows.document: places,
            ProbeRows.all: np.arange(len(pair)),
        }[rows]
        found.append(ProbeDocument(item.id, pair.ids, kinds, wanted.astype(np.int32), salience))
    if not found:
        raise UserError("callbacks.probes: no probe document's summary fits the context")
    looked_at = len(found) + passed_over
    too_long = {"the summary is too long": passed_over}
    why = f"{looked_at:,} documents give {len(found):,}"
    words = f"documents are cut to fit the {encoder.max_length} tokens of the context"
    notices = [
        *left_out(setting, "documents", too_long, looked_at),
        missing(setting, "documents", count, len(found), why),
        Notice(setting, "cut", cut, len(found), words),
    ]
    return ProbeSet(found, batch_size, notices)


def in_drawn_order(documents: list[Document], seed: int) -> list[Document]:
    """Documents in an order that depends on the seed and their ids alone, not on the file's."""

    def key(item: Document) -> str:
        return hashlib.sha256(f"{seed}/probe/{item.id}".encode()).hexdigest()

    return sorted(documents, key=key)


def _collate(documents: Sequence[ProbeDocument], places: list[int]) -> ProbeBatch:
    chosen = [documents[place] for place in places]
    width = max(len(document.ids) for document in chosen)
    count = max(len(document.rows) for document in chosen)
    ids = np.zeros((len(chosen), width), dtype=np.int64)
    kinds = np.full((len(chosen), width), NO_KEY, dtype=np.int64)
    salience = np.full((len(chosen), width), np.nan, dtype=np.float32)
    index = np.zeros((len(chosen), count), dtype=np.int64)
    real = np.zeros((len(chosen), count), dtype=bool)
    for i, document in enumerate(chosen):
        size, rows = len(document.ids), len(document.rows)
        ids[i, :size] = document.ids
        kinds[i, :size] = document.kinds
        here = document.kinds == DOCUMENT
        here[0] = False  # the sink
        salience[i, :size][here] = document.salience[here]
        index[i] = document.rows[-1]
        index[i, :rows] = document.rows
        real[i, :rows] = True
    groups = np.repeat(np.arange(len(chosen)), real.sum(1))
    rows = Rows(
        torch.from_numpy(index),
        torch.from_numpy(real),
        torch.from_numpy(kinds),
        torch.zeros(len(chosen), dtype=torch.long),
        index.min(0).tolist(),
        index.max(0).tolist(),
    )
    return ProbeBatch(
        places,
        torch.from_numpy(ids),
        rows,
        torch.from_numpy(groups),
        torch.from_numpy(salience),
    )
