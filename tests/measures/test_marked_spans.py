"""Attention to named spans of a document, beside whole attention matrices and plain sums."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sumcirc.compare.items.document_items import document_items
from sumcirc.compare.items.item_set import ItemSet
from sumcirc.compare.span_attention import span_attention
from sumcirc.data.encoding import DOCUMENT, Encoder
from sumcirc.data.examples import READ
from sumcirc.evaluation.salient_spans import salient_finders
from sumcirc.measures.measure_documents import ProbeSet, probe_set
from sumcirc.measures.measuring import measure
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.schema import DataConfig, EncodingConfig, EvaluationConfig, Source
from sumcirc.tracking.measure_records import TO_DISTRACTOR, TO_SALIENT
from sumcirc.wire import EVENTS, article_of
from tests.measures.test_measure_documents import ITEMS
from tests.support.small_models import scrambled
from tests.support.wire import tiny_encoder, wire_documents

# both overlap the characters 30 to 40; the second document has no distractor
SPANS = {
    "salient": lambda item: [(0, 40)],
    "distractor": lambda item: [] if item.id == "1" else [(30, 90)],
}


@pytest.fixture(scope="module")
def probes(tokenizer: Any) -> ProbeSet:
    return probe_set(Encoder(tokenizer, EncodingConfig(), 128), ITEMS, 4, batch_size=3, spans=SPANS)


def test_spans_are_inside_the_document_and_apart(probes: ProbeSet) -> None:
    for probe in probes.documents:
        spans = probe.example.spans
        assert not (spans["salient"] & spans["distractor"]).any()
        assert not (spans["salient"] | spans["distractor"])[~spans[DOCUMENT]].any()
        assert not spans["salient"][0]
        assert spans["salient"].any()


@pytest.mark.parametrize("family", ["gpt2", "llama", "gpt_neox"])
@pytest.mark.parametrize("together", [False, True])
def test_shares_as_summed_by_hand(family: str, together: bool, probes: ProbeSet) -> None:
    model = scrambled(family)
    concerns = ["spans", *(["attention"] if together else [])]
    found = measure(model, probes, concerns=concerns).values
    if not together:
        assert set(found) == {TO_SALIENT, TO_DISTRACTOR}
    model.set_attn_implementation("eager")
    for i, probe in enumerate(probes.documents):
        ids = torch.tensor(probe.example.ids.astype(int))[None]
        with torch.no_grad():
            matrices = model(ids, output_attentions=True).attentions
        for name in ("salient", "distractor"):
            keys = np.flatnonzero(probe.example.spans[name])
            for layer, matrix in enumerate(matrices):
                for head, grid in enumerate(matrix[0].double().numpy()):
                    share = np.mean([sum(grid[t, s] for s in keys) for t in probe.rows])
                    value = found[f"attention/to_{name}"][layer, head, i]
                    if name == "distractor" and probe.example.id == "1":
                        assert np.isnan(value)
                    else:
                        assert value == pytest.approx(share, abs=2e-6)


@pytest.mark.parametrize("event", EVENTS)
def test_facts_of_the_wire_as_in_a_comparison(event: str) -> None:
    """`sumcirc compare` computes the same shares in another way."""
    documents, encoder = wire_documents(6, event=event), tiny_encoder()
    finders = salient_finders(
        DataConfig(name="wire", source=Source.wire), EvaluationConfig(), documents
    )
    assert list(finders) == ["salient", "distractor"]
    for item in documents:
        article = article_of(item.id)
        for name, facts in (("salient", article.facts), ("distractor", article.distractor)):
            found = {item.document[start:end] for start, end in finders[name](item)}
            assert found == set(facts.values())
    model = scrambled("gpt2", vocab_size=len(encoder.tokenizer), n_positions=256)
    probes = probe_set(encoder, documents, 6, batch_size=4, spans=finders)
    items = ItemSet(document_items(encoder, documents, 6, *finders.values())[0])
    assert items.ids == probes.ids
    pairs = [("salient", READ), ("distractor", READ)]
    expected = span_attention(HookedModel(model), items, pairs, 3).values
    found = measure(model, probes, concerns=["spans"]).values
    np.testing.assert_allclose(found[TO_SALIENT], expected[0], atol=1e-6)
    np.testing.assert_allclose(found[TO_DISTRACTOR], expected[1], atol=1e-6)
    assert found[TO_SALIENT].min() > 0


def test_other_texts_have_the_oracles_sentences() -> None:
    data = DataConfig(name="texts", source=Source.files)
    finders = salient_finders(data, EvaluationConfig(), ITEMS)
    assert list(finders) == ["salient"]
    places = finders["salient"](ITEMS[0])
    assert places
    assert all(0 <= start < end <= len(ITEMS[0].document) for start, end in places)
