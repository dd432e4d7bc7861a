"""Attention measures computed from queries and keys, without attention matrices.

For a row t (a query position) with visible keys s and scores a_s = scaling * q_t . k_s, soft-capped
where the model does so, attention is A_s = exp(a_s) / sum exp(a). All measures are computed in one
pass over blocks of rows in fp32:

    entropy                H = -sum_s A_s log A_s                                   (nats)
    normalized entropy     H / log(number of visible keys); rows that see one key are left out
    effective keys         exp(H)
    KL(tuned || base)      sum_s A_s (log A_s - log B_s), and the reverse
    Jensen-Shannon         (KL(A || M) + KL(B || M)) / 2 with M = (A + B) / 2       (at most ln 2)

The first real position is the sink (GPT-2 heads put most of their attention there). Measures with
`_no_sink` use A'_s = A_s / (1 - A_sink) over the other keys. To be exact even where the sink has
almost all attention, the other keys are summed separately and the sink is added in log space;
nothing is computed as a difference of nearly equal numbers.

Every value is the mean over a document's rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sumcirc.data.encoding import PARTS
from sumcirc.models.activations.hooks import AttentionInputs

SPANS = PARTS  # kinds of keys besides the sink; 0, 1, 2 in `kinds`
BLOCK = 1 << 19  # scores held at once per tensor: 2 MiB, so that a block stays in the CPU cache
HIDDEN = -1e30  # score of a key that a row doesn't see: its exp() is 0, and 0 times it is 0


@dataclass(frozen=True)
class Rows:
    """The rows (query positions) of a padded batch to measure, and the span of each key.

    Attributes:
        index: [batch, rows] measured query positions in ascending order. If a document has fewer
            rows than others, its last position is repeated.
        real: [batch, rows] False where `index` is such a repetition.
        kinds: [batch, length] index into SPANS of each key's span; negative for padding.
        sink: [batch] position of the first real token.
        first, last: smallest and largest position in each column of `index`, as lists, so that
            reading them doesn't wait for the device.
    """

    index: Tensor
    real: Tensor
    kinds: Tensor
    sink: Tensor
    first: list[int]
    last: list[int]

    def to(self, device: torch.device) -> Rows:
        """Return the rows with all tensors moved to another device.

        Args:
            device: the device.
        """
        tensors = (self.index, self.real, self.kinds, self.sink)
        index, real, kinds, sink = (part.to(device) for part in tensors)
        return Rows(index, real, kinds, sink, self.first, self.last)

    def of(self, values: Tensor) -> Tensor:
        """Return the values at the measured rows, document by document.

        Args:
            values: [batch, length, ...] one value per position.

        Returns:
            [total, ...] for the total number of measured rows, without repetitions.
        """
        batch = torch.arange(len(self.index), device=values.device)[:, None]
        return values[batch, self.index][self.real]


def attention_measures(
    attention: AttentionInputs,
    rows: Rows,
    base: tuple[Tensor, Tensor] | None = None,
    js: bool = True,
    keys_read: bool = False,
) -> dict[str, Tensor]:
    """Return the attention measures of every head, as means over each document's measured rows.

    Args:
        attention: the arguments of a layer's attention. Its queries may be those of the measured
            rows only, [batch, heads, rows, head width]; values are not used.
        rows: the rows to measure.
        base: queries and keys of the base model on the same tokens, shaped like those of
            `attention`; None to leave out divergences from the base.
        js: whether to include the Jensen-Shannon divergence, which takes a third of the
            divergences' time.
        keys_read: whether to add `keys` [batch, heads, length], the mean attention of the measured
            rows to every key.

    Returns:
        Measures [batch, heads], by name without the prefix `attention/`, such as `entropy`.

    Raises:
        ValueError: the shapes of query, key, base and rows don't fit together.
    """
    mask, scaling, softcap = attention.mask, attention.scaling, attention.softcap
    length = attention.key.shape[2]
    query = rows_of_query(attention.query, rows, length)
    batch, heads, count, _ = query.shape
    key = attention.key.float()
    other = None
    if base is not None:
        other = rows_of_query(base[0], rows, length), base[1].float()
        if other[0].shape != query.shape or other[1].shape != key.shape:
            wrong = [tuple(part.shape) for part in other]
            raise ValueError(f"base: {wrong} beside {tuple(query.shape)}, {tuple(key.shape)}")
    # the last kind is the remainder
    of_span = [(rows.kinds == span)[:, None, None].to(key.dtype) for span in range(len(SPANS) - 1)]
    means = _RowMeans()
    read = key.new_zeros(batch, heads, length) if keys_read else None
    size = max(1, BLOCK // (batch * heads * length))
    for begin in range(0, count, size):
        block = slice(begin, min(begin + size, count))
        until = rows.last[block.stop - 1] + 1 if mask is None else length
        seen = _Seen.of(rows, block, until, mask)
        side = _Side.of(query[:, :, block], key[:, :, :until], scaling, softcap, seen)
        real = rows.real[:, None, block]
        means.add(_entropies(side, seen), real)
        means.add(_masses(side, [chosen[..., :until] for chosen in of_span]), real)
        if other is not None:
            theirs = other[0][:, :, block], other[1][:, :, :until]
            base_side = _Side.of(*theirs, scaling, softcap, seen)
            means.add(_divergences(side, base_side, seen, js), real)
        if read is not None:
            share = torch.where(real, side.share, 0.0)
            read[:, :, :until] += (share[:, :, None] @ side.weights)[:, :, 0]
            at_sink = torch.where(real, side.sink_share, 0.0).sum(-1, keepdim=True)
            read.scatter_add_(2, rows.sink[:, None, None].expand(-1, heads, 1), at_sink)
    found = means.values()
    if read is not None:
        found["keys"] = read / rows.real.sum(-1)[:, None, None]
    return found


class _RowMeans:
    """Means over the rows that define a measure, added up block by block."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[Tensor, Tensor]] = {}

    def add(self, measures: Mapping[str, tuple[Tensor, Tensor | None]], real: Tensor) -> None:
        """Add a block of rows.

        Args:
            measures: values [batch, heads, rows] and the rows [batch, 1, rows] that define them;
                None where all do.
            real: [batch, 1, rows] rows that count.
        """
        for name, (value, defined) in measures.items():
            counted = real if defined is None else defined & real
            here = torch.where(counted, value, 0.0).sum(-1), counted.expand_as(value).sum(-1)
            if name in self._sums:
                here = self._sums[name][0] + here[0], self._sums[name][1] + here[1]
            self._sums[name] = here

    def values(self) -> dict[str, Tensor]:
        """The means [batch, heads]; NaN where no row defines the measure."""
        return {name: total / count for name, (total, count) in self._sums.items()}


