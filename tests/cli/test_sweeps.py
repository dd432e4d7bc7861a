"""Sweeps from the command line: failures, restarts, shards, names, places."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from sumcirc.cli import command
from sumcirc.cli import main as cli
from sumcirc.errors import UserError
from sumcirc.jobs import train
from sumcirc.sweeps import child
from sumcirc.sweeps.run_states import read_sweep
from tests.support.job_server import JobServer

Main = Callable[..., str]

JOB = """
import json, sys
import sumcirc.jobs.train as train
from sumcirc.cli.main import main
from sumcirc.errors import UserError
from sumcirc.tracking.run_directory import RunDirectory
from sumcirc.tracking.session import plain, running
train.check = lambda config: None
def run(config, folder):
    resumed = config.resume is not None
    folder = config.resume or folder
    directory = RunDirectory(folder)
    if not resumed:
        RunDirectory.create(folder, "train", plain(config))
    with running(directory):
        (directory.path / "words.json").write_text(json.dumps(sys.argv))
        if not resumed and config.seed == 1:
            raise UserError("the disk is full")
        if not resumed and config.seed == 2:
            raise ZeroDivisionError
train.run = run
main(sys.argv[1:])
"""

SCORED = """
import sys
import sumcirc.jobs.train as train
from sumcirc.cli.main import main
from sumcirc.tracking.session import plain
from tests.support.sweeps import write_run
train.check = lambda config: None
train.run = lambda config, folder: write_run(folder, plain(config), 0.1 * config.seed)
main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def server() -> Iterator[JobServer]:
    # below /tmp, since the path of a socket has at most 107 bytes
    with TemporaryDirectory() as folder, JobServer(Path(folder)) as started:
        yield started


@pytest.fixture
def quick_jobs(monkeypatch: pytest.MonkeyPatch, server: JobServer) -> None:
    """Jobs in processes of their own that do next to nothing; seeds 1 and 2 fail at first."""
    monkeypatch.setattr(train, "check", lambda config: None)
    monkeypatch.setattr(child, "PROGRAM", server.program(JOB))


def sweep(*arguments: str) -> int:
    """Run a sweep named `s`; its exit code. Jobs without W&B start in half the time."""
    try:
        cli.main(["train", "-m", "sweep.name=s", "logger=none", *arguments])
    except SystemExit as left:
        return int(left.code or 0)
    return 0


def states(folder: Path) -> dict[str, str]:
    return {state.name.rsplit("-", 1)[-1]: state.state for state in read_sweep(folder)}


@pytest.mark.usefixtures("quick_jobs")
@pytest.mark.parametrize("launcher", ["processes", "basic"])
def test_a_sweep_goes_on_after_a_failure_and_says_so(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], launcher: str
) -> None:
    launched = ["seed=1,2,3", f"hydra/launcher={launcher}"]
    assert sweep(*launched) == 1
    captured = capfd.readouterr()
    assert states(tmp_path / "runs/s") == {"s1": "failed", "s2": "failed", "s3": "done"}
    assert "tiny-wire-full-s1 failed" in captured.out
    assert captured.err == (
        "sumcirc: 2 of 3 runs are not done: tiny-wire-full-s1 (failed), tiny-wire-full-s2 (failed);"
        " the same command with sweep.name=s sweep.retry=failed goes on with them\n"
    )
    traceback = tmp_path / "runs/s/tiny-wire-full-s2/traceback.txt"
    assert "ZeroDivisionError" in traceback.read_text()

    # as it was: nothing is due
    before = (tmp_path / "runs/s/tiny-wire-full-s3/words.json").stat().st_mtime_ns
    assert sweep(*launched) == 1
    assert "sweep.retry=failed lets them go on" in capfd.readouterr().out
    # one seed more, and the failed ones again
    assert sweep("seed=1,2,3,4", f"hydra/launcher={launcher}", "sweep.retry=failed") == 0
    assert set(states(tmp_path / "runs/s").values()) == {"done"}
    assert (tmp_path / "runs/s/tiny-wire-full-s3/words.json").stat().st_mtime_ns == before


