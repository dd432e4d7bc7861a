"""Figures are drawn from records, show what they should, and are written whole."""

from __future__ import annotations

import struct

from sumcirc.figures.training import draw_loss, draw_scores


def size(path):
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG")
    return struct.unpack(">II", data[16:24])


def test_loss_curves(tmp_path):
    metrics = tmp_path / "metrics.csv"
    metrics.write_text(
        "step,metric,value\n0,validation/loss,3.0\n10,train/loss,2.5\n20,train/loss,2\n"
    )
    draw_loss(metrics, tmp_path / "figures" / "loss.png")
    width, height = size(tmp_path / "figures" / "loss.png")
    assert width > height > 300


def test_scores_of_systems(tmp_path):
    interval = {"mean": 0.3, "low": 0.2, "high": 0.35, "n": 5}
    scores = {f"{name}_f1": interval for name in ("rouge1", "rouge2", "rougeLsum")}
    draw_scores({"lead-3": scores, "a <b>name</b>": scores}, tmp_path / "scores.png")
    assert size(tmp_path / "scores.png")[0] > 900
    assert [path.name for path in tmp_path.iterdir()] == ["scores.png"]
