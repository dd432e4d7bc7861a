"""Which models are compared, what is refused, and that one of them is in memory at a time."""

from __future__ import annotations

import gc
import shutil
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from sumcirc.errors import UserError
from sumcirc.models import model_pairs as sides
from sumcirc.models.loading import load_model
from sumcirc.models.model_pairs import Models, check_pair
from sumcirc.models.model_reference import ModelReference, reference
from sumcirc.schema import ModelConfig
from tests.support.small_models import small_config, write_model

IDS = torch.arange(20)[None]


def side_of(folder: Path) -> ModelReference:
    return reference(str(folder), "after")


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(IDS).logits


@pytest.fixture(scope="module")
def adapter(gpt2_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LoRA on the small GPT-2, far from zero."""
    folder = tmp_path_factory.mktemp("adapters") / "lora"
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = load_model(ModelConfig(name="small", path=str(gpt2_folder)))
        config = LoraConfig(
            r=2, target_modules=["c_attn"], fan_in_fan_out=True, init_lora_weights=False
        )
        get_peft_model(model, config).save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="module")
def tuned(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another model of the small GPT-2's shape."""
    folder = write_model(
        tmp_path_factory.mktemp("models") / "tuned", small_config("gpt2"), tokenizer
    )
    model = load_model(ModelConfig(name="tuned", path=str(folder)))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    model.save_pretrained(folder)
    return folder


def run_directory(folder: Path, model: Path, kind: str, trained: Path, verb: str = "train") -> Path:
    """A run that ended."""
    shutil.copytree(trained, folder / kind)
    (folder / "status.json").write_text('{"state": "done"}')
    (folder / "config.yaml").write_text(
        f"{{verb: {verb}, config: {{model: {{name: small, path: '{model}'}}}}, environment: {{}}}}"
    )
    return folder


# ---- which model is meant


def test_a_folder_is_the_model_itself(tuned: Path) -> None:
    found = side_of(tuned)
    assert (found.name, found.model.path, found.weights) == ("tuned", str(tuned), None)
    assert not found.adapted


def test_an_adapter_brings_its_base(adapter: Path, gpt2_folder: Path) -> None:
    found = side_of(adapter)
    assert (found.name, found.model.path) == ("lora", str(gpt2_folder))
    assert (found.base.name, found.base.weights) == (gpt2_folder.name, None)
    assert (found.weights, found.adapted) == (adapter, True)


@pytest.mark.parametrize("kind", ["adapter", "model"])
def test_a_run_brings_what_it_trained(
    kind: str, adapter: Path, tuned: Path, gpt2_folder: Path, tmp_path: Path
) -> None:
    trained = {"adapter": adapter, "model": tuned}[kind]
    run = run_directory(tmp_path / "lora-2-s1", gpt2_folder, kind, trained)
    found = side_of(run)
    assert found.name == "lora-2-s1"
    assert (found.model.path, found.weights) == (str(gpt2_folder), run / kind)
    assert found.adapted == (kind == "adapter")


def test_a_run_that_trained_nothing_is_refused(tuned: Path, tmp_path: Path) -> None:
    run = run_directory(tmp_path / "run", tuned, "model", tuned, "evaluate")
    with pytest.raises(UserError, match=r"after=.*is a run of `sumcirc evaluate`"):
        side_of(run)


def test_an_adapter_is_on_its_own_base_alone(
    adapter: Path, gpt2_folder: Path, tuned: Path, tmp_path: Path
) -> None:
    lora, base, other = (side_of(one) for one in (adapter, gpt2_folder, tuned))
    assert lora.is_on(base)
    assert not lora.is_on(other)
    assert not base.is_on(lora)
    assert not other.is_on(base)
    assert not lora.is_on(lora)
    run = side_of(run_directory(tmp_path / "run", gpt2_folder, "model", tuned))
    assert not lora.is_on(run)  # what was trained from the base is not the base


# ---- what can't be compared


def test_models_of_one_shape_are_taken(gpt2_folder: Path, tuned: Path, adapter: Path) -> None:
    check_pair(side_of(gpt2_folder), [side_of(tuned), side_of(adapter)])


def test_another_architecture_is_refused(gpt2_folder: Path, llama_folder: Path) -> None:
    with pytest.raises(UserError, match=r"is a `llama`, before a `gpt2`; compare models of one"):
        check_pair(side_of(gpt2_folder), [side_of(llama_folder)])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"layers": 3}, "layers 2 and 3"),
        ({"n_head": 8}, "heads 4 and 8; key_value_heads 4 and 8; head_width 8 and 4"),
        ({"n_inner": 64}, "neurons 128 and 64"),
    ],
)
def test_another_size_is_refused(
    changes: dict[str, int], told: str, gpt2_folder: Path, tokenizer: Any, tmp_path: Path
) -> None:
    folder = write_model(tmp_path / "other", small_config("gpt2", **changes), tokenizer)
    with pytest.raises(UserError) as caught:
        check_pair(side_of(gpt2_folder), [side_of(folder)])
    assert str(caught.value) == (
        f"after=other: differs from before in {told} (before first); compare a model with what it"
        " was trained from"
    )


