"""benchmarks/placement_choices.py: all selectors choose, once, and what they chose is kept."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from sumcirc.schema import SelectConfig, SelectorName

SMALL = ["model=tiny", "data.sizes.train=40"]
BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("placement_choices")


def test_every_selector_that_chooses_layers_is_asked(script: Any) -> None:
    others = {"all", "fixed", "random", "own"}
    assert sorted(script.SELECTORS) == sorted({one.value for one in SelectorName} - others)


def test_choices_are_kept_and_refusals_named(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    asked: list[SelectConfig] = []

    def chosen(config: SelectConfig) -> tuple[dict[str, Any], str]:
        asked.append(config)
        if config.selector.name is SelectorName.drift:
            return {"refused": "noise"}, "abc"
        return {"layers": [0, 1, 2]}, "abc"

    monkeypatch.setattr(script, "chosen", chosen)
    out = tmp_path / "choices.json"
    words = [str(out), "model.path=elsewhere", "data.event=second", "seed=4"]
    script.main(words)
    body = json.loads(out.read_text(encoding="utf-8"))
    assert list(body["selectors"]) == list(script.SELECTORS)
    assert body["selectors"]["drift"] == {"refused": "noise"}
    assert body["data"] == {"train": 4000, "seed": 0, "event": "second"}
    assert (body["model"], body["seed"]) == ("abc", 4)
    assert body["settings"]["count"] == 3
    assert "elsewhere" not in out.read_text(encoding="utf-8")
    assert all(one.model.path == "elsewhere" and one.selector.count == 3 for one in asked)
    assert "drift: noise" in capsys.readouterr().out
    script.main(words)  # nothing is left to choose
    assert len(asked) == len(script.SELECTORS)


def test_modules_that_a_selector_does_not_tell_apart_are_chosen_together(script: Any) -> None:
    words = [*SMALL, "selector.count=1", "adaptation.granularity=module"]
    found, _ = script.chosen(script.composed("last", words))
    modules = ["qkv", "attn_out", "mlp_in", "mlp_out"]
    assert sorted(found["modules"]) == sorted(f"5.{module}" for module in modules)
    assert list(found["scores"]) == [f"{n}.{module}" for n in range(6) for module in modules]
    found, _ = script.chosen(script.composed("kappa", words))
    scores = found["scores"]
    assert found["modules"] == [max(scores, key=scores.__getitem__)]
    assert script.composed("kappa", words).selector.count == 1


def test_layers_are_chosen_as_many_as_asked_for(script: Any) -> None:
    found, _ = script.chosen(script.composed("last", [*SMALL, "selector.count=2"]))
    assert found["layers"] == [4, 5]
    assert len(found["scores"]) == 6
    assert script.composed("last", SMALL).selector.count == script.COUNT
