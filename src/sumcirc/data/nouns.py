"""Finds English nouns without a model, by closed lists and by the words around them.

Two sources, which differ in how sure they are:

- `LISTS`: words of one class each (professions, places, ...). Words that are often verbs
  ("train", "book") are not among them, and neither are irregular plurals.
- `nouns`: a lower-case word between an article, possessive or preposition, with or without an
  adjective, and a preposition, auxiliary or punctuation ("a new proposal to", "for images."), and
  a plural between an adjective and one of these ("visual tasks in").

Limits: the second rule takes some adjectives and verbs for nouns, and doesn't know which words are
countable unless the text has them after "a" or "an" or in the plural.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# all words of a list fit into each other's sentences; a list has countable or uncountable words
LISTS = {
    "profession": _words(
        """doctor teacher lawyer nurse engineer manager secretary waiter waitress driver reporter
        journalist student professor accountant artist editor officer dentist singer dancer
        soldier farmer mechanic plumber electrician architect assistant scientist writer
        painter photographer director salesman customer client colleague lecturer pilot"""
    ),
    "relative": _words("mother father sister brother son daughter uncle aunt cousin nephew niece"),
    "place": _words(
        """restaurant hotel library airport hospital museum cinema theater supermarket school office
        bank hostel cafe apartment inn church station stadium gym club garden factory bakery
        pharmacy house flat kitchen bedroom store shop mall market village island river mountain
        beach lake"""
    ),
    "vehicle": _words("car bus taxi bike bicycle motorcycle truck van boat plane scooter tram"),
    "animal": _words("dog cat horse rabbit bird tiger lion elephant monkey pig cow sheepdog goat"),
    "garment": _words("shirt coat dress jacket sweater suit skirt hat scarf blouse belt tie vest"),
    "object": _words(
        """computer camera radio television telephone laptop bed sofa desk chair lamp clock
        umbrella wallet purse bag suitcase ring necklace piano guitar violin magazine
        newspaper dictionary passport ticket bottle knife fork bowl"""
    ),
    "drink": _words("coffee tea water juice milk beer wine soup lemonade whisky cocoa"),
    "food": _words("rice bread cheese chicken beef pork butter fruit salad pasta bacon chocolate"),
    "field": _words("history chemistry biology geography literature philosophy economics physics"),
    "sport": _words("tennis football basketball golf soccer baseball hockey badminton volleyball"),
    "event": _words(
        """party wedding meeting interview concert exam lecture conference trip exhibition movie
        lesson ceremony festival seminar picnic funeral"""
    ),
    "illness": _words("headache fever cough toothache stomachache rash backache"),
    "colour": _words("red blue green yellow black white brown pink purple grey"),
    "unit": _words("minute day week month year decade century"),
    "medium": _words("image video text"),
}

# words for the same thing in all classes, which no rule about a word's place tells from nouns
_NO_NOUNS = frozenset(
    _words(
        """lot lots rest number bit kind kinds sort sorts type types way ways use case fact most
        first last next other others same following own best worst while couple pair few little time
        times one ones two three more less many much such only very whole second third latter
        former latest new old good great small large big right left past present future end
        beginning top bottom middle back front side part parts thing things state-of-the-art need
        plan hope want like love look help try call state set lack aim range variety series well
        better later earlier former mean means means example instance order terms term addition
        contrast result results reason so not too just still all both"""
    )
)
_SOUNDS = ("hou", "hon", "heir", "uni", "use", "usu", "eu", "one", "once")  # "an hour", "a user"
_ADJECTIVES = frozenset(
    _words(
        """new good great small large big old young long short high low deep simple single whole
        different same local main real full free hard early late nice bad cheap fine fast first
        second next last common strong weak standard better best novel efficient recent current
        robust sparse dense smooth complex latent hidden private public human"""
    )
)
_KNOWN = "|".join(sorted(_ADJECTIVES))
_ENDINGS = "al|ic|ive|ous|ful|able|ible|less"
_ADJECTIVE = rf"(?:[a-z]+(?:{_ENDINGS}|ed|ing|ary|ent|ant)|{_KNOWN})"
_BEFORE_PLURAL = rf"(?:[a-z]+(?:{_ENDINGS})|{_KNOWN})"
_AFTER = _words(
    """of in on at for from with by to is was are were has have had will can could would should may
    might that which who when where because but than into about as through between during without
    via using under over after before"""
)
_ARTICLES = "[Aa]n?|[Tt]he|[Mm]y|[Yy]our|[Hh]is|[Oo]ur|[Tt]heir|[Ii]ts"
_PREPOSITIONS = "of|in|on|at|for|from|with|between|into|about|without|via|over|through|during"
_NOUN = re.compile(
    rf"(?<![\w'-])(?:(?P<before>{_ARTICLES}|{_PREPOSITIONS})(?: {_ADJECTIVE})?"
    r" (?P<noun>[a-z]{3,})"
    rf"|{_BEFORE_PLURAL} (?P<plural>[a-z]{{3,}}s))"
    rf"(?= (?P<after>{'|'.join(_AFTER)})\b|(?P<end>[.,;:?!)]))"
)
_VERB_AFTER = _words(
    """to I you we they not can could will would should may might must please let's who don't
    didn't doesn't won't can't I'll you'll we'll and"""
)
_NO_ENDS = ("ly", "ing", "ed", "est", "ous", "ful", "ible", "able", "ics", "self", "less", "ive")
_NO_PLURALS = ("ss", "us", "is")


