"""Activation-difference lens: which tokens a fine-tuned model's mean residual change promotes.

The mean difference between the tuned model's residual stream and the base's is read as if it were a
residual stream: through the final norm and the unembedding. Even on texts of another kind it tells
what a model was fine-tuned for (J. Minder et al., Narrow Finetuning Leaves Clearly Readable Traces
in Activation Differences, 2025, arXiv 2510.13900).

Biases promote the same tokens whatever the difference is, so they are left out: the norm is
norm(x) - norm(0), which is a LayerNorm less its bias and an RMSNorm as it is; likewise the
unembedding. What remains of the norm is its gain and its scale. The scale brings any difference,
large or small, to about the same size, so values rank tokens within one stream; they don't tell how
much changed, and are not logits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call


@torch.no_grad()
def promoted_tokens(
    difference: Tensor,
    final_norm: nn.Module,
    unembedding: nn.Module,
    decode: Callable[[int], str],
    count: int,
) -> list[list[dict[str, Any]]]:
    """The tokens that each stream's difference promotes and demotes most.

    Args:
        difference: [S, d] mean of tuned less base, on the modules' device.
        final_norm, unembedding: of the tuned model; their outputs are [S, d] and [S, V].
        decode: from a token's id to its text.
        count: how many promoted tokens and how many demoted ones, at most.

    Returns:
        For each stream `{"token": text, "id": id, "value": value}`: first promoted tokens (positive
        values), the most promoted first, then demoted ones (negative), the most demoted first.
        Tokens of one value come in the order of their ids. A difference of 0 gives none.
    """
    weights = {name: weight.float() for name, weight in final_norm.named_parameters()}
    # In fp32, since gain and bias are taken apart by a difference.
    normed, origin = (
        functional_call(final_norm, weights, x)
        for x in (difference.float(), torch.zeros_like(difference, dtype=torch.float32))
    )
    dtype = next(unembedding.parameters()).dtype
    direction = (normed - origin).to(dtype)
    values = (unembedding(direction) - unembedding(torch.zeros_like(direction))).float()
    return [
        [token for side in (row, -row) for token in _largest(side, row, decode, count)]
        for row in values
    ]


def _largest(
    side: Tensor, values: Tensor, decode: Callable[[int], str], count: int
) -> list[dict[str, Any]]:
    """Tokens whose `side` is largest, and positive."""
    order = side.argsort(stable=True, descending=True)[:count]
    return [
        {"token": decode(token), "id": token, "value": values[token].item()}
        for token in order[side[order] > 0].tolist()
    ]
