"""What figures share: ticks of logarithmic axes, and the run's name under a figure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sumcirc.figures.drawing import new_figure, save
from sumcirc.figures.views import draw, picture
from sumcirc.reporting.kinds import Map, View, log_ticks


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([98304, 1746944], ["100,000", "200,000", "500,000", "1M", "2M"]),
        ([1, 9, 53, 554, 1108], ["1", "10", "100", "1,000"]),
        ([1, 2, 3], ["1", "2", "3"]),
        ([24576], ["24,576"]),
        ([0, -1], []),
    ],
)
def test_log_ticks_are_written_in_full(values: list[float], labels: list[str]) -> None:
    assert log_ticks(values)[1] == labels


def test_a_figure_names_the_run_it_belongs_to(tmp_path: Path) -> None:
    run = tmp_path / "sweep" / "a_$run$"
    (run / "figures").mkdir(parents=True)
    (run / "status.json").write_text("{}")
    (run.parent / "sweep.yaml").write_text("")
    texts = {}
    for folder in (run / "figures", run.parent / "comparison", tmp_path):
        figure = new_figure(4, 3)
        figure.add_subplot()
        save(figure, folder / "figure.png", ("x",), [])
        texts[folder.name] = [text.get_text() for text in figure.texts]
    assert texts == {"figures": ["sweep/a_$run$"], "comparison": ["sweep"], tmp_path.name: []}


def test_a_picture_for_loggers_is_the_figure(tmp_path: Path) -> None:
    view = View("t", [[Map(np.arange(6.0).reshape(2, 3), "label", "nats")]])
    draw(view, tmp_path / "figure.png")
    image = picture(view)
    with Image.open(tmp_path / "figure.png") as saved:
        small = saved.convert("RGB").resize(image.size)
    assert image.mode == "RGB"
    assert image.size[0] == pytest.approx(saved.size[0] / 1.5, abs=2)
    difference = np.abs(np.asarray(small, float) - np.asarray(image, float)).mean()
    assert difference < 4, "of 255"
    assert np.asarray(image).std() > 30
