"""How many documents a pass may take within a budget of memory.

What a pass keeps for its gradients is counted on the live model itself (whatever its adapter, its
precision and its attention's implementation are), on two short inputs, and grows with the number
of tokens T as a T + b T^2. What attribution holds beside it is known: a few tensors of each layer.
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
from sumcirc.models.hooked_model import HookedModel

LOGITS = 4  # copies of the vocabulary's row at a position that the metric reads
SHORT = 32  # tokens of the input on which a pass is measured; the other one is twice as long
SLACK = 1.35  # measured on a CPU: the C library keeps much of the memory that was given back

# from tokens and positions that the metric reads to the bytes that one document takes
Cost = Callable[[int, int], int]


def attribution_cost(passes: AttributionPasses, pairs: TokenPairs, points: int) -> Cost:
    """Of one document while edges are scored; the model's own weights are not counted.

    Args:
        points: passes with gradients whose norms are remembered.
    """
    parts, graph = passes.model, passes.graph
    size, narrow = parts.shape, parts.model.dtype.itemsize
    wide = torch.promote_types(parts.model.dtype, torch.float32).itemsize
    heads = size.heads * size.head_width
    columns = size.heads + 2 * graph.key_value_destinations
    reads = columns * size.head_width + size.width
    sums = wide * size.layers * (reads + points * (columns + size.width))
    gradients = narrow * (size.layers * reads + size.width)
    sources = narrow * 2 * size.layers * (heads + size.width)
    beside = sums + gradients + sources
    longest = int(pairs.attention_mask.sum(1).max())
    short = max(1, min(SHORT, longest // 2))
    one, two = (_saved(passes, pairs, length) for length in (short, 2 * short))
    quadratic = max(0.0, (two - 2 * one) / (2 * short * short))
    linear = one / short - quadratic * short
    vocabulary = LOGITS * wide * parts.model.config.vocab_size

    def cost(tokens: int, read: int) -> int:
        pass_ = linear * tokens + quadratic * tokens * tokens
        return int(SLACK * (pass_ + beside * tokens + vocabulary * read))

    return cost


def patching_cost(parts: HookedModel, graph: Graph) -> Cost:
    """Of one document while it runs as a circuit: the corrupted run and all differences."""
    size, item = parts.shape, parts.model.dtype.itemsize
    heads = size.heads * size.head_width
    columns = (size.heads + 2 * graph.key_value_destinations) * size.head_width
    run = size.layers * (heads + columns + 3 * size.width) + 8 * size.width
    vocabulary = LOGITS * max(item, 4) * parts.model.config.vocab_size
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
    """Items to be taken together: of like length, `size` at most, and within the memory.

    Args:
        fixed: bytes that are taken however many items there are.

    Raises:
        UserError: one document alone takes more.
    """
    lengths = pairs.attention_mask.sum(1).cpu()
    order = lengths.argsort(stable=True)
    if cost is None or memory is None:
        yield from order.split(size)
        return
    each = [cost(int(lengths[i]), int(metric.counts[i])) for i in order]
    worst = max(range(len(each)), key=each.__getitem__)
    if each[worst] + fixed > memory:
        item = int(order[worst])
        needed = _rounded_up(each[worst] + fixed)
        raise UserError(
            f"circuit.memory_budget={memory / 1e9:.3g}: item `{pairs.names[item]}` of"
            f" {int(lengths[item])} tokens takes {needed} GB beside the model; set"
            f" circuit.memory_budget={needed} or more, or shorten documents with"
            " encoding.max_length"
        )
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


def _rounded_up(count: float) -> str:
    """GB to two digits, so that the figure that is named suffices."""
    hundredths = int(count / 1e7) + 1
    return f"{hundredths / 100:g}"


def _saved(passes: AttributionPasses, pairs: TokenPairs, length: int) -> int:
    """Bytes that a pass of one document keeps for its gradients and in its cache."""
    parts = passes.model
    owned = {
        tensor.untyped_storage().data_ptr()
        for tensor in (*parts.model.parameters(), *parts.model.buffers())
    }
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in owned:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    ids = pairs.clean.input_ids[pairs.attention_mask][:length].to(parts.model.device)
    with torch.no_grad():
        embeddings = parts.embedding(ids[None])
    mask = torch.ones_like(ids[None], dtype=torch.bool)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        hidden, cache = passes.run(embeddings.requires_grad_(), mask, passes.keys)
    for tensor in cache.values():
        keep(tensor)
    del hidden
    return sum(kept.values())
