"""The cache: computed once, never trusted, and nothing but the declared parts decides the key."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import numpy as np
import pytest

from sumcirc.errors import UserError
from sumcirc.storage import cache
from sumcirc.storage.cache import SUMS, Cache
from tests.support.damage import DAMAGES

SQUARES = Cache("squares", format=1, libraries=("numpy",))
BODY, NOTE = "body.json", "note.txt"


class Squares:
    """Squares of numbers, kept; counts how often they are computed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.computed = 0

    def write(self, folder: Path, numbers: list[int]) -> None:
        self.computed += 1
        (folder / BODY).write_text(json.dumps([number**2 for number in numbers]))
        (folder / NOTE).write_text("squares of " + ", ".join(map(str, numbers)))

    def of(self, *numbers: int) -> tuple[list[int], bool]:
        def read(folder: Path) -> list[int]:
            found = json.loads((folder / BODY).read_text())
            if len(found) != len(numbers):
                raise ValueError(f"{len(found)} numbers instead of {len(numbers)}")
            return found

        return SQUARES.get(
            self.folder, list(numbers), lambda folder: self.write(folder, list(numbers)), read
        )

    def entry(self, *numbers: int) -> Path:
        return self.folder / "squares" / SQUARES.key(list(numbers))


@pytest.fixture
def squares(tmp_path: Path) -> Squares:
    return Squares(tmp_path)


def test_a_result_is_computed_once(squares: Squares) -> None:
    assert squares.of(2, 3) == ([4, 9], False)
    assert squares.of(2, 3) == ([4, 9], True)
    assert squares.of(3, 2) == ([9, 4], False)
    assert squares.computed == 2
    assert {file.name for file in squares.entry(2, 3).iterdir()} == {BODY, NOTE, SUMS}


def test_sha256sum_reads_the_sums(squares: Squares) -> None:
    squares.of(2, 3)
    checked = subprocess.run(
        ["sha256sum", "--strict", "-c", SUMS],
        cwd=squares.entry(2, 3),
        capture_output=True,
        text=True,
    )
    assert checked.returncode == 0, checked.stderr
    assert checked.stdout.splitlines() == [f"{BODY}: OK", f"{NOTE}: OK"]


@pytest.mark.parametrize("name", [BODY, NOTE, SUMS])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_named_in_one_line_and_made_again(
    damage: str, name: str, squares: Squares, caplog: pytest.LogCaptureFixture
) -> None:
    squares.of(2, 3)
    entry = squares.entry(2, 3)
    DAMAGES[damage](entry / name)
    assert squares.of(2, 3) == ([4, 9], False)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    message = record.getMessage()
    assert message.startswith(f"cache: {entry}")
    if name != SUMS:
        assert f"{entry / name}:" in message
    assert "\n" not in message
    assert squares.of(2, 3) == ([4, 9], True)
    assert squares.computed == 2
    assert [one.name for one in entry.parent.iterdir() if one.name.startswith(".")] == []


def another_file(entry: Path) -> None:
    (entry / "extra").write_text("not of this result")


def a_file_for_the_entry(entry: Path) -> None:
    for file in entry.iterdir():
        file.unlink()
    entry.rmdir()
    entry.write_text("{}")


def nothing_in_the_entry(entry: Path) -> None:
    for file in entry.iterdir():
        file.unlink()


def a_link_to_nowhere(entry: Path) -> None:
    a_file_for_the_entry(entry)
    entry.unlink()
    entry.symlink_to(entry.parent / "nowhere")


def another_result(entry: Path) -> None:
    """Whole, with the right checksums, but of other sizes."""
    (entry / BODY).write_text("[4]")
    (entry / SUMS).write_text("".join(f"{v}  {k}\n" for k, v in cache._sums(entry).items()))


