"""Tokens with named spans: one example, and a padded batch of examples.

Training, attribution, measures and comparisons all read sequences of this type. What is to be
predicted is stored position by position: `good[t]` is the correct token after position t, `bad[t]`
a wrong one to compare it with, and `wrong[t]` one that would state a wrong fact. Losses,
log-probabilities and logit differences are computed only at positions that have a good token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from sumcirc.errors import UserError

NONE = -1  # no token (in `good` and `bad`), or no span (in `labels`)
LAST, READ, ALL = "last", "read", "all"  # positions that every batch has, besides its spans

Made = TypeVar("Made")
Characters = Sequence[tuple[int, int]]  # [start, end) ranges in a text
_DTYPES = {bool: np.bool_, int: np.int64, float: np.float32}


class NoExample(Exception):
    """A document gives no example; the message is the reason, worded so that it can be counted."""


@dataclass(frozen=True)
class TokenExample:
    """A sequence of tokens, its named spans, and the next tokens that are to be predicted.

    Attributes:
        id: the item's name.
        ids: [length] token ids.
        good: [length] the correct next token at each position at which a prediction is read, NONE
            at other positions; a single value applies to all positions.
        bad: [length] a wrong next token with which the correct one is compared, NONE at positions
            without one; a single value applies to all positions.
        wrong: [length] where `good` begins a fact, the first token of what the summary must not
            state there: the same fact of another event, or one that the document does not state;
            NONE at other positions. A single value applies to all positions.
        spans: [length] masks by name, true at the span's tokens. Spans may overlap.
        offsets: [length, 2] character range [start, end) of each token in the document, -1 for
            tokens outside the document; None if unknown.
        truncated: whether the end of the document was cut to fit the context.
    """

    id: str
    ids: np.ndarray
    good: np.ndarray = field(default_factory=lambda: np.array(NONE))
    bad: np.ndarray = field(default_factory=lambda: np.array(NONE))
    wrong: np.ndarray = field(default_factory=lambda: np.array(NONE), kw_only=True)
    spans: Mapping[str, np.ndarray] = field(default_factory=dict)
    offsets: np.ndarray | None = None
    truncated: bool = False

    def __post_init__(self) -> None:
        for name in ("good", "bad", "wrong"):
            answer = getattr(self, name)
            if answer.ndim == 0:
                object.__setattr__(self, name, np.full(len(self.ids), answer))

    @classmethod
    def predicting(cls, id: str, ids: np.ndarray, start: int, **known: Any) -> TokenExample:
        """Return an example in which every token from position `start` on is predicted.

        Args:
            id: the item's name.
            ids: [length] token ids.
            start: position of the first predicted token.
            known: values of further attributes.
        """
        good = np.full(len(ids), NONE, dtype=ids.dtype)
        good[start - 1 : -1] = ids[start:]
        return cls(id, ids, good, **known)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def reads(self) -> np.ndarray:
        """[length] true where predictions are read: where `good` has a token, or at the last token.

        The last token is taken only if `good` is NONE everywhere.
        """
        asked = self.good != NONE
        return asked if asked.any() else np.arange(len(self)) == len(self) - 1

    @property
    def diverges(self) -> np.ndarray:
        """[length] true where the good and the bad answer begin to differ.

        Of several differing tokens in a row only the first counts, since the others depend on it.
        """
        return _diverging(*map(torch.tensor, (self.good, self.bad))).numpy()

    @property
    def prompt_length(self) -> int:
        """Number of tokens before the answer; all tokens if there is no answer."""
        return int(self.reads.argmax()) + 1

    @property
    def kept(self) -> int:
        """Number of characters of the document that the example includes."""
        assert self.offsets is not None
        return int(self.offsets[:, 1].max())

    def until(self, stop: int) -> TokenExample:
        """Return the example cut to its tokens before position `stop`.

        A negative `stop` counts from the end.
        """
        spans = {name: inside[:stop] for name, inside in self.spans.items()}
        offsets = None if self.offsets is None else self.offsets[:stop]
        cut = {name: getattr(self, name)[:stop] for name in ("ids", "good", "bad", "wrong")}
        return replace(self, **cut, spans=spans, offsets=offsets)

    def touching(self, characters: Characters) -> np.ndarray:
        """Return a mask [length], true at tokens that overlap one of the character ranges."""
        return self._where(characters, lambda begin, end, a, b: (a < end) & (begin < b))

    def ending_in(self, characters: Characters) -> np.ndarray:
        """Return a mask [length], true at tokens whose last character is in one of the ranges.

        A token that begins with the space before a word therefore belongs to the word.
        """
        return self._where(characters, lambda begin, end, a, b: (a < end) & (end <= b))

    def divided(
        self, inside: np.ndarray, marked: Mapping[str, Characters]
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Divide some tokens into named spans by the characters that they overlap.

        Args:
            inside: [length] true at the tokens to divide.
            marked: character ranges of each span, by its name. A token that overlaps ranges of two
                spans belongs to the one that is listed first.

        Returns:
            The masks [length] of the spans by name, and that of the tokens that are in none.
        """
        found = {}
        for name, characters in marked.items():
            touched = self.touching(characters)
            found[name] = inside & touched
            inside = inside & ~touched
        return found, inside

    def _where(self, characters: Characters, holds: Callable[..., np.ndarray]) -> np.ndarray:
        assert self.offsets is not None
        begin, end = self.offsets.T
        found = np.zeros(len(self), dtype=bool)
        for start, stop in characters:
            found |= holds(begin, end, start, stop) & (begin >= 0)
        return found


