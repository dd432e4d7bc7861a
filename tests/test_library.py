"""The calls for scripts do what the commands do, and leave the model as it was."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

from sumcirc.circuits.attribution.methods import attribute
from sumcirc.circuits.inputs.example_pairs import TokenPairs, pair_metric
from sumcirc.circuits.inputs.pair_files import read_pairs
from sumcirc.compare.masks.mask_summary import mask_summary
from sumcirc.data.documents import read_corpus
from sumcirc.data.encoding import Encoder
from sumcirc.errors import UserError
from sumcirc.library import (
    attribute_change,
    choose_lora,
    find_circuit,
    mask_change,
    measure,
    probe,
)
from sumcirc.schema import (
    CardOptions,
    CircuitOptions,
    Corruption,
    DataConfig,
    EncodingConfig,
    Grain,
    MaskOptions,
    PathOptions,
    SelectorConfig,
    SelectorName,
    Source,
)
from sumcirc.selection.choosing import select
from sumcirc.storage.writing import plain_numbers
from tests.support.command_server import CommandServer
from tests.support.hub_server import news
from tests.support.small_evidence import evidence, selecting
from tests.support.small_models import CONTEXT

OPTIONS = CircuitOptions(documents=4, sizes=[0.2, 1.0], random_circuits=1, resamples=10, size=0.2)


@pytest.fixture
def model(gpt2_folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(gpt2_folder).train()


@pytest.fixture(scope="module")
def texts() -> list[tuple[str, str]]:
    return [(item["article"], item["highlights"]) for item in news("validation", 10)]


def state(model: Any) -> list[Any]:
    """What a call has to leave alone."""
    return [
        {name: p.detach().clone() for name, p in model.named_parameters()},
        [(p.requires_grad, p.grad) for p in model.parameters()],
        [module.training for module in model.modules()],
        [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()],
        model.config._attn_implementation,
        torch.random.get_rng_state(),
    ]


def assert_same(model: Any, before: list[Any]) -> None:
    after = state(model)
    assert all(torch.equal(after[0][name], p) for name, p in before[0].items())
    assert after[1:-1] == before[1:-1]
    assert torch.equal(after[-1], before[-1])


def test_a_circuit_of_texts(
    model: Any, tokenizer: Any, texts: list[tuple[str, str]], tmp_path: Path
) -> None:
    before = state(model)
    found = find_circuit(model, tokenizer, texts, OPTIONS)
    assert_same(model, before)
    assert 2 <= len(found.scores.ids) <= 4
    assert found.absolute.points[-1].faithfulness.mean == pytest.approx(1)
    source, destination, score = found.largest_edges(1)[0]
    assert abs(score) == pytest.approx(np.abs(found.aggregated[found.circuit]).max())
    found.save(str(tmp_path / "circuit.json"))
    edges = json.loads((tmp_path / "circuit.json").read_text())["edges"]
    assert edges[f"{source}->{destination}"] == {"score": pytest.approx(score), "in_graph": True}


def test_a_circuit_of_a_file_of_pairs(model: Any, tokenizer: Any, tmp_path: Path) -> None:
    lines = [
        {"clean": f"Trains to {n} of", "corrupted": f"Trains to {n + 1} of"} for n in (2, 4, 6, 7)
    ]
    file = tmp_path / "own.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = find_circuit(model, tokenizer, file, OPTIONS)
    pairs = read_pairs(str(file), Encoder(tokenizer, EncodingConfig(), CONTEXT))
    tokens = TokenPairs.of(pairs)
    expected = attribute(model, tokens, pair_metric("kl", tokens)).mean
    whole = find_circuit(model, tokenizer, file, replace(OPTIONS, held_out=0.0))
    assert torch.equal(whole.scores.mean, expected)
    assert whole.in_sample is None
    # by default, edges are chosen on half of the pairs and judged on the others
    assert set(found.scores.ids) | set(found.absolute.documents) == {pair.id for pair in pairs}
    assert not set(found.scores.ids) & set(found.absolute.documents)
    assert found.in_sample is not None
    assert found.card is not None
    assert found.card["minimal"].said.startswith("2 held-out pairs; 8 or more are needed")
    assert whole.card is not None
    assert "judged in-sample" in whole.card["minimal"].said
    none = find_circuit(model, tokenizer, file, OPTIONS, card=CardOptions(lines=["none"]))
    assert none.card is None


def test_a_twin_is_the_wires(model: Any, tokenizer: Any, texts: list[tuple[str, str]]) -> None:
    with pytest.raises(UserError, match=r"circuit\.corruption=counterfactual: is for data=wire"):
        find_circuit(model, tokenizer, texts, CircuitOptions(corruption=Corruption.counterfactual))


def test_an_adapted_model_is_probed_beside_its_own_base(
    model: Any, tokenizer: Any, texts: list[tuple[str, str]]
) -> None:
    plain = measure(model, tokenizer, texts)
    assert "attention/entropy" in plain.values
    assert "attention/kl_tuned_base" not in plain.values
    adapted = get_peft_model(
        model,
        LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True, task_type="CAUSAL_LM"),
    )
    before = state(adapted)
    fresh = measure(adapted, tokenizer, texts)  # type: ignore[arg-type]
    assert_same(adapted, before)
    kl = "attention/kl_tuned_base"
    assert fresh.documents == [str(number) for number in range(len(texts))]
    assert np.abs(fresh.values[kl]).max() < 1e-6  # B is zero
    with torch.no_grad():
        for name, p in adapted.named_parameters():
            if "lora_B" in name and ".1.attn" in name:
                p.normal_(std=0.5)
    moved = measure(adapted, tokenizer, texts)  # type: ignore[arg-type]
    by_layer = moved.values[kl].mean((1, 2))
    assert by_layer[0] < 1e-6 < 1e-3 < by_layer[1]


def test_the_choice_is_that_of_the_command(
    model: Any, tokenizer: Any, gpt2_folder: Path, news_files: dict[str, Path], tmp_path: Path
) -> None:
    """Given the training documents that the command draws, in that order, it chooses the same."""
    from sumcirc.measures.measure_documents import in_drawn_order

    config = selecting(gpt2_folder, news_files, tmp_path, "cka_redundancy", count=1, documents=7)
    looked_at = evidence(config)
    expected = select(looked_at)
    drawn = in_drawn_order(looked_at.data.corpora["train"].documents, config.data.seed)[:7]
    before = state(model)
    lora, ranking = choose_lora(
        model,
        tokenizer,
        [(item.document, item.references[0]) for item in drawn],
        SelectorConfig(name=SelectorName.cka_redundancy, count=1, documents=7, resamples=50),
        encoding=config.encoding,
        rank=2,
    )
    assert_same(model, before)
    assert ranking.layers == expected.layers
    scores = {one.layer: one.score for one in expected.ranking}
    assert {one.layer: one.score for one in ranking.ranking} == pytest.approx(scores, rel=1e-5)
    adapted = get_peft_model(model, lora)
    trained = [name for name, p in adapted.named_parameters() if p.requires_grad]
    assert trained
    assert all(f".h.{ranking.layers[0]}." in name for name in trained)


@pytest.mark.parametrize("name", ["page", "circuit", "entropy", "random"])
def test_selectors_by_name_fill_a_budget(
    name: str, model: Any, tokenizer: Any, texts: list[tuple[str, str]], tmp_path: Path
) -> None:
    options = SelectorConfig(name=SelectorName(name), documents=6, resamples=20, probe_steps=2)
    selector = name if name == "random" else options
    lora, ranking = choose_lora(
        model, tokenizer, texts, selector, cache=tmp_path / "cache", budget=5_000
    )
    adapted = get_peft_model(model, lora)
    trained = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    assert 0.97 * 5_000 <= trained <= 5_000
    assert len(ranking.layers) == 1
    assert (tmp_path / "cache").is_dir() == (name != "random")


def test_mistakes_are_one_line(
    model: Any, tokenizer: Any, texts: list[tuple[str, str]], gpt2_folder: Path
) -> None:
    from transformers import AutoModelForCausalLM, BloomConfig, BloomForCausalLM

    with pytest.raises(UserError, match="selector=pages: choose from all, fixed"):
        choose_lora(model, tokenizer, texts, "pages", rank=2)
    with pytest.raises(UserError, match=r"adaptation\.budget=10: rank 1 on these"):
        choose_lora(model, tokenizer, texts, "page", budget=10)
    with pytest.raises(UserError, match="no name"):
        choose_lora(model, tokenizer, texts, SelectorConfig(), rank=2)
    fresh = AutoModelForCausalLM.from_config(model.config)
    fresh.name_or_path = ""
    with pytest.raises(UserError, match="selector=drift tunes a second model"):
        choose_lora(fresh, tokenizer, texts, "drift", rank=2)
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True))
    with pytest.raises(UserError, match="has an adapter already"):
        choose_lora(adapted, tokenizer, texts, "page", rank=2)  # type: ignore[arg-type]
    bloom = BloomForCausalLM(BloomConfig(hidden_size=8, n_layer=1, n_head=1, vocab_size=400))
    with pytest.raises(UserError, match="`bloom` is not supported"):
        measure(bloom, tokenizer, texts)


def test_the_earlier_name_of_measure_still_works() -> None:
    assert probe is measure


def test_a_change_is_attributed(model: Any, tokenizer: Any, texts: list[tuple[str, str]]) -> None:
    """One MLP changed: it has all of the gain; with an adapter its base isn't given."""
    options = PathOptions(nodes=14, models=2)
    tuned = copy.deepcopy(model)
    with torch.no_grad():
        tuned.transformer.h[1].mlp.c_proj.weight.mul_(1.2)
    kept, base = state(tuned), state(model)
    found = attribute_change(tuned, tokenizer, texts[:2], model, options)
    assert_same(tuned, kept)
    assert_same(model, base)
    assert [unit.label for unit in found.units[Grain.module]] == ["layer 1 mlp_out"]
    np.testing.assert_allclose(found.score("layer 1 mlp_out"), found.gain, rtol=1e-3)
    assert found.effects is not None
    np.testing.assert_allclose(found.effects.add[0], found.gain)
    config = LoraConfig(target_modules=["c_fc"], fan_in_fan_out=True, init_lora_weights=False)
    adapter = get_peft_model(copy.deepcopy(model), config)
    by_adapter = attribute_change(adapter, tokenizer, texts[:2], options=options)
    assert {unit.part for unit in by_adapter.units[Grain.module]} == {"mlp_in"}
    with pytest.raises(UserError, match="has no adapter"):
        attribute_change(tuned, tokenizer, texts[:2])
    tuned.config.layer_norm_epsilon = 0.1
    with pytest.raises(UserError, match="configurations of base and model differ"):
        attribute_change(tuned, tokenizer, texts[:2], model)


