"""`dry_run=true`: what it prints is what would run, and nothing is left behind."""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import yaml

from sumcirc.reporting.data_counts import data_counts
from tests.support.command_server import CommandServer, Finished

Train = Callable[..., Finished]


def tree(folder: Path) -> dict[str, int]:
    """Return the modification time of every file and folder below a folder."""
    found = sorted(folder.rglob("*"))
    return {str(path): 0 if path.is_dir() else path.lstat().st_mtime_ns for path in found}


@pytest.fixture
def train(commands: CommandServer, small_run: Sequence[str], tmp_path: Path) -> Train:
    """Runs `sumcirc train`, with everything that it could write below `tmp_path`."""
    for name in ("temporary", "home"):
        (tmp_path / name).mkdir()
    environment = {
        "SUMCIRC_CACHE": str(tmp_path / "cache"),
        "TMPDIR": str(tmp_path / "temporary"),
        "HOME": str(tmp_path / "home"),
    }
    known = [word for word in small_run if not word.startswith(("logger", "evaluation.at_end"))]

    def run(*words: str) -> Finished:
        return commands.run(
            "train", *known, *words, cwd=tmp_path, environment=environment, figures=False
        )

    return run


def dry(train: Train, folder: Path, *words: str) -> Finished:
    before = tree(folder)
    done = train("dry_run=true", *words)
    assert tree(folder) == before
    return done


def test_a_job_is_described_as_it_runs_and_nothing_is_left(train: Train, tmp_path: Path) -> None:
    words = ["adaptation=lora", "adaptation.rank=3", "callbacks=none", "run.name=r", "sweep.name=s"]
    words.append("encoding.max_length=48")
    done = dry(train, tmp_path, *words)
    assert done.code == 0, done.output
    assert not (tmp_path / "runs").exists()
    assert not (tmp_path / "wandb").exists()
    assert not (tmp_path / "cache").exists()
    seconds, whole = (
        float(re.search(form, done.output)[1])  # type: ignore[index]
        for form in (r"time a step: ([\d.e-]+) s", r"training: about ([\d.]+) s")
    )
    assert whole == pytest.approx(12 * seconds, abs=0.1, rel=0.01)
    memory = re.search(
        r"peak memory of training: ([\d.]+) GiB, resident in the process", done.output
    )
    assert memory is not None
    assert float(memory[1]) > 0.1  # torch alone takes as much
    # the same words without dry_run
    words.append("logger=none")
    ran = train(*words)
    assert ran.code == 0, ran.output
    summary = json.loads((tmp_path / "runs/s/r/summary.json").read_text())
    trainable, every = summary["trainable_parameters"], summary["total_parameters"]
    shown = f"trainable parameters: {trainable:,}, {trainable / every:.2%} of the model's {every:,}"
    assert shown in done.output
    assert f"steps: {summary['steps']}, 10 for each pass" in done.output
    counts = data_counts(summary)
    assert [line for line in done.said if line.startswith("Data: ")] == [counts]
    assert "of them cut to the context" in counts
    # the run is there now, so the command would be refused
    again = dry(train, tmp_path, *words)
    assert again.code == 2
    assert again.said == train(*words).said
    assert "holds a run of `sumcirc train` already (done)" in again.output


def test_a_sweep_lists_its_jobs_and_refuses_what_it_would_refuse(
    train: Train, tmp_path: Path
) -> None:
    common = ["-m", "sweep.name=s", "adaptation=lora", "callbacks=none", "logger=none"]
    common += ["evaluation.at_end=false", "trainer.max_steps=2"]
    ran = train(*common, "adaptation.layers=all", "seed=1")
    assert ran.code == 0, ran.output
    # as if the sweep had begun before there was this setting, which has its default
    for file in (tmp_path / "runs/s/sweep.yaml", *(tmp_path / "runs/s").glob("*/config.yaml")):
        text = file.read_text()
        file.write_text(re.sub(r"^ *(trainer\.)?patience: 3\n", "", text, flags=re.MULTILINE))
        assert file.read_text() != text
    axes = ["adaptation.layers=all,[0]", "seed=1,2"]
    done = dry(train, tmp_path, *common, *axes)
    assert done.code == 0, done.output
    rows = [
        [cell.strip() for cell in line.strip("│").split("│")]
        for line in done.output.splitlines()
        if line.startswith("│")
    ]
    names = [f"small-files-lora-{layers}-r16-s{seed}" for layers in ("all", "0") for seed in "12"]
    assert [row[0] for row in rows] == names
    assert [row[-1] for row in rows] == ["is done", "yes", "yes", f"as {names[2]}"]
    assert rows[3][1:-1] == rows[2][1:-1]
    assert int(rows[1][1].replace(",", "")) == 2 * int(rows[2][1].replace(",", ""))
    assert "measured: 2 of 4 jobs" in done.output
    # the sweep's own record has this name, and it is refused as the sweep would be
    assert set(yaml.safe_load((tmp_path / "runs/s/sweep.yaml").read_text())["runs"]) == {names[0]}
    refused = dry(train, tmp_path, *common, *axes, "model.learning_rate=0.5")
    assert refused.code == 2
    assert refused.said == train(*common, *axes, "model.learning_rate=0.5").said
    lock = os.open(tmp_path / "runs/s", os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        busy = dry(train, tmp_path, *common, *axes)
    finally:
        os.close(lock)
    assert busy.code == 2
    assert "another process is running this sweep" in busy.output


def test_other_layers_stand_in_for_a_selector_that_measures(train: Train, tmp_path: Path) -> None:
    done = dry(
        train,
        tmp_path,
        *("adaptation=lora", "selector=gradient_norm", "selector.count=1", "adaptation.rank=2"),
        *("trainer.accumulate=2", "optimizer=schedulefree", "scheduler=constant"),
        *("evaluation.at_end=false", "logger=none"),
    )
    assert done.code == 0, done.output
    assert "selector=gradient_norm: is not run; the first 1 layers stand in" in done.output
    assert "time a step: " in done.output
