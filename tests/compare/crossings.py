"""Parts moved between two models of a test, in few words."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from sumcirc.compare.components import KINDS, components
from sumcirc.compare.items import ALL, Items
from sumcirc.compare.states import Donor
from sumcirc.compare.transfer import Crossing, Moved
from sumcirc.modeling.parts import Parts

PLENTY = 10**9  # bytes


def crossing(
    receiver: Any,
    donor: Any,
    items: Items,
    folder: Path,
    positions: str = ALL,
    size: int = 4,
    memory: int = PLENTY,
) -> Crossing:
    """How the donor's parts come into the receiver; states lie in a new folder in `folder`."""
    states = Path(mkdtemp(dir=folder))
    recorded = Donor.record(Parts(donor), items, size, [positions], states, readout=True)
    return Crossing(Parts(receiver), recorded, items, size, positions, None, memory)


def moved_one_by_one(
    receiver: Any, donor: Any, items: Items, folder: Path, kinds: Iterable[str] = KINDS
) -> Moved:
    """Every part of some kinds moved at all positions."""
    across = crossing(receiver, donor, items, folder)
    return across.each(list(components(across.parts.shape, kinds)))
