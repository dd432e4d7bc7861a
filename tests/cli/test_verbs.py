"""The command line: what is shown, what is refused in one line, exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from sumcirc.cli import command
from sumcirc.cli import main as cli
from sumcirc.errors import UserError
from sumcirc.jobs import train

Main = Callable[..., str]

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
            {
                *[
                    "train",
                    "evaluate",
                    "circuit",
                    "compare",
                    "pairs",
                    "select",
                    "report",
                    "dashboard",
                    "placement",
                    "pretrain",
                    "status",
                ]
            },
        ),
        ("sumcirc tr", {"train"}),
        ("sumcirc train trainer.max_s", {"trainer.max_steps="}),
        ("sumcirc train model=gpt2-", {"model=gpt2-medium", "model=gpt2-large", "model=gpt2-xl"}),
        ("sumcirc evaluate checkp", {"checkpoint="}),
        ("sumcirc train dr", {"dry_run=true"}),
        ("sumcirc train dry_run=true trainer.max_s", {"trainer.max_steps="}),
        ("sumcirc train dry_run=tru trainer.max_s", {"trainer.max_steps="}),
        ("sumcirc evaluate dry", set()),
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
        (("train", "nonsense"), ["nonsense: can't be read", "KEY=VALUE"]),
        (("train", "trainer.max_stps=3"), ["trainer.max_stps", "did you mean max_steps?"]),
        (("train", "modl=gpt2"), ["modl", "did you mean model?"]),
        (("train", "model=gpt3"), ["model=gpt3", "gpt2", "tiny"]),
        (("train", "experiment=gpt3"), ["experiment=gpt3", "demo"]),
        (("train", "trainer=3"), ["trainer=3", "cpu, ddp, fsdp, gpu"]),
        (("train", "seed=one"), ["seed=one", "whole number"]),
        (("train", "optimizer.schedule=square"), ["optimizer.schedule", "linear, cosine"]),
        (("train", "model.name=null"), ["model.name"]),
        (("train", "data.sizes.train={a:1}"), ["data.sizes.train={a:1}", "whole number"]),
        (("train", "callbacks.extra=3"), ["callbacks.extra=3"]),
        (("train", "trainer.threads=${nowhere}"), ["trainer.threads", "'nowhere' not found"]),
        (("train", "+foo=3"), ["+foo=3: no such setting"]),
        (("train", "+trainer.max_stps=3"), ["trainer.max_stps", "did you mean max_steps?"]),
        (("train", "++data.sizes.tran=3"), ["data.sizes.tran", "did you mean train?"]),
        (("train", "+evaluation={lr: 3}"), ["evaluation.lr"]),
        (("evaluate", "adaptation.rank=3"), ["adaptation"]),
        (("train", "trainer.strategy=ddp_spawn"), ["trainer.strategy=ddp_spawn", "auto, ddp"]),
        (("train", "trainer=fsdp"), ["trainer.strategy=fsdp", "evaluation.at_end=false"]),
        (("train", "seed=1,2"), ["seed=1,2", "add -m"]),
        (("train", "-m", "seed=1,1"), ["tiny-wire-full-s1", "remove the repeated value"]),
        (("train", "-m", "seed=1,x"), ["seed=x", "whole number"]),
        (("train", "-m", "seed=1,-2"), ["seed=-2"]),
        (("train", "adaptation.rank=4"), ["adaptation=full", "adaptation=lora"]),
        (("train", "adaptation=lora", "adaptation.layers=[2,3"), ["adaptation.layers=[2,3:"]),
        (("train", "adaptation=lora", "adaptation.layers=[]"), ["adaptation.layers=[]"]),
        (("train", "trainer.devices={a: 1}"), ["trainer.devices={a: 1}"]),
        (("train", "logger.mode=online"), ["logger.mode=online", "wandb login"]),
        (("pretrain",), ["out: is not set", "out=VALUE"]),
        (("evaluate", "checkpoint=a", "model=gpt2"), ["checkpoint=a", "model="]),
        (("evaluate", "-m", "checkpoint='a','b'"), ["checkpoint='a','b'", "one at a time"]),
        (("evaluate", "checkpoint=a", "experiment=demo"), ["checkpoint=a", "experiment="]),
        (("report",), ["name a run or a sweep", "sumcirc report runs/SWEEP"]),
        (("report", "nowhere"), ["nowhere", "no such directory"]),
        (("report", "nowhere", "metric=bleu"), ["metric=bleu", "rougeLsum"]),
        (("dashboard",), ["name a sweep", "sumcirc dashboard runs/SWEEP"]),
        (("dashboard", "nowhere", "metric=bleu"), ["metric=bleu", "rougeLsum"]),
    ],
)
def test_a_mistake_is_one_line(refused: Main, arguments: tuple[str, ...], parts: list[str]) -> None:
    line = refused(*arguments)
    for part in parts:
        assert part in line


@pytest.mark.skipif(torch.cuda.is_available(), reason="Lightning takes fsdp where there is a GPU")
@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ((), ["trainer.accelerator=gpu: no GPU is visible"]),
        (("trainer.accelerator=auto",), ["trainer.strategy=fsdp ", "requires a GPU accelerator"]),
    ],
)
def test_fsdp_needs_a_gpu(refused: Main, words: tuple[str, ...], parts: list[str]) -> None:
    """The documented words compose and reach the check of the machine, which is Lightning's."""
    line = refused("train", "trainer=fsdp", "evaluation.at_end=false", "callbacks=none", *words)
    for part in parts:
        assert part in line


def test_processes_started_together_share_a_directory(
    refused: Main, jobs: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "sweep.name=: is not set, and WORLD_SIZE=2" in refused("train")
    cli.main(["train", "sweep.name=s"])
    assert [folder.parent.name for _, folder in jobs] == ["s"]


@pytest.mark.usefixtures("jobs")
def test_a_folder_that_cannot_be_written(capfd: pytest.CaptureFixture[str]) -> None:
    Path("file").write_text("")
    with pytest.raises(SystemExit) as left:
        cli.main(["train", "runs_dir=file/runs"])
    assert left.value.code == 2
    error = capfd.readouterr().err
    assert error.startswith("sumcirc: runs_dir=file/runs: can't be written (Not a directory)")
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
from sumcirc.cli.main import main
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
