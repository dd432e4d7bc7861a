"""Attribution of moved parts: the slope of the effect as the donor comes near the receiver."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sumcirc.compare.patching.components import KINDS, components
from sumcirc.compare.patching.cross_model_patching import Receiver
from sumcirc.compare.patching.donor_activations import Donor
from sumcirc.compare.patching.gradient_attribution import attributed
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.models.architectures import ARCHITECTURES
from tests.compare.cases import other, some_items
from tests.support.small_models import adapted, in_float64, scrambled

ITEMS = some_items()
NEAR = 1e-2  # of the largest effect: RMSNorm works in float32, whatever the model is in


def both(before: Any, after: Any, folder: Path, positions: str, sources: str | None = None) -> Any:
    """Effects as they are attributed and as they are measured, [parts, items] each."""
    donor = Donor.record(
        HookedModel(after), ITEMS, len(ITEMS), [positions], folder, unembedding=True
    )
    (batch,) = ITEMS.batches(len(ITEMS))
    where = None if sources is None else batch.at(sources)
    receiver = Receiver(HookedModel(before), batch, donor, 0, batch.at(positions), where)
    parts = list(components(receiver.hooked.shape, KINDS))
    found = attributed(receiver, parts)
    measured = receiver.patched([[part] for part in parts]) - receiver.metric
    return torch.stack([found[part] for part in parts]).numpy(), measured.numpy(), parts


@pytest.mark.parametrize("family", ARCHITECTURES)
@pytest.mark.parametrize("positions", ["last", "early"])
def test_small_changes_are_linear(family: str, positions: str, tmp_path: Path) -> None:
    before = in_float64(scrambled(family))
    after = other(before, 3e-5)
    found, measured, parts = both(before, after, tmp_path, positions, "early")
    size = np.abs(measured).max()
    assert size > 1e-5
    np.testing.assert_allclose(found, measured, atol=NEAR * size)
    # each kind has an effect of its own, so that none is compared as zeros
    for kind in KINDS:
        rows = [i for i, part in enumerate(parts) if part.kind == kind]
        assert np.abs(measured[rows]).max() > 1e-2 * size, kind


def test_an_adapter_counts_with_its_linear(tmp_path: Path) -> None:
    before = adapted(scrambled("llama")).double()
    found, measured, _ = both(before, other(before, 3e-5), tmp_path, "read")
    np.testing.assert_allclose(found, measured, atol=NEAR * np.abs(measured).max())


def test_no_gradient_is_left(tmp_path: Path) -> None:
    before = scrambled("gpt2")
    before.requires_grad_(True)
    both(before, other(before), tmp_path, "last")
    assert all(p.requires_grad and p.grad is None for p in before.parameters())
