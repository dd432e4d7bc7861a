"""`resume=` on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from sumcirc.cli import main as cli

Main = Callable[..., str]


def test_resume_of_a_run_whose_name_holds_commas(
    finished_run: Path, jobs: list[tuple[Any, Path]], tmp_path: Path
) -> None:
    cli.main(["train", f"resume={finished_run.relative_to(tmp_path)}"])
    config, folder = jobs[0]
    assert folder == finished_run
    assert Path(config.resume).resolve() == finished_run
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["mine"]


def change(run: Path, **fields: Any) -> None:
    """Edit a run's config.yaml."""
    file = run / "config.yaml"
    file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), **fields}))


def spoil_status(run: Path) -> None:
    (run / "status.json").unlink()


def spoil_version(run: Path) -> None:
    change(run, environment={"sumcirc": "0.0.9"})


def spoil_format(run: Path) -> None:
    body = yaml.safe_load((run / "config.yaml").read_text())
    del body["format"]
    (run / "config.yaml").write_text(yaml.safe_dump(body))


def spoil_verb(run: Path) -> None:
    change(run, verb="evaluate")


def spoil_schema(run: Path) -> None:
    change(run, config={"trainer": {"max_stps": 3}})


def spoil_yaml(run: Path) -> None:
    (run / "config.yaml").write_text("{")


@pytest.mark.parametrize(
    ("spoil", "parts"),
    [
        (spoil_status, ["is no run directory"]),
        (spoil_version, ["sumcirc 0.0.9", "pip install sumcirc==0.0.9"]),
        (spoil_format, ["an earlier version (records of format 1, now 3)", "not over tokens"]),
        (spoil_verb, ["sumcirc evaluate"]),
        (spoil_schema, ["config.yaml", "trainer.max_stps"]),
        (spoil_yaml, ["config.yaml", "YAML"]),
    ],
)
def test_resume_of_what_cannot_be_resumed(
    finished_run: Path,
    jobs: list[Any],
    capfd: pytest.CaptureFixture[str],
    spoil: Callable[[Path], None],
    parts: list[str],
) -> None:
    spoil(finished_run)
    capfd.readouterr()
    before = sorted(finished_run.rglob("*"))
    with pytest.raises(SystemExit) as left:
        cli.main(["train", f"resume={finished_run}"])
    error = capfd.readouterr().err
    assert left.value.code == 2
    assert error.startswith("sumcirc: ")
    assert error.count("\n") == 1
    for part in [*parts, str(finished_run)]:
        assert part in error
    assert sorted(finished_run.rglob("*")) == before
    assert not jobs


@pytest.mark.parametrize(
    ("extra", "part"),
    [
        ("seed=2", "seed"),
        ("-m", "-m"),
        ("+trainer.threads=1", "trainer.threads"),
        ("data.permute_summaries=2", "data.permute_summaries"),
    ],
)
def test_resume_takes_nothing_beside_it(
    finished_run: Path, jobs: list[Any], capfd: pytest.CaptureFixture[str], extra: str, part: str
) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(["train", f"resume={finished_run}", extra])
    assert left.value.code == 2
    assert f"so {part} can't go with it" in capfd.readouterr().err
    assert not jobs


@pytest.mark.parametrize("name", ["nowhere", "runs/a-2,3,5-r16"])
def test_resume_of_a_folder_that_is_not_there(refused: Main, name: str) -> None:
    assert f"{name}: no such directory" in refused("train", f"resume={name}")


def test_status_stays_json(finished_run: Path) -> None:
    assert json.loads((finished_run / "status.json").read_text())["state"] == "done"
