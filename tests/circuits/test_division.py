"""The spans that are known of the wire's articles, token by token."""

from __future__ import annotations

from typing import Any

import numpy as np

from sumcirc.circuits.inputs.corruption import make_pairs
from sumcirc.circuits.inputs.division import with_wire_spans
from sumcirc.circuits.inputs.splitting import split_pairs
from sumcirc.data.documents import Document
from sumcirc.data.encoding import Encoder
from sumcirc.wire import article_of


def test_every_token_of_an_article_has_one_span(
    encoder: Encoder, each_event: list[Document]
) -> None:
    some = each_event[:12]
    pairs, _ = make_pairs(encoder, some, "counterfactual", 8, lambda item: [])
    found = with_wire_spans(encoder, pairs, some, seed=0)
    for pair, before in zip(found, pairs, strict=True):
        spans: Any = pair.clean.spans
        assert list(spans) == ["fact", "salient", "distractor", "document", "prompt", "summary"]
        assert sum(inside.astype(int) for inside in spans.values()).tolist() == [1] * len(
            pair.clean
        )
        assert pair.corrupted.spans is spans
        for name in ("prompt", "summary"):
            np.testing.assert_array_equal(spans[name], before.clean.spans[name])
        assert spans["fact"][pair.differs].all()  # what the counterfactual exchanges are key facts
        article = article_of(pair.id)
        text = {
            name: encoder.tokenizer.decode(pair.clean.ids[inside]) for name, inside in spans.items()
        }
        assert {value for value in article.facts.values() if value in text["fact"]} == set(
            article.facts.values()
        )
        for sentence in article.distractor_sentences:
            told = article.document[sentence.start : sentence.end]
            assert told in text["distractor"]
        for value in article.distractor.values():
            assert value not in text["salient"]
    assert [[p.id for p in side] for side in split_pairs(found, 0.5)] == [
        [p.id for p in side] for side in split_pairs(pairs, 0.5)
    ]
