"""Regular files as bytes and text, and the one error of all that is wrong with a file."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from sumcirc.errors import UserError
from sumcirc.storage.reading.shapes import Unfit

LARGEST = 256 * 2**20  # bytes of a record, unless its reader knows better

KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class RecordError(UserError):
    """A file that can't be read, or holds something else than was expected.

    Attributes:
        path: the file.
        key: where in it, such as `systems.trained.rouge1_f1.mean`; empty for the whole file.
        reason: what is wrong there.
    """

    def __init__(self, path: Path | str, reason: str, key: str = "") -> None:
        self.path, self.key, self.reason = Path(path), key, " ".join(reason.split())
        super().__init__(f"{path}: {self.brief}")

    @property
    def brief(self) -> str:
        """Key and reason, for those who know the file."""
        return f"`{self.key}` {self.reason}" if self.key else self.reason

    def below(self, folder: Path) -> str:
        """The message with the file's path from a folder, where it lies in it."""
        # not resolved: the file may be a link that leads nowhere
        path, above = os.path.abspath(self.path), os.path.abspath(folder)
        inside = path.startswith(f"{above}{os.sep}")
        return f"{path[len(above) + 1 :]}: {self.brief}" if inside else str(self)


def is_there(path: Path | str) -> bool:
    """Return whether anything is at `path`, including a dangling link.

    For a path that is too long, has a NUL, or lies in a closed folder it is False, where
    `Path.exists` raises.
    """
    return os.path.lexists(path)


def require_regular(path: Path | str, largest: int | None = None) -> int:
    """Check that a file is a regular one without opening it; for libraries that take a path.

    Returns:
        Its size in bytes.

    Raises:
        RecordError: it is not there, something else than a file, or larger than `largest`.
    """
    try:
        found = os.stat(path)
    except (OSError, ValueError) as error:
        raise RecordError(path, system_reason(error)) from None
    for is_kind, name in KINDS:
        if is_kind(found.st_mode):
            raise RecordError(path, f"is {name}, not a file")
    if largest is not None and found.st_size > largest:
        raise RecordError(path, f"has {found.st_size:,} bytes, more than {largest:,}")
    return found.st_size


def open_regular(path: Path | str) -> BinaryIO:
    """Open a regular file for reading.

    Raises:
        RecordError: see `require_regular`, or it can't be read.
    """
    require_regular(path)
    try:
        # what took the file's place since then must not block either
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except (OSError, ValueError) as error:
        raise RecordError(path, system_reason(error)) from None
    file = os.fdopen(descriptor, "rb")
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        file.close()
        raise RecordError(path, "is not a regular file")
    return file


def read_bytes(path: Path | str, largest: int = LARGEST) -> bytes:
    """The content of a regular file.

    Raises:
        RecordError: see `require_regular`, or it can't be read.
    """
    require_regular(path, largest)
    try:
        with open_regular(path) as file:
            content = file.read(largest + 1)
    except OSError as error:
        raise RecordError(path, system_reason(error)) from None
    if len(content) > largest:
        raise RecordError(path, f"has more than {largest:,} bytes")
    return content


def read_text(path: Path | str, largest: int = LARGEST) -> str:
    """The content of a regular file in UTF-8, with or without a byte order mark.

    Raises:
        RecordError: see `read_bytes`, or it is not UTF-8.
    """
    try:
        return read_bytes(path, largest).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RecordError(path, f"is not UTF-8 text (byte {error.start + 1})") from None


def system_reason(error: Exception) -> str:
    """What the system says of a file that can't be opened."""
    if isinstance(error, FileNotFoundError):
        return "is not there"
    reason = getattr(error, "strerror", None) or str(error)
    return f"can't be read ({reason})"


def unfit(path: Path | str, error: Unfit, key: str = "") -> RecordError:
    """The error of a value in a file that has another shape than expected."""
    return RecordError(path, error.reason, ".".join(filter(None, [key, error.key])))
