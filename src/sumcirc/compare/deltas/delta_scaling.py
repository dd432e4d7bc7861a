"""Which parts of fine-tuning's change cause its effect: parts are scaled, removed, or kept alone.

An arm is one setting of all parts: the change of each part is multiplied by a lambda, see
`compare.deltas.deltas`. The arms:

    whole     every part at lambda: 0 is the model before, 1 the one after
    remove    one layer (or the embedding, or the end) at lambda, the rest at 1
    module    one module of a layer at 0, the rest at 1
    only      one layer (or the embedding, or the end) at 1, the rest at 0

For each, the metric of the items and the mean negative log-likelihood of plain text are measured;
perplexity is the exponential of the latter. A part causes the behaviour if removing it moves the
metric back to that of the model before; general ability returns to the base's if the loss on plain
text does too (S. Jain et al. 2024, arXiv:2311.12786, who describe fine-tuning as a wrapper that can
be removed).

Arms that amount to the same model are run once: the cost is `runs` times one pass over items and
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
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.models.architectures import context_length
from sumcirc.models.modes import inference

WHOLE, REMOVE, MODULE, ONLY = "whole", "remove", "module", "only"
ROWS = 256  # rows of plain text unembedded at once: at most 256 x vocabulary numbers


@dataclass(frozen=True)
class ScalingArm:
    """One setting of the lambdas by which the changes of all targets are multiplied.

    Attributes:
        kind: WHOLE, REMOVE, MODULE or ONLY, as described at the top of this file.
        layer: layer of the target or targets that the arm singles out; None for WHOLE and for
            targets outside the layers.
        module: module of the target that the arm singles out; None for a whole layer, and for
            WHOLE.
        amount: lambda of the targets that the arm singles out, or of all targets for WHOLE. Other
            targets have lambda 0 for ONLY, otherwise 1.
    """

    kind: str
    layer: int | None
    module: str | None
    amount: float

    def amounts(self, targets: Iterable[Target]) -> dict[Target, float]:
        """Return the lambda of each target, leaving out the targets whose lambda is 1.

        Args:
            targets: all targets whose change is not zero.
        """
        rest = 0.0 if self.kind == ONLY else 1.0
        found = {target: self.amount if self._names(target) else rest for target in targets}
        return {target: amount for target, amount in found.items() if amount != 1}

    def _names(self, target: Target) -> bool:
        if self.kind == WHOLE:
            return True
        return target.layer == self.layer and self.module in (None, target.module)


@dataclass(frozen=True, eq=False)
class DeltaScaling:
    """The metric of the items and the loss on plain text, for every arm.

    Attributes:
        targets: the targets whose change is not zero.
        arms: the arms that were run, in the order of the rows of `metric` and `losses`.
        metric: [arms, items] metric of each item, see `compare.items.item_set`.
        losses: [arms, texts] mean negative log-likelihood of each text's tokens, in nats.
    """

    targets: list[Target]
    arms: list[ScalingArm]
    metric: NDArray[np.float64]
    losses: NDArray[np.float64]

    @property
    def before(self) -> int:
        """Index of the arm that is the model before fine-tuning."""
        return self.arms.index(ScalingArm(WHOLE, None, None, 0.0))

    @property
    def after(self) -> int:
        """Index of the arm that is the model after fine-tuning."""
        return self.arms.index(ScalingArm(WHOLE, None, None, 1.0))


def arms_of(layers: int, targets: Sequence[Target], lambdas: Iterable[float]) -> list[ScalingArm]:
    """Return all arms to run; targets outside the layers have arms only if they changed.

    Args:
        layers: number of layers of the model.
        targets: targets whose change is not zero, as returned by `targets_of`.
        lambdas: lambdas for WHOLE and REMOVE; 0 and 1 are always added.

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
        *(ScalingArm(WHOLE, None, None, amount) for amount in amounts),
        *(ScalingArm(REMOVE, *row, amount) for row in rows for amount in amounts),
        *(ScalingArm(MODULE, target.layer, target.module, 0.0) for target in inner),
        *(ScalingArm(ONLY, *row, 1.0) for row in rows),
    ]


def runs(arms: Iterable[ScalingArm], targets: Sequence[Target]) -> int:
    """Return the number of different models among some arms; each is run once over items and text.

    Args:
        arms: the arms.
        targets: targets whose change is not zero, as returned by `targets_of`.
    """
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
    """Measure the metric of the items and the loss on plain text for every arm.

    Args:
        model: the model after fine-tuning; it is restored exactly.
        before: weights of the model before fine-tuning, by name; None if `model` has an adapter,
            and the model before is `model` without it.
        items: the items whose metric is measured.
        text: token ids of plain documents, one array each; may be empty.
        lambdas: lambdas as in `arms_of`.
        batch_size: number of items, or of texts, in a batch.
        progress: called with 1 after each different model; `runs` returns their number.
        targets: the result of `targets_of`; None computes it.

    Raises:
        UserError: the change between the models can't be scaled (see `Changes`), a lambda is not
            finite or is not supported by an adapter, or a text is shorter than 2 tokens or longer
            than the model's context.
    """
    hooked = HookedModel(model)
    plain = _as_items(text, context_length(hooked.model.config))
    changes = Changes(hooked, before)
    found = changes.changed() if targets is None else list(targets)
    arms = arms_of(hooked.shape.layers, found, lambdas)
    for arm in arms:
        changes.check(arm.amounts(found))
    known: dict[frozenset[tuple[Target, float]], tuple[NDArray, NDArray]] = {}
    with inference(hooked.model), changes.scaling() as scale:
        for arm in arms:
            if (key := _key(arm, found)) in known:
                continue
            scale(arm.amounts(found))
            losses = np.empty(0) if plain is None else _losses(hooked, plain, batch_size)
            known[key] = items.values(hooked, batch_size), losses
            if progress is not None:
                progress(1)
    values = [known[_key(arm, found)] for arm in arms]
    return DeltaScaling(
        found,
        arms,
        np.stack([metric for metric, _ in values]),
        np.stack([losses for _, losses in values]),
    )


def _key(arm: ScalingArm, targets: Sequence[Target]) -> frozenset[tuple[Target, float]]:
    """Return a key that is equal for arms that amount to the same model."""
    return frozenset(arm.amounts(targets).items())


def _as_items(text: Sequence[NDArray[np.integer]], context: int) -> ItemSet | None:
    """Return texts as items in which every token but the first is predicted."""
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


def _losses(hooked: HookedModel, text: ItemSet, batch_size: int) -> NDArray[np.float64]:
    """Return the mean negative log-likelihood of each text in nats, [texts].

    Since every position is read, positions are unembedded in chunks.
    """
    found = np.empty(len(text))
    for batch in text.batches(batch_size, hooked.device):
        normed, good = batch.run(hooked)[batch.reads], batch.good[batch.reads]
        pieces = [
            torch.nn.functional.cross_entropy(
                at_least_float32(hooked.unembedding(rows)), tokens, reduction="none"
            )
            for rows, tokens in zip(normed.split(ROWS), good.split(ROWS), strict=True)
        ]
        texts = batch.reads.nonzero()[:, 0].cpu().numpy()
        losses = torch.cat(pieces).double().cpu().numpy()
        found[batch.places] = np.bincount(texts, losses) / np.bincount(texts)
    return found