def test_another_vocabulary_is_refused(gpt2_folder: Path, tuned: Path, tmp_path: Path) -> None:
    """The same number of tokens, two of which have changed places."""
    folder = tmp_path / "other"
    shutil.copytree(tuned, folder)
    file = folder / "tokenizer.json"
    text = file.read_text(encoding="utf-8")
    assert '"a": ' in text
    swapped = text.replace('"a": ', '"?": ').replace('"b": ', '"a": ').replace('"?": ', '"b": ')
    file.write_text(swapped, encoding="utf-8")
    with pytest.raises(UserError, match="after=other: has another vocabulary than before"):
        check_pair(side_of(gpt2_folder), [side_of(tuned), side_of(folder)])


def test_a_folder_without_weights_is_refused(gpt2_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(gpt2_folder, tmp_path / "other")
    (tmp_path / "other" / "model.safetensors").unlink()
    with pytest.raises(UserError, match="there are no weights in it"):
        check_pair(side_of(gpt2_folder), [side_of(tmp_path / "other")])


# ---- one at a time


def test_an_adapter_and_its_base_are_one_module(adapter: Path, gpt2_folder: Path) -> None:
    models, lora, base = Models("cpu", IDS[0].tolist()), side_of(adapter), side_of(gpt2_folder)
    with models.use(base) as model:
        alone = logits(model)
    with models.use(lora) as model:
        assert isinstance(model, PeftModel)
        assert not model.training
        with_adapter = logits(model)
    with models.use(base) as off:
        assert off is model
        assert torch.equal(logits(off), alone)
    with models.use(lora) as on:
        assert on is model
        assert torch.equal(logits(on), with_adapter)
    assert not torch.equal(with_adapter, alone)


def test_a_base_that_comes_first_is_loaded_plain(adapter: Path, gpt2_folder: Path) -> None:
    models = Models("cpu", IDS[0].tolist())
    with models.use(side_of(gpt2_folder)) as model:
        assert not isinstance(model, PeftModel)
        assert not model.training
    with models.use(side_of(adapter)) as model:
        assert isinstance(model, PeftModel)


def test_one_is_let_go_before_the_next_is_loaded(
    gpt2_folder: Path, tuned: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where whoever used it still has its name."""
    alive: list[weakref.ref[torch.UntypedStorage]] = []
    loaded: list[int] = []
    original = sides.load_reference

    def loading(*arguments: Any) -> Any:
        gc.collect()
        loaded.append(sum(storage() is not None for storage in alive))
        model = original(*arguments)
        alive.append(weakref.ref(next(model.parameters()).untyped_storage()))
        return model

    monkeypatch.setattr(sides, "load_reference", loading)
    models = Models("cpu", IDS[0].tolist())
    with models.use(side_of(gpt2_folder)) as model:
        before = logits(model)
    with models.use(side_of(tuned)) as model:
        pass
    with models.use(side_of(tuned)) as model:
        pass
    with models.use(side_of(adapter)) as model:
        pass
    with models.use(side_of(gpt2_folder)) as model:
        assert torch.equal(logits(model), before)
    assert loaded == [0, 0, 0]
