"""Folders with an adapter: their files, what does not fit, and what generation leaves them."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, PrefixTuningConfig, PromptTuningConfig, TaskType, get_peft_model
from safetensors.torch import load_file, save_file

from sumcirc.errors import UserError
from sumcirc.models.adapters import adapt
from sumcirc.models.peft_adapters import check_adapter, load_adapter, virtual_tokens
from sumcirc.schema import Adaptation, AdaptationConfig
from tests.support.small_models import small_model

IDS = torch.arange(40).view(2, 20)
GIVEN = "checkpoint=mine"


def lively(seed: int = 1) -> Any:
    """LoRA on the small GPT-2 that does something: B starts at zero."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = adapt(small_model("gpt2"), AdaptationConfig(kind=Adaptation.lora, rank=4))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model.eval()


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    lively().save_pretrained(tmp_path)
    return tmp_path


def pickled(folder: Path) -> Path:
    """The same weights as torch's pickle, in place of safetensors."""
    file = folder / "adapter_model.safetensors"
    torch.save(load_file(file), folder / "adapter_model.bin")
    file.unlink()
    return folder / "adapter_model.bin"


def test_loaded_adapter_gives_the_same_logits(adapter: Path) -> None:
    with torch.no_grad():
        expected = lively()(IDS).logits
        found = load_adapter(small_model("gpt2"), adapter, GIVEN)
        assert torch.equal(found(IDS).logits, expected)
    assert not found.training


def test_pickled_weights_are_read_as_weights_only(adapter: Path) -> None:
    pickled(adapter)
    check_adapter(adapter, GIVEN, analysed=True)
    with torch.no_grad():
        found = load_adapter(small_model("gpt2"), adapter, GIVEN)(IDS).logits
        assert torch.equal(found, lively()(IDS).logits)


class Runs:
    """A pickle of it makes a folder when it is read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return Path.mkdir, (self.folder,)


@pytest.mark.parametrize("form", ["torch", "legacy", "plain"])
def test_a_pickle_that_needs_more_is_refused(form: str, adapter: Path) -> None:
    file, made = pickled(adapter), adapter / "made"
    content = {"weight": torch.zeros(2), "more": Runs(made)}
    if form == "plain":
        file.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, file, _use_new_zipfile_serialization=form == "torch")
    for call in (
        lambda: check_adapter(adapter, GIVEN, analysed=False),
        lambda: load_adapter(small_model("gpt2"), adapter, GIVEN),
    ):
        with pytest.raises(UserError, match=r"adapter_model\.bin is damaged, or .* than tensors"):
            call()
    assert not made.exists()


@pytest.mark.parametrize(
    "base",
    [
        {"family": "llama"},
        {"family": "gpt2", "layers": 1},  # the second layer's adapters would be left out
        {"family": "gpt2", "n_embd": 16},
    ],
    ids=["family", "layers", "width"],
)
def test_adapter_of_another_model_is_refused(adapter: Path, base: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"^checkpoint=mine: the adapter does not fit") as refused:
        load_adapter(small_model(**base), adapter, GIVEN)
    assert "\n" not in str(refused.value)


def test_adapter_that_lost_a_tensor_is_refused(adapter: Path) -> None:
    file = adapter / "adapter_model.safetensors"
    tensors = load_file(file)
    lost = sorted(tensors)[0]
    save_file({name: value for name, value in tensors.items() if name != lost}, file)
    with pytest.raises(UserError, match="only one of them has") as refused:
        load_adapter(small_model("gpt2"), adapter, GIVEN)
    assert lost in str(refused.value)


def test_adapter_with_a_tensor_of_nothing_is_refused(adapter: Path) -> None:
    file = adapter / "adapter_model.safetensors"
    save_file({**load_file(file), "base_model.model.strange.weight": torch.zeros(2)}, file)
    with pytest.raises(UserError, match=r"only one of them has base_model\.model\.strange"):
        load_adapter(small_model("gpt2"), adapter, GIVEN)


def test_damaged_adapter_is_refused(adapter: Path) -> None:
    file = adapter / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    for call in (
        lambda: check_adapter(adapter, GIVEN, analysed=False),
        lambda: load_adapter(small_model("gpt2"), adapter, GIVEN),
    ):
        with pytest.raises(UserError, match=r"^checkpoint=mine: adapter_model.safetensors is dam"):
            call()
    file.unlink()
    with pytest.raises(UserError, match=r"an adapter without adapter_model\.safetensors"):
        check_adapter(adapter, GIVEN, analysed=False)


def test_adapter_in_half_precision_is_that_of_plain_peft(adapter: Path) -> None:
    file = adapter / "adapter_model.safetensors"
    save_file({name: value.half() for name, value in load_file(file).items()}, file)
    found = load_adapter(small_model("gpt2"), adapter, GIVEN)
    expected = PeftModel.from_pretrained(small_model("gpt2"), str(adapter)).eval()
    assert {one.dtype for one in found.parameters()} == {torch.float32}
    with torch.no_grad():
        assert torch.equal(found(IDS).logits, expected(IDS).logits)


def test_virtual_tokens_take_room() -> None:
    model = small_model("gpt2")
    assert virtual_tokens(model) == virtual_tokens(lively()) == 0
    for kind in (PromptTuningConfig, PrefixTuningConfig):
        config = kind(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=7)
        assert virtual_tokens(get_peft_model(small_model("gpt2"), config)) == 7
