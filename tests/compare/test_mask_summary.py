"""Means, areas, tables, view and rows of learned masks, from a game whose values are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

from sumcirc.compare.masks.judging import MASKS
from sumcirc.compare.masks.mask_summary import mask_summary
from sumcirc.figures.views import draw_all
from sumcirc.reporting.kinds import Curves, NotDrawableError
from sumcirc.reporting.views.mask_views import forgetting_view, mask_tables, mask_view
from sumcirc.storage.reading.shapes import fit
from sumcirc.tracking.shapes.change_shapes import MasksRecord
from tests.compare.made_findings import made_findings, save_all
from tests.compare.made_masks import COUNT, game, made_masks
from tests.support.files_page import SECTIONS, fits, leaves, rows_of


def value(*members: int) -> np.ndarray:
    factors = np.zeros(4)
    factors[list(members)] = 1
    return game(factors)


def test_curves_and_areas_are_shares_of_the_mean_gain() -> None:
    summary = mask_summary(made_masks())
    gain = (value(0, 1, 2, 3) - value()).mean()
    shares = {1: (value(0) - value()).mean() / gain, 2: (value(0, 2) - value()).mean() / gain}
    row = summary["rankings"]["masks"]
    assert row["draws"] == 2
    for point, size in zip(row["curve"], (1, 2), strict=True):
        assert point["kept"]["mean"] == pytest.approx(shares[size])  # either seed has a twin first
        assert point["kept"]["low"] < shares[size] < point["kept"]["high"]
        assert point["weights"] == pytest.approx(size / 4)
    assert row["curve"][0]["squares"] == pytest.approx(0.35)
    area = 0.125 * shares[1] + 0.125 * (shares[1] + shares[2]) + 0.25 * (shares[2] + 1)
    assert row["area"]["kept"]["mean"] == pytest.approx(area)
    assert row["difference"] == {}
    assert row["loss"] == pytest.approx([0.8051, 0.3949], abs=1e-3)
    path = summary["rankings"]["path"]
    second = (value(0, 1) - value()).mean() / gain
    worse = 0.125 * (shares[2] - second) + 0.25 * (shares[2] - second)
    difference = path["difference"]["kept"]
    assert difference["mean"] == pytest.approx(worse)
    assert difference["low"] > 0  # paired: the items' noise is in both
    left = path["curve"][1]["left"]["mean"]
    assert left == pytest.approx((value(2, 3) - value()).mean() / gain)
    assert summary["rankings"]["random_norm"]["draws"] == 3
    assert summary["agreement"]["seeds"] == pytest.approx(-0.8)
    assert summary["units"][0] == {
        **{"unit": "layer 1 c", "layer": 1, "part": "c", "index": None},
        **{"weights": 0.25, "squares": pytest.approx(0.2)},
        **{"ranks": [2, 2], "grafting": 2.5, "path": 3.0, "add": 3.0, "remove": 1.0},
    }


def test_tables_and_view_show_what_was_found(tmp_path: Path) -> None:
    summary = mask_summary(made_masks())
    kept, left, kl, loss, units = mask_tables(summary, 3)
    assert list(kept.headings) == ["ranking", "25 %", "50 %", "area", "area of masks − its"]
    assert kept.rows[0][0] == "learned masks"
    assert kept.rows[0][-1] == "-"
    assert len(kept.rows) == len(left.rows) == 9
    assert "modules ranked on 3 items, judged on 8 others" in kept.title
    assert "NOT CONVERGED" not in kept.title
    assert "lower is better" in left.title
    assert kl.rows[2] == ["path attribution", "0.800", "1.60"]
    assert loss.rows[2] == ["path attribution", "0.400", "0.800"]
    assert "9 plain texts" in kl.title
    assert "the whole change: 2.2" in kl.title
    assert [row[0] for row in units.rows] == ["layer 1 c", "layer 0 a", "layer 0 b"]
    assert units.rows[1][2] == "1 4"
    view = mask_view(summary)
    for panel, ends in zip(view.panels[0], ((0.0, 1.0), (1.0, 0.0)), strict=True):
        assert isinstance(panel, Curves)
        assert len(panel.curves) == 9
        assert all((one.y[0], one.y[-1]) == ends for one in panel.curves)
    assert draw_all([("masks", lambda: view)], tmp_path) == []
    assert (tmp_path / "masks.png").stat().st_size > 5000
    assert "kept,path,0.25," in (tmp_path / "masks.csv").read_text()


def test_gain_is_drawn_against_forgetting(tmp_path: Path) -> None:
    summary = mask_summary(made_masks())
    rankings = summary["rankings"]
    point = rankings["path"]["curve"][1]  # the two units worth 4 each
    assert point["kl"]["mean"] == pytest.approx(0.2 * 8)
    assert point["kl"]["low"] < 0.2 * 8 < point["kl"]["high"]
    assert point["nll_change"]["mean"] == pytest.approx(0.1 * 8)
    assert rankings["masks"]["curve"][1]["kl"]["mean"] == pytest.approx(0.2 * 6)
    whole = summary["retention"]
    assert (whole["texts"], whole["before"]["mean"]) == (9, pytest.approx(2.5))
    assert whole["kl"]["mean"] == pytest.approx(0.2 * 11)
    assert whole["nll_change"]["mean"] == pytest.approx(0.1 * 11)
    view = forgetting_view(summary)
    (panels,) = view.panels
    for panel, times in zip(panels, (0.2, 0.1), strict=True):
        assert isinstance(panel, Curves)
        curve = next(one for one in panel.curves if one.name == "path attribution")
        assert list(curve.x) == pytest.approx([0, 4 * times, 8 * times, 11 * times])
        assert curve.y[2] == pytest.approx(point["kept"]["mean"])
    assert draw_all([("mask_forgetting", lambda: view)], tmp_path) == []
    assert "kl,path,0.5,1.6" in (tmp_path / "mask_forgetting.csv").read_text()
    del summary["retention"]
    with pytest.raises(NotDrawableError, match=r"compare\.masks\.retention=true"):
        forgetting_view(summary)
    title = mask_tables({**summary, "path_converged": False}, 3)[0].title
    assert title.endswith("path scores have NOT CONVERGED")


def test_its_keys_are_on_the_page_of_files_and_in_the_shape() -> None:
    summary = {"after": {"tuned": {"masks": mask_summary(made_masks())}}}
    (section,) = (one for one in SECTIONS if one.matches("summary.json", "compare"))
    rows = {key: value for key, value in rows_of(section).items() if ".masks." in key}
    seen = set[str]()
    for leaf in leaves(summary):
        keys = {key for key, value in rows.items() if fits(leaf, key, value)}
        assert keys, leaf
        seen |= keys
    assert seen == set(rows) - {"after.NAME.masks.left_out"}
    fit(summary["after"]["tuned"]["masks"], MasksRecord)


def test_what_was_left_out_is_said(tmp_path: Path) -> None:
    with pytest.raises(NotDrawableError, match=r"^masks: no weight differs$"):
        mask_view({"left_out": "masks: no weight differs"})
    assert mask_tables({"left_out": "no weight differs"}, 8) == []
    found = made_findings()
    found.masks = "masks: no weight differs"
    save_all(found, tmp_path)
    assert not (tmp_path / "masks.parquet").exists()


def test_rows_hold_the_values_by_item(tmp_path: Path) -> None:
    found, masks = made_findings(), made_masks()
    save_all(found, tmp_path)
    rows = pyarrow.parquet.read_table(tmp_path / "masks.parquet").to_pylist()
    assert len(rows) == len(masks.judged.rankings) * 2 * 2 * COUNT
    wanted = {"ranking": "path", "size": 0.5, "kind": "left", "draw": 0}
    chosen = [row["value"] for row in rows if wanted.items() <= row.items()]
    np.testing.assert_array_equal(chosen, value(2, 3))
    rows = pyarrow.parquet.read_table(tmp_path / "mask_units.parquet").to_pylist()
    chosen = [row["rank"] for row in rows if (row["ranking"], row["draw"]) == (MASKS, 1)]
    assert chosen == [4, 1, 2, 3]
