"""A run is its directory: what is written, what is refused, which commit it names."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import yaml

import sumcirc
from sumcirc.errors import UserError
from sumcirc.tracking import run_directory
from sumcirc.tracking.run_directory import RunDirectory, environment, git_commit

CONFIG = {"seed": 1, "encoding": {"prompt": "{document}\nTL;DR: “é”"}, "run": {"name": "x"}}


def test_a_new_run_is_pending(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "sweep/run", "train", CONFIG)
    assert {path.name for path in run.path.iterdir()} == {"config.yaml", "status.json"}
    status = json.loads((run.path / "status.json").read_text())
    assert (status["state"], status["verb"], status["resumed"]) == ("pending", "train", 0)
    assert run.read_config()["config"] == CONFIG
    text = (run.path / "config.yaml").read_text()
    assert "“é”" in text, "people read it"
    assert text.startswith("format: 3\nverb: train\nconfig:\n  seed: 1\n")


def test_config_names_what_made_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["sumcirc", "train", "seed=1"])
    run = RunDirectory.create(tmp_path / "run", "train", CONFIG)
    found = yaml.safe_load((run.path / "config.yaml").read_text())["environment"]
    assert found["sumcirc"] == sumcirc.__version__
    assert found["packages"]["torch"] == metadata.version("torch")
    assert set(found["packages"]) == set(run_directory.PACKAGES)
    assert found["command"] == ["sumcirc", "train", "seed=1"]
    assert found["commit"] == git_commit()


def test_a_package_that_is_not_installed_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_directory, "PACKAGES", ("numpy", "no-such-package"))
    assert environment()["packages"]["no-such-package"] is None
    assert environment()["packages"]["numpy"]


def test_a_run_is_not_overwritten(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", "train", CONFIG)
    run.set_status("done")
    before = run.config_file.read_bytes()
    with pytest.raises(UserError, match=r"holds a run of .*already \(done\); choose another"):
        RunDirectory.create(tmp_path / "run", "train", {"seed": 2})
    assert run.config_file.read_bytes() == before


def test_a_start_that_was_cut_off_before_the_status_is_made_again(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", "train", CONFIG)
    run.status_file.unlink()
    again = RunDirectory.create(tmp_path / "run", "train", {"seed": 2})
    assert again.read_config()["config"] == {"seed": 2}


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"can't be written \(Not a directory\)"):
        RunDirectory.create(tmp_path / "file/run", "train", CONFIG)


def test_status_keeps_what_is_not_given_anew(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", "train", CONFIG)
    created = run.status()["created"]
    run.set_status("running", wandb_id="abc")
    assert isinstance(run.status()["process"], int)
    run.set_status("failed", reason="x")
    run.set_status("running")
    status = run.status()
    assert (status["wandb_id"], status["reason"], status["created"]) == ("abc", None, created)


def test_open_wants_a_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such directory"):
        RunDirectory.open(tmp_path / "nowhere")
    with pytest.raises(UserError, match="is no run directory"):
        RunDirectory.open(tmp_path)
    (tmp_path / "config.yaml").write_text("a: 1")
    with pytest.raises(UserError, match="is no run directory"):
        RunDirectory.open(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="no such directory"):
        RunDirectory.open(tmp_path / "file")


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "verb: train", "verb: 3\nconfig: {}\nenvironment: {}", "{", "\xff"]
)
def test_a_config_of_something_else(tmp_path: Path, text: str) -> None:
    run = RunDirectory.create(tmp_path / "run", "train", CONFIG)
    run.config_file.write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=r"config\.yaml") as refused:
        run.read_config()
    assert str(run.path) in str(refused.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"state": "asleep"}', "\xff"])
def test_a_status_of_something_else(tmp_path: Path, text: str) -> None:
    run = RunDirectory.create(tmp_path / "run", "train", CONFIG)
    run.status_file.write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=r"status\.json"):
        run.status()


def test_a_config_runs_no_code(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", "train", CONFIG)
    run.config_file.write_text(
        f"verb: !!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path"
        f" [{tmp_path / 'owned'}]]\n"
    )
    with pytest.raises(UserError):
        run.read_config()
    assert not (tmp_path / "owned").exists()


def test_what_training_left(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", "train", CONFIG)
    with pytest.raises(UserError, match=f"did not finish.*resume={run.path}"):
        _ = run.trained
    run.model.mkdir()
    assert run.trained == run.path / "model"
    run.adapter.mkdir()
    assert run.trained == run.path / "adapter"


# ---- the commit


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_commit_of_a_checkout_and_of_an_installation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "src/run_directory.py"
    module.parent.mkdir()
    module.write_text("a = 1\n")
    monkeypatch.setattr(run_directory, "__file__", str(module))
    assert git_commit() is None, "no repository at all"
    git(tmp_path, "init", "-q")
    (tmp_path / "README").write_text("somebody's own repository\n")
    git(tmp_path, "add", "README")
    git(tmp_path, "commit", "-q", "-m", "first")
    assert git_commit() is None, "installed inside of somebody's repository"
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "second")
    git(tmp_path, "tag", "-a", "v1", "-m", "v1")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert git_commit() == commit
    module.write_text("a = 2\n")
    assert git_commit() == f"{commit}-dirty"


def test_commit_without_git(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert git_commit() is None


def test_a_resumed_run_must_have_the_data_that_it_began_with(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "r", "train", {})
    run.require_same_data({"train": "a", "validation": "b"})
    run.require_same_data({"train": "a", "validation": "b", "test": "c"})
    assert run.status()["data"] == {"train": "a", "validation": "b", "test": "c"}
    for split in ("train", "validation", "test"):
        with pytest.raises(UserError, match=rf"data\.{split} has other documents than when"):
            run.require_same_data({split: "other"})
    assert run.status()["data"] == {"train": "a", "validation": "b", "test": "c"}


def test_versions_other_than_those_a_run_began_with(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "r", "train", {})
    assert run.other_versions() == []
    body = yaml.safe_load(run.config_file.read_text())
    now = body["environment"]["packages"]
    now |= {"torch": "1.0.0", "gone": "2.0"}
    run.config_file.write_text(yaml.safe_dump(body))
    gone, torch = sorted(run.other_versions())
    assert torch.startswith("torch ")
    assert torch.endswith(" (began with 1.0.0)")
    assert gone == "gone none (began with 2.0)"
