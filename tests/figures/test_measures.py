"""All figures of probe records: they can be read, and what cannot be drawn is named."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.image import AxesImage
from matplotlib.text import Text

from sumcirc.errors import UserError
from sumcirc.figures import drawing
from sumcirc.figures.views import draw, draw_all
from sumcirc.reporting.kinds import NotDrawableError
from sumcirc.reporting.views.all_measures import layer_divergence, measure_views
from sumcirc.reporting.views.head_maps import divergence, entropy
from sumcirc.reporting.views.layer_profiles import drift, magnitude
from sumcirc.reporting.views.neuron_changes import of_layer
from sumcirc.tracking.measure_records import record_file
from tests.figures.probe_records import assert_written, column, made_record, rows_of

FIGURES = {
    *("attention_divergence", "entropy_difference", "layer_divergence"),
    *("neurons", "magnitude", "drift"),
}


def draw_measures(folder: Path, target: Path) -> list[str]:
    views, skipped = measure_views(folder)
    return [*skipped, *draw_all(views, target)]


def texts(figure: Any) -> Iterator[tuple[Text, Any]]:
    """Texts that are seen, with their boxes in pixels."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    figure.draw(renderer)  # the layout settles
    unseen = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
                if not low <= tick.get_loc() <= high:
                    unseen |= {tick.label1, tick.label2}
    for text in figure.findobj(Text):
        if text.get_visible() and text.get_text().strip() and text not in unseen:
            yield text, text.get_window_extent(renderer)


def assert_readable(figure: Any) -> None:
    """No text is cut off by the edge, none lies on another."""
    found = list(texts(figure))
    assert len(found) > 5
    for text, box in found:
        inside = min(box.x0, box.y0) >= -1
        inside &= box.x1 <= figure.bbox.width + 1 and box.y1 <= figure.bbox.height + 1
        assert inside, f"cut off: {text.get_text()!r}"
    for (a, box_a), (b, box_b) in itertools.combinations(found, 2):
        across = min(box_a.x1, box_b.x1) - max(box_a.x0, box_b.x0)
        along = min(box_a.y1, box_b.y1) - max(box_a.y0, box_b.y0)
        assert min(across, along) < 1, f"overlap: {a.get_text()!r} and {b.get_text()!r}"


@pytest.mark.parametrize(
    ("layers", "heads", "documents", "neurons", "steps"),
    [
        (12, 12, 32, 3072, (0, 5, 27, 138, 705, 3600)),
        (36, 20, 32, 5120, (0, 6, 40, 250, 1600, 10000)),
        (80, 64, 6, 300, (0, 19, 400, 7000, 123456)),
        (12, 12, 6, 3072, tuple(range(0, 3001, 100))),
        (2, 2, 1, 64, (0,)),
        (4, 4, 1, 256, (0, 20)),
    ],
)
def test_every_figure_can_be_read(
    tmp_path: Path,
    drawn: list[Any],
    layers: int,
    heads: int,
    documents: int,
    neurons: int,
    steps: tuple[int, ...],
) -> None:
    for step in (-1, *steps):
        made_record(step, layers, heads, documents, neurons).save(record_file(tmp_path, step))
    assert draw_measures(tmp_path, tmp_path / "figures") == []
    assert len(drawn) == len(FIGURES)
    for figure in drawn:
        assert_readable(figure)
    for figure in drawn[:2]:
        (image,) = figure.axes[0].get_images()
        assert isinstance(image, AxesImage)
        assert image.get_array().shape == (layers, heads)
        for axis in (figure.axes[0].xaxis, figure.axes[0].yaxis):
            assert {float(place).is_integer() for place in axis.get_majorticklocs()} == {True}


def test_all_figures_of_a_folder(tmp_path: Path) -> None:
    for step in (-1, 0, 3, 200):
        made_record(step).save(record_file(tmp_path / "probes", step))
    assert draw_measures(tmp_path / "probes", tmp_path / "figures") == []
    assert {path.stem for path in (tmp_path / "figures").iterdir()} == FIGURES
    for name in FIGURES:
        assert_written(tmp_path / "figures" / name)
    # heads and neurons are those of the last step, the neurons of the most changed layer
    last = made_record(200).values
    np.testing.assert_allclose(
        column(tmp_path / "figures" / "attention_divergence", "kl_tuned_base"),
        last["attention/kl_tuned_base"].mean(-1, dtype=np.float64).ravel(),
        rtol=1e-6,
    )
    layer = np.abs(last["mlp/activation_change"]).max(1).argmax()
    assert set(column(tmp_path / "figures" / "neurons", "layer")) == {layer}
    pairs = {row["pair"] for row in rows_of(tmp_path / "figures" / "layer_divergence")}
    assert pairs == {"step 3", "step 200"}


