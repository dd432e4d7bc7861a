"""The table of names: what it says of a logged name, and the page that tells it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sumcirc.tracking.measure_records import MEASURES
from sumcirc.tracking.metric_names import LOGGED, SUMMARIES, WATCHED, Kind, find

PAGE = Path(__file__).resolve().parents[2] / "docs/wandb.md"


@pytest.mark.parametrize(
    ("name", "kind", "entry"),
    [
        ("attention/entropy", Kind.curve, "attention/entropy"),
        ("attention/entropy/layer_03", Kind.curve, "attention/entropy/{place}"),
        ("residual/cka/embedding", Kind.curve, "residual/cka/{place}"),
        ("attention/heads_fell/low", Kind.curve, "attention/heads_fell/{end}"),
        ("test/lead-3/rouge1_f1", Kind.summary, "test/{system}/{measure}"),
        ("test/lead-3/rouge1_f1/low", Kind.summary, "test/{system}/{measure}/{end}"),
        ("validation/loss.min", Kind.summary, "validation/loss.min"),
        ("figures/run/surgery", Kind.image, "figures/{figure}"),
        ("lora-2_3_5-r16-s1-circuits", Kind.artifact, "{run}-circuits"),
    ],
)
def test_an_entry_is_found(name: str, kind: Kind, entry: str) -> None:
    found = find(name, kind)
    assert found is not None
    assert found.name == entry


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("attention/entropyy", Kind.curve),
        ("attention/entropy/layer_x", Kind.curve),
        ("attention/entropy", Kind.table),
        ("validation/lossxmin", Kind.summary),
        ("test/base", Kind.summary),
    ],
)
def test_a_misspelt_name_is_in_no_entry(name: str, kind: Kind) -> None:
    assert find(name, kind) is None


def test_watchers_log_measures_of_the_catalogue() -> None:
    for watched in WATCHED.values():
        assert {*watched.overall, *watched.by_layer} <= set(MEASURES)


def test_minima_are_of_curves() -> None:
    assert all(find(name, Kind.curve) for name in SUMMARIES)


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
        for kind in Kind
        for entry in LOGGED
        if entry.kind is kind
    ]
    assert rows == wanted
