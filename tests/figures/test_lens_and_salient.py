"""Figures of the logit lens and of attention to the facts show the records' means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sumcirc.figures.views import draw
from sumcirc.reporting.kinds import NotDrawableError
from sumcirc.reporting.page.measures_section import head_charts, layer_charts
from sumcirc.reporting.views.all_measures import measure_views
from sumcirc.reporting.views.head_maps import salient_attention, to_salient
from sumcirc.reporting.views.lens_curves import lens_in_training, lens_of_models, lens_table
from sumcirc.tracking.measure_records import TO_DISTRACTOR, TO_SALIENT, ProbeRecord, record_file
from tests.compare.made_findings import SHAPE, made_findings, summarize
from tests.figures.probe_records import assert_written, made_record, rows_of

STEPS = (0, 1, 5, 20, 100, 200, 300, 400)
LENS = ("log_probability", "kl_model_lens", "top1_agreement")


def record_of(step: int, distractor: bool = True) -> ProbeRecord:
    record = made_record(step)
    draw = np.random.default_rng(step)
    size = (4, 8)
    values: dict[str, Any] = {
        "logit_lens/log_probability": -draw.exponential(size=size),
        "logit_lens/kl_model_lens": draw.exponential(size=size),
        "logit_lens/top1_agreement": draw.uniform(size=size),
        TO_SALIENT: np.clip(0.2 + step * np.arange(6).reshape(3, 2, 1) / 4000, 0, 1)
        + 0.01 * draw.uniform(size=(3, 2, 8)),
    }
    if distractor:
        values[TO_DISTRACTOR] = draw.uniform(0, 0.1, size=(3, 2, 8))
    record.values |= {name: np.asarray(value, np.float32) for name, value in values.items()}
    return record


def test_the_lens_over_training(tmp_path: Path) -> None:
    records = [record_of(step) for step in STEPS]
    view = lens_in_training(records[::-1])
    draw(view, tmp_path / "lens")
    assert_written(tmp_path / "lens")
    rows = rows_of(tmp_path / "lens")
    assert len(rows) == len(STEPS) * 4
    (row,) = [row for row in rows if (row["step"], row["stream"]) == ("100", "2")]
    for name in LENS:
        expected = records[4].values[f"logit_lens/{name}"][2].mean(dtype=float)
        assert float(row[name]) == pytest.approx(expected)
        assert float(row[f"{name}_low"]) <= expected <= float(row[f"{name}_high"])
    drawn = [curve.name for curve in view.panel.curves]
    assert (drawn[0], drawn[-1], len(drawn)) == ("step 0", "step 400", 6)


@pytest.mark.parametrize("distractor", [False, True])
def test_attention_to_the_facts_over_training(tmp_path: Path, distractor: bool) -> None:
    records = [record_of(step, distractor) for step in STEPS]
    view = salient_attention(records)
    draw(view, tmp_path / "salient")
    assert_written(tmp_path / "salient")
    rows = rows_of(tmp_path / "salient")
    assert len(rows) == len(STEPS) * 6
    (row,) = [row for row in rows if (row["step"], row["layer"], row["head"]) == ("400", "2", "1")]
    assert float(row["share"]) == pytest.approx(
        records[-1].values[TO_SALIENT][2, 1].mean(dtype=float)
    )
    last, change, curves = view.panels[0]
    assert change.marked.sum() >= 5  # all but the head that doesn't move
    np.testing.assert_allclose(
        change.values, last.values - salient_attention(records[:1]).panel.values
    )
    assert [curve.name for curve in curves.curves[:2]] == ["head 2.1", "head 2.0"]
    assert ("other event's facts" in [curve.name for curve in curves.curves]) == distractor
    single = to_salient(records[-1])
    np.testing.assert_array_equal(single.panel.values, last.values)


def test_records_without_them_are_not_drawable() -> None:
    for view in (lens_in_training, salient_attention):
        with pytest.raises(NotDrawableError, match="its record has no"):
            view([made_record(3)])
        with pytest.raises(NotDrawableError, match="no measure record"):
            view([])


def test_they_are_among_a_runs_figures_and_on_its_page(tmp_path: Path) -> None:
    records = [record_of(step) for step in STEPS[:3]]
    for record in records:
        record.save(record_file(tmp_path, record.step))
    names = [name for name, _ in measure_views(tmp_path)[0]]
    assert names[-2:] == ["logit_lens", "salient_attention"]
    assert len(head_charts(records, None)) == 2
    plain = [made_record(step) for step in STEPS[:3]]
    assert len(head_charts(plain, None)) == 1
    assert len(layer_charts(records)) == len(layer_charts(plain)) + 4


def test_the_lens_of_two_models(tmp_path: Path) -> None:
    rows = summarize(made_findings(), SHAPE)["logit_lens"]
    view = lens_of_models(rows, "nats")
    draw(view, tmp_path / "models")
    assert_written(tmp_path / "models")
    assert len(rows_of(tmp_path / "models")) == 3 * (SHAPE.layers + 1)
    alone = lens_of_models(rows, "nats", ["kl_model_lens"])
    assert [panel.y for panel in alone.panels[0]] == ["KL(model || lens) (nats)"]
    assert {row[0] for row in alone.rows} == {"kl_model_lens"}
    table = lens_table(rows, "nats", "stars")
    assert [row[0] for row in table.rows] == ["embedding", "after layer 0", "after layer 1"]
    with pytest.raises(NotDrawableError):
        lens_of_models([], "nats")
