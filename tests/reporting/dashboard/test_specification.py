"""The workspace and the report as W&B would be sent them."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("wandb_workspaces")

from sumcirc.reporting.dashboard.layout import layout
from sumcirc.reporting.dashboard.logged_runs import Material, read_material
from sumcirc.reporting.dashboard.specification import (
    report,
    report_json,
    title,
    workspace,
    workspace_json,
)
from sumcirc.tracking.metric_names import STEP, MetricKind
from sumcirc.tracking.run_directory import RunDirectory
from tests.support.sweeps import config, write_run, write_sweep

SUMMARIES = ("summaries/rouge1_f1",)
HOSTILE = "a=b <c> \"d\" 'e' [f] é次 & $x|y"


def built(material: Material) -> tuple[dict[str, Any], dict[str, Any]]:
    plan = layout(material, "rougeLsum_f1")
    return (
        workspace_json(workspace(material, plan, "me", "p")),
        report_json(report(material, plan, "me", "p", "rougeLsum_f1")),
    )


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    folder = tmp_path_factory.mktemp("sweep") / "s"
    return read_material([write_sweep(folder, {(0, 1): 0.4, "all": 0.5}, seeds=(1, 2))])


@pytest.fixture
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("something is to be reached")

    for name in ("connect", "connect_ex", "sendto", "bind"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def panels_of(spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Panels of a workspace or a report."""
    if "section" in spec:
        for section in spec["section"]["panelBankConfig"]["sections"]:
            yield from section["panels"]
    for block in spec.get("blocks", []):
        if block["type"] == "panel-grid":
            yield from block["metadata"]["panelBankSectionConfig"]["panels"]


@pytest.mark.usefixtures("_no_network")
def test_it_is_made_without_network_and_made_again_the_same(material: Material) -> None:
    first, second = built(material), built(material)
    assert first == second
    assert json.loads(json.dumps(first[0])) == first[0]
    for body in first:
        assert (body["entityName"], body["projectName"]) == ("me", "p")
        assert body["displayName"] == "sumcirc s"


def test_runs_of_the_group_by_arm(material: Material) -> None:
    view, text = (body["spec"] for body in built(material))
    sets = view["section"]["runSets"]
    for block in text["blocks"]:
        sets += block["metadata"]["runSets"] if block["type"] == "panel-grid" else []
    assert len(sets) > 2
    for runs in sets:
        (only,) = runs["filters"]["filters"]
        assert (only["key"]["name"], only["op"], only["value"]) == ("group", "IN", ["s"])
        assert [key["name"] for key in runs["grouping"]] == ["sweep_axes.value.arm"]
    assert "project" not in sets[-1], "the report's own"


def test_axes_of_panels(material: Material) -> None:
    panels = list(panels_of(built(material)[0]["spec"]))
    (parallel,) = [one for one in panels if one["viewType"] == "Parallel Coordinates Plot"]
    assert [column["accessor"] for column in parallel["config"]["columns"]] == [
        "config:sweep_axes.value.layers",
        "config:sweep_axes.value.seed",
        "summary:trainable_parameters",
        "summary:validation/loss.min",
        "summary:test/trained/rougeLsum_f1",
    ]
    points = {
        (one["config"]["xAxis"], one["config"]["yAxis"])
        for one in panels
        if one["viewType"] == "Scatter Plot"
    }
    score = "summary:test/trained/rougeLsum_f1"
    assert points == {
        ("summary:trainable_parameters", score),
        ("summary:validation/loss.min", score),
        ("config:sweep_axes.value.seed", score),
    }
    grouped = [one["config"].get("groupBy") for one in panels if one["viewType"] == "Bar Chart"]
    assert grouped[-1] == "sweep_axes.value.arm"


def test_curves_are_over_optimizer_steps_and_of_logged_names(material: Material) -> None:
    for body in built(material):
        lines = [
            one for one in panels_of(body["spec"]) if one["viewType"] == "Run History Line Plot"
        ]
        assert lines
        for one in lines:
            assert one["config"]["xAxis"] == STEP
            assert set(one["config"]["metrics"]) <= material.logged(MetricKind.curve)


def test_panels_of_the_report_do_not_overlap(material: Material) -> None:
    for block in built(material)[1]["spec"]["blocks"]:
        if block["type"] != "panel-grid":
            continue
        panels = block["metadata"]["panelBankSectionConfig"]["panels"]
        cells = [
            (x, y)
            for one in panels
            for x in range(one["layout"]["x"], one["layout"]["x"] + one["layout"]["w"])
            for y in range(one["layout"]["y"], one["layout"]["y"] + one["layout"]["h"])
        ]
        assert len(cells) == len(set(cells))
        assert max(x for x, _ in cells) < 24


