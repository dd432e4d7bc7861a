"""The table of names: what it says of a logged name, and the page that tells it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sumcirc.tracking.measure_records import MEASURES
from sumcirc.tracking.metric_names import LOGGED, SUMMARIES, WATCHED, MetricKind, find

PAGE = Path(__file__).resolve().parents[2] / "docs/wandb.md"


@pytest.mark.parametrize(
    ("name", "kind", "entry"),
    [
        ("attention/entropy", MetricKind.curve, "attention/entropy"),
        ("attention/entropy/layer_03", MetricKind.curve, "attention/entropy/{place}"),
        ("residual/cka/embedding", MetricKind.curve, "residual/cka/{place}"),
        ("attention/heads_fell/low", MetricKind.curve, "attention/heads_fell/{end}"),
        ("test/lead-3/rouge1_f1", MetricKind.summary, "test/{system}/{measure}"),
        ("test/lead-3/rouge1_f1/low", MetricKind.summary, "test/{system}/{measure}/{end}"),
        ("validation/loss.min", MetricKind.summary, "validation/loss.min"),
        ("figures/run/surgery", MetricKind.image, "figures/{figure}"),
        ("lora-2_3_5-r16-s1-circuits", MetricKind.artifact, "{run}-circuits"),
    ],
)
def test_an_entry_is_found(name: str, kind: MetricKind, entry: str) -> None:
    found = find(name, kind)
    assert found is not None
    assert found.name == entry


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("attention/entropyy", MetricKind.curve),
        ("attention/entropy/layer_x", MetricKind.curve),
        ("attention/entropy", MetricKind.table),
        ("validation/lossxmin", MetricKind.summary),
        ("test/base", MetricKind.summary),
    ],
)
def test_a_misspelt_name_is_in_no_entry(name: str, kind: MetricKind) -> None:
    assert find(name, kind) is None


def test_watchers_log_measures_of_the_catalogue() -> None:
    for watched in WATCHED.values():
        assert {*watched.overall, *watched.by_layer} <= set(MEASURES)


def test_minima_are_of_curves() -> None:
    assert all(find(name, MetricKind.curve) for name in SUMMARIES)


def test_the_page_is_the_table() -> None:
    """Row for row, in the same order."""
    cells = [re.split(r"(?<!\\)\|", line) for line in PAGE.read_text().splitlines()]
    rows = [
        (row[1].strip().strip("`"), *(cell.strip().replace(r"\|", "|") for cell in row[2:-1]))
        for row in cells
        if len(row) == 7 and row[1].strip().startswith("`")
    ]
    wanted = [
        (entry.name, entry.by, entry.unit, entry.what, entry.when)
        for kind in MetricKind
        for entry in LOGGED
        if entry.kind is kind
    ]
    assert rows == wanted
