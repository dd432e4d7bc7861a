"""The command line: one line for a mistake, exit codes, Hydra's options, sweeps, paths."""

from __future__ import annotations

import itertools
import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from sumcirc import cli, command
from sumcirc.errors import UserError
from sumcirc.jobs import train
from sumcirc.sweeps import child
from sumcirc.sweeps.states import read_sweep
from sumcirc.tracking.run_directory import RunDirectory
from sumcirc.tracking.session import plain, running

Main = Callable[..., str]


@pytest.fixture(autouse=True)
def _logging() -> Iterator[None]:
    """Undo what Hydra does to the loggers of the process that it takes for its own."""
    loggers = [logging.getLogger(name) for name in ("", "hydra", "HYDRA", "hydra._internal.hydra")]
    before = [(logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    yield
    for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
        for handler in set(logger.handlers) - set(handlers):
            handler.close()
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)
    for logger in map(logging.getLogger, logging.root.manager.loggerDict):
        logger.disabled = False


@pytest.fixture(autouse=True)
def _workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SUMCIRC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")  # `launch` sets it for good
    for name in ("SUMCIRC_TRACEBACK", "WANDB_API_KEY", "WANDB_MODE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


@pytest.fixture
def refused(capfd: pytest.CaptureFixture[str]) -> Main:
    """Runs a command that must be refused; gives its one line."""

    def run(*arguments: str) -> str:
        with pytest.raises(SystemExit) as left:
            cli.main(arguments)
        error = capfd.readouterr().err
        assert left.value.code == 2, error
        assert error.startswith("sumcirc: "), error
        assert error.count("\n") == 1, error
        assert not list(Path.cwd().rglob("status.json"))
        assert not Path("runs").exists()
        assert not Path("outputs").exists()
        return error

    return run


@pytest.fixture
def shown(capfd: pytest.CaptureFixture[str]) -> Main:
    """Runs a command that only shows something; gives what it printed."""

    def run(*arguments: str) -> str:
        with suppress(SystemExit):
            cli.main(arguments)
        captured = capfd.readouterr()
        assert captured.err == ""
        assert not Path("runs").exists()
        return captured.out

    return run


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, Path]]:
    """Stands in for training: collects the configuration and folder of each job."""
    found: list[tuple[Any, Path]] = []
    monkeypatch.setattr(train, "check", lambda config: None)
    monkeypatch.setattr(train, "run", lambda config, folder: found.append((config, folder)))
    return found


@pytest.fixture
def finished_run(jobs: list[tuple[Any, Path]], tmp_path: Path) -> Path:
    """A run directory of a training run, under a name as runs have it."""
    cli.main(["train", "sweep.name=mine", "adaptation=lora", "adaptation.layers=[2,3,5]"])
    config, folder = jobs.pop()
    assert folder == tmp_path / "runs/mine/tiny-wire-lora-2,3,5-r16-s1"
    with running(RunDirectory.create(folder, "train", plain(config))):
        pass
    return folder


def test_pairs_take_model_and_data_of_a_run(finished_run: Path) -> None:
    """Decoding, which a run has and the verb has not, stays behind."""
    given = command.read("pairs", [f"checkpoint={finished_run}", "out=~/a b.jsonl", "data.seed=7"])
    (config,) = command.compose(given)
    assert config.checkpoint == str(finished_run)
    assert (config.model.name, config.data.name, config.data.seed) == ("tiny", "wire", 7)
    assert config.out == str(Path("~/a b.jsonl").expanduser())


# ---- what needs no job


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",), ("help",)])
def test_help_names_every_verb(shown: Main, arguments: tuple[str, ...]) -> None:
    text = shown(*arguments)
    for verb, purpose in (cli.VERBS | cli.READERS).items():
        assert f"  {verb}" in text
        assert purpose in text


def test_every_verb_has_a_job_and_a_primary_configuration() -> None:
    primary = {path.stem for path in command.CONF.glob("*.yaml")} - {"run_directory"}
    jobs_folder = Path(train.__file__).parent
    assert primary == set(cli.VERBS)
    assert {path.stem for path in jobs_folder.glob("[!_]*.py")} == set(cli.VERBS)


