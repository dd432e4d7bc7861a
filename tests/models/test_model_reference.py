"""What an adapter's folder says holds on every route by which an adapter is named."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from sumcirc import library
from sumcirc.cli import command
from sumcirc.errors import UserError
from sumcirc.models.loading import load_tokenizer
from sumcirc.models.model_reference import ModelReference, reference, same_model
from sumcirc.models.restoring import (
    before_of,
    check_reference,
    load_reference,
    load_tokenizer_of,
    reference_of,
)
from sumcirc.schema import ModelConfig, configuration
from sumcirc.selection.tuned import check_tuned
from tests.support.hub_server import Repository, start_hub

ROOT = Path(__file__).resolve().parents[2]
IDS = torch.arange(20)[None]
END = "<|over|>"


@pytest.fixture(autouse=True)
def _register() -> None:
    configuration.register()


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(IDS).logits


def describe(folder: Path, **changes: Any) -> None:
    """Edit an adapter's description."""
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@pytest.fixture
def base(gpt2_folder: Path, tmp_path: Path) -> Path:
    """A model of whose tokenizer a token is free for another end of texts."""
    folder = tmp_path / "base"
    shutil.copytree(gpt2_folder, folder)
    return folder


@pytest.fixture
def adapter(base: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "adapter"
    with torch.random.fork_rng():
        torch.manual_seed(1)
        config = LoraConfig(
            r=2,
            target_modules=["c_attn"],
            fan_in_fan_out=True,
            init_lora_weights=False,
            task_type="CAUSAL_LM",
        )
        model = AutoModelForCausalLM.from_pretrained(base)
        get_peft_model(model, config).save_pretrained(str(folder))
    return folder


# ---- routes, each from a folder to the model and the tokenizer that a job would use


def composed(verb: str, *words: str) -> Any:
    return command.compose(command.read(verb, list(words)))[0]


def by_checkpoint(folder: Path) -> tuple[ModelReference, Any]:
    config = composed("evaluate", f"checkpoint={folder}")
    return reference_of(config), load_tokenizer(config.model)


def by_before(folder: Path) -> tuple[ModelReference, Any]:
    config = composed("compare", f"before={folder}", "after=tiny")
    return before_of(config), load_tokenizer(config.model)


def by_after(folder: Path) -> tuple[ModelReference, Any]:
    config = composed("compare", f"after={folder}")
    assert before_of(config).weights is None
    return reference(config.afters[0], "after"), load_tokenizer(config.model)


def by_selector(folder: Path) -> tuple[ModelReference, Any]:
    base = reference(str(folder), "after").model.path
    words = (f"model.path={base}", "selector=drift", f"selector.after={folder}")
    config = composed("select", *words, "adaptation.budget=4000")
    check_tuned(config)
    found = reference(config.selector.after, "selector.after")
    return found, load_tokenizer_of(found)


ROUTES: list[Callable[[Path], tuple[ModelReference, Any]]] = [
    by_checkpoint,
    by_before,
    by_after,
    by_selector,
]


def through(route: Any, folder: Path) -> tuple[Any, Any]:
    found, tokenizer = route(folder)
    check_reference(found, analysed=True)
    return load_reference(found), tokenizer


def by_library(folder: Path) -> tuple[Any, Any]:
    return library.load(folder)


CASES = [*((lambda f, r=route: through(r, f)) for route in ROUTES), by_library]
NAMES = ["checkpoint", "before", "after", "selector.after", "library"]


@pytest.fixture(params=CASES, ids=NAMES)
def route(request: pytest.FixtureRequest) -> Any:
    return request.param


def expected(base: Path, adapter: Path) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    return logits(PeftModel.from_pretrained(model, str(adapter)).eval())


def test_its_base_and_weights(route: Any, adapter: Path, base: Path) -> None:
    model, tokenizer = route(adapter)
    assert torch.equal(logits(model), expected(base, adapter))
    assert tokenizer.eos_token == "<|endoftext|>"


def test_its_own_tokenizer(route: Any, adapter: Path, tokenizer: Any) -> None:
    own = PreTrainedTokenizerFast(tokenizer_object=tokenizer._tokenizer, eos_token="Ġthe")
    own.save_pretrained(adapter)
    _, found = route(adapter)
    assert found.eos_token == "Ġthe"


def test_its_base_beside_it(
    route: Any, adapter: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative path is looked up from the adapter's folder too."""
    wanted = expected(base, adapter)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    describe(adapter, base_model_name_or_path="../base")
    model, _ = route(adapter)
    assert torch.equal(logits(model), wanted)


def test_its_pickled_weights(route: Any, adapter: Path, base: Path) -> None:
    wanted, file = expected(base, adapter), adapter / "adapter_model.safetensors"
    torch.save(load_file(file), adapter / "adapter_model.bin")
    file.unlink()
    model, _ = route(adapter)
    assert torch.equal(logits(model), wanted)


def test_its_weights_in_half_precision(route: Any, adapter: Path, base: Path) -> None:
    file = adapter / "adapter_model.safetensors"
    save_file({name: value.bfloat16() for name, value in load_file(file).items()}, file)
    model, _ = route(adapter)
    assert torch.equal(logits(model), expected(base, adapter))


def test_its_base_in_half_precision(route: Any, adapter: Path, base: Path) -> None:
    """Models are analysed in single precision, whatever their config.json says."""
    AutoModelForCausalLM.from_pretrained(base).bfloat16().save_pretrained(base)
    model, _ = route(adapter)
    assert {one.dtype for one in model.parameters()} == {torch.float32}
    assert torch.equal(logits(model), expected(base, adapter))


def test_its_hub_base_and_revision(adapter: Path) -> None:
    """The id and the commit reach every job; nothing is asked of a hub."""
    describe(adapter, base_model_name_or_path="owner/base", revision="v1")
    found = {
        verb: reference_of(composed(verb, f"checkpoint={adapter}", *words)).model
        for verb, words in (("evaluate", ()), ("circuit", ()), ("pairs", ("out=x.jsonl",)))
    }
    found["before"] = before_of(composed("compare", f"before={adapter}", "after=tiny")).model
    config = composed("compare", f"after={adapter}")
    found["base of after"] = before_of(config).model
    found["after"] = reference(config.afters[0], "after").model
    words = ("model.path=owner/base", "selector=drift", "adaptation.budget=4000")
    config = composed("select", *words, f"selector.after={adapter}")
    found["selector.after"] = reference(config.selector.after, "selector.after").model
    assert {(model.path, model.revision) for model in found.values()} == {("owner/base", "v1")}
    other = composed("evaluate", f"checkpoint={adapter}", "model.revision=v2")
    assert reference_of(other).model.revision == "v2"


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        ({"base_model_name_or_path": None}, "does not name its base model"),
        ({"base_model_name_or_path": "/gone"}, "base model /gone does not exist"),
        ({"base_model_name_or_path": 3}, "`base_model_name_or_path`"),
        ({"revision": ["x"]}, "`revision`"),
    ],
    ids=["none", "gone", "number", "revision"],
)
@pytest.mark.parametrize("name", ["checkpoint", "before", "after", "selector.after"])
def test_what_is_wrong_with_it_is_told_by_the_setting(
    name: str, spoil: dict[str, Any], told: str, adapter: Path
) -> None:
    describe(adapter, **spoil)
    with pytest.raises(UserError) as refused:
        reference(str(adapter), name)
    message = str(refused.value)
    assert message.startswith(f"{name}={adapter}: ")
    assert told in message
    assert "\n" not in message


