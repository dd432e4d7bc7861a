"""Divergence of a fine-tuned model's next-token distribution from its base's, row by row.

With p of the tuned model, q of the base, d = log p - log q and m = (p + q) / 2:

    KL(tuned || base)   sum [p d - (p - q)]
    KL(base || tuned)   sum [(p - q) - q d]
    Jensen-Shannon      (KL(p || m) + KL(q || m)) / 2
                        = 1/2 sum [max(p, q) g + min(p, q) (g - |d|)]

where g = log(max(p, q) / m) = -log(1 + (exp(-|d|) - 1) / 2). The sum of p - q is 0; including it
makes every term non-negative, and rounding errors of log p and log q, which exceed a small
divergence, cancel to first order. No term needs log m, which is log 0 where both models assign a
token probability 0.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def output_divergences(tuned: Tensor, base: Tensor) -> dict[str, Tensor]:
    """Return divergences between two models' next-token distributions, computed in fp32.

    Args:
        tuned, base: [n, vocabulary] finite logits of any floating type.

    Returns:
        Divergences [n] in fp32 by name: `kl_tuned_base`, `kl_base_tuned` and `js` in nats, which
        are 0 or more (`js` is at most ln 2), and `top1_agreement`, which is 1 where both models
        have the same most likely token and 0 elsewhere.

    Raises:
        ValueError: the shapes differ.
    """
    if tuned.shape != base.shape:
        raise ValueError(f"logits of shapes {tuple(tuned.shape)} and {tuple(base.shape)}")
    log_p = torch.log_softmax(tuned, -1, dtype=torch.float32)
    log_q = torch.log_softmax(base, -1, dtype=torch.float32)
    p, q, d = log_p.exp(), log_q.exp(), log_p - log_q
    size, larger, smaller = d.abs(), torch.maximum(p, q), torch.minimum(p, q)
    fall = torch.expm1(-size)
    change = torch.copysign(larger * fall, d)  # p - q, as exact as d
    over_mean = -torch.log1p(fall / 2)
    js = (larger * over_mean + smaller * (over_mean - size)).sum(-1) / 2
    return {
        # Rounding alone could make them negative.
        "kl_tuned_base": (p * d - change).sum(-1).clamp(min=0),
        "kl_base_tuned": (change - q * d).sum(-1).clamp(min=0),
        "js": js.clamp(0, math.log(2)),
        "top1_agreement": (tuned.argmax(-1) == base.argmax(-1)).float(),
    }
