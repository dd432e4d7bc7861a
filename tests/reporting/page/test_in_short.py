"""The first section: every sentence is a figure of the records."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from sumcirc.reporting.comparison import ComparisonOptions, compare
from sumcirc.reporting.page import in_short
from sumcirc.reporting.page.blocks import Bullets, Page
from sumcirc.reporting.runs import read_runs
from sumcirc.tracking.run_records import RunRecords
from tests.support.pages import DOCUMENTS, full_run
from tests.support.sweeps import config, write_run, write_sweep

ENDS = {"mean": 0.5, "low": 0.4, "high": 0.6}


def told(run: RunRecords) -> str:
    return " ".join(in_short.sentences(run))


def test_quality_stands_beside_the_baselines(tmp_path: Path) -> None:
    run = RunRecords(full_run(tmp_path / "s/r").path)
    own = run.summary["systems"]["trained"]["rougeLsum_f1"]
    lead = run.summary["systems"]["lead-3"] = {"rougeLsum_f1": {**own, "mean": 0.123}}
    line = in_short.sentences(run)[0]
    assert f"{100 * own['mean']:.1f} [{100 * own['low']:.1f}, {100 * own['high']:.1f}]" in line
    assert f"{own['n']} documents" in line
    assert f"lead-3 12.3 [{100 * lead['rougeLsum_f1']['low']:.1f}," in line


def test_the_head_and_the_depth_that_moved_most_are_named(tmp_path: Path) -> None:
    run = RunRecords(full_run(tmp_path / "s/r").path)
    last = run.probes[-1].values
    assert f"layer 1, head 1: KL {last['attention/kl_tuned_base'][1, 1].mean():.2f}" in told(run)
    run.probes[-1].values["residual/cka"][2] = 0.25
    assert "after layer 1: linear CKA 0.25" in told(run)


def test_heads_are_counted_where_they_differ_beyond_noise(tmp_path: Path) -> None:
    run = RunRecords(full_run(tmp_path / "s/r").path)
    assert run.base_probe is not None
    before = run.base_probe.values["attention/entropy"]
    rises = np.linspace(0.1, 0.2, DOCUMENTS)
    after = before + np.where(np.arange(DOCUMENTS) % 2, rises, -rises)  # noise, no direction
    after[0] = before[0] - rises
    after[1, 0] = before[1, 0] + rises
    run.probes[-1].values["attention/entropy"] = after
    assert "more concentrated in 2 and more spread in 1 of 6 heads" in told(run)


@pytest.mark.parametrize("missing", ["base", "entropy", "documents"])
def test_heads_are_not_counted_without_the_same_of_the_base(tmp_path: Path, missing: str) -> None:
    run = RunRecords(full_run(tmp_path / "s/r").path)
    base = run.base_probe
    assert base is not None
    if missing == "base":
        run.base_probe = None
    elif missing == "entropy":
        del base.values["attention/entropy"]
    else:
        base.documents[0] = "another"
    text = told(run)
    assert "layer 1, head 1: KL" in text
    assert "more concentrated" not in text


@pytest.mark.parametrize("area", [ENDS, dict.fromkeys(ENDS, math.nan)])
def test_a_circuit_stands_beside_random_ones(tmp_path: Path, area: dict[str, float]) -> None:
    run = RunRecords(write_run(tmp_path / "s/r", config(), 0.4, scored=False).path)
    run.summary = {
        **{"circuit_edges": 12, "edges": 1108, "pairs": 8, "faithfulness": ENDS},
        "cmd": {"value": area, "random": [{"mean": 0.7}, {"mean": 0.8}]},
        **{"jaccard": ENDS, "jaccard_chance": 0.125},
    }
    text = told(run)
    assert "12 of 1,108 edges does 0.50 [0.40, 0.60] of what the model does" in text
    # over one size there is no area, and none is told
    assert ("of random circuits 0.75" in text) == ("CMD" in text) == (area == ENDS)
    assert "by chance 0.12" in text


@pytest.mark.parametrize("edges", [0, 12])
def test_a_circuit_without_faithfulness_is_no_finding(tmp_path: Path, edges: int) -> None:
    run = RunRecords(write_run(tmp_path / "s/r", config(), 0.4, scored=False).path)
    nothing = dict.fromkeys(ENDS, float("nan"))
    run.summary = {
        **{"circuit_edges": edges, "edges": 1108, "pairs": 8, "faithfulness": nothing},
        **{"cmd": {"value": nothing, "random": [nothing]}, "jaccard": nothing},
        "jaccard_chance": float("nan"),
    }
    text = told(run)
    assert f"The circuit has {edges} of 1,108 edges and no faithfulness" in text
    assert "nan" not in text


@pytest.mark.parametrize(("low", "sure"), [(0.4, True), (-0.4, False)])
def test_a_comparison_names_its_best_head_or_says_that_there_is_no_gap(
    tmp_path: Path, low: float, sure: bool
) -> None:
    run = RunRecords(write_run(tmp_path / "s/r", config(), 0.4, scored=False).path)
    parts = [
        {**ENDS, "mean": mean, "part": name, "kind": kind}
        for mean, name, kind in ((0.3, "head 1.0", "output"), (0.9, "residual.2", "residual"))
    ]
    found = {
        "metric": {"difference": {**ENDS, "low": low}},
        "patching": {"necessity": {"parts": parts}},
    }
    run.summary = {
        "before": "tiny",
        "metric": "log_probability",
        "unit": "nats",
        "after": {"t": found},
    }
    text = told(run)
    assert f"t minus tiny, log probability (nats): +0.50 [{low:+.2f}, +0.60]" in text
    assert ("head 1.0 carries most, 0.30 [0.40, 0.60] of the gap" in text) is sure
    assert ("not reliably different" in text) is not sure


def test_a_sweep_begins_with_what_holds_between_its_runs(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "s", {"random": 0.4, "all": 0.6})
    runs, left_out = read_runs([sweep])
    comparison = compare(runs, left_out, ComparisonOptions())
    page = Page("s")
    in_short.add(page, [RunRecords(run.path) for run in runs][:2], comparison)
    (section,) = page.sections
    titles = [block.title for block in section.blocks if isinstance(block, Bullets)]
    assert titles[0] == "Between the runs"
    assert len(titles) == 3