@dataclass(frozen=True)
class TokenBatch:
    """B examples of up to T tokens, padded on one side.

    Attributes:
        input_ids: [B, T] token ids; which of them are padding is known only from the mask.
        attention_mask: [B, T] true or 1 at tokens, false or 0 at padding.
        names: ids of the examples.
        good, bad, wrong: [B, T] next tokens, as in TokenExample; a single value applies to all
            positions.
        spans: [B, T] masks by name, true at the span's tokens; false for an example without the
            span.

    Raises:
        UserError: shapes differ, or a name is missing.
    """

    input_ids: Tensor
    attention_mask: Tensor
    names: list[str]
    good: Tensor = field(default_factory=lambda: torch.tensor(NONE))
    bad: Tensor = field(default_factory=lambda: torch.tensor(NONE))
    wrong: Tensor = field(default_factory=lambda: torch.tensor(NONE), kw_only=True)
    spans: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = self.input_ids.shape
        if len(shape) != 2 or 0 in shape:
            raise UserError(f"pairs: input_ids of shape {list(shape)}; give [items, tokens]")
        if len(self.names) != len(self.input_ids):
            raise UserError(
                f"pairs: {len(self.names)} ids for {len(self.input_ids)} items; give one for each"
            )
        for name in ("good", "bad", "wrong"):
            object.__setattr__(self, name, getattr(self, name).expand(shape))
        object.__setattr__(self, "attention_mask", self.attention_mask.bool())
        for name, grid in {"attention_mask": self.attention_mask, **self.spans}.items():
            if grid.shape != shape:
                raise UserError(
                    f"pairs: {name} of shape {list(grid.shape)} where input_ids has {list(shape)}"
                )

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def reads(self) -> Tensor:
        """[B, T] true where predictions are read, as `TokenExample.reads`."""
        asked = self.good != NONE
        return asked | (self.last & ~asked.any(1, keepdim=True))

    @property
    def last(self) -> Tensor:
        """[B, T] true only at the last token of every example, not counting padding."""
        return _last_of(self.attention_mask)

    @property
    def diverges(self) -> Tensor:
        """[B, T] true where the good and the bad answer begin to differ, as in TokenExample."""
        return _diverging(self.good, self.bad)

    def at(self, positions: str) -> Tensor:
        """Return a mask [B, T] of named positions.

        Args:
            positions: `read` (where predictions are read), `last` (the last position at which one
                is read), `all` (all tokens without padding), or the name of a span.
        """
        known = {READ: self.reads, ALL: self.attention_mask, LAST: _last_of(self.reads)}
        return known[positions] if positions in known else self.spans[positions]

    def labels(self, names: Sequence[str] | None = None) -> Tensor:
        """Return the number of each token's span, [B, T]; NONE for tokens of no span.

        Args:
            names: names of the spans, which are numbered from 0 in this order; None for all spans.
                A token in several spans gets the lowest of their numbers.
        """
        found = torch.full_like(self.input_ids, NONE, dtype=torch.long)
        known = list(self.spans if names is None else names)
        for number in reversed(range(len(known))):
            found[self.spans[known[number]]] = number
        return found

    def columns(self, members: Tensor | Sequence[int]) -> slice:
        """Return the smallest range of positions that contains all tokens of some examples.

        Args:
            members: indices of the examples.
        """
        used = self.attention_mask[members].any(0).nonzero()[:, 0]
        return slice(int(used[0]), int(used[-1]) + 1)

    def to(self, device: torch.device | str) -> TokenBatch:
        """Return the same batch on another device."""
        grids = {
            name: getattr(self, name).to(device)
            for name in ("input_ids", "attention_mask", "good", "bad", "wrong")
        }
        spans = {name: inside.to(device) for name, inside in self.spans.items()}
        return replace(self, **grids, spans=spans)


