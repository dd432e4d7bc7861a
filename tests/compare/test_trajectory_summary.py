"""Scores along a trajectory as means, tables and a view, from values by item."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from scipy.stats import spearmanr

from sumcirc.compare.path.trajectory_summary import trajectory_summary
from sumcirc.figures.views import draw_all
from sumcirc.reporting.kinds import Curves, Map
from sumcirc.reporting.views.trajectory_views import trajectory_tables, trajectory_view
from sumcirc.schema import Grain
from sumcirc.statistics import bootstrap_ratios
from tests.compare.made_findings import COUNT, ITEMS, made_findings, save_all
from tests.compare.made_trajectory import WORTH, made_trajectory


def test_scores_are_shares_of_the_gain() -> None:
    found = made_trajectory(ITEMS)
    summary = trajectory_summary(found)
    values = found.scores[Grain.layer]
    shares = bootstrap_ratios(values.sum(0), found.gain)
    by_segment = bootstrap_ratios(values, found.gain)
    for place, row in enumerate(summary["units"]["layer"]):
        assert [row[end] for end in ("mean", "low", "high")] == [one[place] for one in shares]
        assert row["difference"]["mean"] == pytest.approx(row["mean"] - row["path"]["mean"])
        for k, segment in enumerate(row["segments"]):
            assert segment["mean"] == by_segment[0][k, place]
    assert sum(row["mean"] for row in summary["units"]["layer"]) == pytest.approx(1)
    assert [row["difference"]["significant"] for row in summary["units"]["layer"]] == [
        *(True, True, False, False)
    ]
    assert [segment["gain"]["mean"] for segment in summary["segments"]] == pytest.approx(
        list(np.diff(found.metric.mean(1)) / found.gain.mean())
    )
    assert summary["converged"]
    straight = summary["straight"]["layer"]
    assert straight["moved"] == pytest.approx(0.5 / found.gain.mean())
    assert straight["lowering"] == pytest.approx(1 / 12)
    assert summary["straight"]["head"]["moved"] == pytest.approx(0)


def test_checkpoints_are_compared_with_the_last() -> None:
    found = made_trajectory(ITEMS)
    summary = trajectory_summary(found)
    so_far = WORTH.cumsum(0)
    for k, row in enumerate(summary["checkpoints"]):
        expected = spearmanr(so_far[k], so_far[-1])[0]
        assert row["ranking"]["module"]["mean"] == pytest.approx(expected)
        own = found.metric[k + 1] - found.metric[0]
        assert row["gain"]["mean"] == pytest.approx(own.mean() / found.gain.mean())
        assert row["items"]["mean"] == pytest.approx(spearmanr(own, found.gain)[0])
    assert summary["checkpoints"][2]["ranking"]["layer"]["low"] == pytest.approx(1)


def test_agreement_begins_after_the_last_checkpoint_without_it() -> None:
    found = made_trajectory(ITEMS)
    turned = found.scores[Grain.layer].copy()
    turned[0] = turned[0, ::-1]  # the first segment ranks units the other way round
    turned[1] += 10 * np.arange(4)[::-1, None]
    steady = replace(found, scores={**found.scores, Grain.layer: turned})
    assert trajectory_summary(steady)["agrees_from"]["layer"] == 20
    few = {grain: values[..., :3] for grain, values in found.scores.items()}
    small = replace(
        found,
        items=ITEMS[:3],
        metric=found.metric[:, :3],
        scores=few,
        straight={grain: values[:, :3] for grain, values in found.straight.items()},
    )
    summary = trajectory_summary(small)
    assert summary["agrees_from"] == {"layer": None, "module": None, "head": None}
    assert np.isnan(summary["checkpoints"][0]["ranking"]["layer"]["low"])


def test_tables_view_and_files_show_what_was_found(tmp_path: Path) -> None:
    found = made_trajectory(ITEMS)
    summary = trajectory_summary(found)
    layers, modules, segments, checkpoints = trajectory_tables(summary, 3)
    assert list(layers.headings) == ["unit", "trajectory", "straight path", "difference"]
    assert layers.rows[0][0] == "layer 0"
    assert layers.rows[0][3].endswith("*")
    assert "converged: 28 points; the units add up to the gain within 0.1 %" in layers.title
    assert len(modules.rows) == 3
    assert [row[0] for row in segments.rows] == ["0 to 10", "10 to 20", "20 to 30"]
    assert list(segments.headings) == ["steps", "all", "layer 0", "layer 1", "layer 2"]
    assert [row[0] for row in checkpoints.rows] == ["10", "20", "30"]
    assert checkpoints.rows[-1][1] == "1.00 [1.00, 1.00]"
    view = trajectory_view(summary)
    grid, curves, told = view.panels[0]
    assert isinstance(grid, Map)
    assert grid.values.shape == (4, 3)
    assert isinstance(curves, Curves)
    assert curves.curves[0].y[-1] == pytest.approx(summary["units"]["layer"][0]["mean"])
    assert isinstance(told, Curves)
    assert len(told.curves) == 4
    assert draw_all([("path_trajectory", lambda: view)], tmp_path) == []
    assert (tmp_path / "path_trajectory.png").stat().st_size > 5000
    save_all(made_findings(), tmp_path)
    rows = pyarrow.parquet.read_table(tmp_path / "trajectory.parquet").to_pylist()
    assert len(rows) == 3 * 3 * 4 * COUNT
    chosen = [row["score"] for row in rows if (row["unit"], row["end"]) == ("layer 2", 20)]
    np.testing.assert_array_equal(chosen, found.scores[Grain.layer][1, 2])
    rows = pyarrow.parquet.read_table(tmp_path / "trajectory_metric.parquet").to_pylist()
    np.testing.assert_array_equal(
        [row["metric"] for row in rows if row["step"] == 20], found.metric[2]
    )
