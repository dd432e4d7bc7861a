"""Swapped entities: what is exchanged, for what, where, and what the answer then is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sumcirc.circuits.inputs.corruption import make_pairs
from sumcirc.circuits.inputs.counterfactual import swapped_pair
from sumcirc.circuits.inputs.donors import Donors
from sumcirc.circuits.inputs.example_pairs import ExamplePair
from sumcirc.data.documents import Document
from sumcirc.data.encoding import Encoder
from sumcirc.data.entities import entities
from sumcirc.data.examples import NoExample, collate
from sumcirc.evaluation.baselines import oracle_spans
from sumcirc.schema import EncodingConfig
from tests.support.hub_server import small_tokenizer

SALIENT, DOCUMENT = 0, 1  # in `kinds`


def kinds(pair: ExamplePair) -> Any:
    """[length] the number of each token's span in SPANS, or -1."""
    return collate([pair.clean]).labels(list(pair.clean.spans))[0].numpy()


CLEAN = Document(
    "clean",
    "On Monday Porto lost 12 boats. Rain fell. We left New Porto for Porto at 12.",
    ("Storm in Porto takes 12 boats.",),
)
OTHER = Document("other", "On Friday Braga kept 37 boats, said Ada Lovelace.", ("Braga.",))
FIRST = (0, CLEAN.document.index(" Rain"))  # the characters of the first sentence


@pytest.fixture(scope="module")
def words() -> Encoder:
    """Names and numbers are one token each, so that what fits is known."""
    names = "Porto Braga Faro Monday Friday Sunday Lovelace Ada New 12 37 45"
    texts = [f"On {word}, (or) {word} {word}." for word in names.split()] * 50
    made: Any = small_tokenizer([CLEAN.document, OTHER.document, CLEAN.references[0], *texts])
    for word in names.split():
        assert len(made(f" {word}").input_ids) == 1
    return Encoder(made, EncodingConfig(), 128)


def swapped(words: Encoder, others: list[Document], item: Document = CLEAN) -> ExamplePair:
    return swapped_pair(words, item, [FIRST], Donors(words, [item, *others], 0))


def document(words: Encoder, pair: ExamplePair) -> str:
    return words.decode(pair.corrupted.ids[kinds(pair) <= DOCUMENT])


def test_what_salient_sentences_name_is_another_everywhere(words: Encoder) -> None:
    pair = swapped(words, [OTHER])
    # "New Porto" is another place, and is not in the first sentence
    assert document(words, pair) == (
        "On Friday Braga lost 37 boats. Rain fell. We left New Porto for Braga at 37."
    )
    differs = pair.clean.ids != pair.corrupted.ids
    assert np.flatnonzero(differs).tolist() == np.flatnonzero(kinds(pair) == SALIENT).tolist()
    assert differs.sum() == 5


def test_the_answer_names_it_too(words: Encoder) -> None:
    pair = swapped(words, [OTHER])
    start = pair.clean.prompt_length - 1
    assert words.decode(pair.clean.good[start:]) == " Storm in Porto takes 12 boats."
    assert words.decode(pair.clean.bad[start:]) == " Storm in Braga takes 37 boats."
    told = [words.tokenizer.decode([int(token)]) for token in pair.clean.good[pair.clean.diverges]]
    assert told == [" Porto", " 12"]


def test_an_answer_that_names_none_is_not_known(words: Encoder) -> None:
    item = Document("clean", CLEAN.document, ("Storm takes boats.",))
    assert not swapped(words, [OTHER], item).clean.diverges.any()


def test_what_the_document_knows_is_not_taken(words: Encoder) -> None:
    known = Document("known", "On Monday Porto lost 12 boats to New Porto.", ("x",))
    assert document(words, swapped(words, [known, OTHER])).startswith("On Friday Braga")
    with pytest.raises(NoExample, match="nothing of the same kind and tokens"):
        swapped(words, [known])


def test_only_the_same_kind_words_and_tokens_are_taken(words: Encoder) -> None:
    unlike = Document("unlike", "We met Ada Lovelace, Zyzzogeton and 1,204 in May 1990.", ("x",))
    with pytest.raises(NoExample, match="nothing of the same kind and tokens"):
        swapped(words, [unlike])


def test_nothing_to_swap(words: Encoder) -> None:
    item = Document("clean", "All the rain fell on us. Porto saw it in Porto.", ("Rain.",))
    with pytest.raises(NoExample, match="no name, number or date"):
        swapped_pair(words, item, [(0, 24)], Donors(words, [item, OTHER], 0))


def test_swaps_of_the_wire_keep_all_but_its_facts(
    encoder: Encoder, documents: list[Document]
) -> None:
    """By text, not by token: the corrupted document is the clean one with other entities."""
    pairs, dropped = make_pairs(
        encoder, documents, "swap", 20, lambda item: oracle_spans(item.document, item.references, 2)
    )
    assert len(pairs) == 20
    assert sum(dropped.values()) <= 2
    by_id = {item.id: item.document for item in documents}

    def frame(text: str) -> str:
        for one in reversed(entities(text)):
            text = f"{text[: one.start]}<{one.kind}>{text[one.end :]}"
        return text

    same = 0
    for pair in pairs:
        before, after = by_id[pair.id], encoder.decode(pair.corrupted.ids[kinds(pair) <= DOCUMENT])
        assert before != after
        same += frame(before) == frame(after)
    # a name that the rules know by another place in its text may be lost with that place
    assert same >= 17


def test_texts_whose_tokens_move_give_no_pair(words: Encoder) -> None:
    """Candidates are chosen by their own tokens; the whole text has the last word."""

    def tried(text: str, other: str) -> ExamplePair:
        item = Document("clean", text, ("Boats.",))
        donors = Donors(words, [item, Document("other", other, ("x",))], 0)
        donors.tokens = lambda name: [hash(name)]  # as if each were one token
        return swapped_pair(words, item, [(0, len(text))], donors)

    long, other = words.text(" Zyyyy"), words.text(" Zqqqq")
    assert len(long) == len(other) > len(words.text(" Faro")) == 1
    assert tried("We met Ada now.", "We met Faro now.").clean.ids.any()
    with pytest.raises(NoExample, match="documents of unequal length"):
        tried("We met Ada now.", "We met Zqqqq now.")
    with pytest.raises(NoExample, match="tokens that don't align"):
        tried("We met Ada and Zyyyy now.", "We met Zqqqq and Faro now.")
