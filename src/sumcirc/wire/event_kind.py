"""The definition of a kind of event.

The phrasings of all kinds are in kinds/, in the notation of template.py.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EventKind:
    """A kind of event: its participants, and the sentences that can describe it.

    Sentences are templates without their final full stop that begin in lower case. Every sentence
    may come anywhere after the lead, so it names its subject and doesn't depend on its neighbours.
    Statements that would contradict each other are alternatives in one template.

    Attributes:
        name: name of the kind, such as `fire`.
        case: nouns for such an event, as in "in an unrelated CASE".
        roles: what the person of the event may be, such as a firefighter.
        organizations: patterns of organizations' names, in which `*` stands for a drawn name.
        numbers: possible values of the key fact `how_many`.
        settings: sets of words that go together, by the name of their slot.
        leads: first sentences about the event.
        details: sentences that state at least one key fact.
        background: sentences that need not state a key fact.
        person_quotes: words said by the person of the event.
        other_quotes: words said by one of `sources`.
        sources: people who comment on the event.
        official_quotes: words said on behalf of the organization.
        elsewhere: clauses that report such an event as the second event of an article.
        elsewhere_summaries: for each of `elsewhere`, the summary of that event.
        summaries: summaries, which state each of the four key facts once.
    """

    name: str
    case: tuple[str, ...]  # nouns for such an event: "in an unrelated CASE"
    roles: tuple[str, ...]  # role of the person; a capital marks a formal title
    organizations: tuple[str, ...]  # `*` stands for a name; a leading "the" isn't part of it
    numbers: range  # values of how_many, always a plural
    settings: tuple[dict[str, str], ...]  # words that go together; a `role` replaces `roles`
    leads: tuple[str, ...]
    details: tuple[str, ...]  # each states at least one key fact
    background: tuple[str, ...]
    person_quotes: tuple[str, ...]  # said by the person of the event
    other_quotes: tuple[str, ...]  # said by one of `sources`
    sources: tuple[str, ...]
    official_quotes: tuple[str, ...]  # said on behalf of the organization
    elsewhere: tuple[str, ...]  # a second event as a clause; `||` begins a second sentence
    elsewhere_summaries: tuple[str, ...]  # one for each of `elsewhere`, with the key facts once
    summaries: tuple[str, ...]  # each states the four key facts once


def phrasings(text: str) -> tuple[str, ...]:
    """Return the templates in a block of text, which has one per line.

    A line that is indented more than the first one continues the line before it.

    Raises:
        ValueError: a line is indented less than the first one.
    """
    lines = [line for line in text.splitlines() if line.strip()]
    margin = len(lines[0]) - len(lines[0].lstrip())
    found: list[str] = []
    for line in lines:
        depth = len(line) - len(line.lstrip())
        if depth > margin:
            found[-1] += f" {line.strip()}"
        elif depth == margin:
            found.append(line.strip())
        else:
            raise ValueError(f"phrasing outside the margin: {line!r}")
    return tuple(found)