def test_version(shown: Main) -> None:
    from sumcirc import __version__

    assert shown("--version") == f"sumcirc {__version__}\n"


def test_composed_values_are_shown_as_yaml(shown: Main) -> None:
    text = shown("train", "--cfg", "job", "--resolve", "adaptation=lora", "seed=7")
    config = yaml.safe_load(text)
    assert config["adaptation"]["rank"] == 16
    assert config["run"]["name"] == "tiny-wire-lora-all-r16-s7"
    assert config["optimizer"]["learning_rate"] == pytest.approx(1e-2)
    assert config["cache_dir"] == os.environ["SUMCIRC_CACHE"]


def test_options_may_stand_between_overrides(shown: Main) -> None:
    text = shown("train", "model=gpt2", "--cfg", "job", "--package", "model", "seed=2")
    assert yaml.safe_load(text)["path"] == "openai-community/gpt2"


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("train", "--help"), "model: distilgpt2"),
        (("evaluate", "--help"), "checkpoint: null"),
        (("train", "--hydra-help"), "Hydra"),
        (("train", "--info", "defaults"), "train_schema"),
        (("train", "--info"), "Config search path"),
        (("train", "--cfg", "hydra", "--package", "hydra.run"), "dir: ${runs_dir}"),
        (("pretrain", "--cfg", "job"), "out: ???"),
    ],
)
def test_options_of_hydra(shown: Main, arguments: tuple[str, ...], part: str) -> None:
    assert part in shown(*arguments)


@pytest.mark.parametrize(
    ("line", "choices"),
    [
        (
            "sumcirc ",
            {*["train", "evaluate", "circuit", "pairs", "select", "report", "pretrain", "status"]},
        ),
        ("sumcirc tr", {"train"}),
        ("sumcirc train trainer.max_s", {"trainer.max_steps="}),
        ("sumcirc train model=gpt2-", {"model=gpt2-medium", "model=gpt2-large", "model=gpt2-xl"}),
        ("sumcirc evaluate checkp", {"checkpoint="}),
    ],
)
def test_tab_completion(
    shown: Main, monkeypatch: pytest.MonkeyPatch, line: str, choices: set[str]
) -> None:
    monkeypatch.setenv("COMP_LINE", line)
    monkeypatch.setenv("COMP_POINT", str(len(line)))
    assert set(shown("--shell-completion", "query=bash").split()) == choices


def test_bash_completes(tmp_path: Path) -> None:
    """The installed function is what bash runs; it starts `sumcirc` itself."""
    program = tmp_path / "sumcirc"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m sumcirc "$@"\n')
    program.chmod(0o755)
    script = """
        eval "$(sumcirc --shell-completion install=bash)"
        COMP_LINE="sumcirc train adaptation.ra" COMP_POINT=27 COMP_CWORD=2
        hydra_bash_completion
        echo "${COMPREPLY[@]}"
    """
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": path, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=True,
    )
    assert done.stdout.split() == ["adaptation.rank="], done.stderr


