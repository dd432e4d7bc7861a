from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import t as student

from sumcirc.reporting.arms import make_arms
from sumcirc.reporting.comparison import ComparisonOptions, compare
from sumcirc.reporting.draws import places
from sumcirc.reporting.runs import ReportRun, read_runs
from sumcirc.reporting.views.arm_tables import draws_tables
from tests.support.sweeps import config, write_run, write_sweep

MEASURE = "rougeLsum_f1"


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five draws with one seed, a good and a bad arm with two, and arms with other adapters."""
    folder = tmp_path_factory.mktemp("draws") / "s"
    for draw, mean in enumerate((0.30, 0.32, 0.34, 0.36, 0.38), start=1):
        settings = config(seed=1, selector="random", selector__seed=draw)
        layers = (draw, draw + 1)
        write_run(folder / f"random-{draw}", settings, mean, documents=12, noise=0.0, layers=layers)
    options = {"documents": 12, "noise": 0.0}
    others = {"variant": "dora", "modules": ["mlp_in"], "granularity": "module"}
    for name, value in others.items():
        settings = config(seed=1, **{f"adaptation__{name}": value})
        write_run(folder / name, settings, 0.5, documents=12, noise=0.0)
    write_sweep(folder, {"page": 0.45, "last": 0.33, "full": 0.6}, (1, 2), **options)
    return folder


def test_a_place_by_its_definition(sweep: Path) -> None:
    runs, _ = read_runs([sweep])
    arms, _ = make_arms(runs)
    best, middle = places(arms, MEASURE)
    assert (best.arm.label, middle.arm.label) == (
        "page",
        "last",
    )  # `full` has another budget, three have other adapters
    assert best.seeds == (1,)
    drawn = np.array(
        [ReportRun(sweep / f"random-{i}").values[MEASURE].mean() for i in (1, 2, 3, 4, 5)]
    )
    np.testing.assert_allclose(np.sort(best.draws), np.sort(drawn))
    assert (best.at_least, best.p_value) == (0, pytest.approx(1 / 6))
    assert best.floor == pytest.approx(1 / 6)
    own = ReportRun(sweep / "tiny-last-s1").values[MEASURE].mean()
    assert middle.mean == pytest.approx(own)
    assert middle.at_least == sum(drawn >= own) == 3
    assert middle.p_value == pytest.approx(4 / 6)
    half = student.ppf(0.975, 4) * drawn.std(ddof=1) * (1 + 1 / 5) ** 0.5
    assert middle.low == pytest.approx(drawn.mean() - half)
    assert middle.high == pytest.approx(drawn.mean() + half)


def test_the_report_has_a_table_of_places(sweep: Path) -> None:
    runs, left_out = read_runs([sweep])
    (table,) = draws_tables(compare(runs, left_out, ComparisonOptions()))
    assert table.title.startswith("place among 5 random draws of layers")
    assert "can't be below 0.17" in table.title
    assert [row[0] for row in table.rows] == ["page", "last"]
    assert table.rows[0][-1] == "0.17"
    assert table.rows[1][-2:] == ("3 of 5", "0.67")


def test_draws_by_the_runs_seed_are_no_draws(tmp_path: Path) -> None:
    """Each has another seed, so an arm's mean over seeds is not one of them."""
    write_sweep(tmp_path / "s", {"random": 0.3, "page": 0.4}, documents=12)
    runs, left_out = read_runs([tmp_path / "s"])
    assert draws_tables(compare(runs, left_out, ComparisonOptions())) == []
