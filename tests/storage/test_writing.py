"""Whole files or none: after kill -9, on a full disk, and for what stands half written."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from sumcirc.errors import UserError
from sumcirc.storage.writing import (
    MetricsFile,
    locked,
    remove_leftovers,
    write_file,
    write_folder,
    write_json,
    write_table,
    write_text,
)
from sumcirc.tracking.measure_records import read_metrics

LIMIT = 50_000  # bytes that a file may have in `python_with_little_room`


def python(script: str, folder: Path, *, kill: bool = False) -> subprocess.CompletedProcess[str]:
    """Run a script in `folder`; with `kill`, send SIGKILL when it prints `now`."""
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    if kill:
        assert process.stdout.readline() == "now\n"
        process.kill()
    out, err = process.communicate()
    return subprocess.CompletedProcess([], process.returncode, out, err)


def python_with_little_room(body: str, folder: Path) -> str:
    """What UserError `body` raises where files can't grow past LIMIT; the error is EFBIG.

    It comes from the same calls as ENOSPC does.
    """
    script = f"""
import resource, signal
from pathlib import Path
from sumcirc.errors import UserError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({LIMIT}, {LIMIT}))
try:
    {body}
except UserError as error:
    print(error)
"""
    done = python(script, folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def test_writes_text_json_and_tables(tmp_path: Path) -> None:
    write_text(tmp_path / "a/b/text.txt", "ünï\n")
    write_json(tmp_path / "value.json", {"x": [1, None, "é"]})
    write_table(tmp_path / "table.parquet", [{"id": "a", "x": 1.0}, {"id": "b", "x": None}])
    import pyarrow.parquet

    assert (tmp_path / "a/b/text.txt").read_bytes() == "ünï\n".encode()
    assert json.loads((tmp_path / "value.json").read_text()) == {"x": [1, None, "é"]}
    assert pyarrow.parquet.read_table(tmp_path / "table.parquet").to_pylist() == [
        {"id": "a", "x": 1.0},
        {"id": "b", "x": None},
    ]
    assert names(tmp_path) == {"a", "a/b", "a/b/text.txt", "value.json", "table.parquet"}


def test_json_without_nan(tmp_path: Path) -> None:
    write_json(tmp_path / "value.json", {"x": 1})
    with pytest.raises(ValueError, match="nan"):
        write_json(tmp_path / "value.json", {"x": float("nan")})
    assert json.loads((tmp_path / "value.json").read_text()) == {"x": 1}


@pytest.mark.parametrize("write", [write_file, write_folder])
def test_an_error_while_writing_leaves_what_was_there(
    tmp_path: Path, write: Callable[..., None]
) -> None:
    target = tmp_path / "thing"
    if write is write_folder:
        target.mkdir()
        (target / "old").write_text("old")
    else:
        target.write_text("old")
    before = names(tmp_path)

    def fail(path: Path) -> None:
        (path / "new" if path.is_dir() else path).write_text("half")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write(target, fail)
    assert names(tmp_path) == before


def test_a_killed_process_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "value.txt"
    target.write_text("old")
    script = """
import signal
from pathlib import Path
from sumcirc.storage.writing import write_file
def write(path):
    with open(path, "w") as file:
        file.write("new and ")
        file.flush()
        print("now", flush=True)
        signal.pause()
write_file(Path("value.txt"), write)
"""
    assert python(script, tmp_path, kill=True).returncode == -signal.SIGKILL
    assert target.read_text() == "old"
    assert len(names(tmp_path)) == 2  # and the temporary file
    remove_leftovers(tmp_path)
    assert names(tmp_path) == {"value.txt"}


def test_a_killed_process_leaves_the_old_folder(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/weights").write_text("old")
    script = """
import signal
from pathlib import Path
from sumcirc.storage.writing import write_folder
def write(path):
    (path / "weights").write_text("new and ")
    print("now", flush=True)
    signal.pause()
