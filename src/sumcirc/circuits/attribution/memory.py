"""The number of documents that a pass may contain within a memory budget.

What a pass stores for its gradients is measured on the live model (for any adapter, precision and
attention implementation), with two short inputs, and extrapolated to T tokens as a T + b T^2. What
attribution needs in addition is known: a few tensors per layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from sumcirc.circuits.attribution.tracing import AttributionPasses
from sumcirc.circuits.graph import Graph
from sumcirc.circuits.inputs.example_pairs import TokenPairs
from sumcirc.circuits.metrics import Metric
from sumcirc.errors import UserError
from sumcirc.models.activations.hooked_model import HookedModel

LOGITS = 4  # copies of a row of the vocabulary, per position that the metric reads
SHORT = 32  # tokens of the input on which a pass is measured; the other input is twice as long
SLACK = 1.35  # measured on a CPU: the C library keeps much of the freed memory

# maps tokens, and positions that the metric reads, to the bytes that one document needs
Cost = Callable[[int, int], int]


def attribution_cost(
    passes: AttributionPasses, pairs: TokenPairs, points: int, spans: int = 0
) -> Cost:
    """Estimate the peak memory of attributing one item, without the model's weights.

    Args:
        passes: runs the passes of attribution; two of them are run here to measure their memory.
        pairs: clean and corrupted inputs.
        points: number of passes with gradients that each item needs.
        spans: number of spans by which gradients at keys and values are divided; 0 for none.

    Returns:
        A function that maps an item's number of tokens, and the number of positions that the metric
        reads, to the number of bytes.
    """
    hooked, graph = passes.model, passes.graph
    size, narrow = hooked.shape, hooked.model.dtype.itemsize
    wide = torch.promote_types(hooked.model.dtype, torch.float32).itemsize
    heads = size.heads * size.head_width
    shared = 2 * graph.key_value_destinations
    columns = size.heads + shared * max(1, spans)
    reads = columns * size.head_width + size.width
    sums = wide * size.layers * (reads + points * (columns + size.width))
    read = (size.heads + shared) * size.head_width + size.width + (heads if spans else 0)
    gradients = narrow * (size.layers * read + size.width)
    sources = narrow * 2 * size.layers * (heads + size.width)
    divided = wide * 4 * spans * shared * size.head_width  # of one layer, before and after
    beside = sums + gradients + sources + divided
    longest = int(pairs.attention_mask.sum(1).max())
    short = max(1, min(SHORT, longest // 2))
    one, two = (_saved(passes, pairs, length) for length in (short, 2 * short))
    quadratic = max(0.0, (two - 2 * one) / (2 * short * short))
    linear = one / short - quadratic * short
    vocabulary = LOGITS * wide * hooked.model.config.vocab_size

    def cost(tokens: int, read: int) -> int:
        pass_ = linear * tokens + quadratic * tokens * tokens
        return int(SLACK * (pass_ + beside * tokens + vocabulary * read))

    return cost


def patching_cost(hooked: HookedModel, graph: Graph) -> Cost:
    """Estimate the memory of running one item as a circuit (`PatchedRun`), without the weights.

    Args:
        hooked: the model.
        graph: the model's graph.

    Returns:
        A function that maps an item's number of tokens, and the number of positions that the metric
        reads, to the number of bytes.
    """
    size, item = hooked.shape, hooked.model.dtype.itemsize
    heads = size.heads * size.head_width
    columns = (size.heads + 2 * graph.key_value_destinations) * size.head_width
    run = size.layers * (heads + columns + 3 * size.width) + 8 * size.width
    vocabulary = LOGITS * max(item, 4) * hooked.model.config.vocab_size
    each = item * (run + len(graph.sources) * size.width)
    return lambda tokens, read: int(SLACK * (each * tokens + vocabulary * read))


def groups(
    pairs: TokenPairs,
    metric: Metric,
    size: int,
    cost: Cost | None,
    memory: int | None,
    fixed: int = 0,
) -> Iterator[Tensor]:
    """Yield the indices of items in groups of similar length that fit the size and memory limits.

    Args:
        pairs: clean and corrupted inputs.
        metric: the metric on the items of `pairs`; the number of positions that it reads enters the
            cost.
        size: largest number of items in a group.
        cost: maps an item's number of tokens, and the number of positions that the metric reads, to
            the bytes that the item needs; None if unknown, and memory is then not limited.
        memory: limit in bytes for a group; None for no limit.
        fixed: bytes that a group needs regardless of its number of items.

    Raises:
        UserError: one item alone needs more than `memory`.
    """
    lengths = pairs.attention_mask.sum(1).cpu()
    order = lengths.argsort(stable=True)
    if cost is None or memory is None:
        yield from order.split(size)
        return
    require_room(pairs, metric, cost, memory, fixed)
    each = [cost(int(lengths[i]), int(metric.counts[i])) for i in order]
    start = 0
    while start < len(order):
        stop = start + 1
        while stop < min(len(order), start + size):
            # all are padded to the longest
            if max(each[start : stop + 1]) * (stop + 1 - start) + fixed > memory:
                break
            stop += 1
        yield order[start:stop]
        start = stop


def require_room(
    pairs: TokenPairs, metric: Metric, cost: Cost, memory: int, fixed: int = 0
) -> None:
    """Raise an error if one item alone needs more than a limit.

    Args:
        pairs, metric, cost, fixed: as in `groups`.
        memory: limit in bytes.

    Raises:
        UserError: the item that needs most needs more; the message says how much.
    """
    lengths = pairs.attention_mask.sum(1).tolist()
    each = [cost(*sizes) for sizes in zip(lengths, metric.counts.tolist(), strict=True)]
    item = max(range(len(each)), key=each.__getitem__)
    if each[item] + fixed > memory:
        needed = _rounded_up(each[item] + fixed)
        raise UserError(
            f"circuit.memory_budget={memory / 1e9:.3g}: item `{pairs.names[item]}` of"
            f" {lengths[item]} tokens needs {needed} GB in addition to the model; set"
            f" circuit.memory_budget={needed} or more, or shorten documents with"
            " encoding.max_length"
        )


def _rounded_up(count: float) -> str:
    """Format bytes as GB with two digits, rounded up so that the named figure suffices."""
    hundredths = int(count / 1e7) + 1
    return f"{hundredths / 100:g}"


def _saved(passes: AttributionPasses, pairs: TokenPairs, length: int) -> int:
    """Return the bytes that a pass of one document stores for its gradients and in its cache."""
    hooked = passes.model
    owned = {
        tensor.untyped_storage().data_ptr()
        for tensor in (*hooked.model.parameters(), *hooked.model.buffers())
    }
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in owned:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    ids = pairs.clean.input_ids[pairs.attention_mask][:length].to(hooked.model.device)
    with torch.no_grad():
        embeddings = hooked.embedded(ids[None])
    mask = torch.ones_like(ids[None], dtype=torch.bool)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        hidden, cache = passes.run(embeddings.requires_grad_(), mask, passes.keys)
    for tensor in cache.values():
        keep(tensor)
    del hidden
    return sum(kept.values())
