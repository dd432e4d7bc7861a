"""The notation of phrasings, and the teller that converts a phrasing to a sentence.

    [a|b|c]     one of the alternatives, each as likely; they nest
    {slot}      a value: the key facts {who} {where} {when} {how_many}; {org} and {rival}, two
                organizations; {he} {his} {him} of the person just named; {speaker}, the person as
                source of a quote, a pronoun when that is clear; {voice}, a passer-by's full name;
                any key of the kind's settings; {capital} begins the next word with a capital
    {a slot}    the value after `a` or `an`
    <words>     words in quotation marks

The person is introduced by role and full name at the first mention, and called by surname after.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache

from sumcirc.wire.article import FACTS
from sumcirc.wire.draw import Draw


@dataclass(frozen=True)
class Slot:
    """A placeholder in a template, which a value replaces."""

    name: str


@dataclass(frozen=True)
class Alternatives:
    """Alternative parts of a template, of which one is chosen at random."""

    options: tuple[Nodes, ...]


Node = str | Slot | Alternatives
Nodes = tuple[Node, ...]

# Roles with one of these words are held by one person at a place.
_UNIQUE = frozenset(
    ("chief", "director", "manager", "founder", "secretary", "treasurer", "captain", "curator")
)
_TOKEN = re.compile(r"[\[\]|]|\{[^{}]*\}|[^\[\]|{}]+")


@cache
def parse(template: str) -> Nodes:
    """Return a template's parts: texts, slots and alternatives.

    Raises:
        ValueError: brackets don't match.
    """
    stack: list[list[list[Node]]] = [[[]]]
    consumed = 0
    for match in _TOKEN.finditer(template):
        token = match.group()
        consumed += len(token)
        if token == "[":
            stack.append([[]])
        elif token == "|" and len(stack) > 1:
            stack[-1].append([])
        elif token == "]" and len(stack) > 1:
            options = tuple(tuple(option) for option in stack.pop())
            stack[-1][-1].append(Alternatives(options))
        elif token in "]|":
            raise ValueError(f"stray {token!r} in template {template!r}")
        elif token.startswith("{"):
            stack[-1][-1].append(Slot(token[1:-1]))
        else:
            stack[-1][-1].append(re.sub("[<>]", '"', token))
    if len(stack) > 1 or consumed != len(template):
        raise ValueError(f"unbalanced brackets in template {template!r}")
    return tuple(stack[0][0])


@cache
def slots_always(template: str) -> frozenset[str]:
    """Return the names of the slots that occur in every sentence made from a template."""
    return _slots(parse(template), every=True)


@cache
def slots_ever(template: str) -> frozenset[str]:
    """Return the names of the slots that occur in at least one sentence made from a template."""
    return _slots(parse(template), every=False)


def _slots(nodes: Nodes, every: bool) -> frozenset[str]:
    found: frozenset[str] = frozenset()
    for node in nodes:
        if isinstance(node, Slot):
            found |= {node.name}
        elif isinstance(node, Alternatives):
            options = [_slots(option, every) for option in node.options]
            found |= frozenset.intersection(*options) if every else frozenset.union(*options)
    return found


def with_article(words: str) -> str:
    """Return words with the article `a` or `an` before them, whichever fits."""
    sounds_consonant = words.lower().startswith(("uni", "uti", "eu", "one", "use"))
    vowel = words[0].lower() in "aeiou" and not sounds_consonant
    return ("an " if vowel or words.lower().startswith(("hour", "honor")) else "a ") + words


@dataclass(frozen=True)
class Cast:
    """The names, numbers and words that replace the slots of templates about one event.

    Attributes:
        kind: name of the kind of event.
        first_name, surname: name of the person.
        woman: whether the person is a woman; otherwise a man.
        role: what the person is, such as `firefighter`.
        place, weekday, number: the key facts besides the surname.
        organization: the organization, with `the` if it takes an article.
        rival: a second organization.
        voice: full name of a passer-by.
        setting: further words that go together, by the name of their slot.
    """

    kind: str
    first_name: str
    surname: str
    woman: bool
    role: str
    place: str
    weekday: str
    number: str
    organization: str  # with "the" if it takes an article
    rival: str
    voice: str
    setting: dict[str, str]

    @property
    def facts(self) -> dict[str, str]:
        """The key facts by role (`FACTS`): surname, place, weekday and number."""
        values = (self.surname, self.place, self.weekday, self.number)
        return dict(zip(FACTS, values, strict=True))

    @property
    def entities(self) -> tuple[str, str, str]:
        """The person's full name, the place, and the organization without `the`."""
        person = f"{self.first_name} {self.surname}"
        return person, self.place, self.organization.removeprefix("the ")


