"""Models and tokenizers: what loads, and what is refused before weights are read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from sumcirc.errors import UserError
from sumcirc.models.loading import (
    check_model,
    is_adapter,
    load_model,
    load_tokenizer,
    read_model_config,
    resolve_path,
)
from sumcirc.schema import ModelConfig
from tests.support.hub_server import small_tokenizer
from tests.support.shared import shared

SENTENCES = [f"A storm reached town {i} and closed {i + 2} roads." for i in range(40)]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small GPT-2 with tied embeddings and its own tokenizer, as save_pretrained writes them."""
    folder = tmp_path_factory.mktemp("original")
    tokenizer = small_tokenizer(SENTENCES)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        shape = transformers.GPT2Config(
            vocab_size=len(tokenizer),
            n_layer=1,
            n_embd=16,
            n_head=2,
            n_positions=64,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
        transformers.GPT2LMHeadModel(shape).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(original, tmp_path / "model"))


def config(path: Path | str, tokenizer: Path | str | None = None) -> ModelConfig:
    return ModelConfig(
        name="m", path=str(path), tokenizer=None if tokenizer is None else str(tokenizer)
    )


def path_of(given: ModelConfig) -> str:
    return resolve_path(given.path, "model.path")


def edit(path: Path, **changes: Any) -> None:
    content = json.loads(path.read_text())
    for key, value in changes.items():
        content.pop(key, None) if value is None else content.update({key: value})
    path.write_text(json.dumps(content))


def refused(call: Any, given: ModelConfig, *fragments: str) -> None:
    with pytest.raises(UserError) as error:
        call(given)
    message = str(error.value)
    assert "\n" not in message
    for fragment in (given.path, *fragments):
        assert fragment in message


def test_folder_loads_as_it_was_saved(original: Path, capfd: pytest.CaptureFixture[str]) -> None:
    given = config(original)
    check_model(given)
    capfd.readouterr()
    model = load_model(given)
    assert capfd.readouterr() == ("", "")  # no bars, no reports
    assert not model.training
    saved = load_file(original / "model.safetensors")
    state = model.state_dict()
    assert all(torch.equal(state[name], weight) for name, weight in saved.items())
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert model.config._attn_implementation == "sdpa"
    assert load_model(given, torch.bfloat16).dtype is torch.bfloat16


def test_loading_leaves_download_bars_on(original: Path) -> None:
    from huggingface_hub.utils import are_progress_bars_disabled

    load_model(config(original))
    assert not are_progress_bars_disabled()
    bar = transformers.utils.logging.tqdm(total=1, disable=True)
    assert type(bar).__name__ != "EmptyTqdm"


def test_padding_is_not_a_new_token(original: Path) -> None:
    tokenizer = load_tokenizer(config(original))
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    assert len(tokenizer) == read_model_config(config(original)).vocab_size
    assert tokenizer.decode(tokenizer(SENTENCES[3]).input_ids) == SENTENCES[3]


def test_gpt2_vocabulary_and_merges_only(original: Path, tmp_path: Path) -> None:
    bpe = tmp_path / "bpe"
    bpe.mkdir()
    backend = load_tokenizer(config(original)).backend_tokenizer
    backend.model.save(str(bpe))
    tokenizer = load_tokenizer(config(original, bpe))
    own = load_tokenizer(config(original))
    assert tokenizer.eos_token == "<|endoftext|>"
    assert tokenizer.get_vocab() == own.get_vocab()
    assert tokenizer(SENTENCES[0]).input_ids == own(SENTENCES[0]).input_ids
    assert len(tokenizer(SENTENCES[0]).input_ids) < len(SENTENCES[0])  # merges are used

    vocabulary = json.loads((bpe / "vocab.json").read_text())
    del vocabulary["<|endoftext|>"]
    (bpe / "vocab.json").write_text(json.dumps(vocabulary))
    with pytest.raises(
        UserError, match=r"model\.tokenizer=\S+bpe: vocab\.json has no <\|endoftext"
    ):
        load_tokenizer(config(original, bpe))


