"""The one place files are written: to a temporary name, flushed to disk, then renamed.

A reader finds the old file or the new one, never half of either, also after `kill -9` or a full disk.
"""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from sumcirc.errors import UserError


def write_file(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file beside `path`, then put it in place of `path`.

    Raises:
        UserError: the disk is full or the folder can't be written; what was there before stays.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        _flush_to_disk(temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(_explain(error, path)) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8."""
    write_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON; NaN is refused, since no JSON reader has to take it."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


def write_folder(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary folder beside `path`, then put it in place of `path`."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        write(temporary)
        for file in temporary.rglob("*"):
            if file.is_file():
                _flush_to_disk(file)
        shutil.rmtree(path, ignore_errors=True)
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(_explain(error, path)) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_table(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write records of equal keys as a Parquet table."""
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.Table.from_pylist([dict(record) for record in records])
    write_file(path, lambda temporary: pyarrow.parquet.write_table(table, temporary))


class MetricsFile:
    """`metrics.csv`: one line per value (`step,metric,value`), append-only.

    A line is on disk once `append` returns; `size` goes into a checkpoint, and a resumed run cuts
    the file back to it, so that what it writes again stands there once.
    """

    HEADER = ("step", "metric", "value")

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, step: int, metrics: Mapping[str, float]) -> None:
        """Add one line for each metric at an optimizer step."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        if not self.path.exists():
            writer.writerow(self.HEADER)
        for name, value in metrics.items():
            writer.writerow((step, name, repr(float(value))))
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(buffer.getvalue())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise UserError(_explain(error, self.path)) from error

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self.path.stat().st_size if self.path.exists() else 0

    def cut(self, size: int) -> None:
        """Drop what was written after the file was `size` bytes long."""
        if size == 0:
            self.path.unlink(missing_ok=True)
        elif self.path.exists():
            os.truncate(self.path, size)


def read_metrics(path: Path) -> list[tuple[int, str, float]]:
    """The (step, metric, value) lines of a metrics file; a torn last line is left out."""
    if not path.exists():
        return []
    with open(path, encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    return [(int(row[0]), row[1], float(row[2])) for row in rows if len(row) == 3 and row[2]]


def remove_leftovers(folder: Path) -> None:
    """Delete temporary files that a killed process left in `folder` and its subfolders."""
    for leftover in folder.rglob(".*.tmp"):
        if leftover.is_dir():
            shutil.rmtree(leftover)
        else:
            leftover.unlink()


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _explain(error: OSError, path: Path) -> str:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    if full:
        return (
            f"no room to write {path} ({error.strerror}): what was there before is intact;"
            " free some space, then continue with `sumcirc train resume=RUN_DIR`"
        )
    return f"can't write {path} ({error.strerror}): choose another folder with runs_dir=FOLDER"
