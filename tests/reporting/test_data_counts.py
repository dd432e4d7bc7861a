"""What is said of a run's data: counts of each split that were kept, cut and dropped."""

from __future__ import annotations

import json
from pathlib import Path

from sumcirc.reporting.dashboard.logged_runs import read_material
from sumcirc.reporting.dashboard.report_text import story
from sumcirc.reporting.data_counts import data_counts, data_counts_of
from sumcirc.reporting.page import in_short
from sumcirc.reporting.page.blocks import Bullets, Page
from sumcirc.tracking.run_records import RunRecords
from tests.support.sweeps import write_sweep

TRAINING = {
    **{"data/train/items": 3900, "data/train/cut": 120, "data/train/summary_too_long": 60},
    **{"data/train/empty_document": 40, "data/train/repeated": 7, "data/train/not_drawn": 9000},
    **{"data/validation/items": 200, "data/validation/not_drawn": 0},
}
SENTENCE = (
    "train 3,900 kept, 120 of them cut to the context, 100 dropped (empty document 40, summary too"
    " long 60); validation 200 kept, none cut or dropped"
)


def test_counts_of_every_split() -> None:
    assert data_counts(TRAINING) == f"Data: {SENTENCE}."
    notices = [
        {"where": "data.test", "reason": "cut", "count": 3},
        {"where": "data.test", "reason": "empty_summary", "count": 2},
        {"where": "data.train", "reason": "cut", "count": 120},
    ]
    scored = {"systems": {"base": {"length": {"n": 98}}}, "notices": notices}
    test = "test 98 kept, 3 of them cut to the context, 2 dropped (empty summary 2)"
    assert data_counts(scored) == f"Data: {test}."
    assert data_counts({**TRAINING, **scored}) == f"Data: {SENTENCE}; {test}."
    assert data_counts({"circuit_edges": 3}) == ""
    assert data_counts({"systems": scored["systems"]}) == "", "what was cut is unknown"


def test_what_runs_share_is_said_once() -> None:
    assert data_counts_of([("a", "x"), ("b", "x"), ("c", "")]) == ["x"]
    assert data_counts_of([("a", "x"), ("b", "y"), ("c", "x")]) == ["x (a, c)", "y (b)"]


def test_the_page_and_the_dashboard_begin_with_them(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "s", {(0,): 0.4}, seeds=(1, 2))
    for run in sweep.iterdir():
        file = run / "summary.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **TRAINING, "notices": []}))
    said = f"Data: {SENTENCE}; test 40 kept, none cut or dropped."
    page = Page("s")
    in_short.add(page, [RunRecords(run) for run in sorted(sweep.iterdir())], None)
    data = next(block for block in page.sections[0].blocks if isinstance(block, Bullets))
    assert data.lines == [said]
    first, *_ = story(read_material([sweep]), "rougeLsum_f1")
    assert first.paragraphs[1] == said