def test_real_gpt2_vocabulary(tmp_path: Path) -> None:
    vocabulary = shared("models/gpt2_tokenizer")
    transformers.GPT2Config().save_pretrained(tmp_path)
    tokenizer = load_tokenizer(config(tmp_path, vocabulary))
    assert (len(tokenizer), tokenizer.eos_token_id, tokenizer.pad_token_id) == (50257, 50256, 50256)
    assert tokenizer("Hello world").input_ids == [15496, 995]  # as published for GPT-2


def test_paths(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert path_of(config(original)) == str(original)
    assert path_of(config("openai-community/gpt2")) == "openai-community/gpt2"
    assert path_of(config("gpt2")) == "gpt2"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gpt2").mkdir()
    assert Path(path_of(config("gpt2"))).is_dir()
    for missing in (tmp_path / "none", "./none", "~/none-such", "a/b/c"):
        refused(path_of, config(missing), "no such folder")
    refused(path_of, config(original / "config.json"), "a file")


def test_folder_without_parts(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    refused(check_model, config(folder), "no weights")
    (folder / "weights.pt").write_bytes(b"\x80\x02")
    refused(check_model, config(folder), "pickle (weights.pt)", "save_pretrained")
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x02")
    refused(check_model, config(folder), "pytorch_model.bin is damaged, or", "save_pretrained")
    refused(load_model, config(folder))
    (folder / "config.json").unlink()
    refused(check_model, config(folder), "no config.json")


@pytest.mark.parametrize(
    ("changes", "fragment"),
    [
        ({"model_type": "bert", "architectures": ["BertForMaskedLM"]}, "BertForMaskedLM is an enc"),
        (
            {"model_type": "roberta", "architectures": ["RobertaModel"]},
            "RobertaModel is an encoder",
        ),
        ({"model_type": "t5", "architectures": ["T5ForConditionalGeneration"]}, "encoder-decoder"),
        ({"model_type": "bart", "architectures": ["BartForCausalLM"]}, "encoder-decoder"),
        ({"model_type": "vit", "architectures": ["ViTModel"]}, "ViTModel (type 'vit')"),
        ({"model_type": "distilbert", "architectures": None}, "distilbert is an encoder"),
    ],
)
def test_other_kinds_of_model(folder: Path, changes: dict, fragment: str) -> None:
    edit(folder / "config.json", **changes)
    for call in (read_model_config, check_model, load_model):
        refused(call, config(folder), fragment, "not a causal language model")


def test_spoilt_config(folder: Path) -> None:
    edit(folder / "config.json", model_type="my_own", auto_map={"AutoConfig": "mine.Config"})
    (folder / "mine.py").write_text("raise SystemExit('model code must never run')\n")
    refused(check_model, config(folder), "config.json cannot be used")
    (folder / "config.json").write_text("{ not JSON")
    refused(check_model, config(folder), "config.json cannot be used")


def test_damaged_weights(folder: Path) -> None:
    weights = folder / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-100])
    refused(check_model, config(folder), "model.safetensors is damaged")
    refused(load_model, config(folder), "weights cannot be loaded")
    weights.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    refused(check_model, config(folder), "Git LFS pointer", "git lfs pull")


def test_shards(folder: Path) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="20KB")
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 1
    check_model(config(folder))
    loaded = load_model(config(folder))
    assert all(map(torch.equal, loaded.state_dict().values(), model.state_dict().values()))
    shards[1].unlink()
    refused(check_model, config(folder), f"{shards[1].name} is missing")