def test_a_base_that_can_not_be_used_is_told_by_the_setting(adapter: Path, base: Path) -> None:
    config = base / "config.json"
    content = json.loads(config.read_text())
    config.write_text(json.dumps({**content, "quantization_config": {"quant_method": "awq"}}))
    with pytest.raises(UserError) as refused:
        check_reference(reference(str(adapter), "after"))
    assert str(refused.value).startswith(
        f"after={adapter}: base model={base}: its weights are quantized (awq)"
    )


# ---- revision and hub id, by a hub on loopback

LOAD = """
import json, sys, torch
from sumcirc.library import load
sums = []
for folder in sys.argv[1:]:
    model, _ = load(folder)
    with torch.no_grad():
        sums.append(model(torch.arange(20)[None]).logits.double().abs().sum().item())
print(json.dumps(sums))
"""


def test_its_revision_of_a_hub_model(adapter: Path, base: Path, tmp_path: Path) -> None:
    other = tmp_path / "v1"
    shutil.copytree(base, other)
    model = AutoModelForCausalLM.from_pretrained(base)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    model.save_pretrained(other)
    served = start_hub(tmp_path / "repositories")
    served.repositories["loop/base"] = Repository("model", {"main": base, "v1": other})
    newer = tmp_path / "newer"
    shutil.copytree(adapter, newer)
    for folder, revision in ((adapter, None), (newer, "v1")):
        describe(folder, base_model_name_or_path="loop/base", revision=revision)
        for setting in ("checkpoint", "before", "after", "selector.after"):
            found = reference(str(folder), setting).model
            assert (found.path, found.revision) == ("loop/base", revision)
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(adapter), str(newer)],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT / "src"),
            **served.environment(tmp_path / "cache"),
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    sums = json.loads(done.stdout.splitlines()[-1])
    served.stop()
    for found, folder in zip(sums, (base, other), strict=True):
        assert found == pytest.approx(expected(folder, adapter).double().abs().sum().item())
    assert sums[0] != pytest.approx(sums[1], rel=0.01)


