"""Generators go back to where they were; checkpoints are found in the order of their steps."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import torch

from sumcirc.training.checkpoint import (
    checkpoint_file,
    checkpoints,
    generators,
    set_generators,
)
from sumcirc.training.checkpoint_io import AtomicCheckpointIO


def drawn() -> list[float]:
    """From every generator; gauss() keeps half of what it made for the next call."""
    return [
        random.random(),
        random.gauss(0, 1),
        float(np.random.rand()),
        float(np.random.randn()),
        float(torch.rand(1)),
    ]


def test_generators_continue_after_being_written_and_read(tmp_path: Path) -> None:
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    drawn()
    path = tmp_path / "a.ckpt"
    AtomicCheckpointIO().save_checkpoint({"generators": generators()}, path)
    expected = [drawn() for _ in range(3)]
    random.seed(2)
    np.random.seed(2)
    torch.manual_seed(2)
    assert drawn() != expected[0]
    set_generators(AtomicCheckpointIO().load_checkpoint(path)["generators"])
    assert [drawn() for _ in range(3)] == expected


def test_checkpoints_are_in_the_order_of_their_steps(tmp_path: Path) -> None:
    steps = [5, 999_999, 1_000_000, 20]
    for step in steps:
        checkpoint_file(tmp_path, step).touch()
    (tmp_path / ".step-000030.ckpt.123.tmp").touch()
    (tmp_path / "notes.txt").touch()
    assert checkpoints(tmp_path) == [checkpoint_file(tmp_path, step) for step in sorted(steps)]
    assert checkpoints(tmp_path / "none") == []
