"""Figures of two models beside each other: the CSV holds what is drawn, and it can be read."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from sumcirc.figures.views import draw
from sumcirc.reporting.kinds import NotDrawableError
from sumcirc.reporting.views.compared_models import (
    direct_attribution,
    output_against_value,
    patch_map,
    scaled_deltas,
    span_attention,
)
from sumcirc.reporting.views.layer_profiles import by_layer

LAYERS, HEADS, ITEMS = 3, 4, 12


def read(target: Path) -> list[dict[str, str]]:
    assert target.with_suffix(".png").stat().st_size > 0
    assert target.with_suffix(".pdf").stat().st_size > 0
    with open(target.with_suffix(".csv"), encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def some(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=shape)


def parts(kind: str, values: Any, significant: Any = None) -> list[dict[str, Any]]:
    """Rows of patch scores as the summary has them; values [layers, parts of a layer]."""
    return [
        {
            **{"kind": kind, "layer": layer, "index": index, "part": f"{kind}.{layer}.{index}"},
            **{"mean": value, "low": value - 0.1, "high": value + 0.1},
            "significant": bool(significant is not None and significant[layer, index]),
        }
        for (layer, index), value in np.ndenumerate(values)
    ]


def dots(axes: Any) -> set[tuple[float, float]]:
    return {tuple(place) for part in axes.collections for place in part.get_offsets()}


def test_span_attention_of_each_pair(tmp_path: Path, drawn: list[Any]) -> None:
    before, after = np.abs(some(2, LAYERS, HEADS)), np.abs(some(2, LAYERS, HEADS, seed=1))
    after[1, 0, 2] = np.nan
    significant = np.zeros(before.shape, dtype=bool)
    significant[0, 2, 1] = True
    names = ["fact → last", "rest → last"]
    draw(span_attention(before, after, names, significant), tmp_path / "s.png")
    rows = read(tmp_path / "s")
    assert len(rows) == before.size
    row = next(r for r in rows if (r["pair"], r["layer"], r["head"]) == (names[0], "2", "1"))
    assert float(row["before"]) == before[0, 2, 1]
    assert float(row["difference"]) == pytest.approx(after[0, 2, 1] - before[0, 2, 1])
    assert row["significant"] == "1"
    assert [r["difference"] for r in rows if not r["after"]] == [""]
    maps = [axes for axes in drawn[0].axes if axes.images]
    assert len(maps) == 6
    np.testing.assert_array_equal(maps[0].images[0].get_array(), before[0])
    assert maps[0].images[0].get_clim() == maps[1].images[0].get_clim()
    low, high = maps[2].images[0].get_clim()
    assert low == -high == -np.abs(after[0] - before[0]).max()
    assert dots(maps[2]) == {(1.0, 2.0)}
    assert not dots(maps[5])


def test_direct_attribution_with_intervals(tmp_path: Path, drawn: list[Any]) -> None:
    heads, mlps = some(LAYERS, HEADS, ITEMS), some(LAYERS, ITEMS, seed=2)
    raised = heads.copy()
    raised[1, 3] += 2.0
    both = {"before": heads, "after": raised}
    sums = {model: one.sum(1) for model, one in both.items()}
    sides = {"before": mlps, "after": mlps + 0.5}
    draw(direct_attribution(both, sums, sides, "nats"), tmp_path / "d")
    rows = read(tmp_path / "d")
    of_head = [r for r in rows if r["part"] == "head"]
    assert len(of_head) == LAYERS * HEADS
    assert [(r["layer"], r["head"]) for r in of_head if r["significant"] == "1"] == [("1", "3")]
    assert [float(r["contribution"]) for r in of_head] == pytest.approx(
        (raised - heads).mean(-1).ravel()
    )
    mlp = [r for r in rows if (r["model"], r["part"]) == ("after", "MLP")]
    assert [float(r["contribution"]) for r in mlp] == pytest.approx(mlps.mean(-1) + 0.5)
    assert all(float(r["low"]) < float(r["contribution"]) < float(r["high"]) for r in mlp)
    grid, curves = drawn[0].axes[:2]
    assert dots(grid) == {(3.0, 1.0)}
    lines = {line.get_label(): line for line in curves.lines}
    assert len(lines) == 4
    after = lines["attention, after"].get_ydata()
    low, high = curves.get_ylim()
    assert low <= min(after)
    assert high >= max(after)
    assert curves.get_xlim()[1] >= LAYERS - 1
    np.testing.assert_allclose(after, raised.sum(1).mean(-1), atol=1e-12)


def test_direct_attribution_of_one_item_has_no_interval(tmp_path: Path) -> None:
    heads = dict.fromkeys(("before", "after"), some(LAYERS, HEADS, 1))
    layers = dict.fromkeys(heads, some(LAYERS, 1))
    draw(direct_attribution(heads, layers, layers, "logits"), tmp_path / "d")
    rows = read(tmp_path / "d")
    assert {r["low"] for r in rows} == {""}
    assert {float(r["contribution"]) for r in rows if r["part"] == "head"} == {0.0}


def test_patch_scores_are_centred_at_zero(tmp_path: Path, drawn: list[Any]) -> None:
    heads, mlp = some(LAYERS, HEADS), some(LAYERS, 1, seed=3)
    heads[0, 0], mlp[2] = np.nan, -4.0
    significant = np.zeros((LAYERS, HEADS), dtype=bool)
    significant[1, 2] = True
    above = np.array([[False], [False], [True]])
    rows = [*parts("output", heads, significant), *parts("mlp", mlp, above)]
    draw(patch_map("sufficiency", "output", rows), tmp_path / "p")
    found = {r["node"]: r["score"] for r in read(tmp_path / "p")}
    assert found["a0.h0"] == ""
    assert float(found["a2.h1"]) == heads[2, 1]
    assert float(found["m2"]) == -4.0
    marked = {r["node"] for r in read(tmp_path / "p") if r["significant"] == "1"}
    assert marked == {"a1.h2", "m2"}
    axes = drawn[0].axes[0]
    assert axes.images[0].get_clim() == (-4.0, 4.0)
    assert dots(axes) == {(2.0, 1.0), (4.0, 2.0)}
    assert [text.get_text() for text in axes.get_xticklabels()][-1] == "MLP"


def test_patch_scores_of_heads_alone_and_of_nothing(tmp_path: Path) -> None:
    draw(patch_map("necessity", "key", parts("key", np.zeros((LAYERS, HEADS)))), tmp_path / "p")
    assert {r["score"] for r in read(tmp_path / "p")} == {"0.0"}
    nothing = np.full((2, 2), np.nan)
    with pytest.raises(NotDrawableError, match="patch scores"):
        patch_map("necessity", "output", parts("output", nothing))
    rows, empty = [*parts("output", nothing), *parts("value", np.ones((2, 2)))], np.empty((0, 2, 2))
    with pytest.raises(NotDrawableError, match="output against value"):
        output_against_value("necessity", rows)
    with pytest.raises(NotDrawableError, match="span"):
        span_attention(empty, empty, [], empty > 0)
    with pytest.raises(NotDrawableError, match="no pair"):
        by_layer({}, "CKA")


def test_heads_of_a_group_share_a_value() -> None:
    output, value = some(2, 4), some(2, 2, seed=1)
    rows = [*parts("output", output), *parts("value", value)]
    found = {dot.name: dot.y for dot in output_against_value("necessity", rows).panel.dots}
    assert found["1.0"] == found["1.1"] == value[1, 0]
    assert found["1.3"] == value[1, 1]


@pytest.mark.parametrize("crowded", [False, True])
def test_the_largest_heads_are_named_and_no_name_hides_another(
    tmp_path: Path, drawn: list[Any], crowded: bool
) -> None:
    rng = np.random.default_rng(4)
    output, value = rng.normal(0, 0.01, (2, 12, 12))
    output[7, 4:8] = 0.3
    # heads of a group have one value; at the same output as well they lie on each other
    value[7, 4:8] = 0.2
    if not crowded:
        output[7, 4:8] += (0.0, 0.02, 0.05, 0.1)
    value[3, 1], output[0, 0] = 0.15, np.nan
    scores = [*parts("output", output), *parts("value", value)]
    draw(output_against_value("necessity", scores), tmp_path / "v")
    rows = read(tmp_path / "v")
    assert len(rows) == 143
    found = {(int(r["layer"]), int(r["head"])): (r["output"], r["value"]) for r in rows}
    assert tuple(map(float, found[3, 1])) == (output[3, 1], 0.15)
    axes = drawn[0].axes[0]
    names = [text.get_text() for text in axes.texts]
    assert {"7.4", "7.5", "7.6", "7.7", "3.1"} < set(names)
    assert len(names) == 8
    canvas = FigureCanvasAgg(drawn[0])
    canvas.draw()
    # an annotation's own extent has the line that leads to it
    boxes = [Text.get_window_extent(text, canvas.get_renderer()) for text in axes.texts]
    for one, other in itertools.combinations(boxes, 2):
        assert not one.overlaps(other)
    frame = axes.get_window_extent()
    for box in boxes:
        assert frame.x0 <= box.x0 <= box.x1 <= frame.x1
        assert frame.y0 <= box.y0 <= box.y1 <= frame.y1
    low, high = axes.get_xlim()
    assert high < 0.6  # the line of equal scores doesn't widen the axes
    assert low < -0.01


def scaled(arm: str, layer: Any, module: Any, amount: float, mean: float) -> dict[str, Any]:
    place = {"arm": arm, "layer": layer, "module": module, "amount": amount}
    return {**place, "mean": mean, "low": mean - 0.1, "high": mean + 0.1}


def test_scaled_deltas_by_layer_and_module(tmp_path: Path, drawn: list[Any]) -> None:
    scales, mean = [0.0, 0.5, 1.0, 1.5], [0.0, 0.7, 1.0, 0.9]
    layers, removal = some(LAYERS, 4), some(LAYERS, 2)
    rows = [scaled("whole", None, None, s, m) for s, m in zip(scales, mean, strict=True)]
    for layer in range(LAYERS):
        for scale, value in zip(scales, layers[layer], strict=True):
            rows.append(scaled("remove", layer, None, scale, value))
        for module, value in zip(("qkv", "mlp_in"), removal[layer], strict=True):
            if layer != 1:  # that layer has no adapter
                rows.append(scaled("module", layer, module, 0.0, 1 + value))
    rows[-1]["significant"] = True
    draw(scaled_deltas(rows), tmp_path / "s")
    found = read(tmp_path / "s")
    together = [r for r in found if r["layer"] == "all"]
    assert [float(r["mean"]) for r in together] == mean
    assert [float(r["low"]) for r in together] == [value - 0.1 for value in mean]
    alone = [r for r in found if r["layer"] == "2" and not r["removed"]]
    assert [float(r["mean"]) for r in alone] == list(layers[2])
    assert [float(r["scale"]) for r in alone] == scales
    (taken,) = [r for r in found if r["significant"] == "1"]
    assert (taken["layer"], taken["removed"]) == ("2", "mlp_in")
    assert float(taken["mean"]) == pytest.approx(removal[2, 1])
    lines, grid = drawn[0].axes[:2]
    assert [line.get_label() for line in lines.lines] == ["all layers", "layer 2", "layer 0"]
    assert dots(grid) == {(1.0, 2.0)}


def test_layer_curves(tmp_path: Path, drawn: list[Any]) -> None:
    mean = np.array([0.99, 0.97, np.nan])
    curves = {"base-full": (mean, mean - 0.01, mean + 0.01), "base-LoRA": (mean, mean, mean)}
    draw(by_layer(curves, "CKA", column="cka"), tmp_path / "c")
    rows = read(tmp_path / "c")
    assert rows[1] == {
        **{"pair": "base-full", "layer": "1", "cka": "0.97"},
        **{"low": repr(0.97 - 0.01), "high": repr(0.97 + 0.01)},
    }
    assert rows[2]["cka"] == ""
    assert len(rows) == 6
    assert drawn[0].axes[0].get_ylim()[0] > 0.9
    draw(by_layer(curves, "KL", from_zero=True), tmp_path / "c")
    assert drawn[1].axes[0].get_ylim()[0] == 0
