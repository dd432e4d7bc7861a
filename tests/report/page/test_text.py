"""Text from data is shown as text: on the page, in a chart, inside a script element."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from sumcirc.report.page.text import isolated, plain, script_json, short, visible
from tests.support.pages import HOSTILE


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x07b\x1b\x7f", "a␇b␛␡"),
        ("a\u202eb\u2066\u200f", "a⟦U+202E⟧b⟦U+2066⟧⟦U+200F⟧"),
        ("a\tb\nc\r\nd\re", "a\tb\nc\nd␍e"),
        ("x\u2028y\ud800", "x⟦U+2028⟧y⟦U+D800⟧"),
        ("Grüße, 東京 👩\u200d🚒", "Grüße, 東京 👩\u200d🚒"),
    ],
)
def test_controls_are_visible(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_text_of_a_chart_has_no_tags() -> None:
    assert plain("<a href=x>&lt;\nb") == "&lt;a href=x&gt;&amp;lt; b"
    assert isolated("a\u2069b") == "\u2068a⟦U+2069⟧b\u2069"


def test_json_can_not_leave_its_script_element() -> None:
    text = script_json({"a": HOSTILE})
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"a": HOSTILE}
    with pytest.raises(ValueError, match="JSON"):
        script_json(math.nan)


def test_numbers_are_short() -> None:
    values = {"a": np.array([1.23456, math.nan]), "b": [(0.1 + 0.2, "x", 3, None)]}
    assert short(values) == {"a": [1.235, None], "b": [[0.3, "x", 3, None]]}
