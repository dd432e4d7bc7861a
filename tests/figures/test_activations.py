"""Figures of neurons, magnitude and drift: what they show is what the records say."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sumcirc.figures.views import draw
from sumcirc.reporting.views.layer_profiles import drift, magnitude
from sumcirc.reporting.views.neuron_changes import of_layer
from tests.figures.probe_records import assert_written, column, made_record, mean, rows_of


def test_neurons_are_ranked_by_the_size_of_their_change(tmp_path: Path, drawn: list[Any]) -> None:
    record = made_record(20)
    change = record.values["mlp/activation_change"][1]
    change[:] = 0.01
    change[[4, 30, 17]] = [-0.5, 0.4, -0.3]
    draw(of_layer(record, 1, top=3), tmp_path / "neurons")
    _, ranked = drawn[0].axes
    assert [label.get_text() for label in ranked.get_yticklabels()] == ["4", "30", "17"]
    assert ranked.yaxis_inverted()  # the most changed one at the top


def test_neurons_in_the_table(tmp_path: Path) -> None:
    record = made_record(20)
    draw(of_layer(record, 2), tmp_path / "neurons.pdf")
    assert_written(tmp_path / "neurons")
    assert {row["layer"] for row in rows_of(tmp_path / "neurons")} == {"2"}
    np.testing.assert_array_equal(column(tmp_path / "neurons", "neuron"), np.arange(40))
    for name, measure in (
        ("change", "mlp/activation_change"),
        ("error", "mlp/activation_change_error"),
    ):
        np.testing.assert_allclose(column(tmp_path / "neurons", name), record.values[measure][2])


def test_magnitude_is_beside_its_change_from_the_base(tmp_path: Path) -> None:
    records = [made_record(step) for step in (40, -1, 5)]
    draw(magnitude(records), tmp_path / "magnitude")
    assert_written(tmp_path / "magnitude")
    rows = rows_of(tmp_path / "magnitude")
    assert [int(row["step"]) for row in rows] == [-1] * 4 + [5] * 4 + [40] * 4
    by_step = {record.step: record.values["residual/magnitude"] for record in records}
    for row in rows:
        stream = int(row["stream"])
        value = mean(by_step[int(row["step"])][stream])
        assert float(row["magnitude"]) == pytest.approx(value)
        expected = 100 * (value / mean(by_step[-1][stream]) - 1)
        assert float(row["change_percent"]) == pytest.approx(expected, abs=1e-9)


def test_drift_in_the_order_of_steps(tmp_path: Path) -> None:
    records = [made_record(step) for step in (300, 0, 12)]
    draw(drift(records), tmp_path / "drift")
    assert_written(tmp_path / "drift")
    rows = rows_of(tmp_path / "drift")
    assert [(int(row["step"]), int(row["stream"])) for row in rows] == list(
        itertools.product((0, 12, 300), range(4))
    )
    by_step = {record.step: record.values for record in records}
    for row in rows:
        for name in ("cka", "centered_cosine", "relative_change"):
            values = by_step[int(row["step"])][f"residual/{name}"][int(row["stream"])]
            assert float(row[name]) == pytest.approx(mean(values), abs=1e-12)


def test_drift_of_a_single_record_is_drawn_by_stream_position(
    tmp_path: Path, drawn: list[Any]
) -> None:
    draw(drift([made_record(0)]), tmp_path / "drift")
    panels = drawn[0].axes
    assert len(panels) == 3
    cka = made_record(0).values["residual/cka"]
    (line,) = panels[0].lines
    np.testing.assert_array_equal(line.get_xdata(), np.arange(len(cka)))
    np.testing.assert_allclose(line.get_ydata(), [mean(row) for row in cka])
