"""Text from data, made safe to show: it can't act as markup on the page or in a chart.

Jinja escapes markup. Here control characters are made visible, since some reorder or hide the text
around them, and text for plotly is escaped, which interprets a few tags.
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
    """Escape text for plotly, which treats `<b>` and `<a>` as tags and `&lt;` as a character."""
    escaped = visible(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return escaped.replace("\n", " ")


def isolated(text: str) -> str:
    """Return `plain` text whose writing direction does not affect the text around it."""
    return f"{_ISOLATE}{plain(text)}{_END}"


def script_json(value: Any) -> Markup:
    """Return JSON that can be placed in a script element: it can't end it nor open another."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)  # ASCII
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def script_hash(text: str) -> str:
    """Return the source expression of a script in a content security policy."""
    return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def short(value: Any, digits: int = 4) -> Any:
    """Round the numbers inside `value`, for a small page; values that are not finite become None.

    Args:
        value: numbers, arrays, and nested dicts and lists of them.
        digits: significant digits.
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
