"""The comparison table in the terminal and in Markdown."""

from __future__ import annotations

import pytest

from sumcirc.evaluation.scoring import MEASURES
from sumcirc.reporting.tables import format_score, format_seconds, interval_column
from sumcirc.reporting.views.system_scores import SystemRow, print_scores, run_rows
from sumcirc.statistics import Interval
from sumcirc.tracking.score_names import ROUGE

SCORES = {
    f"{name}_f1": Interval(0.248 + 0.1 * place, 0.24 + 0.1 * place, 0.2561 + 0.1 * place, 500)
    for place, name in enumerate(ROUGE)
}
LENGTHS = [Interval(mean, mean, mean, 500) for mean in (61.25, 40.0)]
ROWS = [
    SystemRow("lead-3", {**SCORES, "length": LENGTHS[0]}),
    SystemRow("lora|2,3,5 [r16]", {**SCORES, "length": LENGTHS[1]}, 589_824, 125.2),
]


def test_terminal_table_shows_the_same_cells_literally(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_scores(ROWS, title="500 items [/x]")
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


def test_rows_from_a_summary() -> None:
    scores = {name: {"mean": i, "low": i, "high": i, "n": 2} for i, name in enumerate(MEASURES)}
    summary = {"systems": {"lead-3": scores, "trained": scores}, "trainable_parameters": 12}
    baseline, trained = run_rows(summary, "mine")
    assert (baseline.system, baseline.trainable_parameters) == ("lead-3", None)
    assert (trained.system, trained.trainable_parameters) == ("mine", 12)
    place = list(MEASURES).index("rougeLsum_f1")
    assert trained.scores["rougeLsum_f1"] == Interval(place, place, place, 2)


def test_a_column_of_intervals_is_written_alike() -> None:
    nan = float("nan")
    rows = [
        {"mean": 12.345, "low": 11.0, "high": 13.0, "significant": True},
        {"mean": 0.5, "low": nan, "high": nan},
        {"mean": nan, "low": nan, "high": nan},
        {"mean": -0.01, "low": -1.0, "high": 1.0},
    ]
    assert interval_column(rows) == ["12.3 [11.0, 13.0]*", "0.5", "-", "0.0 [-1.0, 1.0]"]


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
