"""benchmarks/head_sets.py finds how many heads carry a planted difference, and names them."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from tests.compare.planted import OUTPUT, planted_head
from tests.support.command_server import CommandServer
from tests.support.small_models import LAYERS, small_config, write_model

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks/head_sets.py"
PLANTED = ((LAYERS - 1, 1), (LAYERS - 1, 2))  # layer and head, read by no later head
WORDS = ("red", "blue", "green", "black", "white", "brown", "grey", "pink")
PIECES = " ?[^ :]+|:"


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT))


@pytest.fixture(scope="module")
def compared(commands: CommandServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison of two Llamas that differ in the outputs of two heads."""
    folder = tmp_path_factory.mktemp("pair")
    texts = {f"{one}-{more}": f"say {one} {more} now :" for one in WORDS for more in ("cat", "dog")}
    words = sorted({piece for text in texts.values() for piece in re.findall(PIECES, text)})
    numbered = {word: i for i, word in enumerate(["<s>", *words])}
    made = Tokenizer(models.WordLevel(numbered, unk_token="<s>"))
    made.pre_tokenizer = pre_tokenizers.Split(Regex(PIECES), "isolated")  # type: ignore[assignment]
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="<s>")
    write_model(folder / "before", small_config("llama"), tokenizer)
    before: Any = AutoModelForCausalLM.from_pretrained(folder / "before")
    after = before
    for layer, head in PLANTED:
        after = planted_head(after, layer, head, OUTPUT, by=1.0)
    after.save_pretrained(folder / "after")
    tokenizer.save_pretrained(folder / "after")
    # answers between which the models differ by much the same on every prompt
    ids = torch.tensor([tokenizer(text)["input_ids"] for text in texts.values()])
    with torch.no_grad():
        change = after(ids).logits[:, -1] - before(ids).logits[:, -1]
    apart = change[:, 1 : len(numbered), None] - change[:, None, 1 : len(numbered)]
    clear = (apart.mean(0) / (apart.std(0) + 1e-3)).numpy()
    good, bad = (words[i] for i in np.unravel_index(clear.argmax(), clear.shape))
    file = folder / "prompts.jsonl"
    rows = [{"id": i, "prompt": text, "good": good, "bad": bad} for i, text in texts.items()]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = commands.run(
        *("compare", f"before={folder / 'before'}", f"after={folder / 'after'}", f"prompts={file}"),
        *("compare.items=16", "compare.analyses=[patching]", "compare.parts=[output,mlp]"),
        *("compare.top=0", "trainer.threads=1", "logger=none", "sweep.name=c", "run.name=r"),
        cwd=folder,
        figures=False,
    )
    assert done.code == 0, done.output
    return folder / "runs/c/r"


def test_planted_heads_carry_the_gap(
    script: dict[str, Any], compared: Path, tmp_path: Path
) -> None:
    words = [str(compared), "--results", str(tmp_path), "--draws", "3", "--groups", "^([a-z]+)-"]
    script["main"](words)
    file = tmp_path / "head-sets.json"
    (found,) = json.loads(file.read_text()).values()
    for one in found.values():
        assert (one["prompts"], one["groups"]) == (8, 8)
        heads = one["heads"]
        assert heads["sizes"][:2] == [1, 2]
        planted = {f"output.{layer}.{head}" for layer, head in PLANTED}
        assert set(heads["named"][:2]) == planted
        largest = heads["largest"]
        assert largest["mean"][1:] == pytest.approx([1.0] * (len(heads["sizes"]) - 1), abs=1e-3)
        assert heads["needed"]["0.8"]["size"] <= 2
        for kind in ("random_by_layer", "random_anywhere"):
            assert heads[kind]["mean"][-1] == pytest.approx(1.0, abs=1e-3)
            assert heads[kind]["least"][0] <= heads[kind]["mean"][0] <= heads[kind]["most"][0]
        assert one["mlps"]["largest"]["mean"][-1] < 1.0
    text = file.read_text()
    script["main"](words)  # nothing is measured again
    assert file.read_text() == text


def test_random_sets_match_the_layers(script: dict[str, Any]) -> None:
    component = script["Component"]
    ranked = [component(layer, "output", head) for head in range(5) for layer in (2, 0, 1)]
    ranked = ranked[:4] + ranked[:3:-1]
    sizes = [1, 3, 4, 7, 15]
    for seed in range(4):
        drawn = script["random_by_layer"](ranked, sizes, seed)
        for size, one in zip(sizes, drawn, strict=True):
            assert sorted(x.layer for x in one) == sorted(x.layer for x in ranked[:size])
            assert len(set(one)) == size
    assert len({tuple(script["random_by_layer"](ranked, [4], seed)[0]) for seed in range(9)}) > 1


def test_the_size_that_is_needed(script: dict[str, Any]) -> None:
    gap = np.array([2.0, 2.0, 2.0, 2.0])
    judged = script["Judged"](np.array([0, 0, 1, 1]), np.zeros(4), gap)
    effects = np.array([[0.4] * 4, [1.2, 1.2, 0.2, 0.2], [1.2] * 4])
    assert judged.needed(effects, [1, 4, 9], 0.5) == {"size": 9, "low": 4, "high": 9}
    assert judged.needed(effects, [1, 4, 9], 0.8) == {"size": None, "low": None, "high": None}
    assert judged.shares(effects)[0] == pytest.approx([0.2, 0.35, 0.6])
