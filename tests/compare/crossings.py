"""Parts moved between two models of a test, in few words."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from sumcirc.compare.items.item_set import ItemSet
from sumcirc.compare.patching.components import KINDS, components
from sumcirc.compare.patching.donor_activations import Donor
from sumcirc.compare.patching.patching_scores import PatchingResult, PatchingSetup
from sumcirc.data.examples import ALL
from sumcirc.models.activations.hooked_model import HookedModel

PLENTY = 10**9  # bytes


def crossing(
    models: tuple[Any, Any],
    items: ItemSet,
    folder: Path,
    positions: str = ALL,
    size: int = 4,
    memory: int = PLENTY,
) -> PatchingSetup:
    """How parts come into the first of two models from the second.

    Args:
        folder: in which states lie, in a new folder each time.
    """
    receiver, donor = models
    states = Path(mkdtemp(dir=folder))
    recorded = Donor.record(HookedModel(donor), items, size, [positions], states, unembedding=True)
    return PatchingSetup(HookedModel(receiver), recorded, items, size, positions, None, memory)


def moved_one_by_one(
    models: tuple[Any, Any], items: ItemSet, folder: Path, kinds: Iterable[str] = KINDS
) -> PatchingResult:
    """Every part of some kinds moved at all positions."""
    across = crossing(models, items, folder)
    return across.each(list(components(across.hooked.shape, kinds)))
