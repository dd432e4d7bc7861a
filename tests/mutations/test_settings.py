"""Words of a command and the user's own YAML files that say what no setting can be."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from sumcirc.cli import command
from sumcirc.errors import UserError
from sumcirc.jobs import train
from sumcirc.schema import TrainConfig, configuration
from sumcirc.storage.reading import RecordError, check_yaml_folder
from tests.mutations import mutating
from tests.mutations.trials import FEW, MANY, fault_of, faults, watched
from tests.support.word_probes import settings

NUMBERS = [FEW, pytest.param(MANY, marks=pytest.mark.slow)]

MINE = """# @package _global_
defaults:
  - override /adaptation: lora
seed: 3
trainer:
  max_steps: 5
  batch_size: 2
optimizer: {learning_rate: 0.001}
adaptation:
  rank: 4
  layers: [1, 2]
callbacks:
  extra:
    stop: {_target_: pytorch_lightning.callbacks.EarlyStopping, monitor: validation/loss}
"""

VALUES = [
    *("", "null", "true", "-1", "0", "1e999", "nan", "-inf", "9" * 400, "0x10", "1_0", "3.7", "~"),
    *(
        "[]",
        "{}",
        "[",
        "{a:",
        "[1,[2,[3]]]",
        "{a:{b:{c:1}}}",
        "[" * 200 + "]" * 200,
        "'",
        '"',
        "\\",
    ),
    *("${seed}", "${oops}", "${env:HOME}", "${oc.env:NOPE}", "${", "${a:${b:${c}}}", "$", "\\${x}"),
    *("a,b", "range(1,3)", "glob(*)", "interval(0,1)", "choice(1)", "int(x)", "shuffle(1)", "1,"),
    *("/dev/zero", "/proc/self/mem", "/", ".", "..", "/" * 3000, "x" * 5000, "nul\0", "\x1b[31m"),
    *("\ud800", "é\u202e", "a b", " ", "\t1", "!!python/object:os.system", "*a", "&a [*a]"),
    *(
        "[a,1,null]",
        "{_target_: os.system, command: 'true'}",
        "{1: 2}",
        "[{}]",
        "(1)",
        "1=2",
        "==",
        "=",
    ),
]
TARGETS = [
    *(
        "os.system",
        "sumcirc.cli.main.main",
        "pytorch_lightning.Trainer",
        "pytorch_lightning.callbacks",
    ),
    *("pytorch_lightning.callbacks.BackboneFinetuning", "pytorch_lightning.callbacks.Callback.x"),
    *(
        "pytorch_lightning.callbacks.LearningRateFinder",
        "pytorch_lightning.callbacks.Timer",
        "",
        ".",
    ),
]


SETTINGS = [name for name, _ in settings(TrainConfig)]


def some_words(own: random.Random) -> list[str]:
    """One to three words, one of them damaged."""
    key, value = own.choice(SETTINGS), own.choice(VALUES)
    how = own.randrange(9)
    if how == 0:
        target = own.choice(TARGETS)
        word = f"+callbacks.extra.mine={{_target_: {target}, x: {own.choice(VALUES)}}}"
    elif how == 1:
        word = own.choice(["+", "++", "~", "~~", "+++"]) + f"{key}={value}"
    elif how == 2:
        word = f"{key}{own.choice(['', '.', '[0]', '.x', '@x', '@:x', ':', '/x', '..'])}={value}"
    elif how == 3:
        whole = f"{key}=[{value},{own.choice(VALUES)}]"
        at = own.randrange(len(whole))
        word = whole[:at] + own.choice(["", "\0", "'", "}", "=", ",", "é"]) + whole[at + 1 :]
    elif how == 4:
        word = own.choice(["", "=", "-", "--", "--nope", "--config-dir", "-m", "--cfg", "@", "a"])
    else:
        word = f"{key}={value}"
    return [word, *own.sample(["adaptation=lora", "seed=2", "experiment=paper"], own.randrange(3))]


def checked(words: list[str]) -> None:
    """What `sumcirc train` does with its words before it starts anything."""
    configuration.register()
    given = command.read("train", words)
    with given.typed.naming():
        for config in command.compose(given):
            train.check(config)


@pytest.fixture(autouse=True)
def _workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SUMCIRC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.mark.parametrize("count", [30, pytest.param(2 * MANY, marks=pytest.mark.slow)])
def test_words(count: int) -> None:
    found = []
    for number in range(count):
        words = some_words(random.Random(number))
        if fault := fault_of(lambda words=words: checked(words)):
            found.append(f"{number} {words!r:.200}: {fault}")
    assert not found, "\n".join(found)


@pytest.mark.parametrize("count", NUMBERS)
def test_yaml_of_ones_own(count: int, tmp_path: Path) -> None:
    (tmp_path / "mine/experiment").mkdir(parents=True)
    file = tmp_path / "mine/experiment/mine.yaml"
    file.write_text(MINE)
    words = ["experiment=mine", f"--config-dir={tmp_path / 'mine'}"]
    checked(words)
    found = faults(file, mutating.YAML, lambda: checked(words), count)
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("evaluation=\\${x}", "evaluation=\\${x}: stands for settings"),
        ("evaluation=${generation}", "evaluation=${generation}: stands for settings"),
        (
            "callbacks.probes.documents=" + "9" * 400,
            "must be a whole number up to 9223372036854775807",
        ),
        ("evaluation.base=a\nb", "evaluation.base=a"),
    ],
)
def test_a_word_that_was_taken_once(word: str, said: str) -> None:
    with pytest.raises(UserError) as refused:
        checked([word])
    assert said in str(refused.value)


def test_an_alias_bomb_is_refused_before_hydra_reads_it(tmp_path: Path) -> None:
    (tmp_path / "mine/experiment").mkdir(parents=True)
    (tmp_path / "mine/experiment/bomb.yaml").write_bytes(mutating.BOMB)
    with watched(), pytest.raises(UserError) as refused:
        checked([f"--config-dir={tmp_path / 'mine'}", "experiment=bomb"])
    assert str(refused.value).startswith(
        f"--config-dir={tmp_path / 'mine'}: experiment/bomb.yaml: "
    )
    assert "expands to more than" in str(refused.value)


def test_other_files_of_a_folder_of_configurations_are_let_be(tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text("[" * 5000)
    (tmp_path / "torn.yaml").write_text("a: [1,")
    (tmp_path / "few.yaml").write_text("a: &a [1, 2]\nb: [*a, *a]\n")
    os.symlink(tmp_path / "nowhere", tmp_path / "gone.yaml")
    check_yaml_folder(tmp_path)
    os.mkfifo(tmp_path / "pipe.yaml")
    with watched(), pytest.raises(RecordError, match=r"pipe\.yaml"):
        check_yaml_folder(tmp_path)
