"""Every `sumcirc` and `make` command in the README and docs/ is one that the program takes.

Names in capitals stand for what a reader has (RUN_DIR, SWEEP, FILE); here they are a made-up run
and files. Commands are composed and checked as at their start, and go no further.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from argparse import Namespace
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from sumcirc.cli import command
from sumcirc.cli import main as cli
from sumcirc.errors import UserError
from sumcirc.jobs import _circuit_pair
from sumcirc.schema import TrainConfig, configuration
from sumcirc.sweeps import status
from sumcirc.tracking.run_directory import RunDirectory
from sumcirc.tracking.session import plain
from tests.support.manual import PAGES, ROOT, Command, blocks, commands, name

RUN = re.compile(r"\b(runs|shard_[ab])/[\w-]+(/[\w-]+)?")
ALL = [found for page in PAGES for found in commands(page)]
# one of those that are alike on several pages
SUMCIRC = {" ".join(found.words): found for found in ALL if found.words[0] == "sumcirc"}
# variables by which make passes its own to what it runs
PASSED = ("MAKEFLAGS", "MAKEOVERRIDES", "MFLAGS", "MAKELEVEL")
MAKE = {" ".join(found.words): found for found in ALL if found.words[0] == "make"}
TARGETS = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
RECIPES = [target for target in TARGETS if target not in ("wheel-check", "clean", "setup")]


def short(text: str) -> str:
    """A command as a test's name."""
    return re.sub(r"[^\w=.,-]+", " ", text)[:70]