@pytest.mark.parametrize(
    "damage",
    [another_file, a_file_for_the_entry, nothing_in_the_entry, a_link_to_nowhere, another_result],
)
def test_a_damaged_entry_is_named_in_one_line_and_made_again(
    damage: Callable[[Path], None], squares: Squares, caplog: pytest.LogCaptureFixture
) -> None:
    squares.of(2, 3)
    damage(squares.entry(2, 3))
    assert squares.of(2, 3) == ([4, 9], False)
    (record,) = caplog.records
    assert str(squares.entry(2, 3)) in record.getMessage()
    if damage is another_result:
        assert "1 numbers instead of 2" in record.getMessage()
    assert squares.of(2, 3) == ([4, 9], True)


def test_what_can_not_be_read_after_writing_is_an_error(tmp_path: Path) -> None:
    """Not a reason to compute for ever."""

    def refuse(folder: Path) -> None:
        raise ValueError("never right")

    for _ in range(2):
        with pytest.raises(ValueError, match="never right"):
            SQUARES.get(tmp_path, [], lambda folder: None, refuse)


def test_an_error_while_computing_leaves_no_entry(squares: Squares) -> None:
    def fail(folder: Path) -> None:
        (folder / BODY).write_text("[4")
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        SQUARES.get(squares.folder, [2], fail, lambda folder: None)
    assert [one.suffix for one in (squares.folder / "squares").iterdir()] == [".lock"]
    assert squares.of(2) == ([4], False)


def test_what_a_killed_process_left_is_removed(squares: Squares) -> None:
    """Only of this entry: another process may be writing the next one."""
    mine, other = (squares.entry(number) for number in (2, 3))
    left = [entry.with_name(f".{entry.name}.123.tmp") for entry in (mine, other)]
    for folder in left:
        folder.mkdir(parents=True)
        (folder / BODY).write_text("[4")
    squares.of(2)
    assert [folder.exists() for folder in left] == [False, True]


# ---- the key


class Kind(Enum):
    one = "one"


@dataclass
class Options:
    kind: Kind
    sizes: np.ndarray


def test_every_part_decides_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    def parts(kind: object = Kind.one, size: float = 0.5, path: Path = Path("a")) -> list[object]:
        return [Options(kind, np.array([size])), path, np.int64(3)]  # type: ignore[arg-type]

    keys = [
        SQUARES.key(parts()),
        SQUARES.key(parts(kind="two")),
        SQUARES.key(parts(size=0.25)),
        SQUARES.key(parts(path=Path("b"))),
        Cache("squares", format=2, libraries=("numpy",)).key(parts()),
        Cache("cubes", format=1, libraries=("numpy",)).key(parts()),
        Cache("squares", format=1, libraries=("numpy", "torch")).key(parts()),
    ]
    monkeypatch.setattr(cache, "version", lambda name: "0.0")
    keys.append(SQUARES.key(parts()))
    assert len(set(keys)) == len(keys)


def test_the_key_stays(tmp_path: Path) -> None:
    """The same in another process: nothing of it hangs on hashes or addresses of objects."""
    script = (
        "from tests.storage.test_cache import SQUARES, Kind;"
        " print(SQUARES.key([Kind.one, {'a': 1}]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.stdout.strip() == SQUARES.key([Kind.one, {"a": 1}])


def test_what_has_no_lasting_text_is_no_part() -> None:
    with pytest.raises(TypeError, match="can't be part of a cache's key"):
        SQUARES.key([object()])


# ---- processes


def test_jobs_at_the_same_time_compute_once(squares: Squares) -> None:
    found = []
    threads = [threading.Thread(target=lambda: found.append(squares.of(5, 6))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(was_there for _, was_there in found) == [False, True, True, True]
    assert squares.computed == 1


def test_a_sound_entry_is_read_without_a_lock(
    squares: Squares, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a cache that somebody else filled may be read-only."""
    squares.of(2)

    def refuse(path: Path) -> None:
        raise UserError(f"can't write {path}")

    monkeypatch.setattr(cache, "locked", refuse)
    assert squares.of(2) == ([4], True)
    with pytest.raises(UserError, match="can't write"):
        squares.of(3)


def test_a_place_that_can_not_be_a_cache_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(UserError, match=r"can't be written \(Not a directory\); choose"):
        Squares(file).of(2)
