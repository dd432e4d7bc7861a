"""An event kind: what it consists of.

The phrasings are in kinds_*.py, in the notation of template.py.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """An event kind: who takes part, and the sentences that can tell of it.

    Sentences are templates without their final full stop, begun in lower case. Every sentence may
    stand anywhere after the lead, so it names what it speaks of and doesn't lean on a neighbour;
    what would contradict another sentence is an alternative inside the same template.
    """

    name: str
    case: tuple[str, ...]  # nouns for an event of this kind: "in an unrelated CASE"
    roles: tuple[str, ...]  # what the person is; a capital marks a formal title
    organizations: tuple[str, ...]  # `*` stands for a name; a leading "the" is no part of it
    numbers: range  # of how_many, always a plural
    settings: tuple[dict[str, str], ...]  # words that go together; a `role` replaces `roles`
    leads: tuple[str, ...]
    details: tuple[str, ...]  # each states at least one key fact
    background: tuple[str, ...]
    person_quotes: tuple[str, ...]  # said by the person of the event
    other_quotes: tuple[str, ...]  # said by one of `sources`
    sources: tuple[str, ...]
    official_quotes: tuple[str, ...]  # said on behalf of the organization
    elsewhere: tuple[str, ...]  # a second event as a clause; `||` begins a second sentence
    summaries: tuple[str, ...]  # each states the four key facts once


def phrasings(text: str) -> tuple[str, ...]:
    """Read templates from a block of text, one a line; a deeper line goes on with the one before.

    Raises ValueError for a line left of the first one.
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