@pytest.fixture(scope="module")
def made_up_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory of LoRA training, with its configuration and an empty adapter."""
    configuration.register()
    words = ["adaptation=lora", "sweep.name=SWEEP"]
    (config,) = command.compose(command.read("train", words))
    assert isinstance(config, TrainConfig)
    folder = tmp_path_factory.mktemp("runs") / "RUN_DIR"
    RunDirectory.create(folder, "train", plain(config)).set_status("done")
    return folder


@pytest.fixture
def workplace(tmp_path: Path, made_up_run: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder in which RUN_DIR is a run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SUMCIRC_CACHE", str(tmp_path / "cache"))
    shutil.copytree(made_up_run, "RUN_DIR")
    configuration.register()
    return tmp_path


def prepare(found: Command) -> None:
    """Put there what a command of a page takes for there: its runs, and YAML files it shows."""
    for path in RUN.finditer(found.line):
        folder = Path(path[0]) if path[2] else Path(path[0], "a-run")
        if not folder.exists():
            shutil.copytree("RUN_DIR", folder)
    for folder in re.findall(r"--config-dir[ =](\S+)", found.line):
        for language, text in blocks(found.page):
            path = re.search(rf"{re.escape(folder)}/\S+\.yaml", text)
            if language == "yaml" and path:
                Path(path[0]).parent.mkdir(parents=True, exist_ok=True)
                Path(path[0]).write_text(text, encoding="utf-8")


def check(verb: str, words: list[str]) -> None:
    """Compose what `sumcirc VERB ...` would run.

    Raises:
        UserError: the program would refuse it.
    """
    words = [word for word in without_missing_launchers(words) if not word.endswith("...")]
    if verb in ("--help", "--version", "--shell-completion"):
        return
    if verb == "status":
        status.read(words)
        return
    if verb not in cli.VERBS:
        raise UserError(f"{verb}: is not a verb")
    if verb == "compare" and any(map(cli.is_circuit_file, words)):
        _circuit_pair.read_words(words)
        return
    given = command.read(verb, words)
    if given.starts:
        for job in some_jobs(given):
            command.compose(job)


def without_missing_launchers(words: list[str]) -> list[str]:
    """Without settings of SLURM's and Ray's launchers, where these extras are not installed."""
    for launcher, package in (("submitit", "submitit_launcher"), ("ray", "ray_launcher")):
        asked = any(word.startswith(f"hydra/launcher={launcher}") for word in words)
        if asked and find_spec(f"hydra_plugins.hydra_{package}") is None:
            return [word for word in words if not word.startswith("hydra")]
    return words


def some_jobs(given: command.Command) -> Iterator[command.Command]:
    """Of a multirun so many jobs that each value of each axis is in one; all take minutes."""
    axes = [[item] for item in given.overrides]
    if given.sweeps:
        for axis in list(axes):
            (parsed,) = OverridesParser.create().parse_overrides(axis)
            if parsed.is_sweep_override() and not parsed.is_discrete_sweep():
                axes.remove(axis)  # a range, from which a sweeper takes values
                continue
            if parsed.is_discrete_sweep():
                values = parsed.sweep_string_iterator()
                axis[:] = [f"{parsed.get_key_element()}={value}" for value in values]
    single = Namespace(**{**vars(given.options), "multirun": False})
    for i in range(max(map(len, axes), default=1)):
        job = [axis[i % len(axis)] for axis in axes]
        yield command.Command(given.verb, single, given.flags, job)


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize("text", SUMCIRC, ids=short)
def test_sumcirc_takes_it(text: str) -> None:
    found = SUMCIRC[text]
    prepare(found)
    verb, *words = [word.replace("VERB", "train") for word in found.words[1:]]
    whole = found.block or len(found.words) > 2
    # in a sentence `sumcirc compare` is the verb's name; what it needs is not repeated
    if whole:
        check(verb, words)
    else:
        assert verb in cli.VERBS | cli.READERS or verb == "--help"


@pytest.mark.parametrize("text", MAKE, ids=short)
def test_make_has_the_target(text: str) -> None:
    words = MAKE[text].words[1:]
    target, *settings = [word for word in words if not word.startswith("-")]
    assert target in TARGETS
    for setting in settings:
        assert re.match(r"(ARGS|PYTHON|VENV|SWEEP)=", setting)


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize("target", RECIPES)
def test_a_target_runs_commands_that_sumcirc_takes(target: str) -> None:
    """What `make -n TARGET` prints, with ARGS as the pages give them."""
    given = [found.words[2:] for found in MAKE.values() if found.words[1] == target]
    for words in given or [[]]:
        recipe = printed(target, words)
        assert recipe.strip()
        for line in recipe.replace("\\\n", " ").splitlines():
            if ".venv/bin/sumcirc " not in line:
                continue
            found = Command(ROOT / "Makefile", line.strip(), block=True)
            prepare(found)
            verb, *rest = found.words[1:]
            if words or target not in ("compare", "pretrain", "report"):  # they need ARGS
                check(verb, rest)


def printed(target: str, words: list[str]) -> str:
    """The commands of a target, with .venv taken for made."""
    # of `make test ARGS=...`, which runs this, nothing is passed on
    outside = {name: value for name, value in os.environ.items() if name not in ("ARGS", *PASSED)}
    done = subprocess.run(
        ["make", "-n", "-f", ROOT / "Makefile", "-o", ".venv/installed", target, *words],
        env=outside,
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    return done.stdout


def test_there_are_some() -> None:
    pages = {name(found.page) for found in ALL}
    assert {"README.md", "docs/sweeps.md", "docs/results/placement.md"} <= pages
    assert len(SUMCIRC) > 50
    assert len(MAKE) > 10


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize(
    "line",
    [
        "sumcirc trian",
        "sumcirc train modle=gpt2",
        "sumcirc train model=gpt3",
        "sumcirc train adaptation=lora adaptation.layers=[]",
        "sumcirc evaluate checkpoint=RUN_DIR adaptation=lora",
        "sumcirc status --jsn",
        "sumcirc compare",
    ],
)
def test_a_wrong_command_is_found(line: str) -> None:
    verb, *words = line.split()[1:]
    with pytest.raises(UserError):
        check(verb, words)