# ---- mistakes


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("trian",), ["`trian`", "did you mean `train`", "evaluate"]),
        (("train", "--bogus"), ["--bogus", "sumcirc train --hydra-help"]),
        (("train", "--config-name", "evaluate"), ["--config-name=evaluate", "--config-dir"]),
        (("train", "--config-path", "x"), ["--config-path=x", "--config-dir"]),
        (("train", "--experimental-rerun", "x"), ["--experimental-rerun=x", "unpickles"]),
        (("train", "--config-dir", "nowhere"), ["--config-dir=nowhere", "no such folder"]),
        (("train", "hydra.searchpath=[/no/where]"), ["/no/where", "not available"]),
        (("train", "nonsense"), ["'nonsense'", "EQUAL"]),
        (("train", "trainer.max_stps=3"), ["trainer.max_stps", "did you mean max_steps?"]),
        (("train", "modl=gpt2"), ["modl", "did you mean model?"]),
        (("train", "model=gpt3"), ["model=gpt3", "gpt2", "tiny"]),
        (("train", "experiment=gpt3"), ["experiment=gpt3", "demo"]),
        (("train", "trainer=3"), ["Got int"]),
        (("train", "seed=one"), ["seed=one", "Integer"]),
        (("train", "optimizer.schedule=square"), ["optimizer.schedule", "linear, cosine"]),
        (("train", "model.name=null"), ["model.name"]),
        (("train", "data.sizes.train={a:1}"), ["data.sizes.train", "Integer"]),
        (("train", "callbacks.extra=3"), ["callbacks.extra", "Dict"]),
        (("train", "trainer.threads=${nowhere}"), ["trainer.threads", "'nowhere' not found"]),
        (("train", "+foo=3"), ["foo: no such setting"]),
        (("train", "+trainer.max_stps=3"), ["trainer.max_stps", "did you mean max_steps?"]),
        (("train", "++data.sizes.tran=3"), ["data.sizes.tran", "did you mean train?"]),
        (("train", "+optimizer={lr: 3}"), ["optimizer.lr"]),
        (("evaluate", "adaptation.rank=3"), ["adaptation"]),
        (("train", "seed=1,2"), ["seed=1,2", "--multirun"]),
        (("train", "-m", "seed=1,1"), ["tiny-wire-full-s1", "given twice"]),
        (("train", "-m", "seed=1,x"), ["seed=x", "Integer"]),
        (("train", "-m", "seed=1,-2"), ["seed=-2"]),
        (("train", "adaptation.rank=4"), ["adaptation=full", "adaptation=lora"]),
        (("train", "adaptation=lora", "adaptation.layers=[2,3"), ["adaptation.layers=[2,3:"]),
        (("train", "adaptation=lora", "adaptation.layers=[]"), ["adaptation.layers=[]"]),
        (("train", "trainer.devices={a: 1}"), ["trainer.devices={'a': 1}"]),
        (("train", "logger.mode=online"), ["logger.mode=online", "wandb login"]),
        (("pretrain",), ["out is not set", "out=VALUE"]),
        (("evaluate", "checkpoint=a", "model=gpt2"), ["checkpoint=a", "model="]),
        (("evaluate", "-m", "checkpoint='a','b'"), ["checkpoint='a','b'", "one at a time"]),
        (("evaluate", "checkpoint=a", "experiment=demo"), ["checkpoint=a", "experiment="]),
        (("report",), ["name a run or a sweep", "sumcirc report runs/SWEEP"]),
        (("report", "nowhere"), ["nowhere", "no such directory"]),
        (("report", "nowhere", "metric=bleu"), ["metric=bleu", "rougeLsum"]),
    ],
)
def test_a_mistake_is_one_line(refused: Main, arguments: tuple[str, ...], parts: list[str]) -> None:
    line = refused(*arguments)
    for part in parts:
        assert part in line


@pytest.mark.usefixtures("jobs")
def test_a_folder_that_cannot_be_written(capfd: pytest.CaptureFixture[str]) -> None:
    Path("file").write_text("")
    with pytest.raises(SystemExit) as left:
        cli.main(["train", "runs_dir=file/runs"])
    assert left.value.code == 2
    error = capfd.readouterr().err
    assert error.startswith("sumcirc: can't write file/runs/")
    assert error.endswith("(Not a directory): choose another folder with runs_dir=FOLDER\n")
    assert error.count("\n") == 1


