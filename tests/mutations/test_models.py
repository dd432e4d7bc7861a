"""Model folders and adapters whose files are damaged, or ask for what is not there."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from sumcirc.models.architectures import context_length
from sumcirc.models.loading import load_tokenizer
from sumcirc.models.model_reference import reference
from sumcirc.models.restoring import check_reference, load_reference
from tests.mutations import containers, mutating
from tests.mutations.mutating import SCALARS, Draw, Mutation
from tests.mutations.trials import FEW, MANY, faults
from tests.support.small_models import adapted, small_model

NUMBERS = [FEW, pytest.param(MANY, marks=pytest.mark.slow)]

# what configurations of the hub hold, and some that none does
MODEL: dict[str, list[Any]] = {
    "model_type": ["bert", "t5", "mamba", "no_such_model", "gpt2 ", "llama", "whisper"],
    "architectures": [["T5ForConditionalGeneration"], ["Nope"], [], [1]],
    "activation_function": ["no_such_act", "quick_gelu", "relu", ["gelu"]],
    "hidden_act": ["no_such_act", "silu", "xielu"],
    "dtype": ["float33", "torch.float16", "bfloat16", "int8", "float8_e4m3fn", {}],
    "torch_dtype": ["float33", "half", "auto"],
    "attn_implementation": ["flash_attention_2", "flash_attention_3", "nope", "eager"],
    "_attn_implementation": ["flash_attention_2", "kernels-community/flash-attn", "nope"],
    "quantization_config": [
        {"quant_method": method, "bits": 4}
        for method in ("gptq", "awq", "bitsandbytes", "fp8", "mxfp4", "hqq", "torchao", "nope", 3)
    ]
    + [{}, [], {"load_in_8bit": True}, {"quant_method": None}],
    "rope_parameters": [{"rope_type": "yarn"}, {"rope_type": "nope"}, {}, {"rope_theta": -1}],
    "rope_scaling": [{"type": "dynamic"}, {"type": "linear", "factor": "x"}, 3],
    "layer_types": [["full_attention"], ["nope", "nope"], "full_attention"],
    "tie_word_embeddings": [False, "yes"],
    "is_encoder_decoder": [True],
    "is_decoder": [False],
    "auto_map": [{"AutoModelForCausalLM": "modeling.Mine"}, {"AutoConfig": "x--y.Z"}, []],
    "n_layer": [3, 0, 1],
    "n_embd": [33, 0],
    "n_head": [3, 0, 64],
    "vocab_size": [1, 401, 2**40],
    "num_key_value_heads": [3, 0, 8],
    "id2label": [{"a": "b"}, {"0": 1}],
    "eos_token_id": [5000, [0, 1], "x"],
    "use_cache": ["x"],
    "transformers_version": ["9.0", 3],
}
ADAPTER: dict[str, list[Any]] = {
    "peft_type": ["LORA", "lora", "NOPE", ["LORA"], {}, "IA3", "PREFIX_TUNING", "LOHA", "XLORA"],
    "task_type": ["SEQ_CLS", "NOPE", None, []],
    "target_modules": ["nope", ["nope"], [], None, "all-linear", ".*", "(", [1], {"a": 1}],
    "r": [2, 8, 0],
    "lora_alpha": ["x", 0, -3],
    "lora_dropout": [1.5, -1, "x"],
    "fan_in_fan_out": ["x"],
    "bias": ["all", "lora_only", "nope", 3],
    "base_model_name_or_path": ["/nowhere", "some/where", "..", "", [1], None, "https://x"],
    "revision": ["main", "nope", 3],
    "layers_to_transform": [[7], "x", [0], -1],
    "layers_pattern": ["h", ["h"], 3],
    "rank_pattern": [{"(": 2}, {"c_attn": "x"}, [1]],
    "alpha_pattern": [{"c_attn": 0}, 3],
    "modules_to_save": [["lm_head"], ["nope"], "x", [1]],
    "init_lora_weights": ["pissa", "olora", "nope", "eva", 3],
    "use_dora": [True, "x"],
    "use_rslora": [True, []],
    "loftq_config": [{"loftq_bits": 4}, 3],
    "megatron_config": [{}, 3],
    "megatron_core": [3, "os"],
    "trainable_token_indices": [[1], {"wte": [1]}, 10**9],
    "layer_replication": [[[0, 1]], [[0, 9]], 3],
    "auto_mapping": [{"base_model_class": "Nope", "parent_library": "os"}, 3],
    "inference_mode": ["x", False],
    "arrow_config": [{}, 3],
    "corda_config": [{}, 3],
    "qalora_group_size": [0],
    "exclude_modules": [".*", 3],
}


def settings(known: dict[str, list[Any]]) -> Draw:
    """Draw one or two settings and replace them by values seen elsewhere, or by anything."""

    def chosen(chance: random.Random) -> Mutation:
        keys = chance.sample(list(known), chance.choice([1, 1, 2]))
        more = {
            key: chance.choice([*known[key], *known[key], chance.choice(SCALARS)]) for key in keys
        }

        def apply(path: Path) -> None:
            path.write_text(json.dumps({**json.loads(path.read_text()), **more}))

        return Mutation(f"{more!r:.150}", apply)

    return chosen


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Path:
    """A GPT-2 of two layers with its tokenizer."""
    folder = tmp_path_factory.mktemp("models") / "base"
    return _saved(small_model("gpt2", vocab_size=len(tokenizer)), folder, tokenizer)


@pytest.fixture(scope="module")
def rotary(tmp_path_factory: pytest.TempPathFactory, bos_tokenizer: Any) -> Path:
    """A Llama of two layers with its tokenizer."""
    folder = tmp_path_factory.mktemp("models") / "rotary"
    return _saved(small_model("llama", vocab_size=len(bos_tokenizer)), folder, bos_tokenizer)


@pytest.fixture(scope="module")
def adapter(base: Path, tokenizer: Any) -> Path:
    """LoRA on it."""
    model = small_model("gpt2", vocab_size=len(tokenizer))
    model.name_or_path = str(base)
    folder = base.with_name("adapter")
    tuned = adapted(model)
    tuned.peft_config["default"].base_model_name_or_path = str(base)
    tuned.save_pretrained(folder)
    return folder


def _saved(model: Any, folder: Path, tokenizer: Any) -> Path:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def used(folder: Path) -> torch.Tensor:
    """Check, load and run a model on a few tokens, as every verb does."""
    found = reference(str(folder), "checkpoint")
    check_reference(found, analysed=True)
    tokenizer = load_tokenizer(found.model)
    model: Any = load_reference(found)
    assert context_length(model.config) > 0
    ids = torch.tensor([tokenizer("The ferry sank").input_ids])
    with torch.no_grad():
        return model(input_ids=ids).logits


@pytest.mark.parametrize("count", NUMBERS)
@pytest.mark.parametrize("kind", ["base", "rotary", "adapter"])
def test_what_a_model_folder_says(
    kind: str, count: int, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder = tmp_path / kind
    shutil.copytree(request.getfixturevalue(kind), folder)
    used(folder)
    if kind == "adapter":
        file, draws = folder / "adapter_config.json", [settings(ADAPTER)] * 8
    else:
        file, draws = folder / "config.json", [settings(MODEL)] * 8
    found = faults(file, [*mutating.JSON, *draws], lambda: used(folder), count)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("count", NUMBERS)
@pytest.mark.parametrize(
    ("kind", "name", "draws"),
    [
        ("base", "model.safetensors", containers.TENSORS),
        ("adapter", "adapter_model.safetensors", containers.TENSORS),
        ("base", "tokenizer.json", mutating.JSON),
        ("base", "tokenizer_config.json", mutating.JSON),
        ("base", "generation_config.json", mutating.JSON),
    ],
)
def test_other_files_of_a_model_folder(
    kind: str, name: str, draws: list[Draw], count: int, request: Any, tmp_path: Path
) -> None:
    folder = tmp_path / kind
    shutil.copytree(request.getfixturevalue(kind), folder)
    found = faults(folder / name, draws, lambda: used(folder), count)
    assert not found, "\n".join(found)
