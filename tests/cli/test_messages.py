"""Messages name the setting that was typed, and a remedy that works as it is printed."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from sumcirc.cli import command
from sumcirc.cli import main as cli
from sumcirc.errors import NoRoom, Stopped, UserError
from sumcirc.jobs import circuit, compare, evaluate, select, train
from sumcirc.runtime.messages import Typed
from sumcirc.tracking.run_directory import RunDirectory
from sumcirc.tracking.session import plain, running
from tests.support import word_probes
from tests.support.processes import SCRIPT

Main = Callable[..., str]

# ---- settings as they were typed


@pytest.mark.parametrize(
    ("arguments", "start"),
    [
        (
            ("train", "optimizer=lion"),
            "optimizer=lion: no such choice; choose from adafactor, adamw",
        ),
        (("train", "optimizer=sgd", "optimizer.ratio=4"), "optimizer.ratio=4: is for"),
        (("train", "optimizer=loraplus"), "optimizer=loraplus: is for adaptation=lora"),
        (
            ("train", "optimizer=schedulefree", "scheduler=linear"),
            "scheduler=linear: optimizer=sch",
        ),
        (
            ("train", "optimizer.schedule=linear", "optimizer=schedulefree"),
            "optimizer.schedule=lin",
        ),
        (("train", "optimizer=muon", "trainer.strategy=fsdp"), "optimizer=muon: needs the shapes"),
        (("train", "optimizer.kind=other"), "optimizer.kind=other: needs the class"),
        (("train", "optimizer.arguments={_x: 1}"), "optimizer.arguments={_x: 1}: '_x' is not the"),
        (("train", "scheduler.warmup=1"), "scheduler.warmup=1: must lie in [0, 1)"),
        (("train", "data.sizes=5"), "data.sizes=5: is a section of settings"),
        (("train", "encoding=[1]"), "encoding=[1]: is a section"),
        (("train", "3]"), "3]: can't be read; write settings as KEY=VALUE"),
        (("train", "trainer=3"), "trainer=3: no such choice; choose from cpu,"),
        (("train", "circuit.size=2"), "circuit.size=2: no such setting"),
        (("train", "+optimizer={lr: 3}"), "+optimizer={lr: 3}: no such choice"),
        (("train", "adaptation.rank=4"), "adaptation.rank=4: is for adaptation=lora"),
        (("train", "callbacks.circuit.size=2"), "callbacks.circuit.size=2: must be a share"),
        (("train", "model.learning_rate=-1"), "model.learning_rate=-1: must be a positive"),
        (("circuit", "circuit.size=2"), "circuit.size=2: must be a share"),
        (("circuit", "circuit.sizes=[.5,.1]"), "circuit.sizes=[.5,.1]: must be rising"),
        (("train", "seed=1e3"), "seed=1e3: must be a whole number"),
        (("train", "-m", "seed=1,-2"), "seed=-2: must be 0 or more"),
        (("train", "trainer.compile=maybe"), "trainer.compile=maybe: must be true or false"),
        (("train", "logger.tags={a: 1}"), "logger.tags={a: 1}: must be a list"),
        (("train", "logger=[wandb,none]"), "logger=[wandb,none]: name one logger or more"),
        (("train", "logger=[csv,foo]"), "logger=[csv,foo]: unknown ['foo']; choose from csv,"),
        (("train", "logger.tracking_uri=x"), "logger.tracking_uri=x: is for logger=mlflow"),
        (("train", "logger.extra.a={}"), "logger.extra.a={}: needs `_target_`"),
        (("evaluate", "logger=csv"), "logger=csv: is for sumcirc train"),
        (
            ("report", ".", "logger=[wandb,mlflow]"),
            "logger=[wandb,mlflow]: mlflow: is for sumcirc train",
        ),
        (("train", "model=null"), "model=null: no such choice; choose from distilgpt2,"),
        (("train", "run.name=a/b"), "run.name=a/b: names one folder"),
        (("train", "sweep.name=.."), "sweep.name=..: names one folder"),
        (("train", "-m", "seed=1,2", "sweep.name=a/b"), "sweep.name=a/b: names one folder"),
        (("train", "resume=/nowhere"), "resume=/nowhere: no such directory"),
        (("evaluate", "checkpoint=/nowhere"), "checkpoint=/nowhere: no such folder"),
        (("circuit", "checkpoint=./nowhere"), "checkpoint=./nowhere: no such folder"),
        (("compare", "before=/nowhere", "after=tiny"), "before=/nowhere: no such folder"),
        (("compare", "after=/nowhere"), "after=/nowhere: is neither a run nor an adapter"),
        (("report", "paths=/nowhere"), "paths=/nowhere: no such directory"),
        (("train", "trainer.accelerator=tpu"), "trainer.accelerator=tpu: unknown"),
        (("evaluate", "trainer.strategy=dpp"), "trainer.strategy=dpp: unknown"),
    ],
)
def test_the_first_words_are_those_that_were_typed(
    refused: Main, arguments: tuple[str, ...], start: str
) -> None:
    assert refused(*arguments).startswith(f"sumcirc: {start}")


def test_a_list_that_the_shell_split_at_its_spaces() -> None:
    for words in (["adaptation.layers=[1,", "3,", "4]"], ["adaptation.layers=[1, 3, 4]"]):
        given = command.read("train", ["adaptation=lora", *words, "seed=2"])
        (config,) = command.compose(given)
        assert (config.adaptation.layers, config.seed) == ([1, 3, 4], 2)
    given = command.read("train", ["+callbacks.extra.x={_target_:", "a}", "seed=2"])
    assert command.compose(given)[0].callbacks.extra == {"x": {"_target_": "a"}}


@pytest.mark.parametrize("words", [["out=[z", "3]"], ["adaptation.layers=[1,", "seed=3]"]])
def test_words_that_are_no_list_stay_apart(words: list[str]) -> None:
    with pytest.raises(UserError):
        command.compose(command.read("train", ["adaptation=lora", *words]))


def test_what_a_checkpoint_brings_along_was_not_typed(refused: Main) -> None:
    Path("adapter").mkdir()
    Path("adapter/adapter_config.json").write_text('{"base_model_name_or_path": "/gone"}')
    assert refused("evaluate", "checkpoint=adapter").startswith("sumcirc: checkpoint=adapter: ")
    assert refused("compare", "after=adapter").startswith("sumcirc: after=adapter: ")


@pytest.mark.parametrize(
    ("message", "named"),
    [
        ("data.train=/a.jsonl: line 3 is bad", "data.train=*.jsonl: /a.jsonl: line 3 is bad"),
        ("circuit.size=2.0: too large", "callbacks.circuit.size=2: too large"),
        ("encoding.prompt='no: one': bad", "encoding.prompt=no: one: bad"),
        ("model.path=/gone: missing", "checkpoint=/run: its model.path=/gone: missing"),
        ("model.path=/run: missing", "checkpoint=/run: missing"),
        ("model.path: is a BERT", "checkpoint=/run: is a BERT"),
        ("trainer.accelerator=gpu: none", "trainer=gpu: trainer.accelerator=gpu: none"),
        ("/run/config.yaml: torn", "checkpoint=/run: /run/config.yaml: torn"),
        ("seed=-1: must be 0 or more", "seed=-1: must be 0 or more"),
        ("experiment/mine.yaml: seed=x: bad", "experiment/mine.yaml: seed=x: bad"),
        ("after=/run: names no base", "checkpoint=/run: names no base"),
        ("data.name=a: bad", "experiment=mine: its data.name=a: bad"),
        ("data.sizes.train=0: bad", "data.sizes.train=0: bad"),
    ],
)
def test_messages_in_the_words_that_were_typed(message: str, named: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("data:\n  name: a\n")
    words = ["data.train=*.jsonl", "callbacks.circuit.size=2", "encoding.prompt=no: one"]
    words += ["checkpoint=/run", "trainer=gpu", "experiment=mine"]
    typed = Typed(
        {word.partition("=")[0]: word for word in words},
        {"model.path": "checkpoint=/run"},
        file,
    )
    assert typed.named(UserError(message)) == named


# ---- folders that can't be written


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file, below which there can be no folder."""
    path = tmp_path / "file"
    path.write_text("")
    return path


