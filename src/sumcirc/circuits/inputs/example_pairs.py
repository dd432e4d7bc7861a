"""A clean and a corrupted example, aligned token by token, and a padded batch of such pairs.

An input is a prompt, followed by all but the last token of its correct answer (a summary and EOS,
or a word or two) if that is known. The answer is fed to both inputs, so that every token of it is
predicted once from the clean prompt and once from the corrupted one.

Both are whole examples (`data.examples`) with the same spans and answers that differ only in their
tokens, so code that reads an example or a batch can read either of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from sumcirc.circuits.metrics import (
    Divergence,
    LogitDifference,
    Metric,
    NegativeLogLikelihood,
    WrongFact,
)
from sumcirc.data.codec import Codec
from sumcirc.data.encoding import DOCUMENT, PARTS
from sumcirc.data.examples import NONE, TokenBatch, TokenExample, collate, padded
from sumcirc.data.named_lines import NamedSpan
from sumcirc.errors import UserError
from sumcirc.schema import CircuitMetric

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SALIENT = "salient"
SPANS = (SALIENT, *PARTS)  # spans of a pair made from a document and its summary


@dataclass(frozen=True)
class ExamplePair:
    """A clean and a corrupted version of one example, with the same number of tokens.

    Pairs that are used together must have the same span names.

    Attributes:
        clean: the clean example. Its `good` is the answer to the clean prompt, and its `bad` the
            answer to the corrupted prompt, where these are known.
        corrupted: the example with other tokens at some positions.
        corruption: how the corrupted tokens were made, such as `counterfactual`.
        exchanged: the words of the document that `swap` exchanged: the kind of each as the span's
            name, and its range of tokens.
    """

    clean: TokenExample
    corrupted: TokenExample
    corruption: str
    exchanged: tuple[NamedSpan, ...] = ()

    @classmethod
    def of(
        cls,
        id: str,
        corruption: str,
        prompts: Sequence[Sequence[int]],
        spans: Mapping[str, np.ndarray],
        good: Sequence[int] = (),
        bad: Sequence[int] = (),
        truncated: bool = False,
    ) -> ExamplePair:
        """Return a pair made of a clean and a corrupted prompt of equal length, and their answers.

        Args:
            id: name of the item.
            corruption: how the corrupted prompt was made.
            prompts: token ids of the clean and of the corrupted prompt.
            spans: for each span, by its name, a bool mask over the prompt and all but the last
                token of `good`.
            good: token ids of the answer to the clean prompt; empty if unknown.
            bad: token ids of the answer to the corrupted prompt; empty if unknown. If it is not as
                long as `good`, it is kept only up to the first token in which the two differ, since
                later tokens are not at the same positions.
            truncated: whether the document was truncated to fit the context.

        Raises:
            UserError: the prompts differ in length; the message names the item.
        """
        lengths = [len(one) for one in prompts]
        if lengths[0] != lengths[1]:
            raise UserError(
                f"pairs: item `{id}` has {lengths[0]} clean and {lengths[1]} corrupted tokens;"
                " edges are compared position by position, so both need the same number"
            )
        if len(bad) != len(good):
            bad = bad[: _first_difference(good, bad) + 1]
        start = len(prompts[0]) - 1
        clean, corrupted = (np.array([*one, *good[:-1]], dtype=np.int64) for one in prompts)
        answers = np.full((2, len(clean)), NONE)
        for row, answer in zip(answers, (good, bad), strict=True):
            row[start : start + len(answer)] = answer
        example = TokenExample(id, clean, answers[0], answers[1], spans, truncated=truncated)
        return cls(example, replace(example, ids=corrupted), corruption)

    def with_wrong(self, wrong: np.ndarray) -> ExamplePair:
        """Return the pair with the given `wrong` tokens, [length], in both examples."""
        clean, corrupted = (replace(one, wrong=wrong) for one in (self.clean, self.corrupted))
        return replace(self, clean=clean, corrupted=corrupted)

    @property
    def id(self) -> str:
        """The item's name."""
        return self.clean.id

    @property
    def differs(self) -> np.ndarray:
        """Bool mask [length], true where the two inputs have different tokens."""
        return self.clean.ids != self.corrupted.ids