def test_masks_over_a_change(model: Any, tokenizer: Any) -> None:
    """Two MLPs changed, one of them hardly."""
    texts = [(item["article"], item["highlights"]) for item in news("train", 16)]
    tuned = copy.deepcopy(model)
    with torch.no_grad():
        tuned.transformer.h[0].mlp.c_proj.weight.mul_(1.0001)
        tuned.transformer.h[1].mlp.c_proj.weight.mul_(1.5)
    kept, base = state(tuned), state(model)
    options = MaskOptions(steps=5, seeds=1, random=1, sizes=[0.5])
    found = mask_change(tuned, tokenizer, texts, model, options)
    assert_same(tuned, kept)
    assert_same(model, base)
    assert found.order == ["layer 1 mlp_out", "layer 0 mlp_out"]
    assert len(found.items) == len(found.trained_on) == 8
    np.testing.assert_allclose(found.judged.kept[0, 0], found.judged.after, atol=1e-3)
    assert found.forgetting is None
    with pytest.raises(UserError, match=r"retention=true: there are 0 plain texts"):
        mask_change(tuned, tokenizer, texts, model, replace(options, retention=True))
    short = ["Read."] * 7
    with pytest.raises(UserError, match=r"retention=true: there are 7 plain texts"):
        mask_change(tuned, tokenizer, texts, model, options, plain_texts=short)
    with pytest.raises(UserError, match="there are 15 items"):
        mask_change(tuned, tokenizer, texts[:15], model, options)
    with pytest.raises(UserError, match=r"there is 1 item;"):
        mask_change(tuned, tokenizer, texts[:1], model, options)


