"""Models of every family in float64 and pairs of several lengths, for tests of attribution."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from sumcirc.circuits.inputs.example_pairs import ExamplePair, TokenPairs
from sumcirc.circuits.metrics import LogitDifference, Metric
from tests.support.small_models import VOCABULARY, adapted, in_float64, scrambled


def family_model(form: str) -> Any:
    """A family, by itself or `sequential` (no parallel blocks) or `+ lora`."""
    family, *rest = form.split(" ", 1)
    changes = {"use_parallel_residual": False} if rest == ["sequential"] else {}
    model = in_float64(scrambled(family, **changes))
    return adapted(model, dropout=0.3) if rest == ["+ lora"] else model


def some_pairs(left: bool = False) -> TokenPairs:
    """Three items of 9, 5 and 7 tokens of which two differ; padded on the right, or the left."""
    generator = torch.Generator().manual_seed(5)
    lengths = (9, 5, 7)
    clean = [torch.randint(1, VOCABULARY, (n,), generator=generator).tolist() for n in lengths]
    corrupted = [list(one) for one in clean]
    for one in corrupted:
        one[1], one[3] = (one[1] + 7) % VOCABULARY, (one[3] + 100) % VOCABULARY
    kinds = [np.array([0] + [1] * (n - 3) + [-1, 0]) for n in lengths]
    spans = [{"first": one == 0, "second": one == 1} for one in kinds]
    rows = zip(("one", "two", "three"), clean, corrupted, spans, strict=True)
    pairs = [ExamplePair.of(name, "own", (one, other), here) for name, one, other, here in rows]
    return TokenPairs.of(pairs, left=left)


def difference_metric(pairs: TokenPairs) -> Metric:
    """A logit difference at the last token, of other tokens in each of `some_pairs`."""
    return LogitDifference(pairs.clean.last, torch.tensor([3, 4, 5]), torch.tensor([6, 7, 8]))