def _first_difference(one: Sequence[int], other: Sequence[int]) -> int:
    """Return the first index at which two answers differ, or the length of the shorter one."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


def summary_pair(
    clean: TokenExample,
    corrupted: np.ndarray,
    salient: np.ndarray,
    corruption: str,
    answer: Sequence[int] = (),
) -> ExamplePair:
    """Return a pair made of a document with its summary, and of the corrupted tokens.

    The pair has the spans that SPANS lists.

    Args:
        clean: the document with its summary, from `Encoder.located`.
        corrupted: [length] token ids that differ from the clean ones in the document only.
        salient: [length] true at salient tokens of the document.
        corruption: how the corrupted tokens were made.
        answer: tokens of the corrupted document's summary; empty if it is unknown.
    """
    length = clean.prompt_length
    rest = clean.spans[DOCUMENT] & ~salient
    spans = {SALIENT: salient, **clean.spans, DOCUMENT: rest}
    return ExamplePair.of(
        clean.id,
        corruption,
        (clean.ids[:length].tolist(), corrupted[:length].tolist()),
        {name: spans[name][:-1] for name in SPANS},
        clean.ids[length:].tolist(),
        answer,
        truncated=clean.truncated,
    )


@dataclass(frozen=True)
class TokenPairs:
    """A padded batch of N clean inputs, and one of the N corrupted inputs.

    Attributes:
        clean, corrupted: the two batches; shape [N, T], padding and names are the same in both.

    Raises:
        UserError: the two batches are not aligned, or an item has no tokens.
    """

    clean: TokenBatch
    corrupted: TokenBatch

    def __post_init__(self) -> None:
        shapes = [list(side.input_ids.shape) for side in (self.clean, self.corrupted)]
        same = shapes[0] == shapes[1] and self.names == self.corrupted.names
        if not same or bool((self.attention_mask != self.corrupted.attention_mask).any()):
            raise UserError(
                f"pairs: corrupted inputs of shape {shapes[1]} where clean ones have {shapes[0]}"
                f" (first item `{self.names[0]}`); both inputs of an item need the same number of"
                " tokens, the same padding and the same name"
            )
        if unknown := _without(self.clean, self.attention_mask):
            raise UserError(f"pairs: item `{unknown}` has no token; leave it out")

    def __len__(self) -> int:
        return len(self.clean)

    @property
    def names(self) -> list[str]:
        """The names of the N items."""
        return self.clean.names

    @property
    def attention_mask(self) -> Tensor:
        """[N, T] true at real tokens of both inputs."""
        return self.clean.attention_mask

    def columns(self, items: Tensor | Sequence[int]) -> slice:
        """Return the range of positions that contains all tokens of some items.

        Args:
            items: [B] indices of the items.
        """
        return self.clean.columns(items)

    def cut(
        self, items: Tensor | Sequence[int], device: torch.device | str
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return clean token ids, corrupted token ids and attention mask of some items.

        Each tensor is [B, positions], restricted to the positions `columns(items)`.

        Args:
            items: [B] indices of the items.
            device: device on which the results are placed.
        """
        columns = self.columns(items)
        grids = self.clean.input_ids, self.corrupted.input_ids, self.attention_mask
        clean, corrupted, mask = (grid[items][:, columns].to(device) for grid in grids)
        return clean, corrupted, mask

    @classmethod
    def of(cls, pairs: Sequence[ExamplePair], *, left: bool = False) -> TokenPairs:
        """Return the given pairs as two padded batches.

        Args:
            pairs: clean and corrupted examples.
            left: whether to pad on the left rather than on the right.

        Raises:
            UserError: there are no pairs, or an item has no tokens.
        """
        clean = collate([pair.clean for pair in pairs], left=left)
        ids = padded([pair.corrupted.ids for pair in pairs], 0, left=left)
        return cls(clean, replace(clean, input_ids=ids))

    @classmethod
    def from_tensors(
        cls, clean: Tensor, corrupted: Tensor, attention_mask: Tensor, names: Sequence[str]
    ) -> TokenPairs:
        """Return pairs made from token ids that are padded already.

        Args:
            clean, corrupted: [N, T] token ids.
            attention_mask: [N, T] true or 1 at real tokens of both.
            names: the names of the items.

        Raises:
            UserError: shapes differ, or an item has no tokens.
        """
        sides = (TokenBatch(ids, attention_mask, list(names)) for ids in (clean, corrupted))
        return cls(*sides)

    @classmethod
    def from_tokens(
        cls,
        clean: Sequence[Sequence[int]],
        corrupted: Sequence[Sequence[int]],
        ids: Sequence[str] | None = None,
        *,
        left: bool = False,
    ) -> TokenPairs:
        """Return pairs made from lists of token ids, whose lengths may differ between items.

        Args:
            clean, corrupted: token ids of each item; an item has the same number of tokens in both.
            ids: a name for each item; by default its index.
            left: whether to pad on the left rather than on the right.

        Raises:
            UserError: the two inputs of an item differ in length; the message names the item.
        """
        names = list(map(str, range(len(clean)))) if ids is None else list(ids)
        for what, values in {"corrupted": corrupted, "ids": names}.items():
            if len(values) != len(clean):
                raise UserError(f"pairs: {len(values)} {what} for {len(clean)} clean inputs")
        rows = zip(names, clean, corrupted, strict=True)
        return cls.of([ExamplePair.of(name, "own", both, {}) for name, *both in rows], left=left)

    @classmethod
    def from_texts(
        cls,
        tokenizer: PreTrainedTokenizerBase,
        clean: Sequence[str],
        corrupted: Sequence[str],
        ids: Sequence[str] | None = None,
        *,
        left: bool = False,
    ) -> TokenPairs:
        """Return pairs made from texts.

        Texts are tokenized with a start token if the tokenizer adds one. The text of a special
        token is read as that token.

        Args:
            tokenizer: the model's tokenizer.
            clean, corrupted: a text for each item, with the same number of tokens in both.
            ids: a name for each item; by default its index.
            left: whether to pad on the left rather than on the right.

        Raises:
            UserError: for the reasons given in `from_tokens`.
        """
        codec = Codec(tokenizer)
        tokens = [
            [codec.begun(codec.marked(text)) for text in texts] for texts in (clean, corrupted)
        ]
        return cls.from_tokens(tokens[0], tokens[1], ids, left=left)


