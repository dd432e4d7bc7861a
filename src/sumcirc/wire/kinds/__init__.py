"""The event kinds by name."""

from __future__ import annotations

from sumcirc.wire.event_kind import EventKind
from sumcirc.wire.kinds.alarm import HEIST, OUTBREAK, RESCUE
from sumcirc.wire.kinds.culture import AWARD, DIG, MATCH
from sumcirc.wire.kinds.economy import FACTORY, MERGER, STRIKE
from sumcirc.wire.kinds.hazard import FIRE, FLOOD, STORM
from sumcirc.wire.kinds.public import ELECTION, PROTEST, VERDICT

BY_NAME: dict[str, EventKind] = {
    kind.name: kind
    for kind in (
        FIRE,
        FLOOD,
        STORM,
        RESCUE,
        OUTBREAK,
        HEIST,
        MERGER,
        FACTORY,
        STRIKE,
        ELECTION,
        VERDICT,
        PROTEST,
        MATCH,
        DIG,
        AWARD,
    )
}

KINDS: tuple[str, ...] = tuple(BY_NAME)
