"""Records of runs, damaged in every way: the run is listed with file and key, the others shown.

`status`, `report` and `dashboard` of a sweep read all its runs; nothing that is wrong with one file
of one run may end them with a traceback, or hide a run.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sumcirc.jobs import report
from sumcirc.reporting.dashboard.layout import layout
from sumcirc.reporting.dashboard.logged_runs import read_material
from sumcirc.reporting.dashboard.report_text import story
from sumcirc.reporting.views.system_scores import sweep_rows
from sumcirc.schema import LoggerConfig, LoggerKind, ReportConfig
from sumcirc.sweeps.display import status_json, status_table
from sumcirc.sweeps.run_states import read_sweep
from sumcirc.tracking.measure_records import record_file
from tests.mutations import containers, mutating
from tests.mutations.mutating import Draw
from tests.mutations.run_material import MODEL, RUNS, write_material
from tests.mutations.trials import FEW, MANY, faults

PROBE = record_file(Path(), 10).name
FILES: dict[str, list[Draw]] = {
    "full/status.json": mutating.JSON,
    "full/config.yaml": mutating.YAML,
    "full/summary.json": mutating.JSON,
    "evaluate/summary.json": mutating.JSON,
    "circuit/summary.json": mutating.JSON,
    "compare/summary.json": mutating.JSON,
    "select/summary.json": mutating.JSON,
    "full/metrics.csv": mutating.CSV,
    "full/documents.parquet": containers.TABLE,
    "evaluate/documents.parquet": containers.TABLE,
    "full/samples.json": mutating.JSON,
    f"full/probes/{PROBE}": containers.TENSORS,
    "full/probes/base.safetensors": containers.TENSORS,
    f"compare/compare/{MODEL}/step-000000.safetensors": containers.TENSORS,
    "full/circuits/step-000010.json": mutating.JSON,
    "full/circuits/evolution.json": mutating.JSON,
    "circuit/circuits/faithfulness.json": mutating.JSON,
    "circuit/circuits/card.json": mutating.JSON,
    "comparison/comparison.json": mutating.JSON,
}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every record of a sweep, its comparison among them."""
    made = write_material(tmp_path_factory.mktemp("mutated"))
    report.write(options(made))
    return made


def options(sweep: Path) -> ReportConfig:
    return ReportConfig(paths=[str(sweep)], logger=LoggerConfig(kind=LoggerKind.none))


def shown(sweep: Path, run: str) -> None:
    """Produce everything that is shown of a sweep; `run` has the damaged record.

    Raises:
        AssertionError: a run is not listed.
    """
    states = {state.name: state for state in read_sweep(sweep)}
    assert set(states) == set(RUNS), f"status lists {sorted(states)}"
    assert all(states[name].state == "done" for name in RUNS if name != run)
    status_table(list(states.values()), "title")
    assert len(json.loads(status_json(list(states.values())))) == len(RUNS)
    assert sum(len(table) for table in sweep_rows(sweep)) >= 3

    comparison, page, left_out, _ = report.write(options(sweep))
    assert comparison is not None
    compared = {one.name for result in comparison.arms for one in result.arm.runs}
    missing = {item.path.name for item in (*left_out, *comparison.left_out)}
    assert {"a", "b"} - {run} <= compared
    assert run in compared | missing | {"evaluate", "circuit", "compare", "select", "comparison"}
    text = page.read_text("utf-8")
    assert all(name in text for name in RUNS)

    material = read_material([sweep])
    listed = {found.path.name for found in material.runs}
    told = {line.partition(":")[0] for line in material.left_out}
    assert set(RUNS) - {run} <= listed | told
    layout(material, "rougeLsum_f1")
    story(material, "rougeLsum_f1")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is drawn, and scripts of the page are left out: they don't depend on a record."""
    import plotly.offline

    monkeypatch.setattr(report, "draw_arms", lambda comparison, folder: [])
    monkeypatch.setattr(plotly.offline, "get_plotlyjs", lambda: "")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
@pytest.mark.usefixtures("quick")
def test_one_damaged_record_hides_no_run(name: str, count: int, sweep: Path) -> None:
    run = name.partition("/")[0]
    found = faults(sweep / name, FILES[name], lambda: shown(sweep, run), count)
    assert not found, "\n".join(found)