# ---- one model or two


def test_the_same_model_under_two_names(base: Path, gpt2_folder: Path, tmp_path: Path) -> None:
    def model(path: Path | str, revision: str | None = None) -> ModelConfig:
        return ModelConfig(name="m", path=str(path), revision=revision)

    (tmp_path / "link").symlink_to(base)
    assert same_model(model(base), model(tmp_path / "link"))
    assert same_model(model(base), model(gpt2_folder)), "a copy, byte by byte"
    assert same_model(model("owner/name", "v1"), model("owner/name", "v1"))
    assert not same_model(model(base), model("tiny"))


def test_a_model_that_was_trained_from_another_is_not_selected_by(
    adapter: Path, base: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(base, other)
    model = AutoModelForCausalLM.from_pretrained(base)
    with torch.no_grad():
        next(model.parameters()).add_(0.1)
    model.save_pretrained(other)
    words = ["selector=drift", f"selector.after={adapter}", "adaptation.budget=4000"]
    check_tuned(composed("select", f"model.path={base}", *words))
    with pytest.raises(UserError) as refused:
        check_tuned(composed("select", f"model.path={other}", *words))
    assert str(refused.value) == (
        f"selector.after={adapter}: was trained from {base}, not from model.path={other}; give"
        f" model.path={base}, or a model that was trained from this one"
    )


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("null", "model=None: must be a section of settings"),
        ("[tiny]", "model: "),
        ("{name: x}", "model.path: "),
        ("{name: x, path: [tiny]}", "model.path=['tiny']: must be a text"),
        ("{name: x, path: tiny, heads: 3}", "model.heads: no such setting"),
    ],
)
def test_a_run_whose_model_can_not_be_read(model: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "status.json").write_text('{"state": "done"}')
    file = tmp_path / "config.yaml"
    file.write_text(f"{{verb: train, config: {{model: {model}}}, environment: {{}}}}")
    with pytest.raises(UserError) as refused:
        reference(str(tmp_path), "checkpoint")
    assert str(refused.value).startswith(f"{file}: {told}")
    assert "\n" not in str(refused.value)
