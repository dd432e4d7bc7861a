"""Figures of probe records: what they show is what the records say, and it can be read."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.image import AxesImage
from matplotlib.text import Text

from sumcirc.errors import UserError
from sumcirc.figures import activations, attention, differences, drawing
from sumcirc.figures.activations import draw_drift, draw_magnitude, draw_neurons
from sumcirc.figures.attention import (
    draw_attention_divergence,
    draw_entropy_difference,
    draw_layer_divergence,
)
from sumcirc.figures.drawing import NotDrawableError
from sumcirc.figures.probes import draw_all
from sumcirc.records import ProbeRecord, record_file
from sumcirc.statistics import bootstrap_mean

FIGURES = {
    *("attention_divergence", "entropy_difference", "layer_divergence"),
    *("neurons", "magnitude", "drift"),
}


def made_record(
    step: int, layers: int = 3, heads: int = 2, documents: int = 8, neurons: int = 40
) -> ProbeRecord:
    """A record whose values move away from the base's (step -1) with the logarithm of the step."""
    rng, noise = np.random.default_rng(0), np.random.default_rng(step + 2)
    moved = np.log1p(max(step, 0)) / 10
    depth = np.linspace(0, 1, layers + 1)[:, None]
    entropy = rng.gamma(4, 0.5, (layers, heads, documents))
    entropy += moved * rng.normal(-0.3, 1, (layers, heads, 1))
    streams = (layers + 1, documents)
    values: dict[str, Any] = {
        "attention/entropy": entropy + (step > 0) * noise.normal(0, 0.2, entropy.shape),
        "residual/magnitude": np.exp(4 * depth) * (1 + moved * depth / 50 + np.zeros(streams)),
    }
    if step >= 0:
        values |= {
            "attention/kl_tuned_base": moved * noise.gamma(2, 0.1, entropy.shape),
            "residual/cka": 1 - moved * depth / 3 + 0.01 * moved * noise.normal(size=streams),
            "residual/centered_cosine": 1 - moved * depth**2 / 2 + np.zeros(streams),
            "residual/relative_change": moved * depth + np.zeros(streams),
            "mlp/activation_change": moved * rng.standard_t(3, (layers, neurons)),
            "mlp/activation_change_error": moved * rng.gamma(2, 0.1, (layers, neurons)),
        }
        if documents == 1:
            values["residual/cka"][:] = np.nan
            values["mlp/activation_change_error"][:] = np.nan
    values = {name: np.asarray(value, np.float32) for name, value in values.items()}
    return ProbeRecord(step, [f"document {i}" for i in range(documents)], values)


