"""`sumcirc status`: the table, JSON, which sweep is meant; quick and without torch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sumcirc.cli.main import main as command
from sumcirc.errors import UserError
from sumcirc.sweeps.status import main
from sumcirc.tracking.run_directory import RunDirectory
from tests.test_imports import FORBIDDEN, loaded


@pytest.fixture(autouse=True)
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs/mine"
    RunDirectory.create(folder / "a-2,3,5-s1", "train", {}).set_status("done", seconds=75.0)
    failed = RunDirectory.create(folder / "b-s1", "train", {})
    failed.set_status("failed", reason="killed by signal 9 [SIGKILL]", resumed=1, steps=8)
    failed.metrics.append(3, {"train/loss": 1.0})
    return folder


@pytest.mark.parametrize("arguments", [[], ["mine"], ["runs/mine"], ["runs/mine/"]])
def test_the_table(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    main(arguments)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "runs/mine: 1 done, 1 failed"
    (done,) = [line for line in lines if "a-2,3,5-s1" in line]
    (failed,) = [line for line in lines if "b-s1" in line]
    assert "done" in done
    assert "1 min 15 s" in done
    for part in ("failed", "3/8", "killed by signal 9 [SIGKILL]; resumed once"):
        assert part in failed


def test_names_are_whole_in_a_narrow_terminal(
    sweep: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "adaptation=lora,adaptation.layers=2-3-5,seed=1"
    RunDirectory.create(sweep / name, "train", {}).set_status("done", seconds=75.0)
    monkeypatch.setenv("COLUMNS", "80")
    command(["status", "mine"])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert any(name in line for line in lines)
    assert any("killed by signal 9 [SIGKILL]; resumed once" in line for line in lines)


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    main(["mine", "--json"])
    first, second = json.loads(capsys.readouterr().out)
    assert (first["name"], first["state"], first["seconds"]) == ("a-2,3,5-s1", "done", 75.0)
    assert (second["step"], second["steps"], second["resumed"]) == (3, 8, 1)


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["nowhere"], "nowhere: no such directory"),
        (["--bogus"], "--bogus"),
        (["mine", "--runs-dir", "x"], "mine: no such directory"),
        (["--runs-dir", "x"], "x: holds no runs"),
    ],
)
def test_mistakes(arguments: list[str], part: str) -> None:
    with pytest.raises(UserError, match=part):
        main(arguments)


def test_it_imports_no_torch(sweep: Path) -> None:
    found = loaded(f"from sumcirc.cli.main import main\nmain(['status', {str(sweep)!r}])")
    assert "sumcirc.sweeps.status" in found
    assert not found & {*FORBIDDEN, "hydra", "matplotlib"}
