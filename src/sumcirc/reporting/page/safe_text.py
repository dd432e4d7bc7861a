"""Text from data, made safe to show: it can't act as markup on the page or in a chart.

Jinja escapes markup in the page. The functions here make control characters visible, since some of
them reorder or hide the text around them, and escape text for plotly, which interprets a few tags.
"""

from __future__ import annotations

import hashlib
import json
import math
from base64 import b64encode
from typing import Any

from markupsafe import Markup

from sumcirc.runtime.quoting import visible

_ISOLATE, _END = "\u2068", "\u2069"


def plain(text: str) -> str:
    """Return text in one line, escaped for plotly, which interprets tags such as `<b>`.

    Args:
        text: text from data.
    """
    escaped = visible(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return escaped.replace("\n", " ")


def isolated(text: str) -> str:
    """Escape text as `plain` does, and keep right-to-left text from reordering its surroundings.

    Args:
        text: text from data.
    """
    return f"{_ISOLATE}{plain(text)}{_END}"


def script_json(value: Any) -> Markup:
    """Return a value as JSON in which `<`, `>` and `&` are escaped, for use in a script element.

    Args:
        value: a value that can be written as JSON.
    """
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)  # ASCII
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def script_hash(text: str) -> str:
    """Return the hash by which a content security policy allows a script.

    Args:
        text: source text of the script.
    """
    return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def short(value: Any, digits: int = 4) -> Any:
    """Return a copy of a value with rounded numbers, which keeps the page small.

    Numbers that are not finite become None, and arrays and tuples become lists.

    Args:
        value: a number, an array, or nested dicts and lists of such values.
        digits: number of significant digits to keep.
    """
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, dict):
        return {name: short(part, digits) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [short(part, digits) for part in value]
    if isinstance(value, float):
        return float(f"{value:.{digits}g}") if math.isfinite(value) else None
    return value
