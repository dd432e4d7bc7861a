"""Atomic writing of files: to a temporary name, flushed to disk, then renamed.

A reader sees either the old file or the new one, never a part of it, even after `kill -9` or with a
full disk.
"""

from __future__ import annotations

import csv
import errno
import fcntl
import glob
import io
import json
import math
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sumcirc.errors import NoRoom, Unwritable, UserError
from sumcirc.runtime.quoting import cell
from sumcirc.storage.reading import RecordError, is_there, require_regular


def write_file(path: Path, write: Callable[[Path], object]) -> None:
    """Create or replace a file: `write` fills a temporary file, which is then moved to `path`.

    Args:
        path: the file to create or replace.
        write: called with the path of the temporary file.

    Raises:
        UserError: the disk is full or the folder can't be written; an earlier file remains.
    """
    temporary = _beside(path, "tmp")
    with _explained(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            usual = _usual_mode(temporary)
            write(temporary)
            _allow(temporary, usual)
            _flush_to_disk(temporary)
            os.replace(temporary, path)
            _flush_to_disk(path.parent)
        finally:
            with suppress(OSError):
                temporary.unlink()


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, atomically as `write_file` does.

    Args:
        path: the file to create or replace.
        text: the contents. Lone surrogates, which Python uses for undecodable bytes of file names,
            are written as escapes such as `\\udc80`.
    """
    body = text.encode("utf-8", errors="backslashreplace")
    write_file(path, lambda temporary: temporary.write_bytes(body))


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, atomically as `write_file` does.

    Args:
        path: the file to create or replace.
        value: plain containers, strings and finite numbers.

    Raises:
        ValueError: the value contains NaN or an infinity, which JSON doesn't have.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


def plain_numbers(value: Any) -> Any:
    """Return a copy of a value that can be written as JSON.

    Arrays and tuples become lists, and numbers that aren't finite become None.

    Args:
        value: containers, arrays, strings and numbers, nested in any way.
    """
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {name: plain_numbers(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_numbers(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_folder(path: Path, write: Callable[[Path], object]) -> None:
    """Create or replace a folder: `write` fills a temporary folder, which is then moved to `path`.

    An existing folder is first moved aside, and deleted once the new one is in place. If the
    process is killed between the two moves, there is no folder at `path`, but the old one still
    exists beside it.

    Args:
        path: the folder to create or replace.
        write: called with the path of the temporary folder.

    Raises:
        UserError: the disk is full, the folder can't be written, or it contains the current folder.
    """
    if Path.cwd().is_relative_to(path.resolve()):
        raise UserError(
            f"{path}: holds the current folder, so it can't be replaced; choose another"
        )
    temporary, old = _beside(path, "tmp"), _beside(path, "old.tmp")
    with _explained(path):
        try:
            _remove(temporary)
            temporary.mkdir(parents=True)
            usual = _usual_mode(temporary / ".mode")
            write(temporary)
            for file in temporary.rglob("*"):
                if file.is_file() and not file.is_symlink():
                    _allow(file, usual)
                _flush_to_disk(file)
            if os.path.lexists(path):
                os.replace(path, old)
            try:
                os.replace(temporary, path)
            except OSError:
                if old.exists():
                    os.replace(old, path)
                raise
            _flush_to_disk(path.parent)
        finally:
            _remove(temporary)
        _remove(old)


def check_writable(setting: str, path: Path | str) -> None:
    """Raise an error if no file or folder can be created at a path, without creating any.

    Args:
        setting: name of the setting, for messages.
        path: value of the setting.

    Raises:
        UserError: nothing can be created at the path.
    """
    place = Path(path).expanduser().absolute()
    reason = None
    for folder in (place, *place.parents):
        try:
            is_folder = stat.S_ISDIR(folder.stat().st_mode)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                continue
            reason = error.errno
        else:
            if not is_folder:
                reason = errno.ENOTDIR
            elif not os.access(folder, os.W_OK | os.X_OK):
                reason = errno.EACCES
        break
    if reason is not None:
        raise UserError(
            f"{setting}={path}: can't be written ({os.strerror(reason)}); choose another folder"
        )


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock on `path` in a `with` block, so that one process at a time executes the block.

    Other processes wait. The lock is a file named `path`.lock, which remains; the system releases
    the lock if the process ends.

    Raises:
        UserError: the folder can't be written.
    """
    lock = path.with_name(f"{path.name}.lock")
    with _explained(lock):
        lock.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        with _explained(lock):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def write_table(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write records as a Parquet table.

    Args:
        path: the file to create or replace.
        records: mappings with the same keys.
    """
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.Table.from_pylist([dict(record) for record in records])
    write_file(path, lambda temporary: pyarrow.parquet.write_table(table, temporary))


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table as CSV text.

    None becomes an empty field. Strings that a spreadsheet would run as a formula are prefixed with
    `'`.

    Args:
        columns: names of the columns, which form the first line.
        rows: the rows, each with one value per column.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([cell(value) for value in row] for row in rows)
    return buffer.getvalue()


class MetricsFile:
    """Appends values to a run's metrics.csv, one line `step,metric,value` for each.

    Lines are on disk once `append` returns. Checkpoints store `size`, to which a resumed run
    truncates the file, so that the steps it repeats are logged only once.

    Attributes:
        path: the file.
    """

    HEADER = ("step", "metric", "value")

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append one line for each metric.

        Args:
            step: optimizer step.
            metrics: value of each metric, by its name.
        """
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        if not self.path.exists():
            writer.writerow(self.HEADER)
        for name, value in metrics.items():
            writer.writerow((step, name, repr(float(value))))
        with _explained(self.path), open(self.path, "a", encoding="utf-8") as file:
            file.write(buffer.getvalue())
            file.flush()
            os.fsync(file.fileno())

    @property
    def size(self) -> int:
        """Size of the file in bytes; 0 if it doesn't exist."""
        return self.path.stat().st_size if self.path.exists() else 0

    def cut(self, size: int) -> None:
        """Truncate the file to `size` bytes, or delete it if `size` is 0.

        Raises:
            UserError: the file is shorter than `size`, so it is not the one that was written.
        """
        if self.size < size:
            raise UserError(
                f"{self.path}: has {self.size} bytes, its checkpoint says {size}; put the file"
                " back, or start a new run"
            )
        if size == 0:
            self.path.unlink(missing_ok=True)
        else:
            os.truncate(self.path, size)


def read_last_step(path: Path) -> int | None:
    """Return the step in the last complete line of a metrics file, or None if there is none.

    Raises:
        RecordError: the file isn't a regular file or can't be read.
    """
    if not is_there(path):
        return None
    size = require_regular(path)
    try:
        with open(path, "rb") as file:
            file.seek(max(0, size - 4096))
            lines = file.read(8192).split(b"\n")[:-1]
    except OSError as error:
        raise RecordError(path, f"can't be read ({error.strerror})") from None
    step = lines[-1].split(b",")[0] if lines else b""
    return int(step) if step.isdigit() and len(step) < 19 else None


LEFTOVER = re.compile(r"\..+\.\d+\.(old\.)?tmp")  # `_beside`


def remove_leftovers(folder: Path) -> None:
    """Delete temporary files that a killed process left in `folder` and its subfolders."""
    for leftover in list(folder.rglob(".*.tmp")):
        if LEFTOVER.fullmatch(leftover.name):
            _remove(leftover)


def remove_leftovers_of(path: Path) -> None:
    """Delete temporary files and folders for `path` that killed processes left beside it.

    Call it only while no other process may write `path`, since its files would be deleted too.
    """
    for leftover in list(path.parent.glob(f".{glob.escape(path.name)}.*.tmp")):
        if LEFTOVER.fullmatch(leftover.name):
            _remove(leftover)


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.{ending}")


def _usual_mode(path: Path) -> int:
    """Return the permissions of a new file at `path`, which the umask and the folder decide."""
    path.unlink(missing_ok=True)
    path.touch()
    mode = stat.S_IMODE(path.stat().st_mode)
    path.unlink()
    return mode


def _allow(path: Path, mode: int) -> None:
    """Add permissions to a file: safetensors 0.8 lets only the owner read what it writes."""
    present = stat.S_IMODE(path.stat().st_mode)
    if present | mode != present:  # some file systems refuse every chmod
        path.chmod(present | mode)


def _remove(path: Path) -> None:
    """Delete a file or folder if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn a full disk or a missing permission into a UserError about `path`."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        code = _error_number(error)
        if code is None:
            raise
        reason = os.strerror(code)
        if code not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise Unwritable(path, reason) from error
        raise NoRoom(path, reason) from error


def _error_number(error: BaseException) -> int | None:
    """Return the system's error number behind an exception, or None.

    torch's zip writer hides it in the context of a RuntimeError, safetensors and tokenizers (Rust)
    in their messages.
    """
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    if isinstance(error, RuntimeError) and isinstance(error.__context__, OSError):
        return error.__context__.errno
    found = re.search(r"\(os error (\d+)\)", str(error))
    return int(found[1]) if found else None
