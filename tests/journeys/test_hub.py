"""Training from the hub as users do it: ids, a cache, then the same without a network."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.support.hub_server import Hub, start_hub
from tests.support.processes import SCRIPT, offline

GPT2 = ["model.path=loop/gpt2-small-test", "model.name=loop"]
LLAMA = ["model.path=loop/llama-small-test", "adaptation=lora", "adaptation.rank=2"]
COMMON = [
    "data=cnn_dailymail",
    "logger=none",
    "callbacks=none",
    "trainer.max_steps=2",
    "trainer.batch_size=4",
    "trainer.threads=1",
    "evaluation.bootstrap=100",
    "generation.max_new_tokens=8",
]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    running = start_hub(tmp_path_factory.mktemp("repositories"))
    yield running
    running.stop()


def train(
    folder: Path, environment: dict[str, str], *overrides: str
) -> subprocess.CompletedProcess[str]:
    folder.mkdir(exist_ok=True)
    return subprocess.run(
        [SCRIPT, "train", *overrides, *COMMON],
        cwd=folder,
        env={**os.environ, **offline(folder / "cache"), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def run_directory(folder: Path) -> Path:
    (found,) = folder.glob("runs/*/*")
    return found


def test_hub_ids_then_offline_from_the_cache(served: Hub, tmp_path: Path) -> None:
    environment = served.environment(tmp_path / "home")
    online = train(tmp_path / "online", environment, *GPT2)
    assert online.returncode == 0, online.stderr
    run = run_directory(tmp_path / "online")
    assert run.name == "loop-cnn_dailymail-full-s1"
    summary = json.loads((run / "summary.json").read_text())
    assert summary["data/train/items"] == 24
    assert list(summary["systems"]) == ["lead-3", "random-3", "oracle", "base", "trained"]

    asked = len(served.requests)
    offline = train(tmp_path / "offline", {**environment, "HF_HUB_OFFLINE": "1"}, *GPT2)
    assert offline.returncode == 0, offline.stderr
    assert len(served.requests) == asked
    again = run_directory(tmp_path / "offline")
    assert (again / "model" / "model.safetensors").read_bytes() == (
        run / "model" / "model.safetensors"
    ).read_bytes()
    assert json.loads((again / "summary.json").read_text())["systems"] == summary["systems"]


@pytest.mark.slow
def test_llama_with_lora(served: Hub, tmp_path: Path) -> None:
    done = train(tmp_path, served.environment(tmp_path / "home"), *LLAMA)
    assert done.returncode == 0, done.stderr
    run = run_directory(tmp_path)
    config = json.loads((run / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "loop/llama-small-test"
    assert all("lora_" in name for name in load_file(run / "adapter" / "adapter_model.safetensors"))


def test_unreachable_hub_is_refused_in_one_line(tmp_path: Path) -> None:
    with socket.socket() as free:  # nothing listens on its port afterwards
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    environment = {"HF_ENDPOINT": url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": ""}
    done = train(tmp_path / "run", environment, *GPT2)
    assert done.returncode == 2
    said = [line for line in done.stderr.splitlines() if line.startswith("sumcirc: ")]
    assert len(said) == 1
    assert "not in the local cache" in said[0]
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "run").rglob("status.json"))