@pytest.mark.usefixtures("quick_jobs")
def test_a_sweep_ends_with_its_page_where_that_is_wanted(
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    server: JobServer,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(child, "PROGRAM", server.program(SCORED))
    words = ["adaptation=full,lora", "seed=1,2"]
    assert sweep(*words) == 0
    folder = tmp_path / "runs/s"
    assert capfd.readouterr().out.endswith("for a page about all runs: sumcirc report runs/s\n")
    assert not (folder / "comparison").exists()
    assert sweep(*words, "sweep.report=true") == 0
    page = folder / "comparison/report.html"
    lines = capfd.readouterr().out.splitlines()
    assert lines[-2].startswith("ROUGE-Lsum against LoRA on all layers: ")
    assert lines[-1] == f"page: {page}"
    assert "ROUGE-Lsum against LoRA on all layers: " in page.read_text()


@pytest.mark.usefixtures("quick_jobs")
def test_a_restart_with_another_configuration_starts_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert sweep("seed=3") == 0
    before = sorted(tmp_path.rglob("*"))
    assert sweep("seed=3,4", "trainer.max_steps=7") == 2
    said = capfd.readouterr().err
    assert "sweep.name=s: is in use with trainer.max_steps=None, now trainer.max_steps=7" in said
    assert said.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.usefixtures("quick_jobs")
def test_an_edited_run_is_noticed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert sweep("seed=3") == 0
    file = tmp_path / "runs/s/tiny-wire-full-s3/config.yaml"
    file.write_text(file.read_text().replace("batch_size: 8", "batch_size: 9"))
    capfd.readouterr()
    assert sweep("seed=3,4") == 2
    assert f"{file.relative_to(tmp_path)}: says " in capfd.readouterr().err


@pytest.mark.usefixtures("quick_jobs")
def test_a_job_gets_the_words_that_make_it_alone(tmp_path: Path) -> None:
    """Lightning starts further processes as `sys.argv` says: never a sweep or a new directory."""
    assert sweep("adaptation=lora", "adaptation.layers=[2,3],all", "seed=3", "sweep.jobs=2") == 0
    for layers, name in (([2, 3], "2,3"), ("all", "all")):
        folder = tmp_path / f"runs/s/tiny-wire-lora-{name}-r16-s3"
        words = json.loads((folder / "words.json").read_text())
        assert words[1] == "train"
        assert "-m" not in words
        (again,) = command.compose(command.read("train", words[2:]))
        assert again.adaptation.layers == layers
        assert again.run.axes == {"adaptation.layers": name}
        assert Path(again.runs_dir, again.sweep.name, again.run.name).resolve() == folder


def test_a_single_job_is_recorded_as_it_was_typed(finished_run: Path, tmp_path: Path) -> None:
    typed = [f"checkpoint={finished_run}", "generation.num_beams=2"]
    given = command.read("evaluate", [*typed, "--config-dir", str(tmp_path)])
    overrides = SimpleNamespace(task=given.overrides, hydra=[])
    assert len(given.overrides) > 10  # what the checkpoint brings is written out
    assert command.words_of_job(given, overrides) == [*typed, "--config-dir", str(tmp_path)]
    # training may start further processes, which have to find the same directory
    words = command.words_of_job(command.read("train", ["seed=3"]), overrides)
    assert words == given.overrides


def test_a_job_with_a_checkpoint_is_composed_as_its_sweep_was(
    finished_run: Path, tmp_path: Path
) -> None:
    """What a checkpoint brings is written into the words, and is not brought again."""
    words = ["-m", f"checkpoint={finished_run}", "generation.num_beams=1,2", "sweep.name=e"]
    given = command.read("evaluate", words)
    composed = command.compose(given)
    for config, overrides in zip(composed, command._jobs(given), strict=True):
        alone = command.read("evaluate", [*overrides, f"hydra.run.dir='{tmp_path}/x'"])
        assert command.compose(alone) == [config]
    assert [config.generation.num_beams for config in composed] == [1, 2]


@pytest.mark.usefixtures("quick_jobs")
def test_shards_of_a_sweep_are_merged_by_copying(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = ["optimizer.warmup=0.1,0.2", "seed=3,4"]
    for machine, seed in (("a", 3), ("b", 4)):
        assert sweep(whole[0], f"seed={seed}", f"runs_dir={machine}") == 0
    names = [{path.name for path in Path(machine, "s").glob("*/")} for machine in "ab"]
    assert [len(found) for found in names] == [2, 2]
    assert not names[0] & names[1]

    for machine in "ab":  # rsync -a MACHINE/s/ merged/s/
        shutil.copytree(f"{machine}/s", "merged/s", dirs_exist_ok=True)
    before = {file: file.stat().st_mtime_ns for file in Path("merged").rglob("words.json")}
    assert len(before) == 4
    capfd.readouterr()
    assert sweep(*whole, "runs_dir=merged") == 0
    assert "sweep s: 4 runs, 4 done\n" in capfd.readouterr().out
    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert sweep("optimizer.warmup=0.3,0.4", "seed=3", "runs_dir=c", "trainer.log_every=7") == 0
    shutil.copytree("c/s", "merged/s", dirs_exist_ok=True)
    assert sweep("optimizer.warmup=0.1,0.2,0.3", "seed=3", "runs_dir=merged") == 2
    assert "trainer.log_every=7" in capfd.readouterr().err


def test_the_words_of_a_wandb_agent() -> None:
    """W&B fills in its sweep file as `wandb agent` would; each point is a run of its own name."""
    from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

    file = Path(__file__).resolve().parents[2] / "docs/wandb_sweep.yaml"
    body = yaml.safe_load(file.read_text())
    axes = {key: value["values"] for key, value in body["parameters"].items()}
    names = set()
    for point in itertools.product(*axes.values()):
        given = {key: {"value": value} for key, value in zip(axes, point, strict=True)}
        words = create_sweep_command_args({"args": given})["args_no_hyphens"]
        assert body["command"][:2] == ["sumcirc", "train"]
        assert body["command"][-1] == "${args_no_hyphens}"
        (config,) = command.compose(command.read("train", [*body["command"][2:-1], *words]))
        assert [config.adaptation.layers, config.optimizer.learning_rate, config.seed] == [*point]
        names.add(config.run.name)
    assert len(names) == 18


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["sweep.jobs=0"], ["sweep.jobs=0"]),
        (["sweep.gpus=[]"], ["sweep.gpus=[]"]),
        (["sweep.retry=all"], ["sweep.retry", "failed"]),
        (["sweep.jobs=2", "hydra/launcher=basic"], ["sweep.jobs=2", "hydra/launcher=basic"]),
        (
            ["sweep.gpus=[0]", "hydra/launcher=basic"],
            ["sweep.gpus=[0]: is for jobs on this machine"],
        ),
        (["hydra/launcher=submitit_slurm"], ["hydra/launcher=submitit_slurm", "processes"]),
    ],
)
def test_settings_of_a_sweep(refused: Main, arguments: list[str], parts: list[str]) -> None:
    line = refused("train", "-m", "seed=1,2", *arguments)
    for part in parts:
        assert part in line


