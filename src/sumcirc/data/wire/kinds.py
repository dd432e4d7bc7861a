"""The event kinds by name."""

from __future__ import annotations

from sumcirc.data.wire.kind import Kind
from sumcirc.data.wire.kinds_alarm import HEIST, OUTBREAK, RESCUE
from sumcirc.data.wire.kinds_culture import AWARD, DIG, MATCH
from sumcirc.data.wire.kinds_economy import FACTORY, MERGER, STRIKE
from sumcirc.data.wire.kinds_hazard import FIRE, FLOOD, STORM
from sumcirc.data.wire.kinds_public import ELECTION, PROTEST, VERDICT

BY_NAME: dict[str, Kind] = {
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