def rows_of_query(query: Tensor, rows: Rows, length: int) -> Tensor:
    """Return the queries at the measured rows in fp32.

    Args:
        query: [batch, heads, length or rows, head width] queries at all positions, or at the
            measured rows already.
        rows: the rows to measure.
        length: number of positions of the batch.

    Returns:
        [batch, heads, rows, head width].
    """
    if query.shape[2] == length and not _is_all_rows(rows, length):
        batch = torch.arange(len(query), device=query.device)[:, None]
        query = query.transpose(1, 2)[batch, rows.index].transpose(1, 2)
    if query.shape[2] != rows.index.shape[1]:
        raise ValueError(f"{query.shape[2]} query rows where {rows.index.shape[1]} are measured")
    return query.float()


def _is_all_rows(rows: Rows, length: int) -> bool:
    return rows.index.shape[1] == length and rows.last == list(range(length))


@dataclass(frozen=True)
class _Seen:
    """The keys that the rows of a block see.

    Attributes:
        hidden: [batch, 1, rows, keys from `start` on] True where a row doesn't see a key.
        start: every row sees all keys before it.
        keys: [batch, 1, rows] number of visible keys, without the sink.
        sink: [batch, 1, rows] position of the sink.
        sink_seen: [batch, 1, rows] whether the row sees it.
    """

    hidden: Tensor
    start: int
    keys: Tensor
    sink: Tensor
    sink_seen: Tensor

    @classmethod
    def of(cls, rows: Rows, block: slice, until: int, mask: Tensor | None) -> _Seen:
        index = rows.index[:, block]
        sink = rows.sink[:, None].expand_as(index)
        if mask is None:
            start = min(rows.first[block])
            at = torch.arange(start, until, device=index.device)
            hidden = at > index[..., None]
            keys = index - sink
            sink_seen = torch.ones_like(index, dtype=torch.bool)
        else:
            start = 0
            batch = torch.arange(len(index), device=index.device)[:, None]
            seen = mask.expand(len(index), -1, -1, -1)[:, 0][batch, index][..., :until]
            hidden = ~seen
            sink_seen = seen.gather(2, sink[..., None])[..., 0]
            keys = seen.sum(-1) - sink_seen.long()
        parts = (hidden, keys, sink, sink_seen)
        hidden, keys, sink, sink_seen = (part[:, None] for part in parts)
        return cls(hidden, start, keys, sink, sink_seen)