@dataclass(frozen=True)
class Noun:
    """A noun in a text.

    Attributes:
        start, end: range [start, end) of its characters.
        word: its singular in lower case.
        counted: whether it is in the plural or after "a" or "an".
        after: the word or mark that follows it.
    """

    start: int
    end: int
    word: str
    counted: bool
    after: str


def nouns(text: str) -> list[Noun]:
    """Return the nouns that are recognized by the words around them, in order.

    Words that the text also has in places of verbs are left out.
    """
    found = []
    for match in _NOUN.finditer(text):
        group = "noun" if match["noun"] else "plural"
        written = match[group]
        word = _singular(written)
        if word is None or {word, written} & _NO_NOUNS or word.endswith(_NO_ENDS):
            continue
        article = (match["before"] or "").lower() in ("a", "an")
        if (article and word != written) or (group == "plural" and word == written):
            continue
        if not word.startswith(_SOUNDS) and not _is_verb(text, word):
            counted = article or word != written
            after = match["after"] or match["end"]
            found.append(Noun(*match.span(group), word, counted, after))
    return found


def forms(word: str) -> tuple[str, ...]:
    """Return the singular and the regular plural of a noun, and both with a capital."""
    if re.search(r"[^aeiou]y$", word):
        plural = f"{word[:-1]}ies"
    else:
        plural = f"{word}es" if word.endswith(("s", "x", "ch", "sh")) else f"{word}s"
    both = word, plural
    return (*both, *(one[0].upper() + one[1:] for one in both))


def same_article(one: str, other: str) -> bool:
    """Return whether two nouns take the same indefinite article, judging by first letters."""
    return (one[0].lower() in "aeiou") == (other[0].lower() in "aeiou")


def _singular(word: str) -> str | None:
    """Return the singular of a noun; None if it isn't a regular form."""
    if not word.endswith("s") or word.endswith(_NO_PLURALS):
        return word
    if word.endswith("as"):  # "bias", "ideas"
        return None
    if word.endswith("ies"):
        return f"{word[:-3]}y"
    candidates = (word[:-1], word[:-2])
    return next((one for one in candidates if forms(one)[1] == word), None)


def _is_verb(text: str, word: str) -> bool:
    return re.search(rf"\b(?:{'|'.join(_VERB_AFTER)}) {word}s?\b", text) is not None
