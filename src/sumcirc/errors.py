"""What is not a bug: a user's mistake, and a job that was stopped from outside."""


class UserError(Exception):
    """Something the user can mend; the message is one line: the setting, its value, the remedy.

    The command line prints it without a traceback and exits with code 2.
    """


class Stopped(BaseException):
    """A job was stopped by Ctrl-C or a signal; the message says how to go on.

    Not an `Exception`, so that a sweep ends with it instead of starting its next job.

    Args:
        code: exit code of the command, 128 and the signal's number.
    """

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code