def test_parameters_without_weights(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    missing = {"transformer.h.0.mlp.c_fc.weight", "transformer.ln_f.bias"}
    kept = {name: weight for name, weight in weights.items() if name not in missing}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    check_model(config(folder))
    refused(load_model, config(folder), "2 parameters have no weights", *missing)


def test_a_configuration_of_a_much_larger_model_is_refused_before_it_is_made(folder: Path) -> None:
    """transformers takes memory for all of it first: a GPT-2 that says "llama" has 7 billion."""
    path = folder / "config.json"
    body = json.loads(path.read_text())
    path.write_text(json.dumps({**body, "model_type": "llama", "architectures": None}))
    with pytest.raises(
        UserError, match=r"config\.json describes [\d,]{9,} parameters and its files"
    ):
        check_model(config(folder))


def test_weights_of_another_shape(folder: Path) -> None:
    edit(folder / "config.json", n_embd=32)
    refused(load_model, config(folder), "weights cannot be loaded")


def test_tokenizer_without_end(folder: Path) -> None:
    edit(folder / "tokenizer_config.json", eos_token=None)
    refused(check_model, config(folder), "no end-of-text token", "eos_token")


def test_no_tokenizer(folder: Path, tmp_path: Path) -> None:
    for file in folder.glob("*token*"):
        file.unlink()
    refused(check_model, config(folder), "model.tokenizer=FOLDER")
    with pytest.raises(UserError, match=r"model\.tokenizer=\S+: "):
        load_tokenizer(config(folder, tmp_path))


def test_empty_vocabulary(folder: Path) -> None:
    (folder / "tokenizer.json").write_text(
        transformers.GPT2TokenizerFast().backend_tokenizer.to_str()
    )
    refused(check_model, config(folder), "empty vocabulary")


def test_tokenizer_larger_than_the_embedding(folder: Path, tmp_path: Path) -> None:
    size = len(load_tokenizer(config(folder)))
    edit(folder / "config.json", vocab_size=size - 1)
    found = f"token ids up to {size - 1}, the model's embedding {size - 1} rows"
    refused(check_model, config(folder), found)
    other = shutil.copytree(folder, tmp_path / "other")
    with pytest.raises(UserError, match=rf"model\.tokenizer=\S+other: .*{found}"):
        load_tokenizer(config(folder, other))


def test_pickled_weights_are_read_as_weights_only(original: Path, folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    for new in (True, False):
        torch.save(weights, folder / "pytorch_model.bin", _use_new_zipfile_serialization=new)
        check_model(config(folder))
        found, expected = (load_model(config(one)).state_dict() for one in (folder, original))
        assert all(torch.equal(found[name], value) for name, value in expected.items())
    torch.save({**weights, "code": Path}, folder / "pytorch_model.bin")
    refused(check_model, config(folder), "more than tensors")
    refused(load_model, config(folder), "weights cannot be loaded")


@pytest.mark.parametrize(
    "settings",
    [
        {"quant_method": "bitsandbytes", "load_in_4bit": True},
        {"quant_method": "bitsandbytes", "load_in_8bit": True},
        {"load_in_4bit": True},
        *(
            {"quant_method": name, "bits": 4}
            for name in ("gptq", "awq", "hqq", "quanto", "unheard")
        ),
        {"quant_method": "fp8"},
        {"quant_method": "compressed-tensors"},
        {"quant_method": "mxfp4"},
        {"quant_method": "torchao", "quant_type": {"default": {"_type": "x"}}},
        {},
    ],
    ids=str,
)
def test_quantized_weights_are_refused_before_they_are_read(folder: Path, settings: dict) -> None:
    edit(folder / "config.json", quantization_config=settings)
    (folder / "model.safetensors").unlink()  # or this would be told first
    for call in (read_model_config, check_model, load_model):
        refused(call, config(folder), "its weights are quantized", "not supported")


def test_an_adapter_is_no_whole_model(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")
    assert is_adapter(folder)
    for call in (read_model_config, check_model, load_tokenizer, load_model):
        refused(call, config(folder), "a PEFT adapter", "checkpoint=", "merge_and_unload")
