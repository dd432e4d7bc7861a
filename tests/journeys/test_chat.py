"""A chat model through the verbs: its template is used wherever a document or prompt is read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from sumcirc.circuits.inputs.pair_files import read_pairs
from sumcirc.compare.items.prompts import prompt_items, read_prompts
from sumcirc.data.encoding import Encoder
from sumcirc.schema import EncodingConfig, Template
from tests.support.chat import CHATML, with_template
from tests.support.command_server import CommandServer
from tests.support.small_models import small_config, write_model

SYSTEM, BEGIN = "Be brief.", "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n"
CHAT = ["encoding.template=chat", f"encoding.system={SYSTEM}"]


@pytest.fixture(scope="module")
def chat_folder(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Path:
    config = small_config("llama", max_position_embeddings=256)
    folder = tmp_path_factory.mktemp("chat")
    return write_model(folder, config, with_template(tokenizer, CHATML))


@pytest.fixture(scope="module")
def run(
    commands: CommandServer,
    chat_folder: Path,
    small_run: list[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A finished run with LoRA, watched in training and scored."""
    folder = tmp_path_factory.mktemp("run")
    words = [*small_run, f"model.path={chat_folder}", *CHAT, "adaptation=lora"]
    words += ["evaluation.at_end=true", "callbacks.schedule.every=6"]
    done = commands.run("train", *words, cwd=folder, figures=False)
    assert done.code == 0, done.output
    (found,) = folder.glob("runs/*/*")
    return found


def test_training_is_watched_and_evaluation_takes_over_the_chat(
    commands: CommandServer, run: Path, tmp_path: Path
) -> None:
    assert list((run / "probes").iterdir())
    words = ["evaluate", f"checkpoint={run}", "logger=none"]
    done = commands.run(*words, cwd=tmp_path, figures=False)
    assert done.code == 0, done.output
    (file,) = tmp_path.glob("runs/*/*/summary.json")
    expected = json.loads((run / "summary.json").read_text())["systems"]
    assert json.loads(file.read_text())["systems"]["trained"] == expected["trained"]


def test_pairs_are_chats_and_give_the_circuit_that_the_data_gives(
    commands: CommandServer, run: Path, chat_folder: Path, tmp_path: Path
) -> None:
    words = [f"checkpoint={run}", "trainer.threads=1"]
    options = ["corruption=swap", "filter=false", "documents=4"]
    done = commands.run("pairs", "out=p.jsonl", *words, *options, cwd=tmp_path)
    assert done.code == 0, done.output
    lines = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert lines
    for line in lines:
        assert line["clean"].startswith(BEGIN)
        assert line["clean"].endswith("<|im_end|>\n<|im_start|>assistant\n")
        assert line["good"].endswith("<|im_end|>")
        assert len(line["clean_ids"]) == len(line["corrupted_ids"])

    # the texts alone are the same tokens, as the chat's special tokens are spelled in them
    bare = [{k: v for k, v in one.items() if not k.endswith("_ids")} for one in lines]
    (tmp_path / "bare.jsonl").write_text("".join(json.dumps(one) + "\n" for one in bare))
    tokenizer = AutoTokenizer.from_pretrained(chat_folder)
    encoder = Encoder(tokenizer, EncodingConfig(template=Template.chat, system=SYSTEM), 256)
    both = [read_pairs(str(tmp_path / name), encoder) for name in ("p.jsonl", "bare.jsonl")]
    for with_ids, without in zip(*both, strict=True):
        assert with_ids.clean.ids.tolist() == without.clean.ids.tolist()
        assert with_ids.corrupted.ids.tolist() == without.corrupted.ids.tolist()

    short = ["circuit.sizes=[1.0]", "circuit.random_circuits=1", "circuit.resamples=2"]
    short += ["circuit.metric=kl", "circuit.steps=1", "logger=none"]
    found = []
    for name, source in (
        ("file", ["pairs=p.jsonl"]),
        ("data", ["circuit.corruption=swap", f"circuit.documents={len(lines)}"]),
    ):
        done = commands.run(
            "circuit", *words, *source, *short, f"sweep.name={name}", cwd=tmp_path, figures=False
        )
        assert done.code == 0, done.output
        (file,) = tmp_path.glob(f"runs/{name}/*/circuits/circuit.json")
        found.append(file.read_text())
    assert found[0] == found[1]


def test_prompts_of_a_comparison_are_messages(
    commands: CommandServer, run: Path, chat_folder: Path, tmp_path: Path
) -> None:
    line = {"prompt": "Which port is closed? It is", "reply": " Porto or Lisbon", "good": "."}
    span = {"name": "port", "characters": [6, 10]}
    lines = [line | {"bad": bad, "spans": [span]} for bad in (",", "1")]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    words = [f"after={run}", "prompts=own.jsonl", "compare.analyses=[differences]", "logger=none"]
    done = commands.run("compare", *words, cwd=tmp_path, figures=False)
    assert done.code == 0, done.output
    tokenizer = AutoTokenizer.from_pretrained(chat_folder)
    encoder = Encoder(tokenizer, EncodingConfig(template=Template.chat, system=SYSTEM), 256)
    items, _ = prompt_items(read_prompts(str(tmp_path / "own.jsonl"), encoder), encoder)
    for item in items:
        assert encoder.decode(item.ids.tolist()) == (
            f"{BEGIN}{line['prompt']}<|im_end|>\n<|im_start|>assistant\nPorto or Lisbon"
        )
        assert encoder.decode(item.ids[item.spans["port"]].tolist()).strip() == "port"


@pytest.mark.parametrize("verb", ["train", "evaluate", "circuit", "select", "pairs", "compare"])
def test_a_tokenizer_without_a_template_is_refused_at_once(
    verb: str, commands: CommandServer, small_run: list[str], gpt2_folder: Path, tmp_path: Path
) -> None:
    files = [word for word in small_run if word.startswith(("model.path=", "data"))]
    more = {
        "select": ["selector=page"],
        "pairs": ["out=p.jsonl", "corruption=swap"],
        "compare": ["after=after"],
    }
    if verb == "compare":
        files[0] = files[0].replace("model.path", "before")
        shutil.copytree(gpt2_folder, tmp_path / "after")
    words = [*files, "encoding.template=chat", *more.get(verb, [])]
    done = commands.run(verb, *words, cwd=tmp_path, figures=False)
    assert done.code == 2
    said = done.output.splitlines()[-1]
    assert said.startswith("sumcirc: encoding.template=chat: the tokenizer has no chat template")
    assert "Traceback" not in done.output
    assert not list(tmp_path.rglob("status.json"))
