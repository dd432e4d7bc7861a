"""Documents as items: what is fed, what is read, and which tokens a span has."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sumcirc.compare.items.document_items import document_items
from sumcirc.compare.items.item_set import LOG_PROBABILITY, ItemSet
from sumcirc.data.documents import Document
from sumcirc.data.encoding import Encoder
from sumcirc.data.examples import NONE, TokenExample
from sumcirc.data.wire_spans import wire_article, wire_distractor, wire_salient
from sumcirc.errors import UserError
from sumcirc.schema import EncodingConfig
from sumcirc.wire import article_of
from tests.support.wire import tiny_encoder, wire_documents

COUNT = 12


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return tiny_encoder()


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    return wire_documents(COUNT)


@pytest.fixture(scope="module")
def items(encoder: Encoder, documents: list[Document]) -> list[TokenExample]:
    found, dropped = document_items(encoder, documents, COUNT, wire_salient(0), wire_distractor(0))
    assert dropped == {}
    return found


def test_the_summary_is_read_token_by_token(
    encoder: Encoder, documents: list[Document], items: list[TokenExample]
) -> None:
    for text, item in zip(documents, items, strict=True):
        prompt = encoder.text(f"{text.document}\nTL;DR:")
        summary = encoder.summary(text.references[0])
        assert item.id == text.id
        assert item.ids.tolist() == prompt + summary[:-1]
        assert item.good[item.reads].tolist() == summary
        assert np.flatnonzero(item.reads).tolist() == list(range(len(prompt) - 1, len(item.ids)))
        assert (item.bad == NONE).all()
    assert ItemSet(items).metric == LOG_PROBABILITY


def test_spans_have_every_token_but_the_first_once(items: list[TokenExample]) -> None:
    names = ["document", "salient", "distractor", "prompt", "summary"]
    for item in items:
        assert list(item.spans) == names
        often = np.sum(list(item.spans.values()), axis=0)
        assert often[0] == 0
        assert (often[1:] == 1).all()


def test_spans_have_the_words_they_are_named_for(
    encoder: Encoder, items: list[TokenExample]
) -> None:
    for item in items:
        article = article_of(item.id)

        def words(name: str, item: TokenExample = item) -> str:
            return encoder.decode(item.ids[item.spans[name]].tolist())

        salient = [article.document[span.start : span.end] for span in article.salient]
        # a hyphen or quote may share a token with a fact
        assert [word.strip("-'\"") for word in words("salient").split()] == " ".join(
            salient
        ).split()
        assert sorted(words("distractor").split()) == sorted(
            " ".join(article.distractor.values()).split()
        )
        assert words("prompt") == "\nTL;DR:"
        assert words("summary") == f" {article.summary}"
        assert not set(salient) & set(words("document").split())


def test_a_token_that_touches_a_span_is_in_it(encoder: Encoder) -> None:
    text = "The boats came back on Sunday."
    document = Document("x", text, ("They did.",))
    (item,), _ = document_items(encoder, [document], 1, lambda _: [(7, 8), (0, 1)])
    places = encoder.template_places(text)
    touched = [
        at
        for at, place in enumerate(places)
        if at and place is not None and place[0] < 8 and place[1] > 7
    ]
    assert touched
    # the first token is touched too, and left out
    assert np.flatnonzero(item.spans["salient"]).tolist() == touched
    assert "distractor" not in item.spans


def test_a_token_put_before_a_text_is_in_no_span(bos_tokenizer: Any) -> None:
    encoder = Encoder(bos_tokenizer, EncodingConfig(), 256)
    document = Document("x", "The boats came back on Sunday.", ("They did.",))
    (item,), _ = document_items(encoder, [document], 1, lambda _: [(0, 3)])
    assert item.ids[0] == bos_tokenizer.bos_token_id
    assert not any(span[0] for span in item.spans.values())
    assert encoder.decode(item.ids[item.spans["salient"]].tolist()) == "The"


def test_no_more_are_made_than_asked_for(encoder: Encoder, documents: list[Document]) -> None:
    found, _ = document_items(encoder, documents, 3, lambda _: [])
    assert [item.id for item in found] == [text.id for text in documents[:3]]
    everything, _ = document_items(encoder, documents, None, lambda _: [])
    assert len(everything) == COUNT
    assert not any(item.spans["salient"].any() for item in everything)


def test_what_is_dropped_is_counted(encoder: Encoder, documents: list[Document]) -> None:
    long = Document("long", "A text.", ("word " * 300,))
    found, dropped = document_items(encoder, [long, *documents], 2, lambda _: [])
    assert [item.id for item in found] == [text.id for text in documents[:2]]
    assert dropped == {"summary too long": 1}
    with pytest.raises(UserError, match=r"no document gives an item \(1 summary too long\)"):
        document_items(encoder, [long], 2, lambda _: [])
    with pytest.raises(UserError, match="there is none"):
        document_items(encoder, [], 2, lambda _: [])


def test_a_document_that_is_cut_keeps_what_fits(documents: list[Document]) -> None:
    encoder = tiny_encoder(96)
    found, _ = document_items(encoder, documents, 4, wire_salient(0), wire_distractor(0))
    for item in found:
        assert len(item.ids) < 96
        assert encoder.decode(item.ids[item.spans["prompt"]].tolist()) == "\nTL;DR:"


@pytest.mark.parametrize(
    ("id", "seed"), [("mine", 0), ("other-3", 0), ("test-000000", 1), ("test-000001", 0)]
)
def test_only_the_wire_knows_its_facts(documents: list[Document], id: str, seed: int) -> None:
    document = Document(id, documents[0].document, documents[0].references)
    with pytest.raises(UserError, match=f"`{id}` is not an article .* seed {seed}.*data=wire"):
        wire_article(document, seed)
    assert wire_article(documents[0], 0).document == document.document