def test_one_document_leaves_fields_empty(tmp_path: Path) -> None:
    for step in (-1, 0, 30):
        made_record(step, documents=1).save(record_file(tmp_path, step))
    assert draw_measures(tmp_path, tmp_path / "figures") == []
    for name, empty in (("drift", "cka"), ("neurons", "error"), ("layer_divergence", "low")):
        assert np.isnan(column(tmp_path / "figures" / name, empty)).all()
    assert not column(tmp_path / "figures" / "entropy_difference", "significant").any()


def test_what_cannot_be_drawn_is_named_and_the_rest_is_drawn(tmp_path: Path) -> None:
    record = made_record(10)
    kept = ("attention/entropy", "attention/kl_tuned_base")
    record.values = {name: record.values[name] for name in kept}
    record.save(record_file(tmp_path, 10))
    record_file(tmp_path, 20).write_bytes(b"torn")
    reasons = draw_measures(tmp_path, tmp_path / "figures")
    figures = {path.stem for path in (tmp_path / "figures").iterdir()}
    assert figures == {"attention_divergence", "layer_divergence"}
    assert {reason.split(":")[0] for reason in reasons if "figures" not in reason} >= {
        *("entropy_difference", "neurons", "magnitude", "drift"),
    }
    assert any("base.safetensors: is not there" in reason for reason in reasons)
    assert any(
        "step-000020" in reason and "not a readable safetensors" in reason for reason in reasons
    )
    assert any("`residual/magnitude`" in reason for reason in reasons)


def test_a_folder_without_records(tmp_path: Path) -> None:
    reasons = draw_measures(tmp_path, tmp_path / "figures")
    assert "no record of an optimizer step" in reasons[-1]
    assert not (tmp_path / "figures").exists()


def test_a_full_disk_is_no_reason_to_skip(tmp_path: Path) -> None:
    for step in (-1, 0):
        made_record(step).save(record_file(tmp_path, step))
    (tmp_path / "figures").write_text("a file where the folder should be")
    with pytest.raises((UserError, FileExistsError, NotADirectoryError)) as caught:
        draw_measures(tmp_path, tmp_path / "figures")
    assert not isinstance(caught.value, NotDrawableError)


@pytest.mark.parametrize(
    ("measure", "make"),
    [
        ("attention/kl_tuned_base", divergence),
        ("attention/entropy", lambda r: entropy(r, made_record(-1))),
        ("attention/kl_tuned_base", lambda r: layer_divergence([r])),
        ("mlp/activation_change", lambda r: of_layer(r, 0)),
        ("mlp/activation_change_error", lambda r: of_layer(r, 0)),
        ("residual/magnitude", lambda r: magnitude([made_record(-1), r])),
        ("residual/cka", lambda r: drift([r])),
        ("residual/relative_change", lambda r: drift([made_record(1), r])),
    ],
)
def test_a_missing_measure_is_named(measure: str, make: Any) -> None:
    record = made_record(1234)
    del record.values[measure]
    with pytest.raises(NotDrawableError, match=f"step 1,234: .*`{measure}`"):
        make(record)


def test_records_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(NotDrawableError, match="different documents"):
        entropy(made_record(5), made_record(-1, documents=3))
    with pytest.raises(NotDrawableError, match="different depth"):
        magnitude([made_record(5), made_record(6, layers=4)])
    with pytest.raises(NotDrawableError, match="no layer 3; choose 0 to 2"):
        of_layer(made_record(5), 3)
    for make in (drift, magnitude, layer_divergence):
        with pytest.raises(NotDrawableError, match=r"^no "):
            make([])


def test_values_that_overflowed_are_no_value(tmp_path: Path) -> None:
    base, record = made_record(-1), made_record(7)
    record.values["attention/kl_tuned_base"][0] = np.inf
    record.values["attention/entropy"][1, 1] = np.inf
    record.values["residual/cka"][:] = np.nan
    record.values["mlp/activation_change"][0, 3] = -np.inf
    record.values["mlp/activation_change_error"][0, 3] = np.inf
    for item, step in ((base, -1), (record, 7)):
        item.save(record_file(tmp_path, step))
    assert draw_measures(tmp_path, tmp_path / "figures") == []
    assert rows_of(tmp_path / "figures" / "attention_divergence")[0]["kl_tuned_base"] == ""
    assert np.isfinite(column(tmp_path / "figures" / "magnitude", "magnitude")).all()


def test_equal_records_give_equal_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        draw(divergence(made_record(5)), tmp_path / name)
    for ending in ("png", "pdf", "csv"):
        files = [(tmp_path / f"{name}.{ending}").read_bytes() for name in ("a", "b")]
        assert files[0] == files[1]


def test_a_stem_may_have_dots(tmp_path: Path) -> None:
    figure = drawing.new_figure(2, 2)
    drawing.save(figure, tmp_path / "lora.r8", ("a",), [(1,), (np.float32("nan"),), (True,)])
    assert {path.name for path in tmp_path.iterdir()} == {
        *("lora.r8.csv", "lora.r8.pdf", "lora.r8.png"),
    }
    assert (tmp_path / "lora.r8.csv").read_text() == 'a\n1\n""\n1\n'