write_folder(Path("model"), write)
"""
    python(script, tmp_path, kill=True)
    assert (tmp_path / "model/weights").read_text() == "old"
    remove_leftovers(tmp_path)
    assert names(tmp_path) == {"model", "model/weights"}


def test_a_new_folder_takes_the_place_of_the_old(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/old").write_text("old")
    write_folder(tmp_path / "model", lambda path: (path / "new").write_text("new"))
    assert names(tmp_path) == {"model", "model/new"}


def test_the_current_folder_is_never_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here/mine").write_text("mine")
    monkeypatch.chdir(tmp_path / "here")
    for target in (Path("."), tmp_path / "here", tmp_path):
        with pytest.raises(UserError, match="current folder"):
            write_folder(target, lambda path: None)
    assert (tmp_path / "here/mine").read_text() == "mine"


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_others_may_read_what_the_umask_lets_them(tmp_path: Path, umask: int, mode: int) -> None:
    # safetensors itself leaves 0o600
    def save(file: Path) -> None:
        save_file({"a": np.zeros(2)}, file)

    before = os.umask(umask)
    try:
        write_file(tmp_path / "alone.safetensors", save)
        write_folder(tmp_path / "folder", lambda folder: save(folder / "within.safetensors"))
        write_text(tmp_path / "text.txt", "a")
    finally:
        os.umask(before)
    for name in ("alone.safetensors", "folder/within.safetensors", "text.txt"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == mode, name
    assert names(tmp_path / "folder") == {"within.safetensors"}


def test_leftovers_of_others_stay(tmp_path: Path) -> None:
    for name in (".config.yaml.tmp", "x.123.tmp", ".editor.swp"):
        (tmp_path / name).write_text("")
    (tmp_path / ".adapter.123.old.tmp").mkdir()
    (tmp_path / ".adapter.123.old.tmp/weights").write_text("")
    (tmp_path / ".status.json.123.tmp").write_text("")
    remove_leftovers(tmp_path)
    assert names(tmp_path) == {".config.yaml.tmp", "x.123.tmp", ".editor.swp"}


# ---- a full disk


@pytest.mark.parametrize(
    "body",
    [
        "from sumcirc.storage.writing import write_text; write_text(Path('out'), 'x' * 200_000)",
        "from sumcirc.storage.writing import write_table;"
        " write_table(Path('out'), ({'x': str(i * 7919)} for i in range(60_000)))",
        "from sumcirc.training.checkpoint_io import AtomicCheckpointIO; import torch;"
        " AtomicCheckpointIO().save_checkpoint({'x': torch.zeros(90_000)}, 'out')",
        "from sumcirc.storage.writing import write_file; import torch;"
        " from safetensors.torch import save_file;"
        " write_file(Path('out'), lambda path: save_file({'x': torch.zeros(90_000)}, path))",
    ],
    ids=["text", "parquet", "checkpoint", "safetensors"],
)
def test_a_full_disk_leaves_the_previous_file(tmp_path: Path, body: str) -> None:
    (tmp_path / "out").write_text("previous")
    said = python_with_little_room(body, tmp_path)
    assert said.startswith("no room to write ")
    assert said.count("\n") == 1
    assert "File too large" in said
    assert said.endswith("free some space\n")
    assert (tmp_path / "out").read_text() == "previous"
    assert names(tmp_path) == {"out"}


def test_a_full_disk_leaves_the_previous_folder(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/weights").write_text("previous")
    said = python_with_little_room(
        "from sumcirc.storage.writing import write_folder;"
        " write_folder(Path('model'), lambda path: (path / 'weights').write_text('x' * 90_000))",
        tmp_path,
    )
    assert said.startswith("no room to write model")
    assert (tmp_path / "model/weights").read_text() == "previous"
    assert names(tmp_path) == {"model", "model/weights"}


def test_a_full_disk_under_the_metrics(tmp_path: Path) -> None:
    body = (
        "from sumcirc.storage.writing import MetricsFile;"
        " [MetricsFile(Path('metrics.csv')).append(i, {'loss' * 100: 0.5}) for i in range(999)]"
    )
    said = python_with_little_room(body, tmp_path)
    assert said.startswith("no room to write metrics.csv")
    rows = read_metrics(tmp_path / "metrics.csv")  # the last line may be cut
    assert [step for step, _, _ in rows] == list(range(len(rows)))
    assert {value for _, _, value in rows} == {0.5}
    assert len(rows) > 100


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_no_space_left(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.write_text("previous")

    def write(path: Path) -> None:
        with open("/dev/full", "w") as full:
            full.write("x")

    with pytest.raises(UserError, match=r"^no room to write .*No space left on device"):
        write_file(target, write)
    assert target.read_text() == "previous"


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for write in (write_text, write_json):
        with pytest.raises(UserError, match=r"can't be written .*choose another folder"):
            write(tmp_path / "file/below", "x")
    with pytest.raises(UserError, match="can't be written"):
        write_folder(tmp_path / "file/below", lambda path: None)
    with pytest.raises(UserError, match="can't be written"):
        MetricsFile(tmp_path / "file/below").append(0, {"loss": 1.0})


def test_a_mistake_of_the_user_passes_through(tmp_path: Path) -> None:
    def write(path: Path) -> None:
        try:
            open(tmp_path / "nowhere")  # noqa: SIM115
        except OSError:
            raise UserError("data.train=x: is empty")  # noqa: B904

    with pytest.raises(UserError, match=r"^data\.train=x: is empty$"):
        write_file(tmp_path / "out", write)


# ---- metrics


def test_metrics_are_read_as_written(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path / "metrics.csv")
    assert read_metrics(file.path) == []
    file.append(0, {"validation/loss": 2.5, 'a,"b"': 1e-17})
    file.append(10, {"train/loss": 0.1 + 0.2})
    assert read_metrics(file.path) == [
        (0, "validation/loss", 2.5),
        (0, 'a,"b"', 1e-17),
        (10, "train/loss", 0.1 + 0.2),
    ]
    assert file.path.read_text().splitlines()[0] == "step,metric,value"


def test_metrics_are_cut_to_where_a_checkpoint_was(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path / "metrics.csv")
    file.append(1, {"loss": 3.0})
    size, content = file.size, file.path.read_bytes()
    file.append(2, {"loss": 2.0})
    file.cut(size)
    assert file.path.read_bytes() == content
    file.append(2, {"loss": 2.0})
    assert [step for step, _, _ in read_metrics(file.path)] == [1, 2]
    file.cut(0)
    assert not file.path.exists()
    file.cut(0)
    assert file.size == 0


def test_metrics_shorter_than_their_checkpoint_are_refused(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path / "metrics.csv")
    file.append(1, {"loss": 3.0})
    content = file.path.read_bytes()
    with pytest.raises(UserError, match="its checkpoint says 999"):
        file.cut(999)
    assert file.path.read_bytes() == content
    file.path.unlink()
    with pytest.raises(UserError, match="has 0 bytes"):
        file.cut(10)


@pytest.mark.parametrize("torn", ["2", "2,lo", "2,loss,", "2,loss,0.12"])
def test_a_torn_last_line_is_left_out(tmp_path: Path, torn: str) -> None:
    file = MetricsFile(tmp_path / "metrics.csv")
    file.append(1, {"loss": 3.0})
    file.path.write_text(file.path.read_text() + torn)
    assert read_metrics(file.path) == [(1, "loss", 3.0)]


def test_a_lock_is_held_by_one_process_and_goes_with_it(tmp_path: Path) -> None:
    """The second waits until the first is killed."""
    script = (
        "import signal\nfrom pathlib import Path\nfrom sumcirc.storage.writing import locked\n"
        "with locked(Path('new/thing')):\n    print('now', flush=True)\n    signal.pause()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "now\n"
        with open(tmp_path / "new/thing.lock") as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        entered = threading.Event()

        def enter() -> None:
            with locked(tmp_path / "new" / "thing"):
                entered.set()

        second = threading.Thread(target=enter)
        second.start()
        assert not entered.wait(0.3)
        holder.send_signal(signal.SIGKILL)
        second.join()
    finally:
        holder.kill()
        holder.communicate()


def test_names_of_files_that_are_no_text_are_written(tmp_path: Path) -> None:
    """A file's name may be any bytes; Python reads those that are no UTF-8 as surrogates."""
    name = os.fsdecode(b"caf\xe9")
    write_json(tmp_path / "a.json", {"run": name})
    assert json.loads((tmp_path / "a.json").read_bytes()) == {"run": name}
    write_text(tmp_path / "a.csv", name)
    assert (tmp_path / "a.csv").read_bytes() == rb"caf\udce9"