@pytest.mark.parametrize("verb", sorted(command.RUN_VERBS))
@pytest.mark.parametrize("setting", ["runs_dir", "cache_dir"])
def test_the_folder_that_cannot_be_written_is_named(
    refused: Main, file: Path, verb: str, setting: str
) -> None:
    needed = ["before=tiny", "after=tiny"] if verb == "compare" else []
    line = refused(verb, *needed, f"{setting}=file/x")
    assert line.startswith(f"sumcirc: {setting}=file/x: can't be written (Not a directory)")


def test_a_cache_folder_of_the_environment(
    refused: Main, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUMCIRC_CACHE", f"{file}/x")
    assert refused("train").startswith(f"sumcirc: SUMCIRC_CACHE={file}/x: can't be written")


@pytest.mark.usefixtures("file")
def test_a_cache_folder_of_a_resumed_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It is the run's own, which can't be given anew."""
    (config,) = command.compose(command.read("train", ["logger=none"]))
    config.cache_dir = "file/x"
    run = RunDirectory.create(tmp_path / "runs/s/r", "train", plain(config))
    with pytest.raises(SystemExit) as left:
        cli.main(["train", "resume=runs/s/r"])
    assert left.value.code == 2
    start = "sumcirc: resume=runs/s/r: its cache_dir=file/x: can't be written (Not a directory)"
    assert capfd.readouterr().err.startswith(start)
    assert run.status()["state"] == "failed"


@pytest.mark.parametrize(
    ("arguments", "start"),
    [
        (("pairs", "out=file/x.jsonl"), "out=file/x.jsonl: can't be written"),
        (("pretrain", "out=file/x"), "out=file/x: can't be written"),
    ],
)
@pytest.mark.usefixtures("file")
def test_a_file_that_cannot_be_written(
    refused: Main, arguments: tuple[str, ...], start: str
) -> None:
    assert refused(*arguments).startswith(f"sumcirc: {start}")


# ---- how to go on

WORK = {
    "train": (train, "_train"),
    "evaluate": (evaluate, "_evaluate"),
    "circuit": (circuit, "_circuit"),
    "compare": (compare, "_compare"),
    "select": (select, "_select"),
}


@pytest.mark.parametrize("verb", sorted(command.RUN_VERBS))
@pytest.mark.parametrize("name", [[], ["sweep.name=mine"]])
def test_the_remedy_of_a_run_that_was_stopped_works(
    verb: str, name: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    needed = ["before=tiny", "after=tiny"] if verb == "compare" else []
    job, work = WORK[verb]
    monkeypatch.setattr(job, work, lambda *given: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit) as left:
        cli.main([verb, *needed, *name, "logger=none", "encoding.prompt='{document} So:'"])
    line = capfd.readouterr().err
    assert left.value.code == 128 + signal.SIGTERM
    assert line.startswith("sumcirc: stopped by SIGTERM; ")
    (folder,) = Path("runs").glob("*/*")
    program, *words = shlex.split(line.split("`")[1])
    assert program == "sumcirc"

    done: list[Any] = []
    monkeypatch.setattr(job, work, lambda config, directory: done.append((config, directory.path)))
    cli.main(words)
    ((config, again),) = done
    assert config.encoding.prompt == "{document} So:"
    assert RunDirectory(again).status()["state"] == "done"
    in_place = verb == "train" or bool(name)
    assert (again.resolve() == folder.resolve()) == in_place
    if name:
        capfd.readouterr()
        with pytest.raises(SystemExit):
            cli.main(words if verb != "train" else [verb, *name, "logger=none"])
        line = capfd.readouterr().err
        assert line.startswith("sumcirc: sweep.name=mine: ")
        assert f"holds a run of `sumcirc {verb}` already (done)" in line
        assert "resume=" not in line


def test_a_run_of_another_verb_is_not_overwritten(tmp_path: Path) -> None:
    RunDirectory.create(tmp_path / "run", "evaluate", {})
    with pytest.raises(UserError, match="a run of `sumcirc evaluate` already"):
        RunDirectory.create(tmp_path / "run", "circuit", {})
    RunDirectory.create(tmp_path / "run", "evaluate", {"seed": 2})
    assert RunDirectory(tmp_path / "run").read_config()["config"] == {"seed": 2}


def test_a_run_that_is_running_is_not_begun_again(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", "evaluate", {})
    with running(run), pytest.raises(UserError, match="that is running; wait for it"):
        RunDirectory.create(run.path, "evaluate", {"seed": 2})
    assert run.read_config()["config"] == {}
    run.set_status("running")  # its process was killed: nobody holds the lock
    RunDirectory.create(run.path, "evaluate", {"seed": 2})
    assert run.status()["state"] == "pending"


def test_a_full_disk_tells_how_to_go_on(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", "train", {})
    with pytest.raises(UserError) as refused, running(run):
        raise NoRoom(tmp_path / "x", "No space left on device")
    remedy = f"free some space, then continue with `sumcirc train resume={run.path}`"
    assert str(refused.value).endswith(remedy)
    assert run.status()["reason"] == str(refused.value)


# ---- output that nobody reads


def unread(*arguments: str, environment: dict[str, str] | None = None) -> tuple[int, str]:
    """Exit code and standard error of a command whose output goes to a closed pipe."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [SCRIPT, *arguments],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environment or {})},
    )
    os.close(writing)
    return done.returncode, done.stderr


