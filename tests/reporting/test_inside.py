"""What happened inside the models of arms, beside their scores."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sumcirc.figures.views import draw
from sumcirc.jobs import report
from sumcirc.reporting.comparison import ArmComparison, ComparisonOptions, compare
from sumcirc.reporting.runs import read_runs
from sumcirc.reporting.views import arm_views
from sumcirc.reporting.views.arm_tables import inside_difference_table, inside_table
from sumcirc.schema import ReportConfig
from sumcirc.statistics import crossed_difference, crossed_mean, run_difference, run_mean
from sumcirc.storage.writing import MetricsFile
from sumcirc.tracking.measure_records import ATTENTION_KL, ENTROPY, ProbeRecord, record_file
from tests.support.sweeps import write_sweep

LAYERS, HEADS, MEASURED = 2, 3, 8
SHIFT = {"random": 0.1, "all": 0.5, "page": 0.1}
CHANGE = "residual/relative_change"


def record(step: int, level: float, seed: int) -> ProbeRecord:
    rng = np.random.default_rng(seed)
    heads = level + 0.02 * rng.random((LAYERS, HEADS, MEASURED))
    stream = level * np.arange(1, LAYERS + 2)[:, None] + 0.02 * rng.random((LAYERS + 1, MEASURED))
    values = {ENTROPY: 2 - heads, ATTENTION_KL: heads, CHANGE: stream}
    names = [f"validation-{i}" for i in range(MEASURED)]
    if step < 0:
        values = {ENTROPY: values[ENTROPY]}
    return ProbeRecord(step, names, {name: one.astype(np.float32) for name, one in values.items()})


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three arms with three seeds, whose runs measured at two steps; `all` changes most."""
    folder = write_sweep(tmp_path_factory.mktemp("inside") / "s", dict.fromkeys(SHIFT, 0.4))
    for run in folder.glob("tiny-*"):
        shift = next(value for name, value in SHIFT.items() if f"-{name}-" in run.name)
        seed = int(run.name[-1])
        for step, level in ((-1, 0.0), (50, shift / 2), (100, shift)):
            record(step, level, seed if step >= 0 else 0).save(record_file(run / "probes", step))
        faithful = {"circuit/faithfulness": 0.5 + shift, "circuit/jaccard_base": 0.3 + seed / 100}
        MetricsFile(run / "metrics.csv").append(100, faithful)
    return folder


@pytest.fixture(scope="module")
def comparison(sweep: Path) -> ArmComparison:
    return compare(*read_runs([sweep]), ComparisonOptions())


def by_hand(comparison: ArmComparison, label: str, measure: str) -> NDArray[np.float64]:
    """[runs, documents] values at the last step, read from the files again."""
    (arm,) = (one.arm for one in comparison.arms if one.arm.label == label)
    rows = []
    for run in sorted(arm.runs, key=lambda one: one.seeds):
        last = ProbeRecord.read(run.path / "probes" / "step-000100.safetensors").values
        base = ProbeRecord.read(run.path / "probes" / "base.safetensors").values
        heads = {
            "attention_kl": last[ATTENTION_KL].astype(float),
            "entropy_change": last[ENTROPY].astype(float) - base[ENTROPY],
            "drift": last[CHANGE][-1:].astype(float)[None],
        }[measure]
        rows.append(heads.mean((0, 1)))
    return np.stack(rows)


@pytest.mark.parametrize("measure", ["attention_kl", "entropy_change", "drift"])
def test_means_and_differences_are_those_of_seeds_and_documents(
    comparison: ArmComparison, measure: str
) -> None:
    ours, theirs = (by_hand(comparison, label, measure) for label in ("all", "random"))
    (result,) = (one for one in comparison.arms if one.arm.label == "all")
    expected = crossed_mean(ours)
    assert result.inside[measure].mean == pytest.approx(expected.mean)
    assert result.inside[measure].high == pytest.approx(expected.high)
    found = {one.arm.label: one for one in comparison.of("random", measure)}
    estimate = crossed_difference(ours, theirs, paired=True)
    assert found["all"].estimate.mean == pytest.approx(estimate.mean)
    assert found["all"].estimate.p_value == pytest.approx(estimate.p_value)
    assert found["all"].shown(0.05)
    assert not found["page"].shown(0.05)