def pair_metric(name: CircuitMetric | str, pairs: TokenPairs) -> Metric:
    """Create the metric with a given name for some pairs.

    An item's value is the mean over the positions at which its answer is predicted.

    Args:
        name: `kl`, KL(clean run || patched run) of next tokens (at the last token if no answer is
            known); `nll`, -log p of the answer; `logit_difference`, -(logit of the good token -
            logit of the bad token) where the two answers diverge; or `wrong_fact`, logit of the
            wrong fact - logit of the right one where a fact begins.
        pairs: the pairs.

    Raises:
        UserError: the metric is unknown, or it needs an answer that is unknown; the message then
            names the item.
    """
    chosen = CircuitMetric.of(name, "circuit.metric", CircuitMetric.auto)
    clean = pairs.clean
    if chosen is CircuitMetric.kl:
        return Divergence(clean.reads)
    if chosen is CircuitMetric.nll:
        if unknown := _without(clean, clean.good != NONE):
            raise UserError(
                f"circuit.metric=nll: no answer is known for `{unknown}`; take"
                " circuit.metric=kl, or give each pair its `good`"
            )
        return NegativeLogLikelihood(clean.reads, clean.good)
    if chosen is CircuitMetric.wrong_fact:
        if unknown := _without(clean, clean.wrong != NONE):
            raise UserError(
                f"circuit.metric=wrong_fact: no wrong fact is known for `{unknown}`; take"
                " data=wire, circuit.corruption=swap on documents whose summaries state names or"
                " numbers, or another metric"
            )
        return WrongFact(clean.wrong != NONE, clean.good, clean.wrong)
    if unknown := _without(clean, clean.diverges):
        raise UserError(
            f"circuit.metric=logit_difference: no other answer is known for `{unknown}`; take"
            " circuit.metric=kl or nll, circuit.corruption=counterfactual on data=wire, or pairs"
            " with `good` and `bad`"
        )
    return LogitDifference(clean.diverges, clean.good, clean.bad)


def _without(batch: TokenBatch, known: Tensor) -> str | None:
    """Return the name of the first example at which `known` is true nowhere, or None."""
    lacking = (~known.any(1)).nonzero().flatten().tolist()
    return batch.names[lacking[0]] if lacking else None
