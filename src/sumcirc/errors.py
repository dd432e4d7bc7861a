"""Exceptions that are not bugs: mistakes of the user, and jobs stopped from outside."""

from __future__ import annotations

from pathlib import Path


class UserError(Exception):
    """A mistake that the user can correct.

    The message is one line with the setting, its value and the remedy. The command line prints it
    without a traceback and exits with code 2.
    """


class Unwritable(UserError):
    """A file or folder can't be written; the command line adds the setting that names it.

    Args:
        path: the file or folder.
        reason: the system's message.
    """

    def __init__(self, path: Path | str, reason: str) -> None:
        super().__init__(f"{path}: can't be written ({reason}); choose another folder")
        self.path, self.reason = Path(path), reason


class NoRoom(UserError):
    """The disk is full; existing files are intact.

    Args:
        path: the file that was being written.
        reason: the system's message.
    """

    def __init__(self, path: Path | str, reason: str) -> None:
        super().__init__(
            f"no room to write {path} ({reason}): what was there before is intact; free some space"
        )


class Stopped(BaseException):
    """A job was stopped by Ctrl-C or a signal; the message says how to continue.

    Not an `Exception`, so that it ends a sweep instead of starting the next job.

    Args:
        message: one line.
        code: exit code of the command, 128 plus the signal's number.
    """

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code
