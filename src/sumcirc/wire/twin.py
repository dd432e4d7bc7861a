"""Counterfactual twins: the same article about other people, places, days and numbers.

All mentions of the four key facts are replaced; every other word stays. A replacement is accepted
only if, with the given tokenizer, each mention has as many tokens as before and begins with a
different token, so that clean and corrupted run align position by position, differ only at the
facts, and have different right answers. Both conditions are checked by encoding the texts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from sumcirc.errors import UserError
from sumcirc.wire import lexicon
from sumcirc.wire.article import FACTS, Span, WireArticle, mentions
from sumcirc.wire.cast import format_number, split_of
from sumcirc.wire.draw import Draw
from sumcirc.wire.kinds import BY_NAME

Encode = Callable[[str], Sequence[int]]


def twin(original: WireArticle, encode: Encode) -> WireArticle:
    """Return a copy of an article in which other key facts replace those of the main event.

    Each new fact has as many tokens as the old one. The copy belongs to the same split, and is
    always the same for an article and a tokenizer.

    Args:
        original: the article.
        encode: function that returns the token ids of a text, without special tokens.

    Raises:
        UserError: with this tokenizer, no other value of a fact has as many tokens.
    """
    draw = Draw("twin", original.id, original.document)
    checker = _Checker(original, encode)
    found = {
        "when": checker.first("when", draw.shuffled(lexicon.WEEKDAYS)),
        "how_many": checker.first("how_many", _numbers(original, draw)),
    }
    split = split_of(original.entities)
    first_name = original.entities[0].split()[0]
    surnames = checker.fitting("who", draw.shuffled(lexicon.SURNAMES))
    places = checker.fitting("where", draw.shuffled(lexicon.PLACES))
    for surname, place in _pairs(surnames, places):
        entities = (f"{first_name} {surname}", place, original.entities[2])
        if split_of(entities) == split:
            facts = {"who": surname, "where": place, **found}
            facts = {role: facts[role] for role in FACTS}
            return _finish(original, facts, entities, checker)
    raise _no_candidate(original, "who and where")


def _numbers(original: WireArticle, draw: Draw) -> Iterator[str]:
    """Yield numbers typical of the kind of event, then all with as many digits."""
    digits = len(original.facts["how_many"].replace(",", ""))
    usual = BY_NAME[original.kind].numbers
    for numbers in (usual, range(max(2, 10 ** (digits - 1)), 10**digits)):
        for number in draw.shuffled(numbers):
            yield format_number(number)


def _pairs(first: Iterator[str], second: Iterator[str]) -> Iterator[tuple[str, str]]:
    """Yield all pairs of two streams, reading no further into either than needed."""
    rows: list[str] = []
    columns: list[str] = []
    while True:
        row, column = next(first, None), next(second, None)
        if row is None and column is None:
            return
        if column is not None:
            yield from ((known, column) for known in rows)
            columns.append(column)
        if row is not None:
            yield from ((row, known) for known in columns)
            rows.append(row)


@dataclass(frozen=True)
class _Text:
    """A text, its mentions of key facts, and the tokens of each mention."""

    text: str
    spans: tuple[Span, ...]
    tokens: tuple[int, ...]
    places: tuple[tuple[int, int], ...]  # token positions (start, end) of each mention

    @classmethod
    def read(cls, text: str, spans: tuple[Span, ...], encode: Encode) -> _Text:
        places = tuple(_token_range(text, span, encode) for span in spans)
        return cls(text, spans, tuple(encode(text)), places)

    def aligned(self, tokens: Sequence[int], roles: Sequence[str]) -> bool:
        """Return whether tokens differ only in the given facts, including each mention's first."""
        if len(tokens) != len(self.tokens):
            return False
        free: set[int] = set()
        for span, (start, end) in zip(self.spans, self.places, strict=True):
            if span.role in roles:
                if tokens[start] == self.tokens[start]:
                    return False
                free.update(range(start, end))
        pairs = zip(self.tokens, tokens, strict=True)
        return all(mine == theirs or at in free for at, (mine, theirs) in enumerate(pairs))


def _token_range(text: str, span: Span, encode: Encode) -> tuple[int, int]:
    """Return a mention's token positions; the space before a word is part of its first token."""
    start = span.start - 1 if text[max(span.start - 1, 0)] == " " else span.start
    return len(encode(text[:start])), len(encode(text[: span.end]))


def _swap(text: str, spans: Sequence[Span], facts: dict[str, str]) -> tuple[str, tuple[Span, ...]]:
    """Replace facts in a text; return the new text and all spans in it."""
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


class _Checker:
    """Tests replacements of one fact in both texts of an article."""

    def __init__(self, original: WireArticle, encode: Encode) -> None:
        self._original = original
        self.encode = encode
        self._words = f"{original.document} {original.summary}"
        self.texts = [
            _Text.read(original.document, original.salient, encode),
            _Text.read(original.summary, original.answers, encode),
        ]

    def first(self, role: str, candidates: Iterable[str]) -> str:
        """Return the first candidate that fits.

        Raises:
            UserError: there is none.
        """
        for candidate in self.fitting(role, candidates):
            return candidate
        raise _no_candidate(self._original, role)

    def fitting(self, role: str, candidates: Iterable[str]) -> Iterator[str]:
        """Yield the candidates that can replace a fact."""
        value = self.encode(f" {self._original.facts[role]}")
        for candidate in candidates:
            tokens = self.encode(f" {candidate}")
            if len(tokens) == len(value) and tokens[0] != value[0] and self._fits(role, candidate):
                yield candidate

    def _fits(self, role: str, candidate: str) -> bool:
        if mentions(self._words, candidate) or candidate in self._original.distractor.values():
            return False
        return all(
            clean.aligned(
                self.encode(_swap(clean.text, clean.spans, {role: candidate})[0]), (role,)
            )
            for clean in self.texts
        )


def _finish(
    original: WireArticle, facts: dict[str, str], entities: tuple[str, str, str], checker: _Checker
) -> WireArticle:
    """Replace all four facts, and verify that the texts still align."""
    document, salient = _swap(original.document, original.salient, facts)
    summary, answers = _swap(original.summary, original.answers, facts)
    for clean, text in zip(checker.texts, (document, summary), strict=True):
        if not clean.aligned(checker.encode(text), FACTS):
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
        salient_sentences=_moved(original.salient_sentences, original, salient),
        distractor_sentences=_moved(original.distractor_sentences, original, salient),
        answers=answers,
        entities=entities,
    )


def _moved(
    sentences: tuple[Span, ...], original: WireArticle, salient: tuple[Span, ...]
) -> tuple[Span, ...]:
    """Return the sentences' spans after the facts before and inside them have changed length."""

    def offset(at: int) -> int:
        pairs = zip(original.salient, salient, strict=True)
        return at + sum(
            (new.end - new.start) - (old.end - old.start) for old, new in pairs if old.end <= at
        )

    return tuple(Span(offset(span.start), offset(span.end), span.role) for span in sentences)


def _no_candidate(original: WireArticle, role: str) -> UserError:
    return UserError(
        f"wire twin of {original.id}: this tokenizer has no replacement of equal token length for"
        f" {role} among {original.facts}; leave this article out, or use the built-in tokenizer"
    )
