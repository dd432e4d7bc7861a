"""Tests of training costs in tables and files, including runs that did not record them."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

from sumcirc.reporting.comparison import ArmComparison, ComparisonOptions, compare
from sumcirc.reporting.comparison_files import write_comparison
from sumcirc.reporting.costs import Cost, cost_columns, cost_of
from sumcirc.reporting.page.runs_section import _rows
from sumcirc.reporting.runs import read_runs
from sumcirc.reporting.views.arm_tables import cost_table
from sumcirc.tracking.run_records import RunRecords
from tests.support.sweeps import write_sweep

GPU = {"flops": 2e15, "flops_per_second": 1.5e13, "mfu": 0.125, "device_memory": 3 * 2**30}
CPU = {"flops": 4.93e10, "flops_per_second": 2.76e9, "process_memory": 2**29}


def compared(sweep: Path) -> ArmComparison:
    runs, left_out = read_runs([sweep])
    return compare(runs, left_out, ComparisonOptions())


def test_columns() -> None:
    headings, rows = cost_columns([cost_of([{"cost": CPU}]), Cost()])
    assert headings == ["FLOPs", "FLOP/s", "process GiB"]
    assert rows == [["49.3 G", "2.76 G", "0.50"], ["-", "-", "-"]]
    headings, rows = cost_columns([cost_of([{"cost": CPU}]), cost_of([{"cost": GPU}])])
    assert headings == ["FLOPs", "FLOP/s", "MFU", "GPU GiB"]
    assert rows == [["49.3 G", "2.76 G", "-", "-"], ["2 P", "15 T", "12.5%", "3.00"]]
    assert cost_columns([Cost(), cost_of([{}])]) == ([], [[], []])


def test_a_mean_needs_every_run() -> None:
    """A run that was resumed from a checkpoint without these sums has only its memory."""
    later = {"flops": 1e10, "process_memory": 2**30}
    cost = cost_of([{"cost": CPU}, {"cost": later}])
    assert (cost.flops, cost.process_memory) == (2.965e10, 0.75 * 2**30)
    assert math.isnan(cost.flops_per_second)
    assert math.isnan(cost_of([{"cost": CPU}, {"steps": 3}]).flops)


def test_arms_of_which_one_has_costs(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "s", {(0,): 0.4, (1,): 0.5}, seeds=(1, 2))
    old = cost_table(compared(sweep))
    assert "FLOPs" not in old.headings
    for file in sweep.glob("tiny-1-*/summary.json"):
        file.write_text(json.dumps({**json.loads(file.read_text()), "cost": GPU}))
    comparison = compared(sweep)
    table = cost_table(comparison)
    place = table.headings.index("FLOPs")
    assert table.headings[place : place + 4] == ["FLOPs", "FLOP/s", "MFU", "GPU GiB"]
    cells = {row[0].split(" [")[0]: row[place : place + 4] for row in table.rows}
    assert cells == {"layers 1": ["2 P", "15 T", "12.5%", "3.00"], "layers 0": ["-"] * 4}

    write_comparison(comparison, tmp_path / "out", "sumcirc report", [])
    with open(tmp_path / "out/arms.csv") as stream:
        arms = {row["arm"]: row for row in csv.DictReader(stream)}
    assert float(arms["layers 1"]["flops"]) == 2e15
    assert float(arms["layers 1"]["mfu"]) == 0.125
    assert arms["layers 0"]["flops"] in ("", "nan")
    runs = _rows([RunRecords(folder) for folder in sorted(sweep.iterdir()) if folder.is_dir()])
    assert {"FLOPs", "MFU"} <= set(runs.headings)
