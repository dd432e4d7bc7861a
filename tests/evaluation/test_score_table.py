"""The comparison table in the terminal and in Markdown."""

from __future__ import annotations

import pytest

from sumcirc.evaluation.rouge import METRICS
from sumcirc.evaluation.score_table import (
    Row,
    format_score,
    format_seconds,
    print_table,
)
from sumcirc.evaluation.scoring import MEASURES
from sumcirc.statistics import Interval

SCORES = {
    metric: Interval(0.248 + 0.1 * place, 0.24 + 0.1 * place, 0.2561 + 0.1 * place, 500)
    for place, metric in enumerate(METRICS)
}
ROWS = [
    Row("lead-3", SCORES, length=61.25),
    Row("lora|2,3,5 [r16]", SCORES, trainable_parameters=589_824, seconds=125.2, length=40.0),
]


def test_terminal_table_shows_the_same_cells_literally(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_table(ROWS, title="500 items [/x]")
    shown = capsys.readouterr().out
    for cell in [
        "500 items [/x]",
        "lora|2,3,5 [r16]",
        "24.8 [24.0, 25.6]",
        "589,824",
        "2 min 05 s",
    ]:
        assert cell in shown
    assert shown.count("54.8 [54.0, 55.6]") == 2


def test_row_from_a_summary() -> None:
    summary = {measure: Interval(place, place, place, 2) for place, measure in enumerate(MEASURES)}
    row = Row.from_summary("x", summary, 12, 3.5)
    assert row.scores["rouge2"] == summary["rouge2_f1"]
    assert row.scores["rougeLsum"] == summary["rougeLsum_f1"]
    assert row.length == summary["length"].mean
    assert (row.trainable_parameters, row.seconds) == (12, 3.5)


def test_one_item_has_no_interval() -> None:
    assert format_score(Interval(0.25, 0.25, 0.25, 1)) == "25.0 (1 item)"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (8.34, "8.3 s"),
        (59.94, "59.9 s"),
        (59.97, "1 min 00 s"),
        (3599.7, "1 h 00 min"),
        (3725, "1 h 02 min"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text
