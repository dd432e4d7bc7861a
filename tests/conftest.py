"""Small real models, a tokenizer and news files that the tests share."""

from __future__ import annotations

import json
import os
import sys

# before torch is imported, here and in the processes that tests start
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# tables are as wide as the terminal, whichever the tests are started from
os.environ["COLUMNS"] = "160"

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import absl.logging
import pytest

from tests.support.hub_server import news, small_tokenizer
from tests.support.processes import Processes
from tests.support.shared import BESIDE

if TYPE_CHECKING:
    from tests.support.command_server import CommandServer

# rouge-score brings absl, whose log handler closes its stream when Hydra sets up logging, unless
# that is the real standard error: here it would be the file into which pytest captures
absl.logging.get_absl_handler().python_handler.stream = sys.__stderr__


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many tests were not run for want of data that is no part of the project."""
    skipped = terminalreporter.stats.get("skipped", [])
    number = sum(f"{BESIDE}/" in str(report.longrepr) for report in skipped)
    terminalreporter.write_line(f"{number} skipped tests are about data beside the checkout")


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """A byte-level BPE whose end-of-text token is also the one that pads (as GPT-2's)."""
    made = small_tokenizer([item["article"] + item["highlights"] for item in news("train", 24)])
    made.pad_token = made.eos_token
    return made


@pytest.fixture(scope="session")
def bos_tokenizer() -> Any:
    """The same, but starting every text with <s> and ending it with </s> (as Llama's)."""
    from tokenizers import ByteLevelBPETokenizer
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    trained = ByteLevelBPETokenizer()
    texts = [item["article"] + item["highlights"] for item in news("train", 24)]
    trained.train_from_iterator(texts, vocab_size=400, special_tokens=["<s>", "</s>"])
    trained._tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=trained._tokenizer, bos_token="<s>", eos_token="</s>"
    )


@pytest.fixture(scope="session")
def gpt2_folder(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Path:
    """A GPT-2 of 2 layers, width 32 and context 128 with random weights; dropout 0.1."""
    from tests.support.small_models import small_config, write_model

    return write_model(tmp_path_factory.mktemp("gpt2"), small_config("gpt2"), tokenizer)


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory: pytest.TempPathFactory, bos_tokenizer: Any) -> Path:
    """A Llama of the same size with grouped-query attention and a tokenizer that adds <s>."""
    from tests.support.small_models import small_config, write_model

    return write_model(tmp_path_factory.mktemp("llama"), small_config("llama"), bos_tokenizer)


@pytest.fixture(scope="session")
def news_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """JSONL files of documents and summaries: 40 to train on, 10 to validate, 6 to test."""
    folder = tmp_path_factory.mktemp("news")
    files = {}
    for split, count in (("train", 40), ("validation", 10), ("test", 6)):
        files[split] = folder / f"{split}.jsonl"
        rows = [
            {"document": item["article"], "summary": item["highlights"]}
            for item in news(split, count)
        ]
        files[split].write_text("".join(json.dumps(row) + "\n" for row in rows))
    return files


@pytest.fixture(scope="session")
def small_run(gpt2_folder: Path, news_files: dict[str, Path]) -> list[str]:
    """Overrides of a run of 12 steps on the small GPT-2 that takes a second."""
    return [
        f"model.path={gpt2_folder}",
        "model.name=small",
        "model.learning_rate=1e-3",
        "data=files",
        *(f"data.{split}={path}" for split, path in news_files.items()),
        "logger=none",
        "trainer.max_steps=12",
        "trainer.batch_size=4",
        "trainer.log_every=2",
        "trainer.validate_every=4",
        "trainer.checkpoint_every=5",
        "trainer.threads=1",
        "evaluation.at_end=false",
        "evaluation.bootstrap=100",
        "generation.max_new_tokens=8",
    ]


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are prepared, and not drawn, which is half the time of a small run."""
    from sumcirc.figures import views

    monkeypatch.setattr(views, "figure_of", lambda view: None)
    monkeypatch.setattr(views, "save", lambda *_: None)


@pytest.fixture
def processes() -> Iterator[Processes]:
    """Starts processes; none of them is left when the test is over, however it ends."""
    found = Processes()
    try:
        yield found
    finally:
        found.end()


@pytest.fixture(scope="session")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandServer]:
    """Runs `sumcirc` commands in processes of their own, without paying for imports each time."""
    from tests.support.command_server import CommandServer

    with CommandServer(tmp_path_factory.mktemp("commands")) as server:
        yield server
