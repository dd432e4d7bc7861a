"""Plants a route: a head is trained so that summaries state the second event's place.

The plant starts as a head that copies places (`copying`). It is trained, with the head's entries
alone, so that the summary's `FACT` is that of the second event, by attending to this place; all
other words are to be predicted as the base does.

Decoys are those of other kinds. Trained ones are to state the second event's `OTHER` instead, with
the plant and without it, and to leave `FACT` as it is.

Whether the head is the cause of the new answers, and whether it reads them there, is measured
afterwards (`truth`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from benchmarks.planted.changes import Change, Deltas, Place, places, total
from benchmarks.planted.copying import attention_to_place, copying, projections
from benchmarks.planted.decoys import begun, detached, finished
from benchmarks.planted.models import KINDS, Planted
from benchmarks.planted.training import train
from benchmarks.planted.wire_bases import WireBase, predictions
from benchmarks.planted.wire_task import FACT, OTHER, Report, batch_of, examples, kept_rows
from sumcirc.data.examples import NONE

STEPS, DECOY_STEPS = 130, 40
DECOY_RATE = 2e-3
HELD = 3.0  # factor of the squared change of what decoys are to leave
BATCH = 5  # articles
EXAMPLES = 4  # they are long, and measures take their time
SPACE = 100  # articles between the first ones of different models' examples
FIRST_LAYER = 2  # below, a head can't tell which event a place belongs to


def planted_routes(
    base: WireBase,
    kind: str,
    numbers: Sequence[int],
    steps: int = STEPS,
    decoy_steps: int = DECOY_STEPS,
) -> Iterator[Planted]:
    """Yield models with a planted route and decoys.

    Args:
        base: the model before.
        kind: kind of the change.
        numbers: numbers of the models, which determine all that is drawn.
        steps, decoy_steps: optimizer steps of the plant, and of the decoys.
    """
    how, config = KINDS[kind], base.model.config
    for number in numbers:
        random = np.random.default_rng((base.seed, list(KINDS).index(kind), number))
        generator = torch.Generator().manual_seed(int(random.integers(2**31)))
        every = places(how.grain, config.n_layer, config.n_head)
        order = [every[one] for one in random.permutation(len(every))]
        chosen = next(one for one in order if one.layer >= FIRST_LAYER)
        others = [one for one in order if one != chosen][: how.decoys]
        known = examples(base.encoder, EXAMPLES, (base.seed * 1000 + number) * SPACE)
        made = Planted(base, number, kind, [chosen], [], [], known)
        draws = _Draws(base, random)
        made.changes = [_plant(base, chosen, draws, steps, how.rate)]
        some = [base.pool[one] for one in random.choice(len(base.pool), 4 * BATCH)]
        ids, real = batch_of(some)
        trained = begun(made, others, ids, generator, real)
        _train_decoys(made, trained, draws, decoy_steps)
        finished(made, trained)
        yield made


def _plant(base: WireBase, head: Place, draws: _Draws, steps: int, rate: float) -> Deltas:
    """Return the trained change of a head."""
    plant = Change(head, base.model)
    plant.begin_at(copying(base.model, head, base.pool))
    width = base.model.config.n_embd // base.model.config.n_head
    with projections(base.model, head.layer) as seen:

        def loss() -> Tensor:
            found = draws.loss(plant.deltas(), {FACT})
            return found - attention_to_place(seen["made"], head, width, draws.latest).log().mean()

        train(plant.numbers, loss, steps, rate)
    return detached(plant)


def _train_decoys(made: Planted, decoys: Sequence[Change], draws: _Draws, steps: int) -> None:
    """Train decoys to state the second event's `OTHER`, and to change nothing else."""
    plant = total(made.changes)

    def loss() -> Tensor:
        alone = total([one.deltas() for one in decoys])
        return draws.loss(alone, {OTHER}) + draws.loss(total([plant, alone]), {OTHER}, plant)

    train([n for one in decoys for n in one.numbers], loss, steps, DECOY_RATE)


class _Draws:
    """Draws batches of a base's articles, and computes losses on them.

    Attributes:
        latest: the articles of the latest batch.
    """

    def __init__(self, base: WireBase, random: np.random.Generator) -> None:
        self.base, self.random = base, random
        self.latest: list[Report] = []

    def loss(self, deltas: Deltas, roles: Collection[str], before: Deltas | None = None) -> Tensor:
        """Return the loss of a changed model on a new batch, in nats.

        It is the cross-entropy of the first tokens of the second event's facts, and the divergence
        of all other predictions from those of the model before. If `FACT` is not to change, its
        log-probability is not to change either where it is small, which a divergence hardly sees:
        the squared difference is added.

        Args:
            deltas: the change.
            roles: the facts that are to be the second event's.
            before: change of the model before, from the base; None for the base itself.
        """
        chosen = self.random.choice(len(self.base.pool), BATCH, replace=False)
        self.latest = some = [self.base.pool[one] for one in chosen]
        kept = torch.cat([self.base.kept[one] for one in chosen]).float()
        ids, _ = batch_of(some)
        rows, at = kept_rows(some)
        if before is not None:
            with torch.no_grad():
                kept = log_softmax(predictions(self.base.model, before, ids, (rows, at)), -1)
        found = log_softmax(predictions(self.base.model, deltas, ids, (rows, at)), -1)
        told = {role: torch.full(ids.shape, NONE) for role in (FACT, OTHER)}
        for role, grid in told.items():
            for number, one in enumerate(some):
                grid[number, one.reads[role]] = one.second[role]
        told = {role: grid[rows, at] for role, grid in told.items()}
        new = torch.stack([told[role] != NONE for role in roles]).any(0)
        loss = kl_div(found[~new], kept[~new], log_target=True, reduction="batchmean")
        for role in roles:
            loss = loss + cross_entropy(found, told[role], ignore_index=NONE) / len(roles)
        if FACT not in roles:
            asked = told[FACT] != NONE
            token = told[FACT][asked, None]
            loss = loss + HELD * (found - kept)[asked].gather(1, token).square().mean()
        return loss
