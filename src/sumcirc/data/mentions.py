"""Finds the names, numbers, dates and speakers in a text and looks them up in another.

`mentions` lists what a text states; `TextIndex.states` says whether another text states it too.
docs/faithfulness.md defines every rule and lists the known errors.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from sumcirc.data.entities import MONTHS, WEEKDAYS, names
from sumcirc.data.sentences import TITLES

NAME, NUMBER, DATE, SPEAKER = "name", "number", "date", "speaker"
KINDS = (NAME, NUMBER, DATE, SPEAKER)
_GAP = 2  # largest number of other words between two words of a name: "John (pictured) Smith"


def _listed(words: str) -> list[str]:
    return words.split()


# ---- numbers

_ONES = _listed(
    """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
    sixteen seventeen eighteen nineteen"""
)
_TENS = _listed("twenty thirty forty fifty sixty seventy eighty ninety")
_PLAIN = {word: value for value, word in enumerate(_ONES)}
_PLAIN |= {word: 10 * value for value, word in enumerate(_TENS, 2)}
_POWERS = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_SCALES = {"dozen": 12, "hundred": 100, **_POWERS}
_SUFFIXES = {"k": 10**3, "m": 10**6, "mn": 10**6, "b": 10**9, "bn": 10**9, "tn": 10**12}
# "first" and "second" are left out: they seldom state a number ("at first", "a second")
_ORDINALS = {"third": 3, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8, "ninth": 9}
_ORDINALS |= {"tenth": 10, "eleventh": 11, "twelfth": 12, "twentieth": 20, "thirtieth": 30}

# not hundreds or thousands of anything, and how many of two or one there are
_IMPLIED = {"one": 1, "once": 1, "single": 1, "twice": 2, "both": 2, "couple": 2, "pair": 2}
_IMPLIED |= {"twin": 2, "twins": 2, "double": 2, "triple": 3, "half": 50}

_DIGITS = re.compile(
    r"(?<![\w#])(?<!\d[.:])(?<!\d,(?=\d{3}(?!\d)))(?P<digits>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:[.:]\d+)?)"
    r"(?:(?P<end>st|nd|rd|th|s|mn|bn|tn|[kmb]|\s?[ap]\.?m)(?![\w#])|(?![\w#]|[.:]\d|,\d{3}(?!\d)))"
    rf"(?:[\s-](?P<scale>{'|'.join(_SCALES)})s?\b)?",
    re.IGNORECASE,
)
# number words: "twenty-one", "three hundred and five", "two dozen", "a million"
_BELOW_100 = (
    rf"(?:{'|'.join(_TENS)})(?:[\s-](?:{'|'.join(_ONES[1:10])}))?|{'|'.join(reversed(_ONES))}"
)
_BELOW_1000 = (
    rf"(?:(?:{_BELOW_100}|an?)[\s-](?:hundred|dozen)(?:\s(?:and\s)?(?:{_BELOW_100}))?|{_BELOW_100})"
)
_SPELLED = re.compile(
    rf"(?<![\w#])(?<!half\s)(?:{_BELOW_1000}|an?\s(?={'|'.join(_POWERS)}))"
    rf"(?:[\s-]?(?:{'|'.join(_POWERS)})(?:\s(?:and\s)?{_BELOW_1000})?)*(?![\w#])",
    re.IGNORECASE,
)
_ORDINAL = re.compile(rf"(?<![\w#])(?:{'|'.join(_ORDINALS)})(?![\w#])", re.IGNORECASE)

# ---- dates

_YEAR = re.compile(r"(?:1[5-9]|20)\d\d")
_SHORT = {word[:3]: word for word in (*sorted(MONTHS), *sorted(WEEKDAYS)) if word != "May"}
_SHORT |= {"Sept": "September", "Tues": "Tuesday", "Thur": "Thursday", "Thurs": "Thursday"}
_CALENDAR = re.compile(
    rf"(?<![\w#])(?:(?P<full>{'|'.join(sorted(MONTHS | WEEKDAYS))})s?|(?P<short>"
    rf"{'|'.join(_SHORT)}))(?![\w#])"
)
_AMBIGUOUS = frozenset({"May", "March", "Mar", "Sun", "Sat", "Jan"})  # also other words, or names
_BESIDE = re.compile(
    r"(?:\d(?:st|nd|rd|th)?(?: of)?|[Ii]n|[Bb]y|[Ss]ince|[Uu]ntil|[Oo]n|[Ll]ast),? $"
)
_NUMERIC = re.compile(r"(?<![\w/.-])(\d{4}|\d{1,2})([-/.])(\d{1,2})\2(\d{4}|\d{1,2})(?![\w/-])")
_ORDER = """January February March April May June July August September October November
    December"""
_MONTH_OF = dict(enumerate(_listed(_ORDER), 1))
# digits that a tokenizer set apart: "$ 32. 42", "4, 000", "10: 30"
_APART = re.compile(r"(?<=\d)([.,:]) (?=\d\d)")
# an amount of money among them, which can't be the end of a sentence and the begin of another
_AMOUNT = re.compile(
    r"[$\u00a3\u20ac\u00a5]\s?(?P<digits>\d{1,3}(?:,\d{3})*\. \d\d)(?![\w%-]|[.,:]\d)"
)

# ---- names

# words for one country, each as it is compared
_COUNTRIES = (
    (("US",), ("USA",), ("united", "state"), ("america",), ("american",)),
    (("UK",), ("united", "kingdom"), ("britain",), ("british",)),
)
_SPEAKER = re.compile(r"#\w+#")
_WORD = re.compile(
    r"#\w+#|(?:[^\W\d_]\.){2,}(?:[^\W\d_](?!\w))?|[^\W\d_]\.[^\W\d_](?!\w)|[^\W_]+(?:['\u2019][^\W_]+)*"
)
_NO_PART = TITLES | {"jr", "sr"}  # dropped from names
_SMALL_WORDS = frozenset(_listed("of the and for in on at de la"))
_PLACES, _DEMONYMS = re.compile(r"(?:ia|ain|a)$"), re.compile(r"(?:ian|an|n|ese|ish|i)$")

Value = float | str | tuple[str, ...]


@dataclass(frozen=True)
class Mention:
    """A name, number, date or speaker that a text states.

    Attributes:
        start, end: range [start, end) of its characters.
        kind: one of `KINDS`.
        value: what is compared: a number, a word such as `monday` or `#person1#`, or the words of a
            name.
    """

    start: int
    end: int
    kind: str
    value: Value


def mentions(text: str, context: str) -> list[Mention]:
    """Return the names, numbers, dates and speakers in a text, in order, each value once.

    Args:
        text: the text.
        context: another text about the same, such as the document that `text` summarizes. It helps
            to tell names from other words at the beginning of a sentence.
    """
    found = [Mention(*match.span(), SPEAKER, _plain(match[0])) for match in _SPEAKER.finditer(text)]
    numbers = list(_numbers(text))
    named = {at for one in numbers for at in range(one.start + 1, one.end)}
    # "AM" of "9:30 AM" is no name
    names = [one for one in _names(text, context) if one.start not in named]
    found += [*_dates(text), *names]
    taken = {at for one in found for at in range(one.start, one.end)}
    found += [one for one in numbers if one.start not in taken]
    found = list({(one.kind, one.value): one for one in reversed(found)}.values())
    return sorted(found, key=lambda one: one.start)


def _dates(text: str) -> Iterator[Mention]:
    """Yield months, weekdays and decades, and the parts of numeric dates."""
    for match in _CALENDAR.finditer(text):
        word = match["full"] or _SHORT[match["short"]]
        sure = match[0] not in _AMBIGUOUS or _BESIDE.search(text, 0, match.start())
        if sure or re.match(r"\.?,? \d", text[match.end() :]):
            yield Mention(*match.span(), DATE, word.casefold())


def _numbers(text: str, join: bool = True) -> Iterator[Mention]:
    """Yield the numbers of a text; years, decades and clock times among them are dates.

    With `join`, an amount of money whose digits are set apart is one number.
    """
    apart = list(_AMOUNT.finditer(text)) if join else []
    for match in apart:
        yield Mention(*match.span("digits"), NUMBER, _value(match["digits"].replace(" ", "")))
    for match in _DIGITS.finditer(text):
        if any(one.start() < match.start() < one.end() for one in apart):
            continue
        digits, end = match["digits"], (match["end"] or "").strip().lower()
        kind, value = NUMBER, _value(digits)
        if ":" in digits or end.startswith(("a", "p")):
            kind = DATE
        elif end == "s":
            kind, value = DATE, f"{digits[-2:]}s"  # "1990s", "'90s"
        elif match["scale"]:
            value *= _SCALES[match["scale"].lower()]
        elif end in _SUFFIXES:
            value *= _SUFFIXES[end] if end != "m" or _is_money(text, match.start()) else 1
        elif _YEAR.fullmatch(digits) and not _is_money(text, match.start()):
            kind = DATE
        yield Mention(*match.span(), kind, value)
    for match in _SPELLED.finditer(text):
        value = _spelled(match[0])
        if value is not None:
            yield Mention(*match.span(), NUMBER, value)
    for match in _ORDINAL.finditer(text):
        yield Mention(*match.span(), NUMBER, float(_ORDINALS[match[0].lower()]))


def _is_money(text: str, start: int) -> bool:
    return unicodedata.category(text[start - 1 : start] or " ") == "Sc"


def _value(digits: str) -> float | str:
    """Return the value of a number or a clock time such as "10:30"; "4:00" is 4."""
    hour, colon, minutes = digits.partition(":")
    if colon:
        return float(hour) if minutes in ("0", "00") else f"{int(hour)}:{minutes}"
    return float(digits.replace(",", ""))


def _spelled(words: str) -> float | None:
    """Return the value of number words; None for a lone "one", which is mostly a pronoun."""
    parts = [part for part in re.split(r"[\s-]+", words.lower()) if part not in ("and", "a", "an")]
    if parts == ["one"]:
        return None
    total = current = 0
    for part in parts:
        if part in _PLAIN:
            current += _PLAIN[part]
        elif part in _POWERS:
            total, current = total + max(current, 1) * _POWERS[part], 0
        else:
            current = max(current, 1) * _SCALES[part]
    return float(total + current)


def _names(text: str, context: str) -> Iterator[Mention]:
    for one in names(text, context):
        written = text[one.start : one.end]
        words = tuple(plain for plain, _ in _words(written))
        kept = tuple(word for word in words if word not in _NO_PART) or words
        if len(kept) == 1 and _is_acronym(written):
            kept = (_acronym(written),)
        yield Mention(one.start, one.end, NAME, kept)


def _acronym(word: str) -> str:
    """Return a word without full stops, a possessive, and the "s" of a plural ("GANs")."""
    word = word.replace("\u2019", "'").removesuffix("'s").replace(".", "")
    return word.removesuffix("s") if len(word) > 2 else word


def _is_acronym(word: str) -> bool:
    return len(word) > 1 and _acronym(word).isupper() and _acronym(word).isalpha()


def _words(text: str) -> list[tuple[str, str]]:
    """Return each word of a text as it is compared (`_plain`), and as it is written."""
    return [(_plain(match[0]), match[0]) for match in _WORD.finditer(text)]


def _plain(word: str) -> str:
    """Return a word without case, accents, full stops, a possessive, or the "s" of a plural."""
    word = (
        word.replace("\u2019", "'").casefold().removesuffix("'s").replace(".", "").replace("_", "")
    )
    if not word.isascii():
        parts = unicodedata.normalize("NFKD", word)
        word = "".join(part for part in parts if not unicodedata.combining(part))
    return word.removesuffix("s") if len(word) > 3 else word


class TextIndex:
    """A text in which mentions are looked up.

    Args:
        text: the text.
    """

    def __init__(self, text: str) -> None:
        words = _words(text)
        self._places: dict[str, list[int]] = {}
        for place, (plain, _) in enumerate(words):
            self._places.setdefault(plain, []).append(place)
        self._initials = "".join(plain[0] for plain, _ in words if plain)
        self._lower = {plain for plain, written in words if written.islower()}
        self._acronyms = {_acronym(written) for _, written in words if _is_acronym(written)}
        self._capitals = self._acronyms | set(_initials([written for _, written in words]))
        together = _APART.sub(r"\1", text)
        # both, since a sentence may end between the digits of an amount
        stated = [*_dates(text), *_numbers(text), *_numbers(text, join=False)]
        stated += _numbers(together) if together != text else []
        self._values: set[Value] = {one.value for one in stated}
        self._values |= {_IMPLIED[plain] for plain in self._places if plain in _IMPLIED}
        for match in _NUMERIC.finditer(text):
            parts = [int(match[group]) for group in (1, 3, 4)]
            self._values |= {float(part) for part in parts}
            self._values |= {_MONTH_OF[part].casefold() for part in parts if part in _MONTH_OF}

    def states(self, mention: Mention, partial: bool = False) -> bool:
        """Return whether the text states a name, number, date or speaker of another text.

        Args:
            mention: the mention.
            partial: whether the last word of a name is enough ("Smith" for "John Smith").
        """
        value = mention.value
        if mention.kind == SPEAKER:
            return value in self._places
        if not isinstance(value, tuple):
            return value in self._values
        others = (one for names in _COUNTRIES if value in names for one in names if one != value)
        return self._has_name(value, partial) or any(self._has_name(one) for one in others)

    def _has_name(self, value: tuple[str, ...], partial: bool = False) -> bool:
        if len(value) == 1 and value[0].isupper():
            # "us" is no US, and two letters are initials of any text
            word, letters = value[0].lower(), len(value[0])
            if (letters > 2 and word in self._initials) or (letters > 3 and word in self._places):
                return True
            return value[0] in self._capitals
        # not by the initials of another name: "Brad Stone" is not "Bob Smith"
        if len(value) > 1 and "".join(word[:1] for word in value).upper() in self._acronyms:
            return True
        if partial and value and self._finds(value[-1]):
            return True
        if not all(map(self._finds, value)):
            return False
        rest = [word for word in value if word not in self._lower]
        # a name of two words or more that others precede: "American Steve Mueller"
        return any(self._in_order(rest[start:]) for start in range(max(1, len(rest) - 1)))

    def _finds(self, word: str) -> list[int]:
        """Return where a word occurs, taking a country and its adjective as one word."""
        return self._places.get(word, []) + [
            place
            for other, places in self._places.items()
            if other[:3] == word[:3]
            and other != word
            and (_same_country(word, other) or _same_country(other, word))
            for place in places
        ]

    def _in_order(self, words: list[str]) -> bool:
        """Return whether words occur in order with at most `_GAP` other words between two."""
        if not words:
            return True
        ends = self._finds(words[0])
        for word in words[1:]:
            ends = [
                place
                for place in self._finds(word)
                if any(0 < place - end <= _GAP + 1 for end in ends)
            ]
        return bool(ends)


def _same_country(place: str, adjective: str) -> bool:
    stem = _DEMONYMS.sub("", adjective)
    # "Iraqi" of Iraq; of the countries in -ia only Somalia has such an adjective
    whole = stem == adjective.removesuffix("i") and adjective != "somali"
    return (
        len(stem) > 2 and stem != adjective and stem == (place if whole else _PLACES.sub("", place))
    )


def _initials(words: list[str]) -> Iterator[str]:
    """Yield the initials of each sequence of two to six capitalised words."""
    initials = ""
    for word in words:
        if word[0].isupper():
            initials += word[0]
            for length in range(2, min(6, len(initials)) + 1):
                yield initials[-length:]
        elif word not in _SMALL_WORDS:
            initials = ""