def test_a_mistake_that_the_job_finds_is_one_line_too(
    jobs: list[Any], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def run(config: Any, folder: Path) -> None:
        raise UserError("data.train=x:\n  is empty")

    monkeypatch.setattr(train, "run", run)
    with pytest.raises(SystemExit) as left:
        cli.main(["train"])
    assert left.value.code == 2
    assert capfd.readouterr().err == "sumcirc: data.train=x: is empty\n"


def test_the_traceback_of_a_mistake_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUMCIRC_TRACEBACK", "1")
    with pytest.raises(UserError, match="seed=-1"):
        cli.main(["train", "seed=-1"])


FAILING = """
import sumcirc.jobs.train as train
from sumcirc.cli import main
train.check = lambda config: None
def run(config, folder): {body}
train.run = run
main(["train", *{arguments!r}])
"""


def failing(body: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`sumcirc train` in a process of its own, with `body` in place of training."""
    return subprocess.run(
        [sys.executable, "-c", FAILING.format(body=body, arguments=arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def test_a_failing_job_ends_in_its_traceback() -> None:
    done = failing("1 / 0")
    assert done.returncode == 1
    assert done.stderr.endswith("ZeroDivisionError: division by zero\n")
    assert "Traceback" in done.stderr
    assert "sumcirc: " not in done.stderr


def test_an_error_of_hydra_in_a_job_is_no_mistake_of_the_user() -> None:
    done = failing("from hydra.errors import HydraException; raise HydraException('deep')")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


# ---- sweeps

JOB = """
import json, sys
import sumcirc.jobs.train as train
from sumcirc.cli import main
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


@pytest.fixture
def quick_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs in processes of their own that do next to nothing; seeds 1 and 2 fail at first."""
    monkeypatch.setattr(train, "check", lambda config: None)
    monkeypatch.setattr(child, "PROGRAM", (sys.executable, "-c", JOB))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))


def sweep(*arguments: str) -> int:
    """Run a sweep named `s`; its exit code."""
    try:
        cli.main(["train", "-m", "sweep.name=s", *arguments])
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

    file = Path(__file__).resolve().parents[1] / "docs/wandb_sweep.yaml"
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
        (["sweep.gpus=[0]", "hydra/launcher=basic"], ["sweep.gpus=['0']"]),
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


# ---- values that are paths


@pytest.mark.parametrize(
    "name", ["a,b", "x=1", "with space", "[z]", "ünï", "q'uote", "{b}", "$(c)"]
)
def test_a_path_needs_no_quotes_for_hydra(jobs: list[tuple[Any, Path]], name: str) -> None:
    Path(name).mkdir()
    cli.main(["train", f"model.path={name}", f"runs_dir={name}/runs"])
    config, folder = jobs[0]
    assert config.model.path == name
    assert folder.parents[1] == Path.cwd() / name / "runs"


def test_a_home_folder_is_found(jobs: list[tuple[Any, Path]], tmp_path: Path) -> None:
    os.environ["HOME"], before = str(tmp_path / "home"), os.environ["HOME"]
    try:
        cli.main(["train", "runs_dir=~/runs"])
    finally:
        os.environ["HOME"] = before
    assert jobs[0][1].is_relative_to(tmp_path / "home/runs")


def test_an_interpolation_in_a_path_is_resolved(jobs: list[tuple[Any, Path]]) -> None:
    cli.main(["train", "runs_dir=${data.name}/runs"])
    assert jobs[0][1].parents[1] == Path.cwd() / "wire/runs"


def test_a_folder_named_like_a_choice_changes_nothing(jobs: list[tuple[Any, Path]]) -> None:
    for name in ("tiny", "1", "null", "full"):
        Path(name).mkdir()
    cli.main(["train", "model=tiny", "seed=1", "adaptation=full", "trainer.max_steps=null"])
    config, _ = jobs[0]
    assert (config.model.path, config.seed, config.trainer.max_steps) == ("tiny", 1, None)


def test_a_model_path_alone_is_not_the_built_in_model(jobs: list[tuple[Any, Path]]) -> None:
    cli.main(["train", "model.path=some/folder"])
    cli.main(["train", "model.path=some/folder", "model.name=x", "model.learning_rate=1e-4"])
    cli.main(["train", "model=gpt2-xl", "model.path=some/folder"])
    found = [(config.model.name, config.model.learning_rate) for config, _ in jobs]
    assert found == [("folder", 5e-5), ("x", 1e-4), ("gpt2-xl", 2e-5)]
    assert {config.model.path for config, _ in jobs} == {"some/folder"}


# ---- resume


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
    ("extra", "part"), [("seed=2", "seed"), ("-m", "-m"), ("+trainer.threads=1", "trainer.threads")]
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