@dataclass
class Sentence:
    """A sentence made from a template.

    Attributes:
        text: the sentence.
        facts: character offset and role of each key fact in the sentence.
        names_voice: whether the sentence names the passer-by.
    """

    text: str
    facts: list[tuple[int, str]] = field(default_factory=list)
    names_voice: bool = False


class Teller:
    """Makes sentences about one event, which introduce the person once.

    Args:
        cast: names and numbers of the event.
        draw: source of randomness.
        styles: ways of introducing the person, one of which is picked at random: `role`
            ("firefighter Grace Okafor"), `apposition` ("Grace Okafor, a firefighter,"), `name` or
            `surname`. A style that is listed several times is picked more often.
    """

    def __init__(self, cast: Cast, draw: Draw, styles: tuple[str, ...]) -> None:
        self.cast = cast
        self.draw = draw
        self.styles = styles
        self.introduced = False
        self.told: set[str] = set()  # slots used so far
        self.clear_pronoun = False  # the previous sentence was about this person and no one else
        self._pronoun = ("she", "her", "her") if cast.woman else ("he", "his", "him")

    def tell(self, template: str) -> Sentence:
        """Return a sentence made from a template, with a capital letter and a full stop."""
        self._pieces: list[str] = []
        self._length = 0
        self._facts: list[tuple[int, str]] = []
        self._pending_comma = False
        self._capital = True
        self._named = False
        self._names_voice = False
        self._tell(parse(template))
        text = "".join(self._pieces)
        if not text.endswith('."'):
            text += "."
        self.clear_pronoun = self._named and not self._names_voice
        return Sentence(text, self._facts, self._names_voice)

    def _tell(self, nodes: Nodes) -> None:
        for index, node in enumerate(nodes):
            if isinstance(node, str):
                self._say(node)
            elif isinstance(node, Alternatives):
                self._tell(self.draw.pick(node.options))
            else:
                self._fill(node.name, nodes[index + 1] if index + 1 < len(nodes) else "")

    def _say(self, text: str) -> None:
        if self._pending_comma and text:
            self._pending_comma = False
            if text[0] not in ".,":
                self._say(",")
        if self._capital and text:
            self._capital = False
            text = text[0].upper() + text[1:]
        self._pieces.append(text)
        self._length += len(text)

    def _say_fact(self, role: str) -> None:
        text = self.cast.facts[role]
        self._say("")
        self._facts.append((self._length, role))
        self._say(text)

    def _fill(self, name: str, following: Node) -> None:
        cast = self.cast
        self.told.add(name.removeprefix("a "))
        if name == "who":
            self._name_person(following)
        elif name == "speaker":
            if self.introduced and self.clear_pronoun and self.draw.chance(0.6):
                self._say(self._pronoun[0])
                self._named = True
            else:
                self._name_person(following)
        elif name in FACTS:
            self._say_fact(name)
        elif name in ("he", "his", "him"):
            self._say(self._pronoun[("he", "his", "him").index(name)])
        elif name == "org":
            self._say(cast.organization)
        elif name == "rival":
            self._say(cast.rival)
        elif name == "voice":
            self._names_voice = True
            self._say(cast.voice)
        elif name == "capital":
            self._capital = True
        elif name.startswith("a "):
            self._say(with_article(cast.setting[name[2:]]))
        else:
            self._say(cast.setting[name])

    def _name_person(self, following: Node) -> None:
        cast = self.cast
        self._named = True
        if self.introduced:
            self._say_fact("who")
            return
        self.introduced = True
        style = self.draw.pick(self.styles)
        open_end = isinstance(following, str) and following[:1] in (" ", ",", "", ".")
        formal = cast.role[0].isupper()
        if style == "apposition" and (formal or not open_end):
            style = "role"
        if style == "role":
            self._say(f"{cast.role} ")
        if style != "surname":
            self._say(f"{cast.first_name} ")
        self._say_fact("who")
        if style == "apposition":
            unique = _UNIQUE & set(cast.role.split())
            self._say(f", the {cast.role}" if unique else f", {with_article(cast.role)}")
            self._pending_comma = True
