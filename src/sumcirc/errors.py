"""Exceptions that are not bugs: mistakes of the user, and jobs stopped from outside."""

from __future__ import annotations

from pathlib import Path


class UserError(Exception):
    """Something the user can mend; the message is one line: the setting, its value, the remedy.

    The command line prints it without a traceback and exits with code 2.
    """


class Unwritable(UserError):
    """A file or folder can't be written; the command line adds the setting that names it.

    Args:
        path: what can't be written.
        reason: the system's words.
    """

    def __init__(self, path: Path | str, reason: str) -> None:
        super().__init__(f"{path}: can't be written ({reason}); choose another folder")
        self.path, self.reason = Path(path), reason


class NoRoom(UserError):
    """The disk is full; what was there before is intact."""

    def __init__(self, path: Path | str, reason: str) -> None:
        super().__init__(
            f"no room to write {path} ({reason}): what was there before is intact; free some space"
        )


class Stopped(BaseException):
    """A job was stopped by Ctrl-C or a signal; the message says how to go on.

    Not an `Exception`, so that a sweep ends with it instead of starting its next job.

    Args:
        code: exit code of the command, 128 and the signal's number.
    """

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code