@pytest.mark.parametrize(
    ("overrides", "places"),
    [
        ([], [None]),
        (["sweep.jobs=3"], [None] * 3),
        (["sweep.gpus=[0,1]"], ["0", "1"]),
        (["sweep.gpus=[0,1]", "sweep.jobs=3"], ["0", "1", "0"]),
        (["sweep.gpus=['0,1','2,3']"], ["0,1", "2,3"]),
    ],
)
def test_places_of_a_pool(overrides: list[str], places: list[str | None]) -> None:
    (config,) = command.compose(command.read("train", overrides))
    assert config.sweep.places == places


def test_a_launcher_may_take_the_application_elsewhere() -> None:
    """In another process the resolvers of conf/ are not registered until it arrives."""
    from omegaconf import OmegaConf

    application = cli.Application(command.read("train", ["-m", "seed=1,2"]))
    state = application.__dict__
    OmegaConf.clear_resolver("run_name")
    again = cli.Application.__new__(cli.Application)
    again.__setstate__(state)
    assert OmegaConf.has_resolver("run_name")
    assert again.given == application.given


def test_every_job_of_a_sweep_is_checked_before_the_first_starts(
    jobs: list[Any], monkeypatch: pytest.MonkeyPatch, refused: Main
) -> None:
    def check(config: Any) -> None:
        if config.adaptation.layers == [7]:
            raise UserError("adaptation.layers=[7]: out of range")

    monkeypatch.setattr(train, "check", check)
    line = refused("train", "-m", "adaptation=lora", "adaptation.layers=[0],[7]")
    assert "[7]: out of range" in line
    assert not jobs


@pytest.mark.parametrize(
    ("launcher", "strategy"), [("processes", "ddp"), ("basic", "ddp"), ("submitit_slurm", "auto")]
)
def test_devices_are_checked_where_jobs_run(
    launcher: str, strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Submitting jobs to other machines does not require their GPUs here."""
    checked = []
    monkeypatch.setattr(train, "check", checked.append)
    monkeypatch.setattr(command, "launcher", lambda given: launcher)
    monkeypatch.setattr(cli, "_run_sweep", lambda *_: None)
    cli.main(["train", "-m", "trainer=ddp", "trainer.precision=fp16", "seed=1,2"])
    assert [config.seed for config in checked] == [1, 2]
    assert {config.trainer.strategy for config in checked} == {strategy}


def test_names_tell_what_was_varied() -> None:
    configs = command.compose(
        command.read(
            "train",
            [
                "-m",
                "sweep.name=s",
                "experiment=demo,paper",
                "trainer.max_steps=5,6",
                r"encoding.prompt='{document}\n a','{document}\n b'",
            ],
        )
    )
    names = [config.run.name for config in configs]
    assert len({*names}) == 8
    for config, name in zip(configs, names, strict=True):
        assert f"-max_steps={config.trainer.max_steps}-" in name
        assert ("experiment=paper" in name) == (config.adaptation.layers == [2, 3, 5])
        assert not set(name) & set(" /\n{}'")
        assert config.run.axes["trainer.max_steps"] == config.trainer.max_steps
        assert config.run.axes["experiment"] in ("demo", "paper")


def test_launches_do_not_share_a_directory(jobs: list[tuple[Any, Path]]) -> None:
    cli.main(["train"])
    cli.main(["train"])
    assert jobs[0][1].parent != jobs[1][1].parent
