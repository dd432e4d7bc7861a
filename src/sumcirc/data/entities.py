"""Names, numbers and dates in English text, found by rules that give the same result everywhere.

- `name`: a sequence of capitalised words with one space between them; `acronym`: such a sequence in
  capitals ("NASA"). The first word of a sentence or quotation counts only if the text also has it
  capitalised inside a sentence, or in capitals; titles ("Mr"), pronouns and the like never count,
  so "Mr Smith" gives "Smith".
- `number`: digits, with thousands and decimals ("1,204", "3.5"); `number_word`: "two" to "ninety";
  `year`: 1500 to 2099; `day`: 1 to 31 next to a month; `month` and `weekday`: their English names.

Limits: people and places are not distinguished; a name that contains a lower-case word ("Bank of
England") is split at it; headings in capitals count as acronyms; a text without capitals has no
names; "18th", "1990s" and the like are ignored.

`names` finds the names alone. It looks for evidence about the first words of sentences in a second
text too, such as the document of a summary.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from sumcirc.data.sentences import sentence_spans


def _listed(words: str) -> frozenset[str]:
    return frozenset(words.split())


MONTHS = _listed(
    "January February March April May June July August September October November December"
)
WEEKDAYS = _listed("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
_NUMBER_WORDS = _listed(
    """two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
    seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety"""
)
# capitalised inside sentences without being names: titles, and words of headings and quotations
_NO_NAMES = _listed(
    """mr mrs ms miss mx dr prof sir madam i i'm i've i'll i'd im me my you your he she it we they
    his her its our their this that these those there here what who when where why how which the a
    an of in on at by for from with without to as if and but or so yet nor not no yes ok okay oh
    well then now just let please thanks thank is are was were be do does did has have had can could
    will would should may might must m ve ll re s t d"""
)

# U+2018, U+2019, U+201C: curly quotes; U+00AB: an angled quote
_WORD = re.compile(
    r"(?<![\w#@.])(?:(?:[A-Z]\.)+[A-Z]|[^\W\d_]+(?:(?:['\u2019](?!s\b)|-)[^\W\d_]+)*)(?![\w#@]|\.\w)"
)
_DIGITS = re.compile(r"(?<![\w#.,-])\d+(?:,\d{3})*(?:\.\d+)?(?![\w#]|[.,]\d)")
_YEAR = re.compile(r"(?:1[5-9]|20)\d\d")
# what follows a sentence's first word where that is a name ("'s", a verb, another name), and the
# endings of words that may stand there without being one: adverbs, plurals, participles
_PAST = """will would can could had said told met got went came took made gave found felt thought
    knew left paid saw put won lost began became ran wrote brought bought kept held"""
_FOLLOWS = (
    (re.compile(r"['\u2019]s\b| (?:is|was|[a-z]+(?<![ious])s)\b"), ("ing", "ed")),
    (re.compile(rf" (?:(?:{'|'.join(_PAST.split())}|[a-z]+ed)\b|and [A-Z])"), ("ing", "ed", "s")),
    (re.compile(r" (?!(?:I|The|A|An|This)\b)[A-Z][a-z]"), ("ing", "ed", "s", "ly")),
)
_OPENERS = _listed(
    """actor actress all another any anyone author both critic dad during each either even every
    everyone few film first former group historian husband last latest many meet mom more most much
    neither new next nobody none novel old one only other others photo police popular possible
    recent report researcher show since singer smaller some someone still such teacher thus top
    under unlike use until van various whoever whose wife"""
)
_OPENS = re.compile(r"(?:(?:^|\s)[\"'\u2018\u201c\u00ab(\[]+|\))$")


@dataclass(frozen=True)
class Entity:
    """A name, number or date in a text.

    Attributes:
        start, end: range [start, end) of its characters.
        kind: one of the kinds that are listed at the top of this file, such as `name` or `year`.
    """

    start: int
    end: int
    kind: str


def entities(text: str) -> list[Entity]:
    """Return the names, numbers and dates of a text, in order and without overlaps."""
    words = list(_WORD.finditer(text))
    found = [Entity(*word.span(), kind) for word in words if (kind := _fixed_kind(word[0]))]
    months = [one for one in found if one.kind == "month"]
    for match in _DIGITS.finditer(text):
        found.append(Entity(*match.span(), _digits_kind(text, match, months)))
    found += _names(text, words)
    return sorted(found, key=lambda entity: entity.start)


def names(text: str, context: str) -> list[Entity]:
    """Return the names and acronyms of a text, in order and without overlaps.

    The first word of a sentence or quotation is a name if it is written in capitals; if text or
    context have it capitalised inside a sentence and never in lower case; or, where neither has it
    in another place, if what follows is a name ("Ada Lovelace"), "'s", or a word that
    only a name can be the subject of without an article ("Ada says").

    Args:
        text: the text.
        context: another text about the same, such as the document that `text` summarizes.
    """
    words, other = list(_WORD.finditer(text)), list(_WORD.finditer(context))
    lower = {word[0] for word in (*words, *other) if word[0].islower()}
    capitalised = _capitalised(other)
    first = _openings(context, capitalised)
    inside = {word[0] for word in capitalised if word.start() not in first}

    def opens(word: re.Match[str]) -> bool:
        if word[0].lower() in lower or word[0].lower() in _OPENERS:
            return False
        return word[0] in inside or _is_subject(text, word)

    return _names(text, words, opens)


def _fixed_kind(word: str) -> str | None:
    if word in MONTHS:
        return "month"
    if word in WEEKDAYS:
        return "weekday"
    return "number_word" if word.lower() in _NUMBER_WORDS else None


def _digits_kind(text: str, digits: re.Match[str], months: list[Entity]) -> str:
    if _YEAR.fullmatch(digits[0]):
        return "year"
    if len(digits[0]) <= 2 and 1 <= int(digits[0]) <= 31:
        for month in months:
            # "3 May", "May 3"
            between = text[month.end : digits.start()], text[digits.end() : month.start]
            if " " in between:
                return "day"
    return "number"


def _names(
    text: str,
    words: list[re.Match[str]],
    opens: Callable[[re.Match[str]], bool] | None = None,
) -> list[Entity]:
    """Return the names among words; `opens` says whether a sentence's first word is one."""
    capitalised = _capitalised(words)
    first = _openings(text, capitalised)
    if opens is None:
        opens = lambda word: False  # noqa: E731
    else:  # "Smith: Many people agree"
        first |= {one.start() for one in capitalised if text.startswith(": ", one.start() - 2)}
    inside = {word[0] for word in capitalised if word.start() not in first}
    names: list[Entity] = []
    for word in capitalised:
        known = word[0] in inside or _is_acronym(word[0])
        if word.start() in first and not known and not opens(word):
            continue
        start, end = word.span()
        joined = names and text[names[-1].end : start] == " " and start not in first
        if joined:
            start = names.pop().start
        names.append(Entity(start, end, "acronym" if _is_acronym(text[start:end]) else "name"))
    return names


