"""Sentence boundaries by rules for news, abstracts and dialogue, in one deterministic pass.

Used by the baselines, by ROUGE-Lsum and to cut documents at a sentence end. A line break always
ends a sentence. Within a line a sentence may end at a run of `. ! ? …`, together with closing
quotes and brackets, if white space follows. It does end there unless

1. the following text starts with a lower-case letter ("approx. five", '"Why?" he asked'); texts
   without a single capital are exempt, and so is a full stop that stands alone, as in tokenized
   text;
2. the full stop belongs to a title or an abbreviation such as "Fig." or "e.g.", to the number or
   letter of a list item before its text ("1. Introduction"), or to a month, "No." or the like
   before a figure ("Sept. 11");
3. the full stop belongs to something that may also end a sentence, an initial ("J. K. Rowling"), a
   dotted acronym ("U.S.") or an abbreviation such as "Inc.", and the following word is not one that
   commonly opens a sentence ("the", "he", "but").

Full stops and question marks of other scripts (Chinese and Japanese, Devanagari, Arabic and Urdu,
Armenian, Ethiopic, Burmese, Khmer) have no other use: a sentence ends after them and any closing
marks, with or without white space, unless a Japanese quotation continues (with `と`). Thai and Lao
have no such mark, so a line is a sentence.

Rule 3 follows the orthographic and starter heuristics of Kiss and Strunk (2006), with fixed lists
in place of learnt ones, so that two machines always agree.
"""

from __future__ import annotations

import re


def _listed(words: str) -> frozenset[str]:
    return frozenset(words.split())


# U+2018 to U+201D: curly quotes; U+00AB, U+00BB: angled quotes; U+2013, U+2014: dashes.
_END = re.compile(r"""(?P<mark>[.!?\u2026]+)(?P<close>["'\u2019\u201d\u00bb)\]]*)(?=\s)""")
# Marks that end a sentence wherever they occur: full-width ones, danda, Arabic, Urdu, Armenian,
# Ethiopic, Burmese, Khmer; a full-width dot except in a number; ! and ? before kana or Han.
_ALWAYS = re.compile(
    r"""(?:[\u3002\uff01\uff1f\uff61\u0964\u0965\u061f\u06d4\u0589\u1362\u104b\u17d4\u17d5]"""
    r"""|(?<!\d)\uff0e(?!\d)|[!?](?=[!?]*[\u3040-\u30ff\u3400-\u9fff]))+"""
    r"""["'\u2019\u201d\u00bb)\]\u300d\u300f\u3011\uff09\u300b\u3009]*+(?![\u3068\u3001\uff0c])"""
)
_START = re.compile(r"""\s+["'\u2018\u201c\u00ab(\[]*(?P<word>[^\W_]+)?""")
_LAST_WORD = re.compile(r"""[^\s"'\u2018-\u201d\u00ab(\[/\u2013\u2014-]*$""")
_DOTTED = re.compile(r"(?:[^\W\d_]\.)+[^\W\d_]{1,2}$|ph\.d$", re.IGNORECASE)
_LIST_ITEM = re.compile(r"\s*[(\[]?(?:\d{1,2}|[A-Za-z]|[ivx]{1,4})$")

# Titles and states count only if capitalized: "rep", "ill" and "miss" are also words.
TITLES = _listed(
    """mr mrs ms mx dr prof gen sen sens rep reps gov lt col capt sgt cpl pvt maj cmdr adm rev hon
    st mt ft messrs mme mlle msgr pres supt det insp"""
)
_STATES = _listed(
    """ala ariz ark calif colo conn del fla ga ill ind kan ky la md mass mich minn miss mo mont
    neb nev okla ore pa tenn tex va vt wash wis wyo"""
)
_NEVER_LAST = _listed("vs cf viz e.g i.e eg ie resp approx fig figs eq eqs pp")
_BEFORE_FIGURE = _listed(
    """no nos jan feb mar apr jun jul aug sep sept oct nov dec
    p ch art par sec secs tab ref refs def thm prop lem alg vol"""
)
_MAYBE_LAST = _listed(
    "inc corp co ltd plc bros llc jr sr esq etc al dept univ assn ave blvd rd hwy est"
)
_STARTERS = _listed(
    """the a an this that these those he she it they we i you his her its their our my your
    there here what who when where why how which in on at by for from with without to of as if
    although though while since because until unless after before during despite under over
    but and or so yet nor however moreover furthermore meanwhile instead then thus hence also
    both each every some many most several few one two three four five six seven eight nine ten
    more all no not now today yesterday according finally first second third recently later
    still even just let please yes experiments results"""
)


def split_sentences(text: str) -> list[str]:
    """Return the sentences of a text in order, without surrounding white space."""
    return [text[start:end] for start, end in sentence_spans(text)]


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Return the character offsets (start, end) of the sentences in order.

    Everything outside the spans is white space; no span is empty, or starts or ends with white
    space.
    """
    uncased = not any(character.isupper() for character in text)
    spans: list[tuple[int, int]] = []
    offset = 0
    for line in text.splitlines(keepends=True):
        start = 0
        for end in _ends(line, uncased):
            _append_stripped(spans, line, start, end, offset)
            start = end
        _append_stripped(spans, line, start, len(line), offset)
        offset += len(line)
    return spans


def _append_stripped(
    spans: list[tuple[int, int]], line: str, start: int, end: int, offset: int
) -> None:
    piece = line[start:end]
    stripped = piece.strip()
    if stripped:
        first = offset + start + piece.index(stripped[0])
        spans.append((first, first + len(stripped)))


def _ends(line: str, uncased: bool) -> list[int]:
    """Return the offsets in `line` just after each sentence that is followed by another."""
    ends = []
    start = 0
    for match in sorted((*_END.finditer(line), *_ALWAYS.finditer(line)), key=re.Match.start):
        if match.re is _ALWAYS:
            ends.append(match.end())
            start = match.end()
            continue
        following = _START.match(line, match.end())
        if following is None or (following.end() == len(line) and not following["word"]):
            continue
        if _is_boundary(line, start, match, following, uncased):
            ends.append(match.end())
            start = match.end()
    return ends


def _is_boundary(
    line: str, start: int, end: re.Match[str], following: re.Match[str], uncased: bool
) -> bool:
    word = following["word"] or ""
    before = line[start : end.start()]
    stands_alone = not before or before[-1].isspace()
    if word[:1].islower() and not uncased and not stands_alone:
        return False
    if end["mark"] != "." or end["close"]:
        return True
    last = _LAST_WORD.search(before.rstrip())
    token = last.group() if last else ""
    lowered = token.lower()
    capitalized = uncased or token[:1].isupper()
    if lowered in _NEVER_LAST or (capitalized and lowered in TITLES):
        return False
    if lowered in _BEFORE_FIGURE and word[:1].isdigit():
        return False
    if not stands_alone and _LIST_ITEM.fullmatch(before):
        return False
    initial = len(token) == 1 and token.isupper() and token != "I"
    abbreviation = lowered in _MAYBE_LAST or (capitalized and lowered in _STATES)
    if initial or abbreviation or _DOTTED.match(token):
        return word.lower() in _STARTERS
    return True
