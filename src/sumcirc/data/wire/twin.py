"""Counterfactual twins: the same article about other people, places, days and numbers.

The four key facts are replaced wherever they stand; every other word stays. A replacement is taken
only if, under the given tokenizer, each mention has as many tokens as before and begins with
another token, so that clean and corrupted run align position by position, differ at the facts
alone, and have different right answers. Both conditions are checked by encoding the texts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from sumcirc.data.wire import lexicon
from sumcirc.data.wire.article import FACTS, Span, WireArticle, mentions
from sumcirc.data.wire.cast import format_number, split_of
from sumcirc.data.wire.draw import Draw
from sumcirc.data.wire.kinds import BY_NAME
from sumcirc.errors import UserError

Encode = Callable[[str], Sequence[int]]
_PAIRS = 64  # candidates of person and place that are tried together, each


def twin(original: WireArticle, encode: Encode) -> WireArticle:
    """Replace the key facts of an article by others of the same token lengths.

    `encode` gives the token ids of a text, without special tokens. The twin is of the same split;
    it is the same for the same article and tokenizer. Raises UserError where the tokenizer leaves
    no candidate for a fact.
    """
    draw = Draw("twin", original.id, original.document)
    checker = _Checker(original, encode)
    numbers = (format_number(number) for number in draw.shuffled(BY_NAME[original.kind].numbers))
    found = {
        "when": checker.first("when", draw.shuffled(lexicon.WEEKDAYS)),
        "how_many": checker.first("how_many", numbers),
    }
    surnames = list(checker.fitting("who", draw.shuffled(lexicon.SURNAMES), _PAIRS))
    places = list(checker.fitting("where", draw.shuffled(lexicon.PLACES), _PAIRS))
    split = split_of(original.entities)
    first_name = original.entities[0].split()[0]
    for surname in surnames:
        for place in places:
            entities = (f"{first_name} {surname}", place, original.entities[2])
            if split_of(entities) == split:
                facts = {"who": surname, "where": place, **found}
                return _finish(original, {role: facts[role] for role in FACTS}, entities, encode)
    raise _no_candidate(original, "who" if not surnames else "where")


@dataclass(frozen=True)
class _Text:
    """A text, its mentions of key facts, and where each mention's tokens are."""

    text: str
    spans: tuple[Span, ...]
    tokens: tuple[int, ...]
    places: tuple[tuple[int, int], ...]  # token positions (start, end) of each mention

    @classmethod
    def read(cls, text: str, spans: tuple[Span, ...], encode: Encode) -> _Text:
        places = tuple(_token_range(text, span, encode) for span in spans)
        return cls(text, spans, tuple(encode(text)), places)


def _token_range(text: str, span: Span, encode: Encode) -> tuple[int, int]:
    """Positions of a mention's tokens; the space before a word is part of its first token."""
    start = span.start - 1 if text[max(span.start - 1, 0)] == " " else span.start
    return len(encode(text[:start])), len(encode(text[: span.end]))


def _swap(text: str, spans: Sequence[Span], facts: dict[str, str]) -> tuple[str, tuple[Span, ...]]:
    """Put the given facts in place of those in `spans`; return the text and all spans in it."""
    pieces: list[str] = []
    moved: list[Span] = []
    end = length = 0
    for span in spans:
        value = facts.get(span.role, text[span.start : span.end])
        pieces += [text[end : span.start], value]
        start = length + span.start - end
        length = start + len(value)
        moved.append(Span(start, length, span.role))
        end = span.end
    return "".join([*pieces, text[end:]]), tuple(moved)


def _aligned(clean: _Text, corrupted: _Text, roles: Sequence[str]) -> bool:
    """Whether two texts differ in the tokens of these facts alone, and in each one's first."""
    if len(clean.tokens) != len(corrupted.tokens) or clean.places != corrupted.places:
        return False
    free: set[int] = set()
    for span, (start, end) in zip(clean.spans, clean.places, strict=True):
        if span.role in roles:
            if clean.tokens[start] == corrupted.tokens[start]:
                return False
            free.update(range(start, end))
    pairs = zip(clean.tokens, corrupted.tokens, strict=True)
    return all(mine == theirs or at in free for at, (mine, theirs) in enumerate(pairs))


class _Checker:
    """Tries replacements of one fact on both texts of an article."""

    def __init__(self, original: WireArticle, encode: Encode) -> None:
        self._original = original
        self._encode = encode
        self._words = f"{original.document} {original.summary}"
        self._texts = [
            _Text.read(original.document, original.salient, encode),
            _Text.read(original.summary, original.answers, encode),
        ]

    def first(self, role: str, candidates: Sequence[str] | Iterator[str]) -> str:
        """The first candidate that fits; raises UserError if there is none."""
        for candidate in self.fitting(role, candidates, 1):
            return candidate
        raise _no_candidate(self._original, role)

    def fitting(
        self, role: str, candidates: Sequence[str] | Iterator[str], most: int
    ) -> Iterator[str]:
        """Up to `most` of the candidates that can take the place of a fact."""
        length = len(self._encode(f" {self._original.facts[role]}"))
        for candidate in candidates:
            if most and len(self._encode(f" {candidate}")) == length and self._fits(role, candidate):
                most -= 1
                yield candidate

    def _fits(self, role: str, candidate: str) -> bool:
        if mentions(self._words, candidate) or candidate in self._original.distractor.values():
            return False
        for clean in self._texts:
            text, spans = _swap(clean.text, clean.spans, {role: candidate})
            if len(self._encode(text)) != len(clean.tokens):
                return False
            if not _aligned(clean, _Text.read(text, spans, self._encode), (role,)):
                return False
        return True


def _finish(
    original: WireArticle, facts: dict[str, str], entities: tuple[str, str, str], encode: Encode
) -> WireArticle:
    """Put all four facts in, and check once more that the texts align."""
    document, salient = _swap(original.document, original.salient, facts)
    summary, answers = _swap(original.summary, original.answers, facts)
    for clean, clean_spans, text, spans in (
        (original.document, original.salient, document, salient),
        (original.summary, original.answers, summary, answers),
    ):
        before, after = _Text.read(clean, clean_spans, encode), _Text.read(text, spans, encode)
        if not _aligned(before, after, FACTS):
            raise UserError(
                f"wire twin of {original.id}: this tokenizer encodes the facts of a text"
                " differently together than one by one; use a byte-level BPE tokenizer"
            )
    return replace(
        original,
        id=f"{original.id}-twin",
        document=document,
        summary=summary,
        facts=facts,
        salient=salient,
        salient_sentences=_moved(original, salient),
        answers=answers,
        entities=entities,
    )


def _moved(original: WireArticle, salient: tuple[Span, ...]) -> tuple[Span, ...]:
    """The sentences' spans once the facts before and inside them have changed length."""

    def offset(at: int) -> int:
        pairs = zip(original.salient, salient, strict=True)
        return at + sum(
            (new.end - new.start) - (old.end - old.start) for old, new in pairs if old.end <= at
        )

    return tuple(
        Span(offset(span.start), offset(span.end), span.role)
        for span in original.salient_sentences
    )


def _no_candidate(original: WireArticle, role: str) -> UserError:
    return UserError(
        f"wire twin of {original.id}: this tokenizer has no other {role} with the token length of"
        f" {original.facts[role]!r}; leave this article out, or use the built-in tokenizer"
    )