def _capitalised(words: list[re.Match[str]]) -> list[re.Match[str]]:
    return [
        word
        for word in words
        if word[0][0].isupper()
        and len(word[0]) > 1
        and not _fixed_kind(word[0])
        and word[0].replace("\u2019", "'").lower() not in _NO_NAMES
    ]


def _openings(text: str, capitalised: list[re.Match[str]]) -> set[int]:
    """Return the offsets of words that open a sentence, a quotation or a bracket."""
    return {word.start() for word in capitalised if _opens(text, word.start())} | _first_letters(
        text
    )


def _is_subject(text: str, word: re.Match[str]) -> bool:
    """Return whether the words that follow a sentence's first word show that it is a name."""
    return "-" not in word[0] and any(
        follows.match(text, word.end()) and not word[0].endswith(endings)
        for follows, endings in _FOLLOWS
    )


def _opens(text: str, start: int) -> bool:
    """Return whether a quotation or bracket begins just before, or ends ("(CNN)The")."""
    return _OPENS.search(text, max(0, start - 4), start) is not None


def _first_letters(text: str) -> set[int]:
    """Return the offset of the first word of each sentence."""
    starts = set()
    for start, end in sentence_spans(text):
        word = _WORD.search(text, start, end)
        if word is not None:
            starts.add(word.start())
    return starts


def _is_acronym(name: str) -> bool:
    return len(name) > 1 and name.isupper()
