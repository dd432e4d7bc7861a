"""The one exception that stands for a user's mistake."""


class UserError(Exception):
    """Something the user can mend; the message is one line: the setting, its value, the remedy.

    The command line prints it without a traceback and exits with code 2.
    """
