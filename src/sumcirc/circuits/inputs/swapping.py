"""Corrupts documents by exchanging names, numbers, dates, nouns or speakers.

Words of a salient sentence are exchanged wherever they occur in document and summary, so that no
other mention reveals the original. Both texts are tokenized as they are, and a pair is made only if
all tokens outside the exchanged words are the same at the same positions.

Kinds of words are tried in the order of `GROUPS`, from those that read best:

1. names, numbers and dates by the rules of `data.entities`, for others of the same kind;
2. those that only the rules of `data.mentions` find (ordinals, amounts, names that begin a
   sentence), for others written alike;
3. the speakers of a dialogue (`#Person1#`), each for the other;
4. nouns of a closed list, for others of the same list (`data.nouns.LISTS`);
5. nouns found by the words around them, for others that agree in number and article.

The first group whose exchange changes the reference summary is used. If there is none, the first of
groups 1 and 2 that gives a pair is used, whose answer is then unknown; words of the other groups
are exchanged only if the summary states them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from sumcirc.circuits.inputs.counterfactual import paired
from sumcirc.circuits.inputs.donors import Donors
from sumcirc.circuits.inputs.example_pairs import ExamplePair
from sumcirc.data.documents import Document
from sumcirc.data.encoding import Encoder
from sumcirc.data.entities import MONTHS, WEEKDAYS, entities
from sumcirc.data.examples import Characters, NoExample, TokenExample
from sumcirc.data.mentions import DATE, NAME, SPEAKER
from sumcirc.data.mentions import mentions as stated
from sumcirc.data.named_lines import NamedSpan
from sumcirc.data.nouns import LISTS, forms, nouns, same_article
from sumcirc.wire.article import mentions

NOUN = "noun"  # kind of a word of the last group; words of a list have the list's name
NOTHING = "nothing to exchange in a salient sentence"
NO_MATCH = "nothing of the same kind and tokens in other documents"

_TOGETHER = re.compile(r"(#\w+#) and (#\w+#)")


@dataclass(frozen=True)
class _Word:
    """A word to exchange.

    Attributes:
        kind: its kind, as it is recorded.
        forms: its forms, such as singular and plural.
        others: possible replacements in order of preference, each with as many forms.
    """

    kind: str
    forms: tuple[str, ...]
    others: Iterable[tuple[str, ...]]


@dataclass(frozen=True)
class _Text:
    """The part of a document that fits the context, with its reference and salient sentences."""

    item: Document
    text: str
    salient: Characters
    donors: Donors

    @property
    def reference(self) -> str:
        return self.item.references[0]

    def is_salient(self, start: int, end: int) -> bool:
        return any(first <= start and end <= last for first, last in self.salient)

    def matters(self, words: Iterable[str]) -> bool:
        """Return whether any of the words is in a salient sentence, and any is in the reference."""
        words = tuple(words)
        return any(mentions(self.reference, word) for word in words) and any(
            self.is_salient(start, start + len(word))
            for word in words
            for start in mentions(self.text, word)
        )


def swapped_pair(
    encoder: Encoder, item: Document, salient: Characters, donors: Donors
) -> ExamplePair:
    """Pair a document with a copy in which words of the salient sentences are exchanged.

    Each replacement has the same numbers of words and tokens; see the top of this file for the
    kinds of words.

    Args:
        encoder: turns texts into tokens.
        item: the clean document.
        salient: [start, end) character ranges of the salient sentences.
        donors: documents that provide the replacements.

    Raises:
        NoExample: there is no word to exchange or no replacement for it, or the tokens of the two
            documents don't align.
    """
    clean = encoder.located(item)
    text = _Text(item, item.document[: clean.kept], salient, donors)
    fallback: ExamplePair | None = None
    reasons: list[str] = []
    for find in GROUPS:
        try:
            pair = _pair_of(encoder, clean, text, find(text))
        except NoExample as error:
            reasons.append(str(error))
            continue
        if pair.clean.diverges.any():
            return pair
        if find in UNSTATED:
            fallback = fallback or pair
    if fallback is None:
        raise NoExample(next((one for one in reasons if one != NOTHING), NOTHING))
    return fallback


# ---- the groups: which words to exchange, and for what


def _entities(text: _Text) -> list[_Word]:
    def others(kind: str, own: str) -> Iterable[tuple[str, ...]]:
        for other_kind, other in text.donors.found(text.item, _entity_texts):
            if other_kind == kind and other.count(" ") == own.count(" "):
                yield (other,)

    return [
        _Word(one.kind, (own,), others(one.kind, own))
        for one in entities(text.text)
        if text.is_salient(one.start, one.end)
        for own in [text.text[one.start : one.end]]
    ]


def _entity_texts(text: str) -> list[tuple[str, str]]:
    found = [(one.kind, text[one.start : one.end]) for one in entities(text)]
    return list(dict.fromkeys(found))


def _mentions(text: _Text) -> list[_Word]:
    def others(shape: str) -> Iterable[tuple[str, ...]]:
        for other_shape, other in text.donors.found(text.item, _mention_texts):
            if other_shape == shape:
                yield (other,)

    found = [
        (one.kind, text.text[one.start : one.end])
        for one in stated(text.text, text.reference)
        if one.kind != SPEAKER
    ]
    return [
        _Word(kind, (own,), others(_shape(kind, own)))
        for kind, own in dict.fromkeys(found)
        if any(text.is_salient(start, start + len(own)) for start in mentions(text.text, own))
    ]


def _mention_texts(text: str) -> list[tuple[str, str]]:
    written = [(one.kind, text[one.start : one.end]) for one in stated(text, "")]
    return list(dict.fromkeys((_shape(kind, own), own) for kind, own in written if kind != SPEAKER))


def _shape(kind: str, written: str) -> str:
    """Return a key that is equal for two mentions if one can replace the other."""
    if re.search(r"\d", written):
        return f"{kind} {re.sub(r'[0-9]', '0', written)}"  # "2nd", "1990s"
    case = "upper" if written.isupper() else "title" if written[0].isupper() else "lower"
    if kind == NAME:
        return f"{kind} {case} {written.count(' ')}"
    if kind == DATE:
        calendar = (WEEKDAYS, MONTHS, {word[:3] for word in WEEKDAYS}, {one[:3] for one in MONTHS})
        place = [written.removesuffix("s") in words for words in calendar]
        return f"{kind} {place} {written.endswith('s')}"
    ending = written[-2:] if written.endswith(("th", "rd")) else ""
    ordinal = "ordinal" if ending else "cardinal"
    return f"{kind} {ordinal} {case} {written.count(' ')}"


def _speakers(text: _Text) -> list[_Word]:
    def named(where: str) -> list[str]:
        found = [one for one in stated(where, "") if one.kind == SPEAKER]
        return [where[one.start : one.end] for one in found]

    speakers, told = named(text.text), named(text.reference)
    first = next((one for one in told if one in speakers), None)
    if first is None:
        return []
    # speakers that the summary states come first; each takes the other's part
    rest = sorted((one for one in speakers if one != first), key=lambda one: one not in told)
    return [_Word(SPEAKER, (first, other), [(other, first)]) for other in rest[:1]]


def _listed(text: _Text) -> list[_Word]:
    found = []
    for kind, words in LISTS.items():
        order = text.donors.shuffled(text.item, words)
        for word in words:
            if text.matters(forms(word)):
                fitting = [forms(other) for other in order if same_article(word, other)]
                found.append(_Word(kind, forms(word), fitting))
    return found


def _found_nouns(text: _Text) -> list[_Word]:
    own = nouns(text.text)
    counted = {one.word for one in own if one.counted}
    offered = list(text.donors.found(text.item, _noun_keys))
    found: list[_Word] = []
    for word, after in dict.fromkeys(
        (one.word, one.after) for one in own if text.is_salient(one.start, one.end)
    ):
        if any(word in one.forms for one in found) or not text.matters(forms(word)):
            continue
        fitting = [
            (other_after != after, other)  # first those that the same word follows
            for other, is_counted, other_after in offered
            if is_counted == (word in counted) and same_article(word, other)
        ]
        order = dict.fromkeys(other for _, other in sorted(fitting, key=lambda one: one[0]))
        found.append(_Word(NOUN, forms(word), [forms(other) for other in order]))
    return found


def _noun_keys(text: str) -> list[tuple[str, bool, str]]:
    found = nouns(text)
    counted = {one.word for one in found if one.counted}
    return list(dict.fromkeys((one.word, one.word in counted, one.after) for one in found))


GROUPS: tuple[Callable[[_Text], list[_Word]], ...] = (
    _entities,
    _mentions,
    _speakers,
    _listed,
    _found_nouns,
)
UNSTATED = (_entities, _mentions)  # groups that also give pairs whose answer is unknown


# ---- the exchange


def _pair_of(
    encoder: Encoder, clean: TokenExample, text: _Text, words: Sequence[_Word]
) -> ExamplePair:
    """Exchange words, and return the pair with a record of what was exchanged."""
    if not words:
        raise NoExample(NOTHING)
    others, kinds = _others(text, words)
    places = _occurrences(text.text, others)
    # not those that the document has only inside longer names
    here = {text.text[start:end] for start, end in places}
    others = {own: other for own, other in others.items() if own in here}
    if not others:
        raise NoExample(NO_MATCH)
    document, _ = _exchanged(text.text, places, others)
    answer = _other_answer(encoder, text.reference, others)
    pair = paired(encoder, text.item, clean, document, "swap", answer)
    if (pair.differs & ~clean.touching(places)[:-1]).any():
        raise NoExample("tokens that don't align")
    found = []
    for start, end in places:
        tokens = np.flatnonzero(clean.touching([(start, end)]))
        kind = kinds[text.text[start:end]]
        found.append(NamedSpan(kind, int(tokens[0]), int(tokens[-1]) + 1))
    return replace(pair, exchanged=tuple(found))


def _others(text: _Text, words: Sequence[_Word]) -> tuple[dict[str, str], dict[str, str]]:
    """Return a replacement and a kind for each form of every word that can be replaced."""
    known = f"{text.text}\n{text.reference}"
    found: dict[str, str] = {}
    kinds: dict[str, str] = {}
    fits = partial(_fits, text.donors, known)
    for word in words:
        if any(form in found for form in word.forms):
            continue
        for other in word.others:
            taken = any(one in found or one in found.values() for one in other)
            if taken or not fits(word.forms, other):
                continue
            here = {
                own: one
                for own, one in zip(word.forms, other, strict=True)
                if len(word.forms) == 1 or mentions(known, own)
            }
            found |= here
            kinds |= dict.fromkeys(here, word.kind)
            break
    return found, kinds


def _fits(donors: Donors, known: str, own: Sequence[str], other: Sequence[str]) -> bool:
    """Return whether a word can be replaced by another with the same numbers of tokens."""
    if any(mentions(known, form) for form in other if form not in own):
        return False
    for one, two in zip(own, other, strict=True):
        if one == two:
            return False
        # the space before a word is part of its first token
        leads = {" " if known[at - 1 : at] == " " else "" for at in mentions(known, one)}
        for lead in leads:
            mine, theirs = donors.tokens(lead + one), donors.tokens(lead + two)
            if len(mine) != len(theirs):
                return False
            # a tokenizer that splits digits makes the space before a number a token
            at = int(bool(lead) and mine[:1] == theirs[:1] == donors.tokens(lead))
            if mine[at] == theirs[at] and two not in own:
                return False
    return True


def _occurrences(text: str, others: dict[str, str]) -> list[tuple[int, int]]:
    """Return the character ranges in which a text has words to exchange.

    Occurrences inside a longer entity ("New York") are left out, as are two speakers that are named
    together, since the text would say the same with each in the other's place.
    """
    taken = [
        (one.start, one.end) for one in entities(text) if text[one.start : one.end] not in others
    ]
    taken += [both.span() for both in _TOGETHER.finditer(text) if others.get(both[1]) == both[2]]
    found = []
    for own in sorted(others, key=len, reverse=True):
        for start in mentions(text, own):
            end = start + len(own)
            if not any(start < last and first < end for first, last in taken):
                taken.append((start, end))
                found.append((start, end))
    return sorted(found)


def _exchanged(
    text: str, places: Characters, others: dict[str, str]
) -> tuple[str, list[tuple[int, int]]]:
    """Return the text with the replacements, and their ranges in it."""
    pieces: list[str] = []
    moved: list[tuple[int, int]] = []
    at = length = 0
    for start, end in places:
        other = others[text[start:end]]
        pieces += [text[at:start], other]
        length += start - at
        moved.append((length, length + len(other)))
        length += len(other)
        at = end
    return "".join([*pieces, text[at:]]), moved


def _other_answer(encoder: Encoder, summary: str, others: dict[str, str]) -> list[int]:
    """Return tokens of the summary with replacements; empty if it has none or they don't align."""
    places = _occurrences(summary, others)
    if not places:
        return []
    text, moved = _exchanged(summary, places, others)
    ends = [(end, other) for (_, end), (_, other) in zip(places, moved, strict=True)]
    for mine, theirs in [*ends, (len(summary), len(text))]:
        if len(encoder.summary(summary[:mine])) != len(encoder.summary(text[:theirs])):
            return []
    return encoder.summary(text)
