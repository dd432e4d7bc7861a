"""The entities and numbers of an event, and the split in which they may appear.

Each combination of person, place and organization belongs to one split, determined by a stable hash
of the three names: `pretrain` has six tenths of them, `train` two, `validation` and `test` one
each. Combinations are drawn until one belongs to the requested split, for any seed, so no two
splits share a combination.
"""

from __future__ import annotations

from sumcirc.wire import lexicon
from sumcirc.wire.draw import Draw, stable_hash
from sumcirc.wire.event_kind import EventKind
from sumcirc.wire.template import Cast

_SHARES = ("pretrain",) * 6 + ("train",) * 2 + ("validation", "test")


def split_of(entities: tuple[str, str, str]) -> str:
    """Return the split in which a combination of names may appear, such as `train`.

    Args:
        entities: full name of the person, the place, and the organization.
    """
    return _SHARES[stable_hash("split", *entities) % len(_SHARES)]


def draw_cast(kind: EventKind, draw: Draw, apart_from: Cast | None = None) -> Cast:
    """Draw the names and numbers of an event at random.

    Args:
        kind: kind of the event.
        draw: source of randomness.
        apart_from: names and numbers of another event, from which those drawn have to differ; None
            for no such event.
    """
    while True:
        woman = draw.chance(0.5)
        first, voice_first = (
            draw.pick(lexicon.WOMEN if woman else lexicon.MEN),
            _first_name(draw),
        )
        surname, voice = draw.pick(lexicon.SURNAMES), draw.pick(lexicon.SURNAMES)
        names = draw.shuffled(lexicon.ORGANIZATION_NAMES)
        patterns = draw.shuffled(kind.organizations)
        setting = draw.pick(kind.settings)
        cast = Cast(
            kind=kind.name,
            first_name=first,
            surname=surname,
            woman=woman,
            role=setting.get("role") or draw.pick(kind.roles),
            place=draw.pick(lexicon.PLACES),
            weekday=draw.pick(lexicon.WEEKDAYS),
            number=format_number(draw.pick(kind.numbers)),
            organization=patterns[0].replace("*", names[0]),
            rival=patterns[1].replace("*", names[1]),
            voice=f"{voice_first} {voice}",
            setting=setting,
        )
        if len({first, voice_first}) == len({surname, voice}) == 2 and (
            apart_from is None or _differ(cast, apart_from)
        ):
            return cast


def format_number(number: int) -> str:
    """Return a number as text with commas between thousands, as in `1,284`."""
    return f"{number:,}"


def _first_name(draw: Draw) -> str:
    return draw.pick(lexicon.WOMEN if draw.chance(0.5) else lexicon.MEN)


def _differ(cast: Cast, other: Cast) -> bool:
    facts = zip(cast.facts.values(), other.facts.values(), strict=True)
    return (
        all(mine != theirs for mine, theirs in facts)
        and not set(cast.entities[0].split()) & set(other.voice.split())
        and cast.first_name != other.first_name
        and cast.organization.split()[:2] != other.organization.split()[:2]
        and cast.setting is not other.setting
    )
