"""Probe documents: which tokens are whose, which rows are measured, what a batch holds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sumcirc.data.documents import Document
from sumcirc.data.encoding import DOCUMENT, PROMPT, SUMMARY, Encoder
from sumcirc.data.examples import NONE
from sumcirc.errors import UserError
from sumcirc.measures.measure_documents import ProbeSet, probe_set
from sumcirc.schema import EncodingConfig, ProbeRows
from tests.support.hub_server import news

ITEMS = [
    Document(str(i), item["article"], (item["highlights"],))
    for i, item in enumerate(news("train", 7))
]


def made(tokenizer: Any, count: int = 7, batch_size: int = 3, **options: Any) -> ProbeSet:
    context = options.pop("context", 128)
    encoder = Encoder(tokenizer, EncodingConfig(), context)
    return probe_set(encoder, ITEMS, count, batch_size=batch_size, **options)


@pytest.mark.parametrize("which", ["tokenizer", "bos_tokenizer"])
@pytest.mark.parametrize("context", [128, 40])
def test_kinds_are_those_of_the_text(
    which: str, context: int, request: pytest.FixtureRequest
) -> None:
    """Document tokens spell the document, as far as it was kept; the rest is prompt and summary."""
    tokenizer = request.getfixturevalue(which)
    probes = made(tokenizer, context=context)
    cut = 0
    for probe, item in zip(probes.documents, ITEMS, strict=True):
        text = {
            kind: tokenizer.decode(
                probe.example.ids[probe.example.spans[kind]], skip_special_tokens=True
            )
            for kind in (DOCUMENT, PROMPT, SUMMARY)
        }
        kept = text[DOCUMENT].strip()
        assert item.document.startswith(kept)
        assert len(kept) > 20
        cut += kept != item.document
        assert text[PROMPT] == "\nTL;DR:"
        assert text[SUMMARY].strip() == item.references[0]
        assert probe.example.ids[-1] == tokenizer.eos_token_id
    assert (cut > 0) == (context == 40)


def test_rows_predict_the_summary_and_its_end(tokenizer: Any) -> None:
    for probe in made(tokenizer).documents:
        assert probe.example.spans[SUMMARY][probe.rows + 1].all()
        assert len(probe.rows) == probe.example.spans[SUMMARY].sum()


def test_other_rows(tokenizer: Any) -> None:
    for probe in made(tokenizer, rows=ProbeRows.document).documents:
        assert probe.example.spans[DOCUMENT][probe.rows].all()
        assert len(probe.rows) == probe.example.spans[DOCUMENT].sum()
    for probe in made(tokenizer, rows=ProbeRows.all).documents:
        assert probe.rows.tolist() == list(range(len(probe.example)))


def test_salience_is_of_document_tokens_that_the_summary_repeats(tokenizer: Any) -> None:
    for probe, item in zip(made(tokenizer).documents, ITEMS, strict=True):
        assert (probe.salience[~probe.example.spans[DOCUMENT]] == 0).all()
        said = {int(t) for t in probe.example.ids[probe.salience > 0]}
        words = " ".join(tokenizer.decode([t]) for t in said).lower()
        assert any(word.strip(".").lower() in words for word in item.references[0].split())
        assert 0 < (probe.salience > 0).mean() < 0.8


def test_batches_hold_every_document_once_and_pad_nothing_real(tokenizer: Any) -> None:
    probes = made(tokenizer)
    assert [len(batch.documents) for batch in probes.batches] == [3, 3, 1]
    assert sorted(i for batch in probes.batches for i in batch.documents) == list(range(7))
    for batch in probes.batches:
        rows = batch.rows
        for i, place in enumerate(batch.documents):
            probe = probes.documents[place]
            size = len(probe.example)
            assert batch.input_ids[i, :size].tolist() == probe.example.ids.tolist()
            assert (rows.kinds[i, size:] == NONE).all()
            assert rows.index[i][rows.real[i]].tolist() == probe.rows.tolist()
            assert batch.salience[i].isnan().tolist()[size:] == [True] * (len(rows.kinds[i]) - size)
        assert batch.groups.bincount().tolist() == rows.real.sum(1).tolist()
        assert rows.last == rows.index.amax(0).tolist()
        assert rows.first == rows.index.amin(0).tolist()


def test_the_sink_has_no_salience(tokenizer: Any) -> None:
    """Attention to it says nothing of the first word."""
    for batch in made(tokenizer).batches:
        assert batch.salience[:, 0].isnan().all()


def test_fingerprint_is_of_all_that_decides(tokenizer: Any) -> None:
    first = made(tokenizer).fingerprint
    assert made(tokenizer).fingerprint == first
    others = [
        made(tokenizer, count=6),
        made(tokenizer, batch_size=2),
        made(tokenizer, rows=ProbeRows.document),
        made(tokenizer, context=40),
    ]
    assert len({first, *(other.fingerprint for other in others)}) == 5


def test_what_does_not_fit_is_passed_over(tokenizer: Any) -> None:
    long = Document("long", ITEMS[0].document, ("A storm. " * 80,))
    encoder = Encoder(tokenizer, EncodingConfig(), 128)
    assert probe_set(encoder, [long, *ITEMS], 2).ids == ["0", "1"]
    with pytest.raises(UserError, match="no probe document's summary fits"):
        probe_set(encoder, [long], 2)


def test_document_with_wide_characters(tokenizer: Any) -> None:
    """Characters of several bytes are several tokens, each at that character."""
    item = Document(
        "w", "Zoë née Müller 🌧️ reached São Tomé. It rained.", ("Zoë reached São Tomé.",)
    )
    probe = probe_set(Encoder(tokenizer, EncodingConfig(), 128), [item], 1).documents[0]
    assert tokenizer.decode(probe.example.ids[probe.example.spans[DOCUMENT]]) == item.document
    assert np.isfinite(probe.salience).all()
