"""The fact that the summary must name next, against the other event's."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from sumcirc.compare.items.facts import fact_items
from sumcirc.compare.items.item_set import LOGIT_DIFFERENCE, ItemSet
from sumcirc.data.documents import Document
from sumcirc.data.encoding import Encoder
from sumcirc.data.examples import TokenExample
from sumcirc.errors import UserError
from sumcirc.schema import EncodingConfig
from sumcirc.wire import EVENTS, FACTS, WireArticle, article_of
from tests.support.wire import tiny_encoder, wire_documents

COUNT = 60


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return tiny_encoder()


@pytest.fixture(scope="module", params=EVENTS)
def documents(request: pytest.FixtureRequest) -> list[Document]:
    return wire_documents(COUNT, event=request.param)


@pytest.fixture(scope="module")
def items(encoder: Encoder, documents: list[Document]) -> list[TokenExample]:
    found, dropped = fact_items(encoder, documents, None, 0)
    assert len(found) + sum(dropped.values()) == COUNT
    assert set(dropped) <= {"answers with the same first token"}
    assert len(found) > 0.9 * COUNT
    return found


def role_of(encoder: Encoder, item: TokenExample) -> str:
    """The fact that is asked for, told by the length of the summary so far."""
    article = article_of(item.id)
    told = encoder.decode(item.ids[item.spans["summary"]].tolist()).removeprefix(" ")
    return next(
        span.role for span in article.answers if article.summary[: span.start].rstrip(" ") == told
    )


def test_the_last_token_is_read_before_a_fact(encoder: Encoder, items: list[TokenExample]) -> None:
    for item in items:
        article = article_of(item.id)
        role = role_of(encoder, item)
        assert np.flatnonzero(item.reads).tolist() == [len(item.ids) - 1]
        # what comes next in the sequence a model is trained on
        whole = [*encoder.text(f"{article.document}\nTL;DR:"), *encoder.summary(article.summary)]
        assert whole[: len(item.ids)] == item.ids.tolist()
        assert whole[len(item.ids)] == item.good[-1]
        good, bad = (encoder.decode([int(one[-1])]).strip() for one in (item.good, item.bad))
        assert article.facts[role].startswith(good)
        assert article.distractor[role].startswith(bad)
        assert item.good[-1] != item.bad[-1]
    assert ItemSet(items).metric == LOGIT_DIFFERENCE


def test_every_role_is_asked_for(encoder: Encoder, items: list[TokenExample]) -> None:
    roles = [role_of(encoder, item) for item in items]
    assert all(roles.count(role) >= COUNT // 10 for role in FACTS)


def test_another_seed_asks_for_other_facts(
    encoder: Encoder, documents: list[Document], items: list[TokenExample]
) -> None:
    again, _ = fact_items(encoder, documents, None, 0)
    assert all((a.ids == b.ids).all() for a, b in zip(items, again, strict=True))
    others, _ = fact_items(encoder, wire_documents(20, 5), None, 5)
    assert {one.ids.tobytes() for one in others}.isdisjoint(one.ids.tobytes() for one in items)


def test_spans_are_the_mentions_of_the_two_answers(
    encoder: Encoder, items: list[TokenExample]
) -> None:
    for item in items:
        article = article_of(item.id)
        role = role_of(encoder, item)
        assert list(item.spans) == ["document", "fact", "distractor", "prompt", "summary"]
        assert (np.sum(list(item.spans.values()), axis=0)[1:] == 1).all()

        def words(name: str, item: TokenExample = item) -> list[str]:
            return encoder.decode(item.ids[item.spans[name]].tolist()).split()

        often = sum(span.role == role for span in article.salient)
        assert [word.strip("-'\"") for word in words("fact")] == article.facts[role].split() * often
        other = article.distractor[role]
        times = len(re.findall(rf"\b{re.escape(other)}\b", article.document))
        assert [word.strip("-'\".,") for word in words("distractor")] == other.split() * times
        assert " ".join(words("prompt")) == "TL;DR:"


def test_a_fact_that_was_cut_off_is_dropped(documents: list[Document]) -> None:
    whole, _ = fact_items(tiny_encoder(), documents, None, 0)
    kept, dropped = fact_items(tiny_encoder(110), documents, None, 0)
    assert dropped["fact cut off"] > 0
    assert 0 < len(kept) < len(whole)
    for item in kept:
        assert item.spans["fact"].any()
        assert item.spans["distractor"].any()


def test_answers_that_begin_alike_are_dropped(
    encoder: Encoder, documents: list[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    def alike(item: Document, seed: int) -> WireArticle:
        article = article_of(item.id, seed)
        return replace(article, distractor=article.facts)

    monkeypatch.setattr("sumcirc.compare.items.facts.wire_article", alike)
    with pytest.raises(UserError, match=r"\(5 answers with the same first token\)"):
        fact_items(encoder, documents[:5], None, 0)


def test_a_fact_that_begins_within_a_token_is_dropped(
    encoder: Encoder, documents: list[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    def later(item: Document, seed: int) -> WireArticle:
        """Answers that begin a letter behind where a token does."""
        article = article_of(item.id, seed)
        answers = tuple(replace(span, start=span.start + 1) for span in article.answers)
        return replace(article, answers=answers)

    monkeypatch.setattr("sumcirc.compare.items.facts.wire_article", later)
    with pytest.raises(UserError, match=r"\(5 fact within a token\)"):
        fact_items(encoder, documents[:5], None, 0)


def test_a_summary_of_another_frame(documents: list[Document]) -> None:
    """Behind a line break, and closed: the summary's own first word may be the fact."""
    encoding = EncodingConfig("News: {document}\nSummary:", "\n{summary}\n")
    encoder = tiny_encoder(encoding=encoding)
    found, dropped = fact_items(encoder, documents, None, 0)
    assert len(found) + sum(dropped.values()) == COUNT
    for item in found:
        answer = encoder.summary(article_of(item.id).summary)
        so_far = int(item.spans["summary"].sum())
        assert [*item.ids[len(item.ids) - so_far :], item.good[-1]] == answer[: so_far + 1]
        assert so_far >= 1


def test_documents_of_others_are_refused(encoder: Encoder, documents: list[Document]) -> None:
    mine = Document("mine", documents[0].document, documents[0].references)
    with pytest.raises(UserError, match="data=wire"):
        fact_items(encoder, [mine], 1, 0)
    with pytest.raises(UserError, match="seed 3"):
        fact_items(encoder, documents, 1, 3)
    assert len(fact_items(encoder, documents, 4, 0)[0]) == 4
    with pytest.raises(UserError, match=r"\(1 summary too long\)"):
        fact_items(tiny_encoder(16), documents[:1], 1, 0)
