"""The table of news of docs/results/real-model.md states its records."""

from __future__ import annotations

import json

import pytest

from docs.record import RECORDS

SCORES = ("rouge1_f1", "rouge2_f1", "rougeL_f1", "rougeLsum_f1", "entity_recall")
ROWS = {
    "lead-3": ("prompt", "lead-3"),
    "random-3": ("prompt", "random-3"),
    "oracle": ("prompt", "oracle"),
    "prompt `TL;DR:`": ("prompt", "base"),
    "chat template": ("chat", "base"),
}


@pytest.mark.parametrize("title", ROWS)
def test_the_table_of_news_states_its_records(title: str) -> None:
    page = (RECORDS.parent / "real-model.md").read_text()
    file, system = ROWS[title]
    record = json.loads((RECORDS / "real-model" / f"zero-shot-cnn-{file}.json").read_text())
    (row,) = [line for line in page.splitlines() if line.startswith(f"| {title}, news |")]
    for name in SCORES:
        score = record["systems"][system][name]
        mean, low, high = (100 * score[end] for end in ("mean", "low", "high"))
        assert f" {mean:.1f} [{low:.1f}, {high:.1f}] " in row, name
        assert score["n"] <= 100