def test_hostile_names_survive(tmp_path: Path) -> None:
    for seed in (1, 2):
        axes = {"data.train": HOSTILE + str(seed)}
        settings = config(seed=seed, sweep__name=HOSTILE, run__axes=axes)
        write_run(tmp_path / f"s/{seed}", settings, 0.4)
    material = read_material([tmp_path / "s"])
    view, text = built(material)
    (runs,) = view["spec"]["section"]["runSets"]
    assert runs["filters"]["filters"][0]["value"] == [HOSTILE]
    grids = [block for block in text["spec"]["blocks"] if block["type"] == "panel-grid"]
    for block in grids:
        (runs,) = block["metadata"]["runSets"]
        assert runs["filters"]["filters"][0]["value"] == [HOSTILE]
    assert re.fullmatch(r"[\w.,-]+( [\w.,-]+)*", title(material)), title(material)
    assert "é次" in title(material)
    assert HOSTILE in json.dumps(text, ensure_ascii=False).replace('\\"', '"')
    parallel = next(
        one for one in panels_of(view["spec"]) if one["viewType"] == "Parallel Coordinates Plot"
    )
    assert [column["accessor"] for column in parallel["config"]["columns"]][:2] == [
        "config:sweep_axes.value.data_train",
        "config:sweep_axes.value.seed",
    ]


def test_a_name_without_a_letter_has_a_title(tmp_path: Path) -> None:
    write_run(tmp_path / "s/a", config(sweep__name="🎉" * 3), 0.4)
    assert title(read_material([tmp_path / "s"])) == "sumcirc sweep"


def test_it_is_read_back_as_it_was_written(material: Material) -> None:
    """By the classes with which W&B's client opens saved views and reports."""
    from wandb_workspaces.reports.v2 import internal as reports
    from wandb_workspaces.reports.v2.interface import Report, UnknownBlock, UnknownPanel
    from wandb_workspaces.workspaces import Workspace
    from wandb_workspaces.workspaces import internal as workspaces

    view, text = built(material)
    spec = workspaces.WorkspaceViewspec.model_validate_json(json.dumps(view["spec"]))
    known = {"entity": "me", "project": "p", "display_name": "x", "name": "n", "id": "i"}
    loaded = Workspace._from_model(workspaces.View(**known, spec=spec))
    assert [section.name for section in loaded.sections] == ["Quality", "Sweep"]
    panels = [panel for section in loaded.sections for panel in section.panels]
    assert not [panel for panel in panels if isinstance(panel, UnknownPanel)]
    assert loaded.runset_settings.filters == "Metric(\"Group\") in ['s']"
    assert workspace_json(loaded)["spec"] == view["spec"]

    body = {"displayName": "x", "project": {"name": "p", "entityName": "me"}, "spec": text["spec"]}
    read = Report._from_model(reports.ReportViewspec.model_validate(body))
    assert not [block for block in read.blocks if isinstance(block, UnknownBlock)]
    headings = [block["children"] for block in text["spec"]["blocks"] if block["type"] == "heading"]
    assert len(headings) == 4


def test_runs_with_the_names_of_today_are_shown_times_100(tmp_path: Path) -> None:
    """Beside runs of version 0.1, which have no such names, panels are of the names of both."""
    sweep = write_sweep(tmp_path / "s", {(0,): 0.4, "all": 0.5}, seeds=(1, 2), wandb_names=2)
    names = ("attention/kl_tuned_base", "output/kl_tuned_base", "circuit/faithfulness")
    for run in sweep.iterdir():
        RunDirectory(run).metrics.append(0, {**dict.fromkeys(names, 0.1), "summaries/length": 1})
        RunDirectory(run).metrics.append(0, dict.fromkeys(SUMMARIES, 0.1))
    view, _ = built(read_material([sweep]))
    sections = view["spec"]["section"]["panelBankConfig"]["sections"]
    assert {one["name"] for one in sections if one["isOpen"]} == {
        *("Quality", "Sweep", "Attention", "Drift", "Circuits")
    }
    bars = [one["config"] for one in panels_of(view["spec"]) if one["viewType"] == "Bar Chart"]
    by_arm = {one["metrics"][0] for one in bars if one.get("groupBy") == "sweep_axes.value.arm"}
    assert by_arm == {*names, "test/trained/rougeLsum_x100"}
    (rouge,) = [one for one in bars if "ROUGE-1 x 100" in one["chartTitle"]]
    assert rouge["metrics"] == ["test/trained/rouge1_x100", "test/base/rouge1_x100"]
    lines = [one["config"] for one in panels_of(view["spec"]) if "Line" in one["viewType"]]
    assert any(line["metrics"] == [f"{SUMMARIES[0][:-3]}_x100"] for line in lines)
    assert sum("test/scores" in str(one) for one in panels_of(view["spec"])) == 1

    write_run(sweep / "before", config(seed=3), 0.4)
    view, _ = built(read_material([sweep]))
    bars = [one["config"] for one in panels_of(view["spec"]) if one["viewType"] == "Bar Chart"]
    assert ["test/trained/rouge1_f1", "test/base/rouge1_f1"] in [one["metrics"] for one in bars]
