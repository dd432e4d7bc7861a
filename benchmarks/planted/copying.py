"""Heads that copy: the values and outputs of a head are set so that it writes what it reads.

Training finds where to attend to in a few steps, but takes long to learn what to write for each of
a hundred places. So a route starts from values and outputs that are computed:

    W_O    the leading principal directions of the places' embeddings, as many as the head is wide
    W_V    ridge regression of the embedding in these directions, times `SCALE`, on what the head
           reads of the place's token

Both are then scaled so that they are equally long, which leaves their product as it is and makes
the whole change as short as possible: decoys of its norm should be able to be inert.

Where the head attends is trained, with a term for the attention paid to the place.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from benchmarks.planted.changes import Deltas, Place
from benchmarks.planted.models import ROUTE
from benchmarks.planted.wire_task import FACT, MAIN_PLACE, Report, batch_of

SCALE = 45.0  # large enough to exceed what the base writes for the main event's place
RIDGE = 0.01  # per token
CHUNK = 24  # articles in a batch


@contextmanager
def projections(model: Any, layer: int) -> Iterator[dict[str, Tensor]]:
    """Record the inputs and outputs of the projection to queries, keys and values of a layer.

    Args:
        model: the model.
        layer: index of the layer.

    Yields:
        A dictionary that has `read` [sequences, tokens, width] and `made` [..., 3 * width] of the
        latest forward pass.
    """
    found: dict[str, Tensor] = {}

    def see(module: Any, given: Any, output: Tensor) -> None:
        found["read"], found["made"] = given[0], output

    handle = model.transformer.h[layer].attn.c_attn.register_forward_hook(see)
    try:
        yield found
    finally:
        handle.remove()


def copying(model: Any, head: Place, some: list[Report]) -> Deltas:
    """Return a weight change that makes a head write the embedding of the place it attends to.

    Args:
        model: the model.
        head: the head.
        some: articles, of whose places the values are computed.
    """
    table, width = model.transformer.wte.weight, model.config.n_embd // model.config.n_head
    reads, tokens = [], []
    with projections(model, head.layer) as seen, torch.no_grad():
        for start in range(0, len(some), CHUNK):
            part = some[start : start + CHUNK]
            ids, _ = batch_of(part)
            model.transformer(input_ids=ids, use_cache=False)
            for row, one in enumerate(part):
                for span in (ROUTE, MAIN_PLACE):
                    at = int(one.spans()[span].argmax())
                    reads.append(seen["read"][row, at].double())
                    tokens.append(int(ids[row, at]))
    read, written = torch.stack(reads), table[torch.tensor(tokens)].double()
    written = written - written.mean(0)
    out = torch.linalg.svd(written, full_matrices=False).Vh[:width]
    square = read.T @ read + RIDGE * len(read) * torch.eye(read.shape[1]).double()
    value = torch.linalg.solve(square, read.T @ (SCALE * written @ out.T))
    factor = (out.norm() / value.norm()).sqrt()
    value, out = value * factor, out / factor
    block = f"transformer.h.{head.layer}.attn."
    own = slice(head.index * width, (head.index + 1) * width)
    columns = slice(2 * table.shape[1] + own.start, 2 * table.shape[1] + own.stop)
    before = {name: model.get_parameter(f"{block}{name}.weight") for name in ("c_attn", "c_proj")}
    reading, writing = (torch.zeros_like(one) for one in before.values())
    reading[:, columns] = value.float() - before["c_attn"][:, columns]
    writing[own] = out.float() - before["c_proj"][own]
    return {f"{block}c_attn.weight": reading, f"{block}c_proj.weight": writing}


def attention_to_place(made: Tensor, head: Place, width: int, some: list[Report]) -> Tensor:
    """Return the attention that a head pays to the second event's place, [articles].

    It is that to the first token of the place, from the token at which `FACT` is predicted.

    Args:
        made: [articles, tokens, 3 * width] queries, keys and values of all heads, as `projections`
            has them.
        head: the head.
        width: its width.
        some: the articles.
    """
    rows = torch.arange(len(some))
    reads = torch.tensor([one.reads[FACT] for one in some])
    places = torch.tensor([int(one.spans()[ROUTE].argmax()) for one in some])
    query, key, _ = made.unflatten(-1, (3, -1)).unbind(-2)
    own = slice(head.index * width, (head.index + 1) * width)
    scores = (query[rows, reads, None, own] * key[..., own]).sum(-1) / width**0.5
    later = torch.arange(made.shape[1]) > reads[:, None]
    return scores.masked_fill(later, -torch.inf).softmax(-1)[rows, places]
