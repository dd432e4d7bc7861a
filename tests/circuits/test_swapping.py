"""Tests which words `swap` exchanges, for which, where, and how the answer changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from sumcirc.circuits.inputs.corruption import make_pairs
from sumcirc.circuits.inputs.donors import Donors
from sumcirc.circuits.inputs.example_pairs import ExamplePair
from sumcirc.circuits.inputs.swapping import swapped_pair
from sumcirc.data.documents import Document
from sumcirc.data.encoding import Encoder
from sumcirc.data.entities import entities
from sumcirc.data.examples import NoExample, collate
from sumcirc.data.nouns import LISTS
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
    with pytest.raises(NoExample, match="nothing to exchange"):
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


# ---- what is exchanged where no name, number or date changes the summary


DIALOGUES = [
    Document(
        "bank",
        "#Person1#: I lost my card.\n#Person2#: Come to the hotel with your passport.",
        ("#Person2# and #Person1# talk. #Person1# lost a card and #Person2# can help.",),
    ),
    Document("visit", "We went to the house by bus.", ("They took a bus to the house.",)),
    Document("plan", "They wrote a proposal for him. The proposal is long.", ("A proposal.",)),
    Document("early", "It is on the third floor now. Be there.", ("It is on the third floor.",)),
    Document("late", "She read a letter for him on the fifth floor now.", ("x",)),
]


def exchanged(item_id: str, small: Encoder) -> tuple[ExamplePair, str, str, list[tuple[str, str]]]:
    """Return a dialogue's pair, its texts, and the kinds and words that were exchanged."""
    item = next(one for one in DIALOGUES if one.id == item_id)
    pair = swapped_pair(small, item, [(0, len(item.document))], Donors(small, DIALOGUES, 0))
    start = pair.clean.prompt_length - 1
    bad = small.decode(pair.clean.bad[start:][pair.clean.bad[start:] >= 0])
    words = [
        (one.name, small.decode(pair.clean.ids[one.start : one.end]).strip())
        for one in pair.exchanged
    ]
    return pair, document(small, pair), bad.strip(), words


@pytest.fixture(scope="module")
def small() -> Encoder:
    """A tokenizer with one token per word of the dialogues and lists, so lengths always fit."""
    words = "hotel passport proposal letter bus card third fifth " + " ".join(
        word for kind in ("place", "object", "vehicle") for word in LISTS[kind]
    )
    texts = [f"On {word}, (or) {word} {word}." for word in words.split()] * 50
    dialogues = [text for one in DIALOGUES for text in (one.document, *one.references)] * 20
    return Encoder(small_tokenizer([*texts, *dialogues]), EncodingConfig(), 128)


def test_speakers_take_each_others_part(small: Encoder) -> None:
    """Except where the summary names both together, which says the same either way."""
    pair, text, bad, words = exchanged("bank", small)
    assert text == "#Person2#: I lost my card.\n#Person1#: Come to the hotel with your passport."
    assert bad.startswith(
        "#Person2# and #Person1# talk. #Person2# lost a card and #Person1# can help."
    )
    assert words == [("speaker", "#Person1#"), ("speaker", "#Person2#")]
    assert pair.clean.diverges.sum() == 2


def test_nouns_of_a_list_become_others_of_it(small: Encoder) -> None:
    _, text, bad, words = exchanged("visit", small)
    assert words == [("place", "house"), ("vehicle", "bus")]
    place, vehicle = text.removeprefix("We went to the ").removesuffix(".").split(" by ")
    assert place in LISTS["place"]
    assert vehicle in LISTS["vehicle"]
    assert place != "house"
    assert vehicle != "bus"
    assert bad.startswith(f"They took a {vehicle} to the {place}.")


def test_a_noun_is_known_by_its_neighbours(small: Encoder) -> None:
    """It is exchanged wherever it occurs, with a capital too, for one seen after the same words."""
    _, text, bad, words = exchanged("plan", small)
    assert text == "They wrote a letter for him. The letter is long."
    assert bad.startswith("A letter.")
    assert words == [("noun", "proposal")] * 2


def test_what_only_mentions_finds_is_exchanged_for_what_is_written_alike(small: Encoder) -> None:
    _, text, bad, words = exchanged("early", small)
    assert text == "It is on the fifth floor now. Be there."
    assert bad.startswith("It is on the fifth floor.")
    assert words == [("number", "third")]


def test_a_name_in_the_summary_comes_before_all_others(words: Encoder) -> None:
    item = Document(
        "clean", "#Person1#: On Monday Porto lost 12 boats.", ("#Person1# says Porto lost.",)
    )
    pair = swapped_pair(words, item, [(0, len(item.document))], Donors(words, [item, OTHER], 0))
    assert {one.name for one in pair.exchanged} == {"weekday", "name", "number"}
    assert document(words, pair).startswith("#Person1#: On Friday Braga lost 37 boats.")


def test_the_pairs_depend_on_the_seed_alone(small: Encoder) -> None:
    one, other = (exchanged("visit", small)[1] for _ in range(2))
    assert one == other


def test_numbers_are_exchanged_where_each_digit_is_a_token() -> None:
    """The space before a number is then a token too, and the same before every number."""
    texts = [f"On {word} we saw it." for word in ("Monday", "Porto", "12", "37", "345")] * 50
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
    )
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    end = "<|endoftext|>"
    bpe.train_from_iterator(
        texts,
        trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, special_tokens=[end]),
    )
    made: Any = PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token=end, eos_token=end)
    digits = Encoder(made, EncodingConfig(), 128)
    item = Document("clean", "We saw 12 of it.", ("There were 12 of it.",))
    # 14 begins with the same digit, 345 has another length
    others = [Document("other", "They saw 14 or 345 or 37 of it.", ("x",))]
    pair = swapped(digits, others, item)
    assert document(digits, pair) == "We saw 37 of it."
    assert [one.name for one in pair.exchanged] == ["number"]
    assert pair.differs.sum() == 2
    assert pair.clean.diverges.sum() == 1
