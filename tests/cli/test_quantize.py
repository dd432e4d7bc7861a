"""`model.quantize` as it is typed: what is refused in one line before weights are read."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest

MISSING = importlib.util.find_spec("bitsandbytes") is None
NEEDS = pytest.mark.skipif(MISSING, reason="no bitsandbytes: pip install 'sumcirc[quantize]'")
LORA = ["adaptation=lora", "adaptation.rank=2"]


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["model.quantize=int4"], "model.quantize=int4: choose from nf4, int8"),
        (["model.quantize=nf4"], "model.quantize=nf4: quantized weights can't be trained"),
        (["model.quantize=int8", "adaptation=pissa"], "int8: adaptation=pissa moves a part of"),
        (["model.quantize=nf4", "adaptation=olora"], "nf4: adaptation=olora moves a part of"),
        (["model.quantize=nf4", "adaptation=loraga"], "nf4: adaptation=loraga moves a part of"),
        (
            ["model.quantize=nf4", *LORA, "adaptation.peft={init_lora_weights: pissa_niter_4}"],
            "adaptation.peft={'init_lora_weights': 'pissa_niter_4'} moves a part of",
        ),
        (["model.quantize=int8", "adaptation=dora"], "int8: DoRA needs the weights' norms"),
        (["model.quantize=nf4", *LORA, "export.merge=true"], "export.merge=true: merged weights"),
        (["model.quantize=int8", *LORA, "callbacks=circuits"], "int8: circuit_tracker in callb"),
        (
            ["model.quantize=nf4", *LORA, "trainer.strategy=fsdp"],
            "trainer.strategy=fsdp: can't spread weights over devices that model.quantize=nf4",
        ),
    ],
)
def test_what_can_not_be_trained(refused: Callable[..., str], words: list[str], part: str) -> None:
    assert part in refused("train", *words)


def test_a_missing_package_is_named(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "bitsandbytes" else found(name, *rest),
    )
    for verb, words in (("train", LORA), ("evaluate", []), ("circuit", [])):
        line = refused(verb, "model.quantize=nf4", *words)
        assert "model.quantize=nf4: needs a package" in line
        assert "pip install 'sumcirc[quantize]'" in line


@NEEDS
def test_transposed_weights_are_refused(refused: Callable[..., str]) -> None:
    line = refused("train", "model.quantize=nf4", *LORA)
    assert "model.quantize=nf4: a `gpt2` stores its weights transposed (Conv1D)" in line


@NEEDS
def test_what_needs_weights_is_refused(refused: Callable[..., str], llama_folder: Path) -> None:
    int8 = ["model.quantize=int8", f"model.path={llama_folder}"]
    line = refused("circuit", *int8)
    assert f"model.path={llama_folder}: this job needs the effective weights of linears" in line
    line = refused("select", *int8, *LORA, "selector=circuit")
    assert "selector=circuit: needs the effective weights of linears" in line
    line = refused("select", *int8, *LORA, "selector=fisher")
    assert "selector=fisher: needs gradients of the base's weights" in line
