"""Counterfactual twins under a wire tokenizer, GPT-2's, and one that leaves no candidate."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from tokenizers import ByteLevelBPETokenizer, Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer

from sumcirc.errors import UserError
from sumcirc.wire import EVENTS, FACTS, Span, WireArticle, article, articles, plain_text, twin
from sumcirc.wire.article import mentions
from sumcirc.wire.cast import split_of
from tests.support.shared import shared

Encode = Callable[[str], list[int]]


def _trained(size: int) -> Encode:
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    trainer = BpeTrainer(
        vocab_size=size,
        show_progress=False,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(map(plain_text, articles("pretrain", 2000)), trainer)
    return lambda text: tokenizer.encode(text).ids


@pytest.fixture(scope="module", params=[2048, 4096])
def wire(request: pytest.FixtureRequest) -> Encode:
    return _trained(request.param)


def _check(original: WireArticle, other: WireArticle, encode: Encode) -> None:
    assert other.id == f"{original.id}-twin"
    assert other.distractor == original.distractor
    assert split_of(other.entities) == split_of(original.entities)
    assert other.entities[2] == original.entities[2]
    assert other.entities[0].split()[0] == original.entities[0].split()[0]
    for role in FACTS:
        assert other.facts[role] != original.facts[role]
        assert other.facts[role] not in original.distractor.values()
    for text, spans, clean, clean_spans in (
        (other.document, other.salient, original.document, original.salient),
        (other.summary, other.answers, original.summary, original.answers),
    ):
        assert [span.role for span in spans] == [span.role for span in clean_spans]
        assert all(text[span.start : span.end] == other.facts[span.role] for span in spans)
        for role in FACTS:
            assert not mentions(text, original.facts[role])
        assert _without(text, spans) == _without(clean, clean_spans)
        _check_tokens(text, clean, clean_spans, encode)
    both = zip(
        (*other.salient_sentences, *other.distractor_sentences),
        (*original.salient_sentences, *original.distractor_sentences),
        strict=True,
    )
    for span, clean_span in both:
        told = other.document[span.start : span.end]
        clean_told = original.document[clean_span.start : clean_span.end]
        assert _blanked(told, other) == _blanked(clean_told, original)


def _blanked(text: str, article: WireArticle) -> str:
    for role, value in article.facts.items():
        text = re.sub(rf"\b{value}\b", role, text)
    return text


def _without(text: str, spans: tuple[Span, ...]) -> list[str]:
    ends = [0, *(span.end for span in spans)]
    starts = [*(span.start for span in spans), len(text)]
    return [text[end:start] for end, start in zip(ends, starts, strict=True)]


def _check_tokens(text: str, clean: str, spans: tuple[Span, ...], encode: Encode) -> None:
    tokens, clean_tokens = encode(text), encode(clean)
    assert len(tokens) == len(clean_tokens)
    differing = {
        at for at, pair in enumerate(zip(tokens, clean_tokens, strict=True)) if len(set(pair)) > 1
    }
    allowed = set()
    for span in spans:
        first, end = len(encode(clean[: span.start - 1])), len(encode(clean[: span.end]))
        assert first in differing
        allowed |= set(range(first, end))
    assert differing <= allowed


@pytest.mark.parametrize("event", EVENTS)
def test_twins_align_under_a_wire_tokenizer(wire: Encode, event: str) -> None:
    without = 0
    for original in articles("test", 120, event=event):
        try:
            other = twin(original, wire)
        except UserError:
            without += 1
            continue
        _check(original, other, wire)
    assert without <= 4


def test_twins_align_under_gpt2s_tokenizer() -> None:
    folder = shared("models/gpt2_tokenizer")
    tokenizer = ByteLevelBPETokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))

    def encode(text: str) -> list[int]:
        return tokenizer.encode(text).ids

    without = 0
    for original in articles("validation", 120):
        try:
            other = twin(original, encode)
        except UserError:
            without += 1
            continue
        _check(original, other, encode)
    assert without <= 4


def test_twins_repeat_and_have_twins(wire: Encode) -> None:
    original = article("train", 5)
    once = twin(original, wire)
    assert twin(original, wire) == once
    _check(once, twin(once, wire), wire)


@pytest.mark.parametrize("event", EVENTS)
def test_articles_fit_256_tokens(wire: Encode, event: str) -> None:
    """Document, summary, and what an encoding puts between and behind them."""
    longest = max(
        len(wire(item.document)) + len(wire(f" {item.summary}"))
        for item in articles("train", 3000, event=event)
    )
    assert longest + 5 <= 256


def test_tokenizer_without_candidates_is_refused() -> None:
    original = article("train", 5)

    def encode(text: str) -> list[int]:
        # A token for each letter and one for the original's number: no other number is as short.
        return [ord(letter) for letter in text.replace(original.facts["how_many"], "#")]

    with pytest.raises(UserError, match="no replacement of equal token length for"):
        twin(original, encode)


def test_tokenizer_that_depends_on_context_is_refused() -> None:
    """Two replaced facts change the first tokens of the text, which one alone does not."""
    original = article("train", 5)
    facts = original.facts.values()

    def encode(text: str) -> list[int]:
        replaced = sum(not mentions(text, value) for value in facts) >= 2
        codes = [sum(map(ord, word)) for word in text.split()]
        return [-1, *codes[1:]] if replaced and len(text) > 400 else codes

    with pytest.raises(UserError, match="differently together than one by one"):
        twin(original, encode)
