"""Reading regular files as bytes and text, and the error for any defect of a file."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from sumcirc.errors import UserError
from sumcirc.storage.reading.shapes import Unfit

LARGEST = 256 * 2**20  # bytes of a record, unless its reader gives another limit

KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class RecordError(UserError):
    """A file can't be read, or its contents aren't as expected.

    Attributes:
        path: the file.
        key: the place in the file, such as `systems.trained.rouge1_f1.mean`; empty for the whole
            file.
        reason: what is wrong at this place.
    """

    def __init__(self, path: Path | str, reason: str, key: str = "") -> None:
        self.path, self.key, self.reason = Path(path), key, " ".join(reason.split())
        super().__init__(f"{path}: {self.brief}")

    @property
    def brief(self) -> str:
        """The message without the path of the file."""
        return f"`{self.key}` {self.reason}" if self.key else self.reason

    def below(self, folder: Path) -> str:
        """Return the message with the file's path relative to a folder that contains it."""
        # not resolved: the file may be a dangling link
        path, above = os.path.abspath(self.path), os.path.abspath(folder)
        inside = path.startswith(f"{above}{os.sep}")
        return f"{path[len(above) + 1 :]}: {self.brief}" if inside else str(self)


def is_there(path: Path | str) -> bool:
    """Return whether anything is at `path`, including a dangling link.

    For a path that is too long, contains NUL, or is in a folder without access, for which
    `Path.exists` may raise an error, it returns False.
    """
    return os.path.lexists(path)


def require_regular(path: Path | str, largest: int | None = None) -> int:
    """Check that a file is regular, without opening it, before a library opens it by its path.

    Args:
        path: the file.
        largest: largest size in bytes; None for any.

    Returns:
        The file's size in bytes.

    Raises:
        RecordError: the file doesn't exist, isn't regular, or is larger than `largest`.
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
    """Open a regular file for reading bytes.

    Raises:
        RecordError: as in `require_regular`, or the file can't be read.
    """
    require_regular(path)
    try:
        # whatever has replaced the file in the meantime must not block either
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except (OSError, ValueError) as error:
        raise RecordError(path, system_reason(error)) from None
    file = os.fdopen(descriptor, "rb")
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        file.close()
        raise RecordError(path, "is not a regular file")
    return file


def read_bytes(path: Path | str, largest: int = LARGEST) -> bytes:
    """Return the contents of a regular file as bytes.

    Args:
        path: the file.
        largest: largest accepted size in bytes.

    Raises:
        RecordError: as in `require_regular`, or the file can't be read.
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
    """Return the contents of a regular UTF-8 file, with or without a byte order mark.

    Args:
        path: the file.
        largest: largest size in bytes.

    Raises:
        RecordError: as in `read_bytes`, or the file isn't UTF-8.
    """
    try:
        return read_bytes(path, largest).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RecordError(path, f"is not UTF-8 text (byte {error.start + 1})") from None


def system_reason(error: Exception) -> str:
    """Return the reason why a file can't be opened, as text for a `RecordError`.

    Args:
        error: the exception that opening the file raised.
    """
    if isinstance(error, FileNotFoundError):
        return "is not there"
    reason = getattr(error, "strerror", None) or str(error)
    return f"can't be read ({reason})"


def unfit(path: Path | str, error: Unfit, key: str = "") -> RecordError:
    """Return the error for a value in a file that doesn't have the expected shape.

    Args:
        path: the file.
        error: what is wrong with the value.
        key: place of the value in the file, to which the place in `error` is appended.
    """
    return RecordError(path, error.reason, ".".join(filter(None, [key, error.key])))