def collate(
    examples: Sequence[TokenExample],
    width: int | None = None,
    spans: Iterable[str] | None = None,
    *,
    left: bool = False,
) -> TokenBatch:
    """Pad examples to the same length and return them as a batch.

    Args:
        examples: the examples to pad.
        width: that length in tokens; None takes the length of the longest example.
        spans: names of the spans that the batch has; None takes all spans of the examples.
        left: whether to pad on the left rather than on the right.

    Raises:
        UserError: there are no examples, or one has no token.
    """

    empty = [example.id for example in examples if not len(example)]
    if empty:
        raise UserError(f"pairs: item `{empty[0]}` has no token; leave it out")
    width = max(map(len, examples), default=0) if width is None else width

    def grid(rows: Iterable[np.ndarray], fill: int | bool) -> Tensor:
        return padded(list(rows), fill, width, left=left)

    if spans is None:
        spans = dict.fromkeys(name for example in examples for name in example.spans)
    nowhere = np.zeros(0, dtype=bool)
    lengths = torch.tensor([len(example) for example in examples])[:, None]
    positions = torch.arange(width)
    attention_mask = positions >= width - lengths if left else positions < lengths
    return TokenBatch(
        grid((example.ids for example in examples), 0),
        attention_mask,
        [example.id for example in examples],
        grid((example.good for example in examples), NONE),
        grid((example.bad for example in examples), NONE),
        {
            name: grid((example.spans.get(name, nowhere) for example in examples), False)
            for name in spans
        },
        wrong=grid((example.wrong for example in examples), NONE),
    )


def padded(
    rows: Sequence[Any], fill: float | bool, width: int | None = None, *, left: bool = False
) -> Tensor:
    """Return rows of unequal length as one tensor [rows, T].

    Args:
        rows: sequences of numbers.
        fill: value of the padding; the tensor has type bool, int64 or float32 if it is a bool, an
            int or a float.
        width: T; None takes the length of the longest row.
        left: whether to pad on the left rather than on the right.
    """
    width = max((len(row) for row in rows), default=0) if width is None else width
    found = np.full((len(rows), width), fill, dtype=_DTYPES[type(fill)])
    for into, row in zip(found, rows, strict=True):
        start = width - len(row) if left else 0
        into[start : start + len(row)] = row
    return torch.from_numpy(found)


def by_length(lengths: Sequence[int] | np.ndarray, size: int) -> list[list[int]]:
    """Return the indices of all items in batches of similar length, which need little padding.

    Args:
        lengths: number of tokens of each item.
        size: number of items in a batch.
    """
    order = np.argsort(lengths, kind="stable").tolist()
    return [order[start : start + size] for start in range(0, len(order), size)]


def first_made(
    sources: Iterable[Any],
    count: int | None,
    make: Callable[[Any], Made],
    progress: Callable[[int], None] | None = None,
) -> tuple[list[Made], dict[str, int]]:
    """Make results from sources until there are `count`.

    Args:
        sources: the arguments of `make`, which are tried in order.
        count: number of results wanted; None tries all sources.
        make: returns the result for a source, or raises NoExample with the reason.
        progress: called with 1 for each result.

    Returns:
        The results, and the number of sources that gave none, by reason.
    """
    found: list[Made] = []
    dropped: dict[str, int] = {}
    for source in sources:
        if len(found) == count:
            break
        try:
            found.append(make(source))
        except NoExample as reason:
            dropped[str(reason)] = dropped.get(str(reason), 0) + 1
        else:
            if progress is not None:
                progress(1)
    return found, dropped


def _last_of(grid: Tensor) -> Tensor:
    """Return [B, T], true at the last position of each row at which `grid` is true."""
    places = torch.arange(grid.shape[1], device=grid.device)
    return places == torch.where(grid, places, NONE).amax(1, keepdim=True)


def _diverging(good: Tensor, bad: Tensor) -> Tensor:
    differs = (bad != NONE) & (bad != good)
    first = differs.clone()
    first[..., 1:] &= ~differs[..., :-1]
    return first
