"""Which parts of fine-tuning's change carry what it taught: each is scaled, taken out, left alone.

The arms, with the change of a part multiplied by lambda (`compare.changes`):

    whole     every part at lambda: 0 is the model before, 1 the one after
    remove    one layer (or the embedding, or the end) at lambda, the rest at 1
    module    one module of a layer at 0, the rest at 1
    only      one layer (or the embedding, or the end) at 1, the rest at 0

Under each the metric of the items and the mean negative log-likelihood of plain text, of which
perplexity is the exponential. A part carries the behaviour if taking it out brings the metric back
to that of before; the base comes back if the plain text's does too (S. Jain et al. 2024,
arXiv:2311.12786, where fine-tuning is a wrapper that can be taken off).

Arms that come to the same amounts are run once: what costs is `runs` times one pass over items and
text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from peft import PeftModel
from transformers import PreTrainedModel

from sumcirc.circuits.metrics import at_least_float32
from sumcirc.compare.deltas.deltas import EMBEDDING, FINAL, Before, Changes, Target
from sumcirc.compare.items.item_set import ItemSet
from sumcirc.data.examples import TokenExample
from sumcirc.errors import UserError
from sumcirc.models.architectures import context_length
from sumcirc.models.hooked_model import HookedModel
from sumcirc.models.modes import inference

WHOLE, REMOVE, MODULE, ONLY = "whole", "remove", "module", "only"
ROWS = 256  # of plain text unembedded at once: at most 256 x vocabulary numbers


@dataclass(frozen=True)
class Arm:
    """One setting of all parts.

    Attributes:
        kind: WHOLE, REMOVE, MODULE or ONLY.
        layer: None where all layers, or none, are meant.
        module: None for all of a layer; `embedding` and `final` stand without a layer.
        amount: lambda of the part that is named; the others' is 0 for ONLY, else 1.
    """

    kind: str
    layer: int | None
    module: str | None
    amount: float

    def amounts(self, targets: Iterable[Target]) -> dict[Target, float]:
        """Lambda of those targets where it is not 1."""
        rest = 0.0 if self.kind == ONLY else 1.0
        found = {target: self.amount if self._names(target) else rest for target in targets}
        return {target: amount for target, amount in found.items() if amount != 1}

    def _names(self, target: Target) -> bool:
        if self.kind == WHOLE:
            return True
        return target.layer == self.layer and self.module in (None, target.module)


@dataclass(frozen=True, eq=False)
class DeltaScaling:
    """What every arm gave, float64.

    Attributes:
        targets: parts whose change is not zero.
        metric: [arms, items], see `compare.items`.
        losses: [arms, texts] mean negative log-likelihood of each text's tokens, nats.
    """

    targets: list[Target]
    arms: list[Arm]
    metric: NDArray[np.float64]
    losses: NDArray[np.float64]

    @property
    def before(self) -> int:
        """The arm that is the model before."""
        return self.arms.index(Arm(WHOLE, None, None, 0.0))

    @property
    def after(self) -> int:
        """The arm that is the model after."""
        return self.arms.index(Arm(WHOLE, None, None, 1.0))


def arms_of(layers: int, targets: Sequence[Target], lambdas: Iterable[float]) -> list[Arm]:
    """All arms. Every layer has its rows, the embedding and the end where they changed.

    Args:
        layers: of the model.
        targets: what changed, see `targets_of`.
        lambdas: of WHOLE and REMOVE; 0 and 1 are among them always.

    Raises:
        UserError: a lambda is not a finite number.
    """
    amounts = sorted({0.0, 1.0, *(float(amount) for amount in lambdas)})
    if not np.isfinite(amounts).all():
        raise UserError("compare: lambdas have to be finite numbers, such as 0, 0.5 and 1")
    rows: list[tuple[int | None, str | None]] = [(layer, None) for layer in range(layers)]
    ends = [target.module for target in targets if target.layer is None]
    rows = [
        *((None, module) for module in ends if module == EMBEDDING),
        *rows,
        *((None, module) for module in ends if module == FINAL),
    ]
    inner = [target for target in targets if target.layer is not None]
    return [
        *(Arm(WHOLE, None, None, amount) for amount in amounts),
        *(Arm(REMOVE, *row, amount) for row in rows for amount in amounts),
        *(Arm(MODULE, target.layer, target.module, 0.0) for target in inner),
        *(Arm(ONLY, *row, 1.0) for row in rows),
    ]


def runs(arms: Iterable[Arm], targets: Sequence[Target]) -> int:
    """How many of the arms differ: each is one pass over items and text."""
    return len({_key(arm, targets) for arm in arms})


def scale_deltas(
    model: PreTrainedModel | PeftModel,
    before: Before,
    items: ItemSet,
    text: Sequence[NDArray[np.integer]],
    lambdas: Iterable[float],
    batch_size: int,
    progress: Callable[[int], None] | None = None,
    targets: Sequence[Target] | None = None,
) -> DeltaScaling:
    """Run every arm.

    Args:
        model: the one after; it is left as it was, bit for bit.
        before: the weights before by name; None for an adapter, whose model without it is meant.
        text: tokens of plain documents; may be none.
        lambdas: see `arms_of`.
        batch_size: of items, and of texts.
        progress: is told 1 after each of the `runs`.
        targets: what `targets_of` found; None asks it.

    Raises:
        UserError: see `Changes` and `arms_of`; a text is shorter than 2 tokens or longer than the
            model's context; a lambda that an adapter of the model can't have.
    """
    parts = HookedModel(model)
    plain = _as_items(text, context_length(parts.model.config))
    changes = Changes(parts, before)
    found = changes.changed() if targets is None else list(targets)
    arms = arms_of(parts.shape.layers, found, lambdas)
    for arm in arms:
        changes.check(arm.amounts(found))
    known: dict[frozenset[tuple[Target, float]], tuple[NDArray, NDArray]] = {}
    with inference(parts.model), changes.scaling() as scale:
        for arm in arms:
            if (key := _key(arm, found)) in known:
                continue
            scale(arm.amounts(found))
            losses = np.empty(0) if plain is None else _losses(parts, plain, batch_size)
            known[key] = items.values(parts, batch_size), losses
            if progress is not None:
                progress(1)
    values = [known[_key(arm, found)] for arm in arms]
    return DeltaScaling(
        found,
        arms,
        np.stack([metric for metric, _ in values]),
        np.stack([losses for _, losses in values]),
    )


def _key(arm: Arm, targets: Sequence[Target]) -> frozenset[tuple[Target, float]]:
    """The same for arms that come to the same."""
    return frozenset(arm.amounts(targets).items())


def _as_items(text: Sequence[NDArray[np.integer]], context: int) -> ItemSet | None:
    """Texts of which every token but the first is predicted."""
    found = []
    for number, ids in enumerate(text):
        if not 2 <= len(ids) <= context:
            raise UserError(
                f"compare: plain text {number} has {len(ids)} tokens; give 2 to {context}, the"
                " model's context"
            )
        tokens = np.asarray(ids, dtype=np.int64)
        found.append(TokenExample.predicting(str(number), tokens, 1))
    return ItemSet(found) if found else None


def _losses(parts: HookedModel, text: ItemSet, batch_size: int) -> NDArray[np.float64]:
    """Mean negative log-likelihood by text, nats, [texts].

    Every position is read, so they are unembedded some at a time.
    """
    found = np.empty(len(text))
    for batch in text.batches(batch_size, parts.unembedding.weight.device):  # type: ignore[arg-type]
        normed, good = batch.run(parts)[batch.reads], batch.good[batch.reads]
        pieces = [
            torch.nn.functional.cross_entropy(
                at_least_float32(parts.unembedding(rows)), tokens, reduction="none"
            )
            for rows, tokens in zip(normed.split(ROWS), good.split(ROWS), strict=True)
        ]
        texts = batch.reads.nonzero()[:, 0].cpu().numpy()
        losses = torch.cat(pieces).double().cpu().numpy()
        found[batch.places] = np.bincount(texts, losses) / np.bincount(texts)
    return found
