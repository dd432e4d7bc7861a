"""Code blocks of the documentation run as they stand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.hub_server import news

DOCS = Path(__file__).resolve().parents[2] / "docs"
BLOCKS = [
    pytest.param(block, id=f"{page.stem}-{number}")
    for page in sorted(DOCS.rglob("*.md"))
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL))
]


@pytest.mark.parametrize("block", BLOCKS)
def test_it_runs(block: str, gpt2_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {
        "tuned_folder": str(gpt2_folder),
        "base_folder": str(gpt2_folder),
        "pairs": [(item["article"], item["highlights"]) for item in news("train", 6)],
    }
    exec(compile(block, "docs", "exec"), names)
    assert capsys.readouterr().out.strip()


def test_there_are_some() -> None:
    assert BLOCKS