def test_a_value_for_each_run_has_an_interval_over_runs(comparison: ArmComparison) -> None:
    (result,) = (one for one in comparison.arms if one.arm.label == "all")
    assert result.inside["circuit_faithfulness"].mean == pytest.approx(1.0)
    overlap = result.inside["circuit_overlap"]
    seeds = [int(seed) for seed in result.arm.seeds]
    assert overlap == run_mean(np.array([0.3 + seed / 100 for seed in seeds]))
    found = {one.arm.label: one.estimate for one in comparison.of("random", "circuit_overlap")}
    assert found["all"].mean == pytest.approx(0, abs=1e-12)


def test_run_mean_is_students() -> None:
    from scipy import stats

    values, others = np.array([0.3, 0.5, 0.9, 0.4]), np.array([0.1, 0.2, 0.35, 0.7])
    found = run_mean(values)
    low, high = stats.t.interval(0.95, 3, values.mean(), stats.sem(values))
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.p_value == pytest.approx(stats.ttest_1samp(values, 0).pvalue)
    paired = run_difference(values, others, paired=True)
    assert paired.p_value == pytest.approx(stats.ttest_rel(values, others).pvalue)
    apart = run_difference(values, others, paired=False)
    margins = [stats.t.ppf(0.975, 3) * stats.sem(one) for one in (values, others)]
    assert apart.high - apart.mean == pytest.approx(np.hypot(*margins))
    alone = run_mean(values[:1])
    assert alone.mean == 0.3
    assert np.isnan([alone.low, alone.high, alone.p_value]).all()


def test_runs_measured_on_other_documents_are_not_compared(sweep: Path) -> None:
    runs, left_out = read_runs([sweep])
    other = next(run for run in runs if "-page-" in run.name)
    other.inside["drift"] = type(other.inside["drift"])(("x",), np.array([1.0]))
    found = compare(runs, left_out, ComparisonOptions())
    assert {one.arm.label for one in found.of("random", "drift")} == {"all"}
    assert "drift" not in next(one for one in found.arms if one.arm.label == "page").inside


def _rows(file: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(file.read_text(encoding="utf-8").splitlines()))


def test_tables_files_and_figure(
    comparison: ArmComparison, sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = inside_table(comparison)
    assert table.headings[1:4] == ["attention KL, nats", "entropy change, nats", "drift"]
    assert len(table.rows) == 3
    (minus,) = inside_difference_table(comparison, "random")
    cells = {row[0]: row[1] for row in minus.rows}
    assert cells["LoRA, all layers"].startswith("+0.4 [")
    assert cells["LoRA, all layers"].endswith("*")
    assert len(cells) == 2
    draw(arm_views.inside(comparison), tmp_path / "inside.png")
    assert (tmp_path / "inside.png").stat().st_size > 10_000
    monkeypatch.setattr(report, "_log", lambda *given: None)
    _, page, *_ = report.write(ReportConfig(paths=[str(sweep)], out=str(tmp_path / "out")))
    rows = _rows(tmp_path / "out" / "arms.csv")
    assert float(rows[0]["attention_kl_low"]) < float(rows[0]["attention_kl"])
    measures = {row["measure"] for row in _rows(tmp_path / "out" / "differences.csv")}
    assert {"attention_kl", "entropy_change", "drift", "circuit_faithfulness"} <= measures
    text = page.read_text(encoding="utf-8")
    assert "inside the model, at the last measured step" in text
    assert (tmp_path / "out" / "figures" / "inside.png").is_file()
