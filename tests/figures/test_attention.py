"""Figures of attention: what they show is what the records say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.collections import PathCollection

from sumcirc.figures.views import draw
from sumcirc.reporting.views.all_measures import layer_divergence
from sumcirc.reporting.views.head_maps import divergence, entropy
from sumcirc.statistics import bootstrap_mean
from tests.figures.probe_records import assert_written, made_record, mean, rows_of


def test_attention_divergence_is_the_mean_over_documents(tmp_path: Path) -> None:
    record = made_record(50)
    values = record.values["attention/kl_tuned_base"]
    values[1, 1, 3:] = np.nan
    values[2, 0] = np.nan
    draw(divergence(record), tmp_path / "figures" / "kl.png")
    target = tmp_path / "figures" / "kl"
    assert_written(target)
    assert sorted(path.name for path in target.parent.iterdir()) == ["kl.csv", "kl.pdf", "kl.png"]
    for row in rows_of(target):
        expected = mean(values[int(row["layer"]), int(row["head"])])
        assert float(row["kl_tuned_base"] or "nan") == pytest.approx(expected, nan_ok=True)
    assert [row["layer"] + row["head"] for row in rows_of(target)] == [
        f"{layer}{head}" for layer in range(3) for head in range(2)
    ]


def test_entropy_difference_is_paired_and_marks_heads_that_differ(
    tmp_path: Path, drawn: list[Any]
) -> None:
    base, tuned = made_record(-1), made_record(50)
    difference = np.full((3, 2, 8), -1.0) * np.arange(1, 9)
    difference[0, 0] *= [1, -1] * 4
    difference[1, 1] *= -1
    tuned.values["attention/entropy"] = np.float32(base.values["attention/entropy"] + difference)
    draw(entropy(tuned, base), tmp_path / "entropy")
    (figure,) = drawn
    axes = figure.axes[0]
    (image,) = axes.get_images()
    np.testing.assert_allclose(image.get_array(), difference.mean(-1), rtol=1e-5)
    assert not axes.yaxis_inverted()  # layer 0 at the bottom
    low, high = image.get_clim()
    assert low == -high
    assert high == pytest.approx(4.5, rel=1e-5)
    (dots,) = (child for child in axes.get_children() if isinstance(child, PathCollection))
    places = {(int(layer), int(head)) for head, layer in dots.get_offsets().tolist()}
    assert places == {(0, 1), (1, 0), (1, 1), (2, 0), (2, 1)}
    title = figure.get_suptitle()
    assert "step 50: entropy fell in 67 % of heads (95 % interval 67 % to 83 %)" in title
    assert "significantly in 67 %" in title
    assert "8 documents" in title


def test_entropy_difference_in_the_table(tmp_path: Path) -> None:
    base, tuned = made_record(-1), made_record(50)
    base.values["attention/entropy"][0, 1, 2] = np.nan
    draw(entropy(tuned, base), tmp_path / "entropy.csv")
    assert_written(tmp_path / "entropy")
    for row in rows_of(tmp_path / "entropy"):
        place = int(row["layer"]), int(row["head"])
        pairs = zip(
            *(record.values["attention/entropy"][place] for record in (tuned, base)), strict=True
        )
        assert float(row["tuned_minus_base"]) == pytest.approx(mean([a - b for a, b in pairs]))
        assert row["significant"] in ("0", "1")


@pytest.mark.parametrize(
    ("documents", "said"),
    [(1, "1 document: no interval, no test"), (4, "4 documents: too few for a test")],
)
def test_few_documents_are_said_in_the_title(
    tmp_path: Path, drawn: list[Any], documents: int, said: str
) -> None:
    records = [made_record(step, documents=documents) for step in (9, -1)]
    draw(entropy(*records), tmp_path / "entropy")
    assert said in drawn[0].get_suptitle()


def test_layer_divergence_has_the_interval_over_documents(tmp_path: Path) -> None:
    curves = {"step 90": made_record(90), "step 7": made_record(7)}
    draw(layer_divergence([*curves.values()]), tmp_path / "layers")
    assert_written(tmp_path / "layers")
    rows = rows_of(tmp_path / "layers")
    assert len(rows) == 6
    for row in rows:
        values = curves[row["pair"]].values["attention/kl_tuned_base"][int(row["layer"])]
        expected = bootstrap_mean([mean(values[:, i]) for i in range(8)])
        for name, value in (
            ("kl_tuned_base", expected.mean),
            ("low", expected.low),
            ("high", expected.high),
        ):
            assert float(row[name]) == pytest.approx(value, rel=1e-6)


def test_pairs_are_told_apart_without_colour(tmp_path: Path, drawn: list[Any]) -> None:
    draw(layer_divergence([made_record(i + 1) for i in range(6)]), tmp_path / "layers")
    lines = drawn[0].axes[0].get_lines()
    assert len({line.get_marker() for line in lines}) == 6
    assert len({line.get_color() for line in lines}) == 6
