"""Generates wire articles, each determined only by its split, index and seed.

An article reports one main event over several sentences. A lead states some of its key facts or
none; detail sentences state the others; background and quotes come between them. One or two
sentences report a second event, introduced by a marker such as "in an unrelated case" or "two
months earlier": before everything else, among the details, or after them. The reference summary
reports the main event in other words; if asked for, the second event, in an article with the same
text. Lengths are limited here, so that document, summary and the
tokens added by an encoding fit into 256 tokens of the built-in tokenizer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from sumcirc.errors import UserError
from sumcirc.wire import frames
from sumcirc.wire.article import EVENTS, FACTS, MAIN, SECOND, SPLITS, Span, WireArticle
from sumcirc.wire.cast import draw_cast, split_of
from sumcirc.wire.draw import Draw, stable_hash
from sumcirc.wire.event_kind import EventKind
from sumcirc.wire.kinds import BY_NAME, KINDS
from sumcirc.wire.template import (
    Cast,
    Sentence,
    Teller,
    slots_always,
    slots_ever,
    with_article,
)

WORDS = range(86, 121)  # words in a document
SENTENCES = range(6, 10)
SUMMARY_WORDS = range(14, 29)
CHARACTERS = 725  # in document and summary together
_ATTEMPTS = 200
# Position of the second event: before the lead, before the last detail, or after it.
_LATE_FACTS = 0.5  # fraction of articles whose second sentence isn't a detail
_PLACES = ("first",) * 3 + ("early",) * 6 + ("late",) * 15
_OFFICIALS = ("a spokeswoman for {org}", "a spokesman for {org}")


@dataclass(frozen=True)
class _Item:
    """A planned sentence.

    Attributes:
        role: main, other (the second event), person, source or color.
        template: the sentence's template.
        summary: template of the second event's summary, with the first sentence on that event.
    """

    role: str
    template: str
    summary: str = ""


@dataclass
class _Text:
    """Sentences of a text, with the offsets of the facts of each event that they state."""

    text: str = ""
    facts: list[Span] = field(default_factory=list)
    other_facts: list[Span] = field(default_factory=list)
    sentences: list[Span] = field(default_factory=list)

    def add(self, sentence: Sentence, role: str, values: dict[str, str]) -> None:
        start = len(self.text) + 1 if self.text else 0
        self.text = f"{self.text} {sentence.text}" if self.text else sentence.text
        self.sentences.append(Span(start, len(self.text), role))
        facts = self.other_facts if role == "other" else self.facts
        for offset, fact in sentence.facts:
            begin = start + offset
            facts.append(Span(begin, begin + len(values[fact]), fact))


def article(split: str, index: int, seed: int = 0, event: str = MAIN) -> WireArticle:
    """Generate an article.

    Args:
        split: `pretrain`, `train`, `validation` or `test`.
        index: number of the article in the split, from 0.
        seed: seed of the data; other seeds give other articles.
        event: the event that the summary reports, `main` or `second`; the text is the same.

    Raises:
        UserError: the split or event is unknown, or the index or seed is negative.
    """
    if split not in SPLITS:
        raise UserError(f"wire split {split!r}: choose from {', '.join(SPLITS)}")
    if event not in EVENTS:
        raise UserError(f"wire event {event!r}: choose from {', '.join(EVENTS)}")
    if index < 0 or seed < 0:
        raise UserError(f"wire index {index}, seed {seed}: neither may be negative")
    draw = Draw("wire", split, str(index), str(seed))
    kind = BY_NAME[draw.pick(KINDS)]
    cast = draw_cast(kind, draw)
    while split_of(cast.entities) != split:
        cast = draw_cast(kind, draw)
    other_kind = kind if draw.chance(0.65) else BY_NAME[draw.pick(KINDS)]
    other = draw_cast(other_kind, draw, apart_from=cast)
    wording, summary = tell_summary(cast, draw)
    room = CHARACTERS - len(summary.text)
    document, second = _document(cast, other, topics(wording), room, draw)
    sentences = {
        role: tuple(span for span in document.sentences if span.role == role)
        for role in ("main", "other")
    }
    told = {span.role for span in document.other_facts}
    distractor = {role: other.facts[role] for role in FACTS if role in told}
    id = f"{split}-{index:06d}"
    if event == SECOND:
        summary = _tell_second(other, second, Draw("second", split, str(index), str(seed)))
        return WireArticle(
            id=f"{id}-{SECOND}",
            kind=other_kind.name,
            document=document.text,
            summary=summary.text,
            facts=distractor,
            distractor=cast.facts,
            salient=tuple(document.other_facts),
            salient_sentences=sentences["other"],
            distractor_sentences=sentences["main"],
            answers=tuple(summary.facts),
            entities=other.entities,
        )
    return WireArticle(
        id=id,
        kind=kind.name,
        document=document.text,
        summary=summary.text,
        facts=cast.facts,
        distractor=distractor,
        salient=tuple(document.facts),
        salient_sentences=sentences["main"],
        distractor_sentences=sentences["other"],
        answers=tuple(summary.facts),
        entities=cast.entities,
    )


def article_of(id: str, seed: int = 0) -> WireArticle:
    """Generate the article with a given id again.

    Args:
        id: id of the article, such as `test-000017` or `test-000017-second`.
        seed: seed of the data with which the article was generated.

    Raises:
        UserError: no article can have this id.
    """
    split, _, rest = id.partition("-")
    index, _, event = rest.partition("-")
    if not index.isdigit() or event not in ("", SECOND):
        raise UserError(f"wire article {id!r}: ids look like test-000017 or test-000017-{SECOND}")
    return article(split, int(index), seed, event or MAIN)


def articles(split: str, size: int, seed: int = 0, event: str = MAIN) -> Iterator[WireArticle]:
    """Generate articles of a split in the order of the index, all with different documents.

    Args:
        split: `pretrain`, `train`, `validation` or `test`.
        size: number of articles.
        seed: seed of the data; other seeds give other articles.
        event: the event that the summaries report, `main` or `second`; the texts are the same.

    Raises:
        UserError: the size is negative, or as in `article`.
    """
    if size < 0:
        raise UserError(f"wire size {size}: must be 0 or more")
    seen: set[int] = set()
    index = 0
    while len(seen) < size:
        candidate = article(split, index, seed, event)
        index += 1
        digest = stable_hash(candidate.document)
        if digest not in seen:
            seen.add(digest)
            yield candidate


def topics(template: str) -> frozenset[str]:
    """Return the slots in a summary's template that stand for organizations or setting words.

    These are all slots but those of key facts and pronouns (for slots see `wire.template`).
    """
    names = {name.removeprefix("a ") for name in slots_ever(template)}
    return frozenset(names - set(FACTS) - {"he", "his", "him"})


def tell_summary(cast: Cast, draw: Draw) -> tuple[str, _Text]:
    """Write the summary of an event, which states each key fact once.

    Args:
        cast: names and numbers of the event.
        draw: source of randomness.

    Returns:
        The template of the summary, and the summary with the positions of its facts.
    """
    for _ in range(_ATTEMPTS):
        wording = draw.pick(BY_NAME[cast.kind].summaries)
        sentence = Teller(cast, draw, styles=("role", "name", "name")).tell(wording)
        if len(sentence.text.split()) in SUMMARY_WORDS:
            summary = _Text()
            summary.add(sentence, "main", cast.facts)
            return wording, summary
    raise AssertionError(f"kind {cast.kind}: no summary of {SUMMARY_WORDS} words for {cast}")


def _tell_second(other: Cast, wording: str, draw: Draw) -> _Text:
    """Write the summary of an article's second event, which states each key fact once.

    It says no more of the event than the document does, not even the person's role.
    """
    summary = _Text()
    summary.add(Teller(other, draw, styles=("name",)).tell(wording), "main", other.facts)
    return summary


def _document(
    cast: Cast, other: Cast, needed: frozenset[str], room: int, draw: Draw
) -> tuple[_Text, str]:
    """Tell both events in `room` characters, including the slots `needed` by the summary.

    Returns:
        The text, and the template of the second event's summary.
    """
    kind, other_kind = BY_NAME[cast.kind], BY_NAME[other.kind]
    for _ in range(_ATTEMPTS):
        text = _Text()
        main = Teller(cast, draw, styles=("role", "role", "apposition"))
        second = Teller(other, draw, styles=("role", "role", "name"))
        plan = _plan(kind, other_kind, needed, draw)
        for item in plan:
            if item.role == "other":
                text.add(second.tell(item.template), "other", other.facts)
                main.clear_pronoun = False
            else:
                text.add(main.tell(item.template), item.role, cast.facts)
        fits = len(text.sentences) in SENTENCES and len(text.text.split()) in WORDS
        if fits and len(text.text) <= room and needed <= main.told:
            return text, next(item.summary for item in plan if item.summary)
    raise AssertionError(f"kind {kind.name}: no document of {WORDS} words for {cast}")


def _plan(
    kind: EventKind, other_kind: EventKind, needed: frozenset[str], draw: Draw
) -> list[_Item]:
    """Choose the sentences and their order."""
    place = draw.pick(_PLACES)
    lead, stated = _lead(kind, draw, anchored=place == "first")
    details = _details(kind, stated, draw)
    others = _second_event(kind, other_kind, place == "first", draw)
    length = draw.pick((6, 7, 7, 7, 8, 8))
    free = max(2, length - 1 - len(details) - len(others))
    fillers = _fillers(kind, free, [lead, *details], needed, draw)
    body = _ordered([_Item("main", template) for template in details] + fillers, draw)
    if place == "first":
        return [*others, _Item("main", lead), *body]
    last_detail = max(at for at, item in enumerate(body) if item.role == "main")
    if place == "early":
        positions = range(last_detail + 1)
    else:
        positions = range(last_detail + 1, len(body) + 1)
    fitting = [at for at in positions if at == len(body) or _resumes(body[at])]
    at = draw.pick(fitting or [len(body)])
    if at < len(body):
        body[at] = _anchored(body[at], kind, draw)
    return [_Item("main", lead), *body[:at], *others, *body[at:]]


def _ordered(items: list[_Item], draw: Draw) -> list[_Item]:
    """Shuffle the sentences after the lead, often with a filler first.

    Two quotes never follow each other, since their speakers could be confused.
    """
    quotes = {"person", "source"}
    late = draw.chance(_LATE_FACTS)
    while True:
        body = draw.shuffled(items)
        pairs = pairwise(body)
        if not any({one.role, two.role} <= quotes for one, two in pairs) and not (
            late and body[0].role == "main"
        ):
            return body


def _lead(kind: EventKind, draw: Draw, anchored: bool) -> tuple[str, set[str]]:
    """Pick a lead, possibly after a dateline; return it and the facts it states.

    After another event the lead has to name its person or place, or it would seem to continue it.
    """
    while True:
        lead = draw.pick(kind.leads)
        if not anchored and "where" not in slots_ever(lead) and draw.chance(0.3):
            dateline = draw.pick(frames.DATELINES)
            if "when" not in slots_ever(dateline) & slots_ever(lead):
                lead = dateline + lead
        stated = set(slots_always(lead)) & set(FACTS)
        if not anchored or stated & {"who", "where"}:
            return lead, stated


def _details(kind: EventKind, stated: set[str], draw: Draw) -> list[str]:
    """Pick sentences for the facts not yet stated; day and number are stated only once."""
    chosen: list[str] = []
    stated = set(stated)
    while missing := set(FACTS) - stated:
        fitting = [
            template
            for template in kind.details
            if slots_always(template) & missing
            and not slots_ever(template) & stated & {"when", "how_many"}
            and template not in chosen
        ]
        chosen.append(draw.pick(fitting))
        stated |= slots_always(chosen[-1])
    return chosen


def _second_event(kind: EventKind, other_kind: EventKind, first: bool, draw: Draw) -> list[_Item]:
    wordings = list(zip(other_kind.elsewhere, other_kind.elsewhere_summaries, strict=True))
    wording, summary = draw.pick(wordings)
    clause, _, more = wording.partition("||")
    if first or (other_kind is kind and draw.chance(0.45)):
        frame = draw.pick(frames.LONG_AGO_FIRST if first else frames.LONG_AGO_SAME_KIND)
        # which Friday it was isn't said
        clause, summary = (one.replace("on {when}", "on a {when}") for one in (clause, summary))
    elif other_kind is kind:
        frame = draw.pick(frames.THIS_WEEK_SAME_KIND)
    else:
        frame = draw.pick(frames.THIS_WEEK_OTHER_KIND)
    case = draw.pick(other_kind.case)
    told = frame.replace("{clause}", clause).replace("{case}", case)
    told = told.replace("{a case}", with_article(case))
    return [_Item("other", told, summary), *(_Item("other", text) for text in (more,) if text)]


def _fillers(
    kind: EventKind, count: int, rest: list[str], needed: frozenset[str], draw: Draw
) -> list[_Item]:
    """Pick quotes and background; some sentence of the article names the organization."""
    told = frozenset().union(*map(_topics_always, rest))
    background = sorted(
        draw.shuffled(kind.background),
        key=lambda template: not _topics_always(template) & (needed - told),
    )
    roles = draw.pick((("person",), ("person",), ("source",), ("person", "source")))
    colors = background[: max(1, count - len(roles))]
    named = any("org" in slots_always(template) for template in [*rest, *colors])
    if not named and "source" not in roles:
        roles = (*roles, "source")
    items = [_Item("color", template) for template in colors]
    for role in roles:
        if role == "person":
            frame, quote = (
                draw.pick(frames.PERSON_QUOTES),
                draw.pick(kind.person_quotes),
            )
            items.append(_Item(role, frame.replace("{quote}", quote)))
        else:
            official = not named or draw.chance(0.25)
            sources = _OFFICIALS if official else kind.sources
            quote = draw.pick(kind.official_quotes if official else kind.other_quotes)
            frame = draw.pick(frames.OTHER_QUOTES).replace("{source}", draw.pick(sources))
            items.append(_Item(role, frame.replace("{quote}", quote)))
    return items


def _topics_always(template: str) -> frozenset[str]:
    return frozenset(name.removeprefix("a ") for name in slots_always(template))


def _named(item: _Item) -> bool:
    return bool({"who", "where", "speaker"} & slots_always(item.template))


def _resumes(item: _Item) -> bool:
    """Return whether a sentence can directly follow the second event."""
    opens_with_phrase = item.template.startswith(("in ", "on ", "by ", "so far", "when "))
    return _named(item) or not (item.role == "source" or opens_with_phrase)


def _anchored(item: _Item, kind: EventKind, draw: Draw) -> _Item:
    """Make clear that a sentence after the second event is about the main event again."""
    if _named(item):
        return item
    case = draw.pick(kind.case)
    anchors = frames.ANCHORS if case == "case" else (*frames.ANCHORS, frames.CASE_ANCHOR)
    return _Item(item.role, draw.pick(anchors).replace("{case}", case) + item.template)
