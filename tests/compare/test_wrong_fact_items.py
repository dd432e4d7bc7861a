"""Documents read where their summary states a fact: wrong fact minus right one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sumcirc.compare.direct_attribution import direct_attribution
from sumcirc.compare.items.document_items import document_items, swapped_wrong, wire_wrong
from sumcirc.compare.items.item_set import WRONG_FACT, ItemSet
from sumcirc.compare.path.path_attribution import attribute_path
from sumcirc.data.documents import Document
from sumcirc.data.encoding import Encoder
from sumcirc.data.examples import NONE, TokenExample
from sumcirc.data.wire_spans import wire_distractor, wire_salient
from sumcirc.errors import UserError
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.schema import Grain, PathOptions
from sumcirc.wire import article_of
from tests.compare.edited import changed_everywhere, same_state, state, weights_in_memory
from tests.support.small_models import exact_norms, small_model
from tests.support.wire import tiny_encoder, wire_documents

FAMILIES = ("gpt2", "llama", "gpt_neox")
CONTEXT = 128  # of small models


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return tiny_encoder(CONTEXT)


@pytest.fixture(scope="module")
def items(encoder: Encoder) -> list[TokenExample]:
    found, dropped = document_items(
        encoder, wire_documents(9), 5, wire_salient(0), wire_distractor(0), wire_wrong(encoder, 0)
    )
    assert set(dropped) <= {"no wrong fact is known"}
    return found


def model_of(family: str) -> Any:
    model = small_model(family, vocab_size=4096, tie_word_embeddings=False).double()
    return exact_norms(changed_everywhere(model, 0.1))


def facts(encoder: Encoder, item: TokenExample) -> list[tuple[int, int, int]]:
    """Position, wrong and right token, found by the text of the article."""
    article, found = article_of(item.id), []
    kept = encoder.decode(item.ids[: int(np.flatnonzero(item.spans["summary"])[0])].tolist())
    for span in article.answers:
        both = article.facts[span.role], article.distractor[span.role]
        right, wrong = (encoder.text(f" {fact}")[0] for fact in both)
        before = len(encoder.text(" " + article.summary[: span.start].rstrip()))
        if span.start == 0:
            before = 0
        if right != wrong and all(fact in kept for fact in both):
            found.append((int(item.spans["summary"].argmax()) + before - 1, wrong, right))
    return found


def test_facts_are_read(encoder: Encoder, items: list[TokenExample]) -> None:
    for item in items:
        wanted = facts(encoder, item)
        places = np.flatnonzero(item.reads)
        told = [(int(t), int(item.good[t]), int(item.bad[t])) for t in places]
        assert sorted(told) == sorted(wanted)
        for place, _, right in told:
            assert place == len(item) - 1 or item.ids[place + 1] == right
    assert ItemSet(items, WRONG_FACT).unit == "logits"


@pytest.mark.parametrize("family", FAMILIES)
def test_values_are_those_of_plain_runs(
    family: str, encoder: Encoder, items: list[TokenExample]
) -> None:
    model, found = model_of(family), ItemSet(items, WRONG_FACT)
    before, drawn = state(model), torch.get_rng_state()
    hooked = HookedModel(model)
    values = found.values(hooked, 2)
    for item, value in zip(items, values, strict=True):
        with torch.no_grad():
            likely = model(torch.from_numpy(item.ids).long()[None]).logits[0].softmax(-1).numpy()
        each = [
            np.log(likely[t, wrong]) - np.log(likely[t, right])
            for t, wrong, right in facts(encoder, item)
        ]
        assert value == pytest.approx(sum(each) / len(each), abs=1e-9)
    direct = direct_attribution(hooked, found, 2)
    np.testing.assert_allclose(direct.metric, values, atol=1e-8)
    parts = direct.embedding + direct.layers.sum(0) + direct.bias
    np.testing.assert_allclose(parts, values, atol=1e-8)
    assert not direct.entropy.any()
    same_state(before, state(model))
    assert torch.equal(drawn, torch.get_rng_state())


def test_path_scores_add_up_to_the_difference(items: list[TokenExample]) -> None:
    base = model_of("gpt2")
    tuned = changed_everywhere(base, 0.02)
    found = ItemSet(items, WRONG_FACT)
    before, after = (found.values(HookedModel(one), 2) for one in (base, tuned))
    left = state(tuned)
    path = attribute_path(tuned, weights_in_memory(base), found, PathOptions(effects=None))
    np.testing.assert_allclose(path.gain, after - before, atol=1e-9)
    np.testing.assert_allclose(path.scores[Grain.head].sum(0), after - before, atol=1e-3)
    same_state(left, state(tuned))


def test_words_that_the_document_does_not_state(encoder: Encoder) -> None:
    texts = ["On Monday Halden lost 12 boats.", "On Friday Orlavento kept 37 boats."]
    texts.append("All of it went well for once.")
    documents = [
        Document(f"own-{i}", text, (text.replace("On ", "It was "),))
        for i, text in enumerate(texts)
    ]

    def everywhere(item: Document) -> list[tuple[int, int]]:
        return [(0, len(item.document))]

    wrong = swapped_wrong(encoder, documents, everywhere, 0)
    found, dropped = document_items(encoder, documents, None, everywhere, wrong=wrong)
    assert [item.id for item in found] == ["own-0", "own-1"]
    assert sum(dropped.values()) == 1
    for item, own in zip(found, texts, strict=False):
        places = np.flatnonzero(item.reads)
        assert len(places) > 0
        for place in places:
            assert encoder.decode([int(item.bad[place])]).strip() in own
            assert encoder.decode([int(item.good[place])]).strip() not in own
    with pytest.raises(
        UserError, match=r"metric=wrong_fact: no document .* \(1 .*; take data=wire, .*metric=auto"
    ):
        document_items(encoder, documents[2:], None, everywhere, wrong=wrong)


def test_documents_whose_facts_were_cut_off_are_counted() -> None:
    short = tiny_encoder(100)
    found, dropped = document_items(
        short, wire_documents(12), None, wire_salient(0), None, wire_wrong(short, 0)
    )
    assert dropped == {"no wrong fact is known": 12 - len(found)}
    assert all((item.good != NONE).any() for item in found)
