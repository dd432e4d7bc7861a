"""Text from data is shown as text: on the page, in a chart, inside a script element."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from sumcirc.reporting.page.safe_text import isolated, plain, script_json, short
from tests.support.pages import HOSTILE


def test_text_of_a_chart_has_no_tags() -> None:
    assert plain("<a href=x>&lt;\nb") == "&lt;a href=x&gt;&amp;lt; b"
    assert isolated("a\u2069b") == "\u2068a\\u2069b\u2069"


def test_json_can_not_leave_its_script_element() -> None:
    text = script_json({"a": HOSTILE})
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"a": HOSTILE}
    with pytest.raises(ValueError, match="JSON"):
        script_json(math.nan)


def test_numbers_are_short() -> None:
    values = {"a": np.array([1.23456, math.nan]), "b": [(0.1 + 0.2, "x", 3, None)]}
    assert short(values) == {"a": [1.235, None], "b": [[0.3, "x", 3, None]]}
