"""Decoys of a planted change: drawn so that they are inert, and half of them trained from there."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarks.planted.changes import Change, Deltas, Place, inert, norm_of
from benchmarks.planted.models import KINDS, Decoy, Planted


def begun(
    made: Planted,
    others: Sequence[Place],
    tokens: Tensor,
    generator: torch.Generator,
    real: Tensor | None = None,
) -> list[Change]:
    """Add the inert decoys to a model, and return the other half, which are to be trained.

    Args:
        made: the model, with its plant.
        others: places of all decoys, of which the first half are to be trained.
        tokens: [sequences, tokens] token ids, on which all decoys are inert.
        generator: generator of the draws.
        real: as of `changes.inputs_of`.
    """
    sizes = [float(norm_of(one)) for one in made.changes]
    with_plant = made.model(decoys=False)
    half = KINDS[made.kind].decoys // 2
    found = []
    for number, place in enumerate(others):
        size = sizes[number % len(sizes)]
        deltas = inert(place, with_plant, tokens, size, generator, real)
        if number < half:
            change = Change(place, made.base.model, generator, size)
            change.begin_at(deltas)
            found.append(change)
        else:
            made.decoys.append(Decoy(place, False, deltas))
    return found


def finished(made: Planted, trained: Sequence[Change]) -> None:
    """Put the decoys that were trained before the inert ones of a model.

    Args:
        made: the model.
        trained: what `begun` returned, after training.
    """
    made.decoys = [*(Decoy(one.place, True, detached(one)) for one in trained), *made.decoys]


def detached(change: Change) -> Deltas:
    """Return a change of the weights without its gradients."""
    return {name: one.detach() for name, one in change.deltas().items()}
