"""Which process a run belongs to, and what several of them leave behind: nothing."""

from __future__ import annotations

import os

import pytest
import torch.distributed
from pytorch_lightning.utilities import rank_zero_only

from sumcirc.processes import VARIABLES, distributed, is_main_process


def test_first_process_of_the_first_node_alone_is_the_main_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("NODE_RANK", raising=False)
    assert is_main_process()
    monkeypatch.setenv("NODE_RANK", "1")
    assert not is_main_process()
    monkeypatch.setenv("NODE_RANK", "0")
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    assert not is_main_process()


def test_environment_and_process_group_are_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MASTER_PORT", "12345")
    store = torch.distributed.HashStore()

    @distributed()
    def train() -> None:
        os.environ.update(LOCAL_RANK="0", WORLD_SIZE="2", MASTER_PORT="1")
        torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
        raise RuntimeError("on the way")

    with pytest.raises(RuntimeError, match="on the way"):
        train()
    assert not torch.distributed.is_initialized()
    assert {name: os.environ.get(name) for name in VARIABLES} == {
        **dict.fromkeys(VARIABLES),
        "MASTER_PORT": "12345",
    }
