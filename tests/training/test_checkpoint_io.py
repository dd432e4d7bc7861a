"""Checkpoints are whole or not there, and nothing in them is run."""

from __future__ import annotations

import errno
import pickle
import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sumcirc.errors import UserError
from sumcirc.training.checkpoint_io import AtomicCheckpointIO

BODY = {"state_dict": {"w": torch.arange(5.0)}, "global_step": 3, "python": (3, (1, 2), None)}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "a.ckpt"
    AtomicCheckpointIO().save_checkpoint(BODY, path)
    found = AtomicCheckpointIO().load_checkpoint(path)
    assert torch.equal(found["state_dict"]["w"], BODY["state_dict"]["w"])
    assert (found["global_step"], found["python"]) == (3, BODY["python"])
    assert [file.name for file in path.parent.iterdir()] == ["a.ckpt"]
    AtomicCheckpointIO().remove_checkpoint(path)
    AtomicCheckpointIO().remove_checkpoint(path)
    assert not path.exists()


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="shows what is mapped")
def test_tensors_are_mapped_where_asked(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    AtomicCheckpointIO().save_checkpoint(BODY, path)
    for mapped in (False, True):
        found = AtomicCheckpointIO().load_checkpoint(path, mapped=mapped)
        assert torch.equal(found["state_dict"]["w"], BODY["state_dict"]["w"])
        assert (str(path) in Path("/proc/self/maps").read_text()) == mapped


class _Full:
    """A file on a disk that takes 1,000 bytes more."""

    def __init__(self, path: Any, mode: str) -> None:
        self.file = open(path, mode)  # noqa: SIM115
        self.left = 1000

    def __enter__(self) -> _Full:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def write(self, data: Any) -> int:
        self.left -= len(data)
        if self.left < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()


def test_full_disk_leaves_the_earlier_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sumcirc.training import checkpoint_io

    path = tmp_path / "a.ckpt"
    AtomicCheckpointIO().save_checkpoint(BODY, path)
    before = path.read_bytes()
    monkeypatch.setattr(checkpoint_io, "open", _Full, raising=False)
    with pytest.raises(UserError, match=r"no room to write .*a\.ckpt .*intact") as refused:
        AtomicCheckpointIO().save_checkpoint({"w": torch.zeros(10_000)}, path)
    assert "\n" not in str(refused.value)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.ckpt"]


class _Code:
    """Runs a command when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_checkpoint_is_not_run(tmp_path: Path, zipped: bool) -> None:
    path, trap = tmp_path / "a.ckpt", tmp_path / "trap"
    if zipped:
        torch.save({"x": _Code(trap)}, path)
    else:
        path.write_bytes(pickle.dumps({"x": _Code(trap)}))
    with pytest.raises(UserError, match=r"a\.ckpt: is not a checkpoint") as refused:
        AtomicCheckpointIO().load_checkpoint(path)
    assert "\n" not in str(refused.value)
    assert not trap.exists()


@pytest.mark.parametrize("content", [b"", b"text", None], ids=["empty", "text", "cut short"])
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "a.ckpt"
    if content is None:
        torch.save(BODY, path)
        content = path.read_bytes()[:600]
    path.write_bytes(content)
    with pytest.raises(UserError, match="is not a checkpoint"):
        AtomicCheckpointIO().load_checkpoint(path)


def test_missing_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "none.ckpt"
    with pytest.raises(UserError, match=rf"^{re.escape(str(path))}: is not there"):
        AtomicCheckpointIO().load_checkpoint(path)


def another_counter(body: dict[str, Any]) -> None:
    body["global_step"] = 4


def counter_of_another_type(body: dict[str, Any]) -> None:
    body["global_step"] = 3.0


def a_key_is_gone(body: dict[str, Any]) -> None:
    del body["python"]


def another_weight(body: dict[str, Any]) -> None:
    body["state_dict"]["w"][2] += 1e-6


def weights_of_another_type(body: dict[str, Any]) -> None:
    body["state_dict"]["w"] = body["state_dict"]["w"].double()


@pytest.mark.parametrize(
    "change",
    [
        another_counter,
        counter_of_another_type,
        a_key_is_gone,
        another_weight,
        weights_of_another_type,
    ],
)
def test_a_checkpoint_that_was_changed_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    path = tmp_path / "a.ckpt"
    AtomicCheckpointIO().save_checkpoint(BODY, path)
    body = torch.load(path, weights_only=True)
    change(body)
    torch.save(body, path)
    with pytest.raises(UserError, match=r"a\.ckpt: does not hold what was written there"):
        AtomicCheckpointIO().load_checkpoint(path)


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    """torch compares no checksum."""
    path = tmp_path / "a.ckpt"
    AtomicCheckpointIO().save_checkpoint(BODY, path)
    content = bytearray(path.read_bytes())
    at = bytes(content).index(torch.arange(5.0).numpy().tobytes())
    content[at + 8] ^= 0x40
    path.write_bytes(content)
    assert not torch.equal(torch.load(path)["state_dict"]["w"], torch.arange(5.0))
    with pytest.raises(UserError, match="does not hold what was written"):
        AtomicCheckpointIO().load_checkpoint(path)


def test_every_type_that_torch_writes_keeps_its_seal(tmp_path: Path) -> None:
    body = {
        "odd": OrderedDict([(1, (True, None)), ("x", [1.5, float("nan"), b"\xff", "\ud800"])]),
        "tensors": [torch.zeros(0), torch.tensor(1.5, dtype=torch.bfloat16), torch.eye(3).T],
        "shape": torch.Size([1, 2]),
        "type": torch.float16,
    }
    AtomicCheckpointIO().save_checkpoint(body, tmp_path / "a.ckpt")
    found = AtomicCheckpointIO().load_checkpoint(tmp_path / "a.ckpt")
    assert found["odd"][1] == (True, None)
    assert found["shape"] == torch.Size([1, 2])
