"""What a run hands on: a merged model on the hub, with a card that stands alone."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM

from tests.support.hub_server import TOKEN, Hub, start_hub
from tests.support.processes import SCRIPT, offline


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    running = start_hub(tmp_path_factory.mktemp("repositories"))
    yield running
    running.stop()


def train(folder: Path, served: Hub, token: str, *words: str) -> subprocess.CompletedProcess[str]:
    environment = offline(folder / "cache") | served.environment(folder / "home")
    return subprocess.run(
        [SCRIPT, "train", *words],
        cwd=folder,
        env={**os.environ, **environment, "HF_TOKEN": token},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_merged_model_is_uploaded_with_its_card(
    served: Hub, small_run: list[str], tmp_path: Path
) -> None:
    words = [*small_run, "model.path=loop/llama-small-test", "adaptation=lora", "callbacks=none"]
    words += ["evaluation.at_end=true", "export.merge=true", "export.push_to_hub=loop/news"]
    done = train(tmp_path, served, TOKEN, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"uploaded to {served.url}/loop/news" in done.stdout
    (run,) = tmp_path.glob("runs/*/*")
    repository = served.repositories["loop/news"]
    assert repository.private
    uploaded = repository.branches["main"]
    for file in (run / "merged").iterdir():
        assert (uploaded / file.name).read_bytes() == file.read_bytes(), file.name
    merged = AutoModelForCausalLM.from_pretrained(uploaded)
    assert merged(torch.arange(40).view(2, 20)).logits.isfinite().all()

    card = (uploaded / "README.md").read_text()
    head = yaml.safe_load(card.split("---")[1])
    assert head["base_model"] == "loop/llama-small-test"
    assert head["library_name"] == "transformers"
    for text in (
        *("merged into the base", "LoRA alpha: `32`", "optimizer steps: `12`", "seed: `1`"),
        *("| trained |", "| lead-3 |", "| base |", "ROUGE-Lsum", "95 % bootstrap intervals"),
        'AutoModelForCausalLM.from_pretrained("merged")',
    ):
        assert text in card, text
    adapter_card = (run / "adapter" / "README.md").read_text()
    assert "| trained |" in adapter_card
    assert 'AutoPeftModelForCausalLM.from_pretrained("adapter")' in adapter_card


def test_nothing_is_trained_that_can_not_be_uploaded(
    served: Hub, small_run: list[str], tmp_path: Path
) -> None:
    words = [*small_run, "adaptation=lora", "export.push_to_hub=loop/other"]
    done = train(tmp_path, served, "hf_wrong", *words)
    assert done.returncode == 2
    said = done.stderr.splitlines()[-1]
    assert said.startswith(f"sumcirc: export.push_to_hub=loop/other: {served.url} knows no login")
    assert "hf auth login" in said
    assert "loop/other" not in served.repositories
    assert not list(tmp_path.rglob("status.json"))