def test_forgetting_is_that_of_the_command(
    model: Any, tokenizer: Any, commands: CommandServer, tmp_path: Path
) -> None:
    """`compare.masks.retention=true compare.text=FILE`; one text is too long, one too short."""
    tuned = copy.deepcopy(model)
    with torch.no_grad():
        tuned.transformer.h[0].mlp.c_proj.weight.mul_(3.0)
        tuned.transformer.h[1].mlp.c_proj.weight.mul_(10.0)
    for name, one in (("before", model), ("after", tuned)):
        one.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    documents = [(item["article"], item["highlights"]) for item in news("train", 16)]
    plain = [f"{item['highlights']} It rained." for item in news("validation", 8)]
    plain = [*plain, plain[0] * 20, "a"]
    rows = {
        "test.jsonl": [{"document": one, "summary": other} for one, other in documents],
        "plain.jsonl": [{"text": text} for text in plain],
    }
    for file, lines in rows.items():
        (tmp_path / file).write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = commands.run(
        *("compare", "before=before", "after=after", "data=files", "data.test=test.jsonl"),
        *("compare.analyses=[masks]", "compare.items=16", "compare.text=plain.jsonl"),
        *("compare.masks.retention=true", "compare.masks.steps=2", "compare.masks.seeds=1"),
        *("compare.masks.random=1", "compare.masks.sizes=[0.5]", "logger=none", "run.name=r"),
        *("trainer.threads=1", "sweep.name=s", "seed=1"),
        cwd=tmp_path,
        figures=False,
    )
    assert done.code == 0, done.output
    run = tmp_path / "runs/s/r"
    summary = json.loads((run / "summary.json").read_text())["after"]["after"]["masks"]
    options = MaskOptions(steps=2, seeds=1, random=1, sizes=[0.5])
    in_order = read_corpus(
        DataConfig(name="f", source=Source.files, test=str(tmp_path / "test.jsonl")), "test"
    ).documents
    texts = [(item.document, item.references[0]) for item in in_order]
    found = mask_change(tuned, tokenizer, texts, model, options, plain_texts=plain)
    assert found.forgetting is not None
    assert found.forgetting.kl.shape == (len(found.judged.rankings), 1, 9)
    expected = plain_numbers(mask_summary(found))
    assert expected["retention"]["texts"] == summary["retention"]["texts"] == 9
    for key in ("before", "nll_change", "kl"):
        assert expected["retention"][key] == pytest.approx(summary["retention"][key], rel=1e-4)
    assert expected["retention"]["kl"]["mean"] > 1e-3
    for name, row in summary["rankings"].items():
        mine = expected["rankings"][name]["curve"][0]
        for key in ("nll_change", "kl"):
            assert mine[key] == pytest.approx(row["curve"][0][key], rel=1e-4, abs=1e-7), name
