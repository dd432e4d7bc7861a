"""The checkpoints of a run, as `sumcirc compare` reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from sumcirc.jobs import _checkpoints
from sumcirc.training.checkpoint_io import AtomicCheckpointIO


def test_each_checkpoint_is_read_once_and_mapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (20, 100):
        weights = {
            "model.base_model.model.w": torch.full((3,), float(step)),
            "model.v": torch.ones(2),
        }
        AtomicCheckpointIO().save_checkpoint(
            {"state_dict": weights}, tmp_path / f"step-{step:06d}.ckpt"
        )
    read: list[tuple[str, bool]] = []
    load = AtomicCheckpointIO.load_checkpoint

    def counted(self: Any, path: Path, *, mapped: bool) -> Any:
        read.append((path.name, mapped))
        return load(self, path, mapped=mapped)

    monkeypatch.setattr(AtomicCheckpointIO, "load_checkpoint", counted)
    monkeypatch.setattr(_checkpoints, "_files", lambda _: tmp_path)
    after: Any = None
    found = _checkpoints.trajectory_of(after)
    assert [one.step for one in found] == [20, 100]
    assert [sorted(one.state) for one in found] == [["v", "w"], ["v", "w"]]
    assert [float(one.state["w"][0]) for one in found] == [20.0, 100.0]
    assert read == [("step-000020.ckpt", True), ("step-000100.ckpt", True)]