def rows_of(target: Path) -> list[dict[str, str]]:
    with open(target.with_suffix(".csv"), encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def column(target: Path, name: str) -> np.ndarray:
    return np.array([float(row[name] or "nan") for row in rows_of(target)])


def mean(values: Any) -> float:
    """The mean of what is defined, by hand."""
    defined = [float(value) for value in values if not np.isnan(value)]
    return sum(defined) / len(defined) if defined else float("nan")


def assert_written(target: Path) -> None:
    from PIL import Image

    with Image.open(target.with_suffix(".png")) as image:
        image.verify()
        assert image.format == "PNG"
        assert min(image.size) > 400
    pdf = target.with_suffix(".pdf").read_bytes()
    assert pdf.startswith(b"%PDF-")
    assert pdf.rstrip().endswith(b"%%EOF")
    assert len(rows_of(target)) > 1


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that a test has drawn, in place of files."""
    figures: list[Any] = []
    for module in (attention, activations, differences):
        monkeypatch.setattr(module, "save", lambda figure, *rest: figures.append(figure))
    return figures


# ---- values


def test_attention_divergence_is_the_mean_over_documents(tmp_path: Path) -> None:
    record = made_record(50)
    values = record.values["attention/kl_tuned_base"]
    values[1, 1, 3:] = np.nan
    values[2, 0] = np.nan
    draw_attention_divergence(record, tmp_path / "figures" / "kl.png")
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
    draw_entropy_difference(tuned, base, tmp_path / "entropy")
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
    draw_entropy_difference(tuned, base, tmp_path / "entropy.csv")
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
    draw_entropy_difference(*records, tmp_path / "entropy")
    assert said in drawn[0].get_suptitle()


def test_layer_divergence_has_the_interval_over_documents(tmp_path: Path) -> None:
    curves = {"base-full": made_record(90), "base-LoRA": made_record(7)}
    draw_layer_divergence(curves, tmp_path / "layers")
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
    draw_layer_divergence({f"pair {i}": made_record(i + 1) for i in range(6)}, tmp_path / "layers")
    lines = drawn[0].axes[0].get_lines()
    assert len({line.get_marker() for line in lines}) == 6
    assert len({line.get_color() for line in lines}) == 6


def test_neurons_are_ranked_by_the_size_of_their_change(tmp_path: Path, drawn: list[Any]) -> None:
    record = made_record(20)
    change = record.values["mlp/activation_change"][1]
    change[:] = 0.01
    change[[4, 30, 17]] = [-0.5, 0.4, -0.3]
    draw_neurons(record, 1, tmp_path / "neurons", top=3)
    _, ranked = drawn[0].axes
    assert [label.get_text() for label in ranked.get_yticklabels()] == ["4", "30", "17"]
    assert ranked.yaxis_inverted()  # the most changed one at the top


def test_neurons_in_the_table(tmp_path: Path) -> None:
    record = made_record(20)
    draw_neurons(record, 2, tmp_path / "neurons.pdf")
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
    draw_magnitude(records, tmp_path / "magnitude")
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
    draw_drift(records, tmp_path / "drift")
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


# ---- what can be read


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
    assert draw_all(tmp_path, tmp_path / "figures") == []
    assert len(drawn) == len(FIGURES)
    for figure in drawn:
        assert_readable(figure)
    for figure in drawn[:2]:
        (image,) = figure.axes[0].get_images()
        assert isinstance(image, AxesImage)
        assert image.get_array().shape == (layers, heads)
        for axis in (figure.axes[0].xaxis, figure.axes[0].yaxis):
            assert {float(place).is_integer() for place in axis.get_majorticklocs()} == {True}


# ---- folders of records


def test_all_figures_of_a_folder(tmp_path: Path) -> None:
    for step in (-1, 0, 3, 200):
        made_record(step).save(record_file(tmp_path / "probes", step))
    assert draw_all(tmp_path / "probes", tmp_path / "figures") == []
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
    assert draw_all(tmp_path, tmp_path / "figures") == []
    for name, empty in (("drift", "cka"), ("neurons", "error"), ("layer_divergence", "low")):
        assert np.isnan(column(tmp_path / "figures" / name, empty)).all()
    assert not column(tmp_path / "figures" / "entropy_difference", "significant").any()


def test_what_cannot_be_drawn_is_named_and_the_rest_is_drawn(tmp_path: Path) -> None:
    record = made_record(10)
    kept = ("attention/entropy", "attention/kl_tuned_base")
    record.values = {name: record.values[name] for name in kept}
    record.save(record_file(tmp_path, 10))
    record_file(tmp_path, 20).write_bytes(b"torn")
    reasons = draw_all(tmp_path, tmp_path / "figures")
    figures = {path.stem for path in (tmp_path / "figures").iterdir()}
    assert figures == {"attention_divergence", "layer_divergence"}
    assert {reason.split(":")[0] for reason in reasons if "figures" not in reason} >= {
        *("entropy_difference", "neurons", "magnitude", "drift"),
    }
    assert any("base.safetensors: no such probe record" in reason for reason in reasons)
    assert any("step-000020" in reason and "not a probe record" in reason for reason in reasons)
    assert any("`residual/magnitude`" in reason for reason in reasons)


def test_a_folder_without_records(tmp_path: Path) -> None:
    reasons = draw_all(tmp_path, tmp_path / "figures")
    assert "no record of an optimizer step" in reasons[-1]
    assert not (tmp_path / "figures").exists()


def test_a_full_disk_is_no_reason_to_skip(tmp_path: Path) -> None:
    for step in (-1, 0):
        made_record(step).save(record_file(tmp_path, step))
    (tmp_path / "figures").write_text("a file where the folder should be")
    with pytest.raises((UserError, FileExistsError, NotADirectoryError)) as caught:
        draw_all(tmp_path, tmp_path / "figures")
    assert not isinstance(caught.value, NotDrawableError)


@pytest.mark.parametrize(
    ("measure", "draw"),
    [
        ("attention/kl_tuned_base", draw_attention_divergence),
        ("attention/entropy", lambda r, t: draw_entropy_difference(r, made_record(-1), t)),
        ("attention/kl_tuned_base", lambda r, t: draw_layer_divergence({"a": r}, t)),
        ("mlp/activation_change", lambda r, t: draw_neurons(r, 0, t)),
        ("mlp/activation_change_error", lambda r, t: draw_neurons(r, 0, t)),
        ("residual/magnitude", lambda r, t: draw_magnitude([made_record(-1), r], t)),
        ("residual/cka", lambda r, t: draw_drift([r], t)),
        ("residual/relative_change", lambda r, t: draw_drift([made_record(1), r], t)),
    ],
)
def test_a_missing_measure_is_named(tmp_path: Path, measure: str, draw: Any) -> None:
    record = made_record(1234)
    del record.values[measure]
    with pytest.raises(UserError, match=f"step 1,234: .*`{measure}`"):
        draw(record, tmp_path / "figure")
    assert list(tmp_path.iterdir()) == []


def test_records_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    target = tmp_path / "figure"
    with pytest.raises(UserError, match="different documents"):
        draw_entropy_difference(made_record(5), made_record(-1, documents=3), target)
    with pytest.raises(UserError, match="different depth"):
        draw_magnitude([made_record(5), made_record(6, layers=4)], target)
    with pytest.raises(UserError, match="no layer 3; choose 0 to 2"):
        draw_neurons(made_record(5), 3, target)
    for draw, nothing in ((draw_drift, []), (draw_magnitude, []), (draw_layer_divergence, {})):
        with pytest.raises(UserError, match=r"^no "):
            draw(nothing, target)


def test_values_that_overflowed_are_no_value(tmp_path: Path) -> None:
    base, record = made_record(-1), made_record(7)
    record.values["attention/kl_tuned_base"][0] = np.inf
    record.values["attention/entropy"][1, 1] = np.inf
    record.values["residual/cka"][:] = np.nan
    record.values["mlp/activation_change"][0, 3] = -np.inf
    record.values["mlp/activation_change_error"][0, 3] = np.inf
    for item, step in ((base, -1), (record, 7)):
        item.save(record_file(tmp_path, step))
    assert draw_all(tmp_path, tmp_path / "figures") == []
    assert rows_of(tmp_path / "figures" / "attention_divergence")[0]["kl_tuned_base"] == ""
    assert np.isfinite(column(tmp_path / "figures" / "magnitude", "magnitude")).all()


def test_equal_records_give_equal_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        draw_attention_divergence(made_record(5), tmp_path / name)
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
