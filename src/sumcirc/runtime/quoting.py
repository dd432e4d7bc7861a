"""Quoting of untrusted text for terminals, Markdown, shells, Python and CSV.

Names of models, data, runs and arms come from settings, folders and files that anybody may have
written. A terminal would obey control characters in them, Markdown would interpret their markup,
and a shell, Python or a spreadsheet would run what looks like a command. Text is quoted here before
it is written in any of these languages.
"""

from __future__ import annotations

import re
import shlex
from typing import Any

# C0 without tab and line ends, DEL, C1, Unicode's bidirectional controls and line separators, the
# byte order mark, and surrogates, which can't be encoded
_CONTROL = re.compile(
    r"\r(?!\n)|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
# characters with a meaning in Markdown, HTML or formulas inside a paragraph or a table
_MARKUP = re.compile(r"[\\`*_{}<>&|$~^#@]|\](?=[(\[:])|:(?=//)|(?<=www)\.")
_IN_DOUBLE_QUOTES = {*'"$`!\\'}  # characters with a meaning inside a shell's double quotes
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # characters with which spreadsheets begin a formula


def visible(text: str) -> str:
    """Return text with control characters escaped (`\\x1b`), except tabs and line ends."""
    return _CONTROL.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    number = ord(found[0])
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"


def line(text: str) -> str:
    """Return text on one line, in which control characters and newlines are escaped."""
    return visible(text).replace("\r\n", "\n").replace("\n", "\\n")


def markdown(text: str) -> str:
    """Return text escaped for a paragraph, list, heading or table cell in Markdown, on one line."""
    escaped = _MARKUP.sub(r"\\\g<0>", visible(" ".join(text.split())))
    # characters that begin a list, a quotation or a heading at the start of a line
    return re.sub(r"^(?:[-+](?=\s)|\d+(?=[.)](?:\s|$)))", _behind, escaped)


def _behind(found: re.Match[str]) -> str:
    return f"\\{found[0]}" if found[0] in "-+" else f"{found[0]}\\"


def code(text: str) -> str:
    """Return a text, which may contain backticks, as a Markdown code span on one line."""
    shown = line(text)
    longest = max(map(len, re.findall("`+", shown)), default=0)
    pad = " " if longest or not shown.strip() else ""
    return f"{'`' * (longest + 1)}{pad}{shown}{pad}{'`' * (longest + 1)}"


def python(value: Any) -> str:
    """Return a text, number or container of them as a Python literal in ASCII."""
    return ascii(value)


def cell(value: Any) -> Any:
    """Return a value for CSV, with `'` before a text that a spreadsheet would run as a formula."""
    if not isinstance(value, str) or not value.startswith(_FORMULA):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value  # a number


def word(text: str) -> str:
    """Return a word quoted for a shell, on one line.

    A word with single quotes, such as a setting that is quoted for Hydra, gets double quotes if
    nothing in it has a meaning inside them: shlex would write `'"'"'` for each single quote.
    """
    shown = line(text)
    return f'"{shown}"' if "'" in shown and not _IN_DOUBLE_QUOTES & {*shown} else shlex.quote(shown)


def command(*words: str) -> str:
    """Return a `sumcirc` command with the given words, quoted for a shell, on one line."""
    return " ".join(map(word, ["sumcirc", *words]))
