"""Text from data, made safe to show: nothing in it acts, on the page or in a chart.

Jinja escapes markup; here control characters become visible, since some reorder or hide what
stands around them, and text for plotly is escaped, which reads a few tags of its own.
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
    """Text for plotly, which takes `<b>` and `<a>` for tags and `&lt;` for a character."""
    escaped = visible(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return escaped.replace("\n", " ")


def isolated(text: str) -> str:
    """`plain` text whose direction does not reach what stands beside it."""
    return f"{_ISOLATE}{plain(text)}{_END}"


def script_json(value: Any) -> Markup:
    """JSON that can stand in a script element: it can neither end it nor open another."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)  # ASCII
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def script_hash(text: str) -> str:
    """What a content security policy calls a script by."""
    return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def short(value: Any, digits: int = 4) -> Any:
    """Numbers inside `value` with few digits, for a small page; null for what is not finite."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, dict):
        return {name: short(part, digits) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [short(part, digits) for part in value]
    if isinstance(value, float):
        return float(f"{value:.{digits}g}") if math.isfinite(value) else None
    return value
