"""Activation-difference lens: the tokens that a fine-tuned model's mean residual change promotes.

The mean difference between the residual streams of the tuned model and the base is decoded as if it
were a residual stream: by the final norm and the unembedding. It reveals what a model was
fine-tuned for even on unrelated texts (J. Minder et al., Narrow Finetuning Leaves Clearly Readable
Traces in Activation Differences, 2025, arXiv 2510.13900).

Biases would promote the same tokens for every difference, so they are removed: the norm is norm(x)
- norm(0), which is a LayerNorm without its bias and an RMSNorm unchanged; likewise the unembedding.
What remains of the norm is its gain and its scale. The scale brings any difference, large or small,
to about the same size, so values rank tokens within one stream; they don't measure how much
changed, and are not logits.
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
    """Return the tokens that each residual stream's difference promotes and demotes most.

    Args:
        difference: [S, d] mean of tuned minus base for each of S residual streams, on the modules'
            device.
        final_norm, unembedding: modules of the tuned model, which map [S, d] to [S, d] and to [S,
            vocabulary].
        decode: converts a token id to text.
        count: largest number of promoted tokens, and largest number of demoted tokens.

    Returns:
        For each stream, a list of `{"token": text, "id": id, "value": value}`. It begins with
        promoted tokens (positive values), the most promoted first, followed by demoted tokens
        (negative values), the most demoted first. Tokens with equal values are ordered by id. A
        difference of 0 gives an empty list.
    """
    weights = {name: weight.float() for name, weight in final_norm.named_parameters()}
    # In fp32, since gain and bias are separated by a subtraction.
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
    """Return the tokens with the largest positive values of `side`."""
    order = side.argsort(stable=True, descending=True)[:count]
    return [
        {"token": decode(token), "id": token, "value": values[token].item()}
        for token in order[side[order] > 0].tolist()
    ]
