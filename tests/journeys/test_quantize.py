"""LoRA on a base that bitsandbytes quantizes: trained, resumed, analysed and loaded as typed."""

from __future__ import annotations

import copy
import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from sumcirc.circuits.attribution.methods import attribute
from sumcirc.library import load
from sumcirc.models.activations.activation_cache import HookPoint
from sumcirc.models.activations.effective_weights import effective_weight
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.models.fingerprint import model_fingerprint
from sumcirc.models.loading import load_model
from sumcirc.schema import ModelConfig, Quantization
from tests.circuits.cases import difference_metric, some_pairs
from tests.support.command_server import CommandServer

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None,
    reason="no bitsandbytes: pip install 'sumcirc[quantize]'",
)

LORA = ["adaptation=lora", "adaptation.rank=2"]


def model_of(folder: Path, quantize: Quantization | None) -> Any:
    return load_model(ModelConfig(name="small", path=str(folder), quantize=quantize)).eval()


def test_analyses_see_the_weights_that_the_model_uses(llama_folder: Path) -> None:
    """All is as on the same weights as plain float32 linears, which transformers writes."""
    quantized = model_of(llama_folder, Quantization.nf4)
    plain = copy.deepcopy(quantized).dequantize()
    given = model_of(llama_folder, None)
    name = "model.layers.1.mlp.down_proj"
    weight, bias = effective_weight(quantized.get_submodule(name))
    torch.testing.assert_close(weight.T, plain.get_submodule(name).weight, rtol=0, atol=1e-7)
    assert not bias.any()
    assert not torch.allclose(weight.T, given.get_submodule(name).weight, rtol=0, atol=1e-4)

    pairs, found = some_pairs(), []
    for model in (quantized, plain):
        scores = attribute(model, pairs, difference_metric(pairs)).documents
        hooked = HookedModel(model)
        points = hooked.every(HookPoint.PATTERN, HookPoint.HEAD_OUTPUTS, HookPoint.RESIDUAL)
        with torch.no_grad(), hooked.caching(points) as cache:
            logits = model(input_ids=pairs.clean.input_ids).logits
        found.append((scores, logits, *cache.values()))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_each_way_of_loading_is_another_model(llama_folder: Path) -> None:
    ways = (None, *Quantization)
    prints = {way: model_fingerprint(model_of(llama_folder, way)) for way in ways}
    assert len(set(prints.values())) == len(ways)
    model = model_of(llama_folder, Quantization.nf4)
    assert model_fingerprint(model) == prints[Quantization.nf4]
    # the scales of the 4-bit numbers are part of the weights
    model.get_submodule("model.layers.0.mlp.up_proj").weight.quant_state.absmax[0] += 1
    assert model_fingerprint(model) != prints[Quantization.nf4]


@pytest.fixture(scope="module")
def words(small_run: list[str], llama_folder: Path) -> list[str]:
    """Settings of a run on the small Llama."""
    return [
        *(word for word in small_run if not word.startswith("model.path")),
        f"model.path={llama_folder}",
        "sweep.name=x",
        "callbacks.probes.documents=8",
        *LORA,
    ]


@pytest.fixture(scope="module")
def run(
    commands: CommandServer, words: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run on a base of 4-bit weights, with all watchers and the circuit."""
    folder = tmp_path_factory.mktemp("nf4")
    words = [*words, "model.quantize=nf4", "callbacks=circuits", "callbacks.circuit.documents=8"]
    done = commands.run("train", *words, cwd=folder, figures=False)
    assert done.code == 0, done.output
    assert "bitsandbytes" not in done.output
    assert "gemm_4bit" not in done.output
    (found,) = folder.glob("runs/x/*")
    return found


def losses(run: Path) -> list[float]:
    lines = [line.split(",") for line in (run / "metrics.csv").read_text().splitlines()]
    return [float(value) for _, name, value in lines if name == "train/loss"]


def test_a_run_trains_and_measures(run: Path, llama_folder: Path) -> None:
    found = losses(run)
    assert found[-1] < found[0] - 0.1
    summary = json.loads((run / "summary.json").read_text())
    whole = sum(p.numel() for p in model_of(llama_folder, None).parameters())
    assert summary["total_parameters"] == whole  # not the number of bytes that store them
    assert list((run / "probes").glob("*"))
    assert list((run / "circuits").glob("*"))


def test_it_loads_on_the_same_base(run: Path, llama_folder: Path) -> None:
    """By the run, by the adapter's folder in it, and in plain PEFT by the card's code."""
    ids = some_pairs().clean.input_ids
    logits = []
    for path in (run, run / "adapter"):
        model, _ = load(path)
        with torch.no_grad():
            logits.append(model(input_ids=ids).logits)
            with model.disable_adapter():
                base = model(input_ids=ids).logits
        assert torch.equal(base, model_of(llama_folder, Quantization.nf4)(input_ids=ids).logits)
        assert not torch.equal(base, logits[-1])
    assert torch.equal(*logits)

    card = (run / "adapter" / "README.md").read_text()
    assert "- base weights: `quantized to nf4 on loading`" in card
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    names: dict[str, Any] = {}
    exec(code.replace('"adapter"', repr(str(run / "adapter"))), names)
    # in evaluation mode some processors multiply by weights that are rounded to bfloat16
    plain = names["model"].train()
    torch.testing.assert_close(plain(input_ids=ids).logits, logits[0], rtol=1e-5, atol=1e-5)


def test_its_circuit_and_comparison(commands: CommandServer, run: Path, tmp_path: Path) -> None:
    small = ["circuit.documents=4", "circuit.sizes=[0.05,1.0]", "circuit.random_circuits=1"]
    given = ["sweep.name=x", "trainer.threads=1"]
    done = commands.run(
        "circuit", f"checkpoint={run}", "against=base", *small, *given, cwd=tmp_path, figures=False
    )
    assert done.code == 0, done.output
    (circuit,) = tmp_path.glob("runs/x/*")
    curves = json.loads((circuit / "circuits" / "faithfulness.json").read_text())
    assert curves["absolute"]["points"][-1]["faithfulness"]["mean"] == pytest.approx(1, abs=1e-3)
    done = commands.run(
        "compare", f"after={run}", *given, "run.name=compared", cwd=tmp_path, figures=False
    )
    assert done.code == 0, done.output
    assert (tmp_path / "runs" / "x" / "compared" / "summary.json").is_file()
    done = commands.run("circuit", f"checkpoint={run}", "model.quantize=int8", cwd=tmp_path)
    assert done.code == 2
    assert "needs the effective weights of linears" in done.output


def test_a_run_of_8_bits(commands: CommandServer, words: list[str], tmp_path: Path) -> None:
    words = [*words, "model.quantize=int8"]
    done = commands.run("train", *words, cwd=tmp_path, figures=False)
    assert done.code == 0, done.output
    assert "will be cast" not in done.output
    (run,) = tmp_path.glob("runs/x/*")
    assert losses(run)[-1] < losses(run)[0] - 0.1
    done = commands.run("compare", f"after={run}", cwd=tmp_path)
    assert done.code == 2
    assert "needs the effective weights of linears" in done.output
