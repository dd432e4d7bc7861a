"""One clean and one corrupted input, aligned token by token, and what a loss reads of them.

An input is a prompt, followed by all but the last token of its right answer (a summary and EOS, or
a word or two) where that is known: it is fed to both inputs, so that every token of it is predicted
once with the clean prompt and once with the corrupted one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sumcirc.circuits.inputs.token_pairs import TokenPairs
from sumcirc.circuits.metrics import Divergence, LogitDifference, Metric, NegativeLogLikelihood
from sumcirc.data.encoding import PARTS
from sumcirc.errors import UserError
from sumcirc.schema import CircuitMetric

SPANS = ("salient", *PARTS)  # of a summary's pair: 0 to 3 in `kinds`
SALIENT, DOCUMENT, PROMPT, SUMMARY = range(len(SPANS))
NOTHING = -1  # in `kinds`: of no span; in `good` and `bad`: not asked, or not known


@dataclass(frozen=True)
class Pair:
    """One item, clean and corrupted.

    Attributes:
        corruption: how it was made, such as `counterfactual`.
        clean, corrupted: [length] tokens.
        kinds: [length] index into `names`, or NOTHING.
        good: [length] the answer's token that comes after each position; NOTHING before its first.
        bad: [length] what comes there in the answer to the corrupted prompt, where that is known.
        names: of spans, the same in all pairs that are used together.
    """

    id: str
    corruption: str
    clean: np.ndarray
    corrupted: np.ndarray
    kinds: np.ndarray
    good: np.ndarray
    bad: np.ndarray
    names: tuple[str, ...] = SPANS

    @classmethod
    def of(
        cls,
        id: str,
        corruption: str,
        prompts: tuple[Sequence[int], Sequence[int]],
        kinds: Sequence[int] | np.ndarray,
        good: Sequence[int] = (),
        bad: Sequence[int] = (),
        names: tuple[str, ...] = SPANS,
    ) -> Pair:
        """From prompts of equal length, clean and corrupted, and the answers to them.

        Args:
            kinds: [prompt and all but the last token of `good`].
            bad: of any length; where that is not `good`'s, only the first token in which the two
                differ is kept, since what follows it does not stand at the same places.
        """
        if len(bad) != len(good):
            bad = bad[: _first_difference(good, bad) + 1]
        start = len(prompts[0]) - 1
        fed = list(good[:-1])
        clean, corrupted = (np.array([*prompt, *fed], dtype=np.int64) for prompt in prompts)
        answers = np.full((2, len(clean)), NOTHING, dtype=np.int64)
        for row, answer in zip(answers, (good, bad), strict=True):
            row[start : start + len(answer)] = answer
        found = np.asarray(kinds, dtype=np.int64)
        return cls(id, corruption, clean, corrupted, found, answers[0], answers[1], names)

    @property
    def prompt_length(self) -> int:
        """How many tokens are before the answer: all of them where no answer is known."""
        asked = self.good != NOTHING
        return int(asked.argmax()) + 1 if asked.any() else len(self.clean)

    @property
    def reads(self) -> np.ndarray:
        """[length] true where predictions are compared: the answer's, or else the last token's."""
        return np.arange(len(self.clean)) >= self.prompt_length - 1

    @property
    def told(self) -> np.ndarray:
        """[length] true where the two answers part: at the first of tokens in a row that differ.

        That one tells the fact, the others follow from it.
        """
        differs = (self.bad != NOTHING) & (self.bad != self.good)
        return differs & ~np.append(False, differs[:-1])


def _first_difference(one: Sequence[int], other: Sequence[int]) -> int:
    """The first place at which two answers differ, or the length of the shorter."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


def token_pairs(pairs: Sequence[Pair]) -> TokenPairs:
    """Pairs as tensors, padded on the right."""
    return TokenPairs.from_tokens(
        [pair.clean.tolist() for pair in pairs],
        [pair.corrupted.tolist() for pair in pairs],
        [pair.id for pair in pairs],
        [pair.kinds.tolist() for pair in pairs] if pairs and pairs[0].names else None,
    )


def pair_metric(name: CircuitMetric | str, pairs: Sequence[Pair], tokens: TokenPairs) -> Metric:
    """A loss read where the answer is predicted, the mean over positions.

    `kl`: KL(clean || patched) of next tokens; after the last token where no answer is known.
    `nll`: -log p of the answer. `logit_difference`: -(good token - bad token) where the two
    answers part.

    Raises:
        UserError: an unknown metric, or an answer that it needs is not known; the item is named.
    """
    chosen = CircuitMetric.of(name, "circuit.metric", CircuitMetric.auto)
    reads = _grid([pair.reads for pair in pairs], tokens, False)
    if chosen is CircuitMetric.kl:
        return Divergence(reads)
    good = _grid([pair.good for pair in pairs], tokens, NOTHING)
    if chosen is CircuitMetric.nll:
        missing = [pair.id for pair in pairs if (pair.good == NOTHING).all()]
        if missing:
            raise UserError(
                f"circuit.metric=nll: no answer is known for `{missing[0]}`; take"
                " circuit.metric=kl, or give each pair its `good`"
            )
        return NegativeLogLikelihood(reads, good)
    missing = [pair.id for pair in pairs if not pair.told.any()]
    if missing:
        raise UserError(
            f"circuit.metric=logit_difference: no other answer is known for `{missing[0]}`; take"
            " circuit.metric=kl or nll, circuit.corruption=counterfactual on data=wire, or pairs"
            " with `good` and `bad`"
        )
    bad = _grid([pair.bad for pair in pairs], tokens, NOTHING)
    return LogitDifference(_grid([pair.told for pair in pairs], tokens, False), good, bad)


def _grid(rows: Sequence[np.ndarray], tokens: TokenPairs, fill: int | bool) -> Tensor:
    """Values by position as a tensor [N, T] beside the padded tokens."""
    found = torch.full(tokens.clean_ids.shape, fill)
    for row, values in zip(found, rows, strict=True):
        row[: len(values)] = torch.from_numpy(values)
    return found


def changed_pairs(
    pairs: Sequence[Pair], clean: np.ndarray, corrupted: np.ndarray
) -> tuple[list[Pair], int]:
    """Pairs whose loss is higher when the input is corrupted, and how many are not.

    Args:
        clean, corrupted: each pair's loss in the two runs.
    """
    kept = [pair for pair, low, high in zip(pairs, clean, corrupted, strict=True) if high > low]
    return kept, len(pairs) - len(kept)
