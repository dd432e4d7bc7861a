"""Path scores and effects as means, tables and a view, from values by item."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from sumcirc.compare.path.edge_summary import FILE, read_edges, write_edges
from sumcirc.compare.path.path_summary import LISTED, path_summary
from sumcirc.errors import UserError
from sumcirc.figures.views import draw_all
from sumcirc.reporting.kinds import Bars, Curves, Map, NotDrawableError
from sumcirc.reporting.page.plotly_charts import panel_charts
from sumcirc.reporting.views.path_views import path_tables, path_view
from sumcirc.schema import Grain
from sumcirc.statistics import bootstrap_means, bootstrap_ratios, crossed_mean
from sumcirc.storage.reading import RecordError, read_tensors
from tests.compare.made_findings import (
    COUNT,
    ITEMS,
    made_edges,
    made_findings,
    made_path,
    save_all,
)

ENDS = ("mean", "low", "high")


def ends(row: dict[str, float]) -> list[float]:
    return [row[name] for name in ENDS]


def of(values: tuple[NDArray[np.float64], ...], place: int) -> list[float]:
    return [float(one[place]) for one in values]


def test_scores_are_shares_of_the_gain() -> None:
    found = made_path()
    summary = path_summary(found)
    for grain in (Grain.layer, Grain.module):
        rows = summary["units"][str(grain)]
        assert [row["unit"] for row in rows] == [unit.label for unit in found.units[grain]]
        for place, row in enumerate(rows):
            assert ends(row) == of(bootstrap_ratios(found.scores[grain], found.gain), place)
            assert ends(row["score"]) == of(bootstrap_means(found.scores[grain]), place)
    heads = summary["units"]["head"]
    assert len(heads) == LISTED
    means = [row["mean"] for row in heads]
    assert means == sorted(means, reverse=True)
    assert heads[0]["index"] == 29
    assert summary["errors"] == {"unit": 0.004, "total": 0.002, "document": 0.03}
    assert not summary["converged"]
    assert summary["panels"] == [0.0, 1.0]


def test_effects_are_shares_of_the_gain() -> None:
    """The first two units have one nat more together, of which each has a half."""
    found = made_path()
    assert found.effects is not None
    effects = path_summary(found)["effects"]
    gain, worth = found.gain.mean(), found.scores[Grain.layer].mean(1)
    for place, row in enumerate(effects["units"]):
        more = float(place < 2)
        assert row["add"]["mean"] == pytest.approx(worth[place] / gain)
        assert row["remove"]["mean"] == pytest.approx((worth[place] + more) / gain)
        assert row["shapley"]["mean"] == pytest.approx((worth[place] + more / 2) / gain)
        assert row["path"]["mean"] == pytest.approx(worth[place] / gain)
    assert effects["order"] == ["final", "layer 1", "layer 0", "embedding"]
    best = effects["curve"][2]
    assert best["keep"]["mean"] == pytest.approx((worth[2] + worth[3]) / gain)
    assert best["drop"]["mean"] == pytest.approx((worth[0] + worth[1] + 1) / gain)
    assert effects["curve"][0]["random"]["mean"] == pytest.approx(0)
    assert effects["curve"][4]["random"]["mean"] == pytest.approx(1)
    # worth 1, 2, 3, 4; without it 2, 3, 3, 4
    assert effects["agreement"] == pytest.approx({"add": 1, "remove": 0.8, "shapley": 1})
    assert (effects["exact"], effects["models"], effects["orders"]) == (True, 16, 0)


def test_drawn_orders_have_intervals_over_orders_and_items() -> None:
    found = made_path()
    assert found.effects is not None
    draw = np.random.default_rng(0)
    values = draw.normal(1, 0.5, size=(5, 4, COUNT))
    drawn = replace(found, effects=replace(found.effects, exact=False, shapley=values))
    rows = path_summary(drawn)["effects"]["units"]
    for place, row in enumerate(rows):
        expected = crossed_mean(values[:, place])
        shares = [one / found.gain.mean() for one in (expected.mean, expected.low, expected.high)]
        assert ends(row["shapley"]) == pytest.approx(shares)
    assert path_summary(drawn)["effects"]["orders"] == 10


def test_without_shapley_values_the_reason_is_shown() -> None:
    summary = path_summary(made_path(shapley=False))
    assert "shapley" not in summary["effects"]["units"][0]
    assert "random" not in summary["effects"]["curve"][0]
    *_, curve = path_tables(summary, 8)
    assert "Shapley values of 4 units take at least 16 models; compare.path.models is 1" in (
        curve.title
    )
    assert curve.headings == ["units", "best units alone", "without the best units"]


def test_a_single_item_has_no_interval() -> None:
    found = made_path()
    one = replace(
        found,
        items=found.items[:1],
        before=found.before[:1],
        after=found.after[:1],
        scores={grain: values[:, :1] for grain, values in found.scores.items()},
        effects=None,
    )
    (row, *_) = path_summary(one)["units"]["layer"]
    assert np.isfinite(row["mean"])
    assert np.isnan([row["low"], row["high"], row["score"]["low"], row["score"]["high"]]).all()
    assert not row["significant"]
    first = path_tables(path_summary(one), 8)[0]
    assert "[" not in first.rows[0][1]


def test_tables_and_view_show_what_was_found(tmp_path: Path) -> None:
    summary = path_summary(made_path())
    first, modules, heads, directions, curve = path_tables(summary, 3)
    assert "NOT CONVERGED" in first.title
    assert list(first.headings) == [
        "unit",
        "path score",
        "Shapley value",
        "alone",
        "lost without it",
    ]
    assert [row[0] for row in first.rows] == ["final", "layer 1", "layer 0"]
    assert len(modules.rows) == len(heads.rows) == len(curve.rows) == 3
    assert len(directions.rows) == 1
    view = path_view(summary)
    bars, curves, grid = view.panels[0]
    assert isinstance(bars, Bars)
    assert len(bars.bars) == 4 * 4
    assert isinstance(curves, Curves)
    assert [len(one.x) for one in curves.curves] == [5, 5, 5]
    assert isinstance(grid, Map)
    assert grid.values.shape == (2, 2)
    rows = [row for row in summary["units"]["module"] if row["layer"] is not None]
    assert len(rows) == 4
    for row in rows:
        assert grid.values[row["layer"], grid.columns.index(row["part"])] == row["mean"]
    assert draw_all([("path", lambda: view)], tmp_path) == []
    assert (tmp_path / "path.png").stat().st_size > 5000
    assert "shapley,layer 1," in (tmp_path / "path.csv").read_text()
    titles = [block.title for block in panel_charts(lambda: view)]  # type: ignore[attr-defined]
    assert titles == [
        f"Path attribution: {one}" for one in ("each unit", "units together", "modules")
    ]
    plain = path_view({**summary, "effects": None})
    assert len(plain.panels[0]) == 2


def test_edges_are_summarized_and_shown(tmp_path: Path) -> None:
    found = replace(made_path(), edges=made_edges())
    edges, gain = made_edges(), found.gain.mean()
    summary = path_summary(found)
    about = summary["edges"]
    assert about["edges"] == edges.exists.sum()
    first, second = about["largest"][:2]
    assert (first["sender"], first["destination"]) == ("a0.h1", "logits")
    assert (second["sender"], second["destination"]) == ("m0", "m1")
    assert first["mean"] == pytest.approx(edges.values[:, 0, -1].mean() / gain)
    assert first["score"]["mean"] == pytest.approx(edges.values[:, 0, -1].mean())
    assert first["score"]["low"] < first["score"]["mean"] < first["score"]["high"]
    assert first["significant"]
    assert first["moved"] == pytest.approx(0.01 / gain)
    assert about["divided"]["mean"] == pytest.approx(edges.values.sum((1, 2)).mean() / gain)
    assert [row["unit"] for row in about["rest"]] == ["layer 0 norms", "final"]
    assert about["rest"][1]["mean"] == pytest.approx(edges.rest["final"].mean() / gain)
    means = edges.values.mean(0)
    kept = np.abs(means.sum(1)).sum() / np.abs(means).sum()
    assert about["cancelled"] == pytest.approx(1 - kept)
    layers = np.array(about["layers"])
    assert layers.shape == (3, 3)
    assert layers[1, 2] == pytest.approx(means[:, -1].sum() / gain)  # layer 0 to the logits
    assert layers.sum() == pytest.approx(means.sum() / gain)
    table, rest = path_tables(summary, 3)[-2:]
    assert [row[0] for row in table.rows][:2] == ["a0.h1 -> logits", "m0 -> m1"]
    assert f"all {about['edges']} edges add up to" in table.title
    assert {row[0] for row in rest.rows} == {"layer 0 norms", "final"}
    view = path_view(summary)
    grid = view.panels[0][-1]
    assert isinstance(grid, Map)
    np.testing.assert_allclose(grid.values, layers)
    assert list(grid.columns or ()) == ["0", "1", "logits"]
    assert draw_all([("path", lambda: view)], tmp_path) == []
    assert "edge,a0.h1 -> logits," in (tmp_path / "path.csv").read_text()


def test_edges_are_read_back(tmp_path: Path) -> None:
    edges, file = made_edges(), tmp_path / FILE
    write_edges(file, edges, ITEMS)
    found, items = read_edges(file)
    assert items == ITEMS
    assert found.senders == edges.senders
    np.testing.assert_allclose(found.values, edges.values, rtol=1e-6)
    np.testing.assert_allclose(found.moved, edges.moved, rtol=1e-6)
    assert found.rest.keys() == edges.rest.keys()
    np.testing.assert_allclose(found.rest["final"], edges.rest["final"], rtol=1e-6)
    write_edges(file, replace(edges, rest={}), ITEMS)
    assert read_edges(file)[0].rest == {}
    with pytest.raises(UserError, match="NaN or infinite can't be stored"):
        write_edges(file, replace(edges, values=np.full_like(edges.values, np.nan)), ITEMS)
    write_edges(file, edges, ITEMS)
    metadata, arrays = read_tensors(file)
    for name, damaged in {
        "writes": arrays["writes"][:, 1:],
        "moved": np.full_like(arrays["moved"], np.nan),
        "rest": arrays["rest"][1:],
    }.items():
        save_file({**arrays, name: np.ascontiguousarray(damaged)}, file, metadata)
        with pytest.raises(RecordError, match=name):
            read_edges(file)
    save_file({"writes": np.zeros(3)}, file, {"format": "1"})
    with pytest.raises(RecordError, match="is not a file of writes along edges"):
        read_edges(file)
    whole = made_findings()
    whole.path = replace(made_path(), edges=edges)
    save_all(whole, tmp_path / "pair")
    assert (tmp_path / "pair" / FILE).is_file()


def test_what_was_left_out_is_said(tmp_path: Path) -> None:
    with pytest.raises(NotDrawableError, match=r"^path: no weight differs$"):
        path_view({"left_out": "path: no weight differs"})
    assert path_tables({"left_out": "no weight differs"}, 8) == []
    found = made_findings()
    found.path = "path: no weight differs"
    save_all(found, tmp_path)
    assert not (tmp_path / "path.parquet").exists()


def test_rows_hold_the_values_by_item(tmp_path: Path) -> None:
    found, path = made_findings(), made_path()
    save_all(found, tmp_path)
    rows = pyarrow.parquet.read_table(tmp_path / "path.parquet").to_pylist()
    chosen = [row["score"] for row in rows if (row["grain"], row["unit"]) == ("layer", "layer 1")]
    np.testing.assert_array_equal(chosen, path.score("layer 1"))
    rows = pyarrow.parquet.read_table(tmp_path / "path_effects.parquet").to_pylist()
    chosen = [row["value"] for row in rows if (row["kind"], row["unit"]) == ("remove", "final")]
    assert path.effects is not None
    np.testing.assert_array_equal(chosen, path.effects.remove[3])
    chosen = [row["value"] for row in rows if (row["kind"], row["size"]) == ("drop", 4)]
    np.testing.assert_array_equal(chosen, path.before)
