"""`kl_penalty` in runs: what it keeps, what is logged, resumed, distributed and refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from tests.support.command_server import CommandServer
from tests.support.named_runs import train, values

FAST = ["optimizer.learning_rate=0.02", "adaptation=lora", "callbacks=none"]


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Sentences that recur in both files: what is kept on one is kept on the other."""
    folder, found = tmp_path_factory.mktemp("texts"), {}
    for name, first in (("kept", 0), ("other", 9)):
        rows = [{"document": f"Rivers rise in spring. {i} boats wait. " * 2} for i in range(9)]
        found[name] = folder / f"{name}.jsonl"
        lines = [
            json.dumps({"document": f"{first + i}. {row['document']}"})
            for i, row in enumerate(rows)
        ]
        found[name].write_text("\n".join(lines) + "\n")
    return found


def penalty(texts: dict[str, Path], *words: str) -> list[str]:
    return [f"kl_penalty.texts={texts['kept']}", "kl_penalty.max_length=24", *words]


@pytest.mark.parametrize("kind", ["lora", pytest.param("pissa", marks=pytest.mark.slow)])
def test_less_is_forgotten(
    kind: str, commands: CommandServer, small_run: list[str], texts: dict[str, Path], tmp_path: Path
) -> None:
    """On texts that the penalty doesn't read; a weight of 0 is no penalty."""
    retention = [f"evaluation.retention={texts['other']}", "evaluation.at_end=true"]
    words = [*small_run, *FAST, f"adaptation={kind}", *retention, "trainer.max_steps=24"]
    found: dict[str, Any] = {}
    ways = {"none": [], "some": penalty(texts, "kl_penalty.weight=100")}
    if kind == "lora":
        ways["zero"] = penalty(texts, "kl_penalty.weight=0")
    for name, given in ways.items():
        done = train(commands, tmp_path / name, [*words, *given])
        assert done.code == 0, done.output
        run = tmp_path / name / "runs/s/r"
        found[name] = json.loads((run / "summary.json").read_text())
        card = (run / "adapter/README.md").read_text()
        assert ("- KL penalty: `weight 100 on kept.jsonl`" in card) == (name == "some")
        logged = values(run, "train/kl_penalty")
        assert list(logged) == ([*range(2, 25, 2)] if name == "some" else [])
        assert all(value > 0 for value in logged.values())
    kl = {name: one["retention"]["other"]["kl"]["mean"] for name, one in found.items()}
    assert kl["some"] < 0.6 * kl["none"]
    assert kl.get("zero", kl["none"]) == kl["none"]
    cost, before = found["some"]["cost"], found["none"]["cost"]
    assert cost["tokens"] > before["tokens"]
    assert cost["flops"] > 1.3 * before["flops"]


def test_killed_and_resumed_equals_uninterrupted(
    commands: CommandServer, small_run: list[str], texts: dict[str, Path], tmp_path: Path
) -> None:
    """Killed between a checkpoint and a logged step, with sums of the KL in the checkpoint."""
    own = tmp_path / "own.jsonl"
    own.write_text(texts["kept"].read_text())
    more = penalty({"kept": own}, "kl_penalty.batch_size=2")
    words = [*small_run, *FAST, *more, "trainer.accumulate=2"]
    whole = train(commands, tmp_path / "whole", words)
    assert whole.code == 0, whole.output
    killed = train(commands, tmp_path / "killed", words, kill_at="mid_step")
    assert killed.code == -9, killed.output
    run, reference = tmp_path / "killed/runs/s/r", tmp_path / "whole/runs/s/r"
    resumed = commands.run("train", f"resume={run}", cwd=tmp_path, figures=False)
    assert resumed.code == 0, resumed.output
    for metric in ("train/kl_penalty", "train/loss", "validation/loss"):
        assert values(run, metric) == values(reference, metric)
    assert len(values(run, "train/kl_penalty")) == 6
    saved = [one / "adapter/adapter_model.safetensors" for one in (run, reference)]
    assert saved[0].read_bytes() == saved[1].read_bytes()
    costs = [json.loads((one / "summary.json").read_text())["cost"] for one in (run, reference)]
    assert costs[0]["flops"] == costs[1]["flops"]
    # with other texts a run can't go on
    killed = train(commands, tmp_path / "again", words, kill_at="mid_step")
    own.write_text(own.read_text() + '{"document": "Another text."}\n')
    again = commands.run("train", f"resume={tmp_path}/again/runs/s/r", cwd=tmp_path, figures=False)
    assert again.code == 2
    assert "kl_penalty.own has other documents than when the run started" in again.output


def test_two_processes_train_what_one_trains(
    commands: CommandServer,
    llama_folder: Path,
    small_run: list[str],
    texts: dict[str, Path],
    tmp_path: Path,
) -> None:
    """The gradient is a mean over the texts of a step, however they are divided."""
    model = [f"model.path={llama_folder}", "optimizer.epsilon=1e-4", "trainer.max_steps=4"]
    words = [*small_run, *FAST, *model]
    found = {}
    for name, size, plain, processes in (("one", 4, 6, 1), ("two", 2, 3, 2)):
        given = [f"trainer.batch_size={size}", *penalty(texts, f"kl_penalty.batch_size={plain}")]
        if processes > 1:
            given += ["trainer.strategy=ddp", "trainer.devices=2"]
        done = train(
            commands,
            tmp_path / name,
            [*words, *given],
            environment={"GLOO_SOCKET_IFNAME": "lo"},
            processes=processes,
        )
        assert done.code == 0, done.output
        run = tmp_path / name / "runs/s/r"
        weights = load_file(run / "adapter/adapter_model.safetensors")
        found[name] = weights, values(run, "train/kl_penalty"), values(run, "train/loss")
    for key, value in found["one"][0].items():
        assert value.allclose(found["two"][0][key], rtol=0, atol=1e-5), key
    for index in (1, 2):
        assert found["two"][index] == pytest.approx(found["one"][index], rel=1e-4)


@pytest.mark.slow
def test_texts_of_the_penalty_that_forgetting_is_measured_on_are_told(
    commands: CommandServer, small_run: list[str], texts: dict[str, Path], tmp_path: Path
) -> None:
    same = [f"evaluation.retention={texts['kept']}", "evaluation.at_end=true"]
    words = [*small_run, *FAST, *same, *penalty(texts, "kl_penalty.documents=5")]
    done = train(commands, tmp_path, [*words, "trainer.max_steps=2"])
    assert done.code == 0, done.output
    assert "5 of 9 documents are in kl_penalty.texts kept too" in done.output.replace("\n", " ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["kl_penalty.texts=none.txt"], "kl_penalty.texts=none.txt: no such file"),
        (["kl_penalty.weight=0.1"], "kl_penalty.weight=0.1: there is nothing to measure it on"),
        (["kl_penalty.texts=KEPT", "kl_penalty.column=text"], "kl_penalty.column=text: no such"),
        (
            ["kl_penalty.texts=KEPT", "trainer.strategy=fsdp"],
            "trainer.strategy=fsdp: parameters are spread over devices, so the base can't be run",
        ),
    ],
)
def test_mistakes_are_one_line(
    words: list[str],
    message: str,
    commands: CommandServer,
    small_run: list[str],
    texts: dict[str, Path],
    tmp_path: Path,
) -> None:
    given = [word.replace("KEPT", str(texts["kept"])) for word in words]
    done = train(commands, tmp_path, [*small_run, *FAST, *given])
    assert done.code == 2
    assert f"sumcirc: {message}" in done.output
    assert not (tmp_path / "runs").exists()
