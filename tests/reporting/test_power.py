"""What a sweep could have shown, and what a wanted difference takes."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sumcirc.errors import UserError
from sumcirc.reporting.comparison import ArmComparison, ComparisonOptions, compare
from sumcirc.reporting.comparison_files import write_comparison
from sumcirc.reporting.power import needs
from sumcirc.reporting.runs import read_runs
from sumcirc.reporting.views.arm_tables import tables
from sumcirc.statistics.power import Components, detectable, seeds_needed
from tests.support.sweeps import write_sweep

METRIC = "rougeLsum_f1"
MEANS: dict[Any, float] = {"random": 0.40, "circuit": 0.41, "page": 0.42}


def compared(folder: Path, **options: Any) -> ArmComparison:
    return compare(*read_runs([folder]), ComparisonOptions(against=("random",), **options))


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sweep(tmp_path_factory.mktemp("sweep") / "s", MEANS, noise=0.05)


def shared(folder: Path) -> tuple[Components, int]:
    """The components averaged over the two arms, from sums of squares written out."""
    runs, _ = read_runs([folder])
    scores = {
        label: np.stack([run.values[METRIC] for run in runs if f"-{label}-" in run.name])
        for label in MEANS
    }
    parts = []
    for label in ("circuit", "page"):
        difference = scores[label] - scores["random"]
        seeds, documents = difference.shape
        by_run, by_document = difference.mean(1), difference.mean(0)
        rest = difference - by_run[:, None] - by_document + difference.mean()
        noise = (rest**2).sum() / ((seeds - 1) * (documents - 1))
        spread = by_run.var(ddof=1) - noise / documents, by_document.var(ddof=1) - noise / seeds
        parts.append((spread[0], noise, spread[1]))
    run, rest, document = (max(0.0, float(one)) for one in np.mean(parts, axis=0))
    return Components((run,), (rest,), document), documents


def test_an_arm_could_show_what_its_design_detects(sweep: Path, tmp_path: Path) -> None:
    comparison = compared(sweep)
    parts, documents = shared(sweep)
    wanted = detectable(parts, [3], documents, 0.05 / 2)
    found = comparison.of("random", METRIC)
    assert [item.detectable for item in found] == pytest.approx([wanted] * 2)
    # 80 % of differences of that size are found, so it exceeds what is just significant
    half_width = found[0].estimate.high - found[0].estimate.mean
    assert wanted > 0.5 * half_width
    assert {item.detectable for item in comparison.of("random", "rouge1_f1")} == {None}

    (table,) = (one for one in tables(comparison) if one.title.startswith("against"))
    place = list(table.headings).index("could show")
    assert {row[place] for row in table.rows} == {f"{100 * wanted:.1f}"}
    write_comparison(comparison, tmp_path, "sumcirc report s", [])
    with open(tmp_path / "differences.csv") as file:
        rows = [row for row in csv.DictReader(file) if row["measure"] == METRIC]
    assert [float(row["detectable"]) for row in rows] == pytest.approx([wanted] * 2)


def test_a_wanted_difference_takes_so_many_seeds(sweep: Path) -> None:
    comparison = compared(sweep, wanted=4.0)
    parts, documents = shared(sweep)
    found = needs(comparison, "random", 0.04)
    assert [one.documents for one in found] == [documents * times for times in (1, 2, 5, 10)]
    for one in found:
        assert one.seeds == seeds_needed(parts, one.documents, 0.04, 0.05 / 2)
    seeds = [one.seeds or 101 for one in found]
    assert seeds == sorted(seeds, reverse=True)
    (table,) = (one for one in tables(comparison) if one.title.startswith("to show"))
    assert "a difference of 4 in ROUGE-Lsum x 100 from LoRA on random layers" in table.title
    assert "Holm over 2 arms" in table.title
    assert table.rows[0][0] == f"{documents}"


def test_a_larger_sweep_is_planned_from_a_smaller_one(sweep: Path) -> None:
    parts, documents = shared(sweep)
    comparison = compared(sweep, wanted=4.0, arms=9)
    found = needs(comparison, "random", 0.04)
    assert [one.seeds for one in found] == [
        seeds_needed(parts, documents * times, 0.04, 0.05 / 9) for times in (1, 2, 5, 10)
    ]
    fewer = needs(compared(sweep, wanted=4.0), "random", 0.04)
    assert (found[0].seeds or 101) > (fewer[0].seeds or 101)
    (table,) = (one for one in tables(comparison) if one.title.startswith("to show"))
    assert "Holm over 9 arms" in table.title


def test_two_seeds_are_enough_to_plan_with_but_show_nothing(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s", MEANS, seeds=(1, 2), noise=0.05)
    comparison = compared(folder, wanted=4.0)
    assert {item.detectable for item in comparison.of("random", METRIC)} == {None}
    assert needs(comparison, "random", 0.04)


def test_random_layers_keep_their_own_variance(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s", {"all": 0.40, "page": 0.41, "circuit": 0.42}, noise=0.01)
    write_sweep(folder, {"random": 0.40}, noise=0.1)
    comparison = compare(*read_runs([folder]), ComparisonOptions(against=("all",)))
    found = {item.arm.label: item.detectable or 0 for item in comparison.of("all", METRIC)}
    assert found["page"] == found["circuit"]
    assert found["random"] > 2 * found["page"] > 0
    # and the plan is for the others
    parts = [item.parts for item in comparison.of("all", METRIC) if item.arm.label != "random"]
    runs = max(0.0, float(np.mean([one.runs[0] for one in parts if one is not None])))
    rest = float(np.mean([one.rest[0] for one in parts if one is not None]))
    documents = max(0.0, float(np.mean([one.documents for one in parts if one is not None])))
    planned = Components((runs,), (rest,), documents)
    assert needs(comparison, "all", 0.02)[0].seeds == seeds_needed(planned, 40, 0.02, 0.05 / 3)


def test_other_seeds_count_as_independent(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s", {"random": 0.4}, seeds=(1, 2, 3), noise=0.05)
    write_sweep(folder, {"page": 0.4}, seeds=(4, 5, 6, 7), noise=0.05)
    (found,) = compared(folder).of("random", METRIC)
    assert not found.paired
    assert found.parts is not None
    assert len(found.parts.runs) == 2
    assert found.detectable is not None
    assert found.detectable > 0


def test_one_seed_says_nothing_about_runs(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s", MEANS, seeds=(1,), noise=0.05)
    assert {item.detectable for item in compared(folder).of("random", METRIC)} == {None}
    with pytest.raises(UserError, match=r"wanted=4: needs an arm and its control with two seeds"):
        compared(folder, wanted=4.0)
