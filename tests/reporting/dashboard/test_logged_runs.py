"""What runs gave to W&B, read from their files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sumcirc.errors import UserError
from sumcirc.reporting.dashboard.logged_runs import Place, read_material
from sumcirc.tracking.metric_names import MetricKind
from tests.support.sweeps import config, write_run, write_sweep


def test_names_of_made_up_runs(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "s", {(0,): 0.4, "all": 0.5}, seeds=(1, 2))
    material = read_material([sweep])
    assert (material.entity, material.project, material.groups) == (None, "sumcirc", ("s",))
    assert len(material.trained) == 4
    assert material.logged(MetricKind.curve) == {"train/loss", "validation/loss"}
    values = material.logged(MetricKind.summary)
    assert {"validation/loss.min", "trainable_parameters", "test/base/facts"} <= values
    assert not [name for name in values if name.endswith("_x100")], "logged by version 0.1"
    assert material.logged(MetricKind.table) == set()
    assert material.comparison is None


def test_the_group_is_the_configured_one(tmp_path: Path) -> None:
    """A sweep's folder may be copied to another name; its W&B group stays."""
    write_run(tmp_path / "copied/a", config(sweep__name="given"), 0.4)
    assert read_material([tmp_path / "copied"]).groups == ("given",)


def test_runs_without_a_logger_are_left_out(tmp_path: Path) -> None:
    write_run(tmp_path / "s/a", config(), 0.4)
    write_run(tmp_path / "s/b", config(seed=2, logger__wandb=False), 0.4)
    write_run(tmp_path / "s/c", config(seed=3), 0.4, state="pending")
    # as earlier runs wrote it
    for name, kind in (("d", "wandb"), ("e", "none")):
        old = {"kind": kind, "project": "sumcirc"}
        write_run(tmp_path / "s" / name, config(seed=4, logger=old), 0.4)
    material = read_material([tmp_path / "s"])
    assert [run.path.name for run in material.runs] == ["a", "d"]
    assert material.left_out == (
        "b: was run without logger=wandb",
        "c: has logged nothing yet",
        "e: was run without logger=wandb",
    )
    with pytest.raises(UserError, match=r"none of its runs logged to W&B \(b: .*logger=wandb"):
        read_material([tmp_path / "s/b"])


@pytest.mark.parametrize("changes", [{"logger__project": "other"}, {"logger__entity": "me"}])
def test_runs_of_two_projects_are_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    write_run(tmp_path / "s/a", config(), 0.4)
    write_run(tmp_path / "s/b", config(seed=2, **changes), 0.4)
    with pytest.raises(UserError, match=r"make a dashboard of each"):
        read_material([tmp_path / "s"])


def test_what_was_uploaded(tmp_path: Path) -> None:
    for name in ("never", "partly", "synced", "online", "gone"):
        write_run(tmp_path / "s" / name, config(), 0.4, draw=1)
    for run, folder, synced in (
        ("never", "offline-run-1-x", False),
        ("partly", "offline-run-1-x", True),
        ("partly", "offline-run-2-x", False),
        ("synced", "offline-run-1-x", True),
        ("online", "run-1-x", False),
    ):
        made = tmp_path / "s" / run / "wandb" / folder
        made.mkdir(parents=True)
        (made / "run-x.wandb").write_text("")
        if synced:
            (made / "run-x.wandb.synced").write_text("")
    places = {run.path.name: run.place for run in read_material([tmp_path / "s"]).runs}
    assert places == {
        "never": Place.offline,
        "partly": Place.offline,
        "synced": Place.uploaded,
        "online": Place.uploaded,
        "gone": Place.unknown,
    }


def test_a_torn_comparison(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "s", {(0,): 0.4}, seeds=(1,))
    (sweep / "comparison").mkdir()
    (sweep / "comparison/comparison.json").write_text("{")
    material = read_material([sweep])
    assert [run.path.name for run in material.runs] == ["tiny-0-s1"]
    (reason,) = material.left_out
    assert reason.startswith("comparison: comparison/comparison.json: is not JSON")