@pytest.mark.parametrize("buffered", ["", "1"])
@pytest.mark.parametrize(
    "arguments",
    [("--help",), ("train", "--help"), ("circuit", "--cfg", "job"), ("train", "--info")],
    ids=" ".join,
)
def test_output_that_nobody_reads_ends_quietly(arguments: tuple[str, ...], buffered: str) -> None:
    code, error = unread(*arguments, environment={"PYTHONUNBUFFERED": buffered})
    assert (code, error) == (128 + signal.SIGPIPE, "")


def test_a_mistake_keeps_its_code_where_nobody_reads(tmp_path: Path) -> None:
    assert unread("train", "seed=x") == (2, "sumcirc: seed=x: must be a whole number\n")


def test_a_table_that_nobody_reads_ends_quietly(finished_run: Path) -> None:
    """rich, which prints it, has an exit of its own."""
    code, error = unread("status", str(finished_run))
    assert (code, error) == (128 + signal.SIGPIPE, "")


def test_a_run_whose_output_nobody_reads_can_be_resumed(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", "train", {})
    reading, writing = os.pipe()
    os.close(reading)
    with pytest.MonkeyPatch.context() as patch, os.fdopen(writing, "w") as broken:
        patch.setattr(sys, "stdout", broken)
        with pytest.raises(Stopped) as left, running(run):
            raise BrokenPipeError
    assert left.value.code == 128 + signal.SIGPIPE
    assert run.status()["state"] == "pending"
    # of a socket it is an error like any other
    with pytest.raises(BrokenPipeError), running(run):
        raise BrokenPipeError
    assert run.status()["state"] == "failed"


# ---- every setting of every verb


@pytest.fixture
def wrong_words(tmp_path: Path, file: Path) -> None:
    """What the words of `word_probes` speak of."""
    row = '{"document": "A man walked home.", "summary": "He walked."}\n'
    (tmp_path / "news.jsonl").write_text(row * 3)


def one_of_each(probes: Iterable[word_probes.Probe]) -> list[word_probes.Probe]:
    """A wrong word for every setting in the first verb that has it, of its type where possible."""
    found: dict[str, word_probes.Probe] = {}
    for probe in probes:
        before = found.setdefault(probe.key, probe)
        if before.verb == probe.verb and before.kind != probe.kind:
            found[probe.key] = probe
    return list(found.values())


@pytest.mark.usefixtures("wrong_words")
@pytest.mark.parametrize("verb", word_probes.CONFIGS)
def test_a_wrong_word_is_refused_in_one_line_that_begins_with_it(verb: str) -> None:
    mine = [probe for probe in one_of_each(word_probes.probes()) if probe.verb == verb]
    faults = {probe.word: word_probes.fault(probe) for probe in mine}
    assert {word: fault for word, fault in faults.items() if fault} == {}


@pytest.mark.slow
@pytest.mark.usefixtures("wrong_words")
@pytest.mark.parametrize("verb", word_probes.CONFIGS)
def test_every_wrong_word_is_refused_so(verb: str) -> None:
    faults = {probe.word: word_probes.fault(probe) for probe in word_probes.probes([verb])}
    assert {word: fault for word, fault in faults.items() if fault} == {}


def test_there_are_wrong_words_for_every_setting() -> None:
    probes = list(word_probes.probes())
    assert len(probes) > 2000
    for verb, kind in word_probes.CONFIGS.items():
        keys = {key for key, _ in word_probes.settings(kind)} - word_probes.SKIPPED
        probed = {probe.key for probe in probes if probe.verb == verb}
        free = keys - probed  # any text will do
        assert all(typed_as_text(kind, key) for key in free), free


def typed_as_text(kind: type, key: str) -> bool:
    return word_probes.plain_type(dict(word_probes.settings(kind))[key])[0] is str
