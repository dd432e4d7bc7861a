"""Units patched one by one in the plainest way, and a GPT-2 run by span written out by hand.

A query, an MLP or the logits: what is added to the stream is zero outside the span. A key or value:
one run with the patched projection gives the key after rotary embedding and norms, and in a second
one the queries of one span alone attend to it.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sumcirc.circuits.attribution.edge_scores import Ends, differences
from sumcirc.circuits.attribution.tracing import AttributionPasses
from sumcirc.circuits.graph import Graph
from sumcirc.circuits.inputs.example_pairs import ExamplePair, TokenPairs
from sumcirc.circuits.inputs.pair_batches import EmbeddedPairs
from sumcirc.circuits.spans.units import SpanPairs
from sumcirc.models.activations.activation_cache import HookPoint
from sumcirc.models.activations.attention_weights import AttentionWeights
from tests.circuits.naive_patching import _patched, patched_values
from tests.support.small_models import VOCABULARY

SPANS = ("first", "second", "third")


def divided_pairs(left: bool = False) -> TokenPairs:
    """Three items whose three spans alternate, so that a span is read from before and after it."""
    generator = torch.Generator().manual_seed(7)
    patterns = ([0, 1, 0, 2, 2, 1, 1, 2], [1, 0, 0, 2, 1], [0, 0, 1, 1, 2, 2])
    pairs = []
    for name, pattern in zip(("one", "two", "three"), patterns, strict=True):
        clean = torch.randint(1, VOCABULARY, (len(pattern),), generator=generator).tolist()
        other = list(clean)
        other[0], other[2] = (other[0] + 7) % VOCABULARY, (other[2] + 100) % VOCABULARY
        spans = {span: np.array(pattern) == number for number, span in enumerate(SPANS)}
        pairs.append(ExamplePair.of(name, "own", (clean, other), spans))
    return TokenPairs.of(pairs, left=left)


def sources_of(
    reader: AttributionPasses, weights: AttentionWeights, batch: EmbeddedPairs
) -> Tensor:
    """Corrupted minus clean output of every source, [sources, T, width] of one item."""
    clean, _ = reader.clean(batch)
    corrupted, _ = reader.sources(batch, batch.corrupted)
    ends = Ends(batch.corrupted - batch.clean, batch.mask, clean, corrupted)
    return differences(weights, reader.graph, ends)[:, 0]


def unit_value(
    reader: AttributionPasses,
    weights: AttentionWeights,
    batch: EmbeddedPairs,
    column: int,
    added: Tensor,
    inside: tuple[Tensor, Tensor],
    reference: Tensor | None = None,
) -> Tensor:
    """The metric of one item's clean run in which one unit is patched.

    Args:
        added: [T, width] what is added to what the destination reads.
        inside: [T] positions of the pair's two spans.
    """
    here, reading = inside
    added = (added * here[:, None])[None]
    graph, model = reader.graph, reader.model
    if not graph.destinations[column].endswith(("<k>", "<v>")):
        one = torch.tensor([column])
        return patched_values(reader, weights, batch, one, added, reference)[0]
    layer = int(graph.destinations[column][1:].split(".")[0])
    key = (HookPoint.ATTENTION, layer)
    with _patched(weights, reader, [column], added):
        _, seen = reader.run(batch.clean, batch.mask, [key])
    other: Any = seen[key]

    def attend(given: Any) -> Tensor:
        outputs = []
        for source in (given, other):
            repeat = given.query.shape[1] // given.key.shape[1]
            value = source.value.repeat_interleave(repeat, 1)
            read = type(given)(**{**vars(given), "key": source.key})
            outputs.append((read.pattern() @ value).transpose(1, 2))
        return torch.where(reading[None, :, None, None], outputs[1], outputs[0])

    with model.hooks([(key, attend)]):
        hidden, _ = reader.run(batch.clean, batch.mask)
    logits = reader.logits(hidden, batch.items, batch.columns)
    return reader.metric.values(logits, batch.items, reference)[0]


def gpt2_by_span(
    model: Any,
    ids: Tensor,
    labels: Tensor,
    kept: NDArray[np.bool_],
    units: SpanPairs,
    patched: Tensor,
) -> Tensor:
    """The logits [T, vocabulary] of one document, with streams of each query span written out.

    Args:
        ids, labels: [T] tokens and spans.
        kept: [pairs, sources, destinations].
        patched: what a cut unit carries, [sources, T, width].
    """
    body, heads = model.transformer, model.config.n_head
    width, tokens = model.config.n_embd // heads, len(ids)
    at = {pair: number for number, pair in enumerate(units.pairs)}
    constant = body.wpe(torch.arange(tokens))
    sources = [body.wte(ids)]
    graph_column = 0

    def stream(column: int, reading: int | None = None) -> Tensor:
        """At each position what the destination reads; as read by the queries of a span."""
        rows = []
        for place in range(tokens):
            s = int(labels[place])
            pair = (s, s if reading is None else reading)
            total = constant[place].clone()
            for row, own in enumerate(sources):
                keep = pair in at and kept[at[pair], row, column]
                total = total + (own[place] if keep else patched[row, place])
            rows.append(total)
        return torch.stack(rows)

    for block in body.h:
        weight, bias = block.attn.c_attn.weight, block.attn.c_attn.bias

        def project(head: int, letter: int, x: Tensor, block: Any = block) -> Tensor:
            first = (letter * heads + head) * width
            part = slice(first, first + width)
            return block.ln_1(x) @ weight[:, part] + bias[part]  # noqa: B023

        written = []
        for head in range(heads):
            query_column, key_column, value_column = (
                graph_column + letter * heads + head for letter in range(3)
            )
            q = project(head, 0, stream(query_column))
            rows = []
            for place in range(tokens):
                t = int(labels[place])
                k = project(head, 1, stream(key_column, t))[: place + 1]
                v = project(head, 2, stream(value_column, t))[: place + 1]
                rows.append(((q[place] @ k.T) / width**0.5).softmax(-1) @ v)
            output = block.attn.c_proj.weight[head * width : (head + 1) * width]
            written.append(torch.stack(rows) @ output)
        sources += written
        constant = constant + block.attn.c_proj.bias
        graph_column += 3 * heads
        sources.append(block.mlp(block.ln_2(stream(graph_column))))
        graph_column += 1
    return model.lm_head(body.ln_f(stream(graph_column)))


def random_units(units: SpanPairs, graph: Graph, density: float, seed: int) -> NDArray[np.bool_]:
    """Each unit kept with a probability."""
    exists = units.exists(graph)
    return (np.random.default_rng(seed).random(exists.shape) < density) & exists


@contextmanager
def unchanged(model: Any) -> Any:
    """Nothing about the model may be different afterwards: weights, hooks, modes, gradients."""
    modules = list(model.modules())
    modes = [module.training for module in modules]
    weights = {name: one.clone() for name, one in model.state_dict().items()}
    asking = [one.requires_grad for one in model.parameters()]
    attention, random = model.config._attn_implementation, torch.get_rng_state()

    def hooks() -> list[int]:
        return [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in modules]

    before = hooks()
    yield
    assert hooks() == before
    assert [module.training for module in modules] == modes
    assert [one.requires_grad for one in model.parameters()] == asking
    assert all(one.grad is None for one in model.parameters())
    assert all(torch.equal(one, weights[name]) for name, one in model.state_dict().items())
    assert model.config._attn_implementation == attention
    assert torch.equal(torch.get_rng_state(), random)
