"""Names of models in a list and of conf/model, as users type them."""

from __future__ import annotations

from pathlib import Path

import pytest

from sumcirc.cli.command import CONF
from sumcirc.schema.configuration import listed, model_path


def test_a_list_may_hold_names_with_commas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("lora-2,3,5=x", "full", "[odd]"):
        Path(name).mkdir()
    assert listed("[lora-2,3,5=x,full]") == ["lora-2,3,5=x", "full"]
    assert listed("[full, lora-2,3,5=x ,hub/one]") == ["full", "lora-2,3,5=x", "hub/one"]
    assert listed(["a", "b"]) == ["a", "b"]
    assert listed("lora-2,3,5=x") == ["lora-2,3,5=x"]
    assert listed("[odd]") == ["[odd]"]  # a folder of that name
    assert listed("~/run") == [str(Path.home() / "run")]


def test_names_of_models_stand_for_their_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert model_path("gpt2", CONF) == "openai-community/gpt2"
    assert model_path("tiny", CONF) == "tiny"
    assert model_path("owner/gpt2", CONF) == "owner/gpt2"
    Path("gpt2").mkdir()
    assert model_path("gpt2", CONF) == "gpt2"  # a folder of that name