@dataclass(frozen=True)
class _Side:
    """One model's attention in a block of rows; keys are those other than the sink.

    Attributes:
        scores: [batch, heads, rows, keys] minus the largest one; HIDDEN for invisible keys.
        weights: [batch, heads, rows, keys] attention among these keys.
        log_others: [batch, heads, rows] log of the sum of exp(scores); -inf if no key is visible.
        log_total: [batch, heads, rows] the same with the sink.
        share: [batch, heads, rows] attention to all these keys.
        sink: [batch, heads, rows] the sink's score on the scale of `scores`.
        sink_share: [batch, heads, rows] attention to the sink.
    """

    scores: Tensor
    weights: Tensor
    log_others: Tensor
    log_total: Tensor
    share: Tensor
    sink: Tensor
    sink_share: Tensor

    @classmethod
    def of(
        cls, query: Tensor, key: Tensor, scaling: float, softcap: float | None, seen: _Seen
    ) -> _Side:
        batch, heads, count, width = query.shape
        groups = key.shape[1]
        grouped = (query * scaling).reshape(batch, groups, heads // groups * count, width)
        scores = (grouped @ key.transpose(2, 3)).reshape(batch, heads, count, key.shape[2])
        if softcap is not None:
            scores.div_(softcap).tanh_().mul_(softcap)
        place = seen.sink[..., None].expand(-1, heads, -1, 1)
        sink = scores.gather(3, place)[..., 0]
        scores.scatter_(3, place, HIDDEN)
        scores[..., seen.start :].masked_fill_(seen.hidden, HIDDEN)
        top = scores.amax(-1, keepdim=True)
        top.masked_fill_(top == HIDDEN, 0.0)
        scores.sub_(top)
        # fused, it is faster than its parts; the largest score is 0, so its weight is 1 / sum
        weights = scores.softmax(-1)
        log_others = torch.where(seen.keys > 0, -weights.amax(-1).log(), -math.inf)
        sink = torch.where(seen.sink_seen, sink - top[..., 0], -math.inf)
        log_total = torch.logaddexp(log_others, sink)
        return cls(
            scores,
            weights,
            log_others,
            log_total,
            (log_others - log_total).exp(),
            torch.where(seen.sink_seen, sink, 0.0),
            (sink - log_total).exp(),
        )


def _masses(side: _Side, of_span: list[Tensor]) -> dict[str, tuple[Tensor, None]]:
    """Attention of every row to each span's keys and to the sink.

    Args:
        side: the attention.
        of_span: [batch, 1, 1, keys] 1 at the keys of each span but the last.
    """
    spans = [torch.linalg.vecdot(side.weights, chosen) * side.share for chosen in of_span]
    rest = side.share
    for mass in spans:
        rest = rest - mass
    masses = [*spans, rest.clamp(min=0.0), side.sink_share]
    names = (*SPANS, "sink")
    return {f"mass_{name}": (mass, None) for name, mass in zip(names, masses, strict=True)}


def _entropies(side: _Side, seen: _Seen) -> dict[str, tuple[Tensor, Tensor]]:
    """Return values [batch, heads, rows], each with the rows [batch, 1, rows] that define it."""
    mean_score = torch.linalg.vecdot(side.weights, side.scores)
    others = side.log_others - mean_score
    whole = side.share * (side.log_total - mean_score)
    whole = whole + side.sink_share * (side.log_total - side.sink)
    found: dict[str, tuple[Tensor, Tensor]] = {}
    every = seen.keys + seen.sink_seen
    for entropy, number, ending in ((whole, every, ""), (others, seen.keys, "_no_sink")):
        clean = entropy.clamp(min=0.0)
        found[f"entropy{ending}"] = (clean, number > 0)
        found[f"normalized_entropy{ending}"] = (clean / number.clamp(min=2).log(), number > 1)
        found[f"effective_keys{ending}"] = (clean.exp(), number > 0)
    return found


def _divergences(
    tuned: _Side, base: _Side, seen: _Seen, js: bool
) -> dict[str, tuple[Tensor, None]]:
    """Return KL in both directions and Jensen-Shannon for every row, in nats: [batch, heads, rows].

    With d = log A - log B: JS = ln 2 + sum (A + B) log sigmoid(d) / 2 + KL(B || A) / 2.
    """
    # both scores of a hidden key are HIDDEN: d is finite, and its weights are 0
    d = (tuned.scores - base.scores).sub_((tuned.log_total - base.log_total)[..., None])
    at_sink = tuned.sink - tuned.log_total - base.sink + base.log_total
    at_sink = torch.where(seen.sink_seen, at_sink, 0.0)

    def mean(side: _Side, over: Tensor, over_sink: Tensor) -> Tensor:
        return torch.linalg.vecdot(side.weights, over) * side.share + side.sink_share * over_sink

    forward, reverse = mean(tuned, d, at_sink), -mean(base, d, at_sink)
    found = {"kl_tuned_base": forward, "kl_base_tuned": reverse}
    if js:
        both = tuned.weights * tuned.share[..., None]
        both.addcmul_(base.weights, base.share[..., None])
        twice = torch.linalg.vecdot(both, F.logsigmoid(d))
        twice = twice + (tuned.sink_share + base.sink_share) * F.logsigmoid(at_sink)
        found["js"] = math.log(2) + twice / 2 + reverse / 2
    return {name: (value.clamp(min=0.0), None) for name, value in found.items()}
