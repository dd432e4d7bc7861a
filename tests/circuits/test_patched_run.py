"""Patched runs against the reference's numbers, a GPT-2 written out by hand, and the definition."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor

from sumcirc.circuits.graph import Graph
from sumcirc.circuits.patching import patched_pass as patching
from sumcirc.circuits.patching.patched_run import PatchedRun, source_means
from sumcirc.errors import UserError
from sumcirc.models.activations.attention_weights import AttentionWeights
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.models.unwrapping import base_model
from tests.circuits.naive_intervention import (
    FIXTURES,
    MODELS,
    documents,
    gpt2_by_hand,
    patched_by_definition,
    per_item,
    random_circuit,
    reference_inputs,
    run_plain,
    shaken,
    stored,
    tolerance,
)
from tests.support.small_models import WITH_GROUPS, small_model


def test_stored_circuits_of_the_reference() -> None:
    model, reference = stored("small_gpt2")
    clean, corrupted, mask = reference_inputs(reference)
    labels = torch.from_numpy(reference["labels"])
    expected = json.loads((FIXTURES / "small_gpt2_faithfulness.json").read_text())
    run = PatchedRun(model, clean, corrupted, mask)
    graph = run.graph
    whole = run.logits(graph.exists)
    places = {name: (row, column) for name, row, column in graph.edge_names()}
    cases = [(np.zeros_like(graph.exists), expected["corrupted"])]
    for row in expected["results"]:
        if row["N"] not in (50, 100):
            continue
        name = f"circuit_{row['method']}_{row['metric']}_{row['select']}_{row['N']}.json"
        kept = np.zeros_like(graph.exists)
        for edge, values in json.loads((FIXTURES / name).read_text())["edges"].items():
            kept[places[edge]] = values["in_graph"]
        assert kept.sum() == row["edges"]
        cases.append((kept, row))
    assert len(cases) == 5
    for kept, row in cases:
        found = per_item(run.logits(kept), whole, mask, labels)
        for name, values in found.items():
            np.testing.assert_allclose(values, row[name], rtol=0, atol=1e-9, err_msg=name)


def test_exact_patching_of_single_edges_equals_the_reference() -> None:
    model, reference = stored("small_gpt2")
    clean, corrupted, mask = reference_inputs(reference)
    labels = torch.from_numpy(reference["labels"])
    run = PatchedRun(model, clean, corrupted, mask)
    graph = run.graph
    scores = reference["scores/exact/logit_diff/f64"]  # the mean over items as stored
    whole = per_item(run.logits(graph.exists), run.logits(graph.exists), mask, labels)
    edges = np.argwhere(graph.exists)[::13]
    sets = np.repeat(graph.exists[None], len(edges), 0)
    sets[np.arange(len(edges)), edges[:, 0], edges[:, 1]] = False
    for logits, (row, column) in zip(run.logits(sets), edges, strict=True):
        found = per_item(logits, logits, mask, labels)["logit_diff"]
        # the score is that of the loss
        loss = -(found - whole["logit_diff"]).mean().item()
        assert loss == pytest.approx(scores[row, column], abs=1e-9)


@pytest.mark.parametrize("ablation", ["interchange", "zero", "mean"])
@pytest.mark.parametrize("padding", ["right", "left"])
@torch.no_grad()
def test_a_gpt2_written_out_by_hand(ablation: Any, padding: str) -> None:
    model = shaken("gpt2")
    clean, corrupted, mask = documents(padding)
    graph = Graph(HookedModel(model).shape)
    _, patched = gpt2_by_hand(model, corrupted, mask, graph.exists, torch.zeros(99, 1))
    means = source_means(model, corrupted, mask)
    torch.testing.assert_close(means, patched[:, mask.bool()].mean(1), rtol=0, atol=1e-12)
    if ablation == "zero":
        patched = torch.zeros_like(patched)
    elif ablation == "mean":
        patched = means[:, None, None].expand_as(patched)
    run = PatchedRun(model, clean, corrupted, mask, ablation=ablation, means=means)
    for density in (0.0, 0.05, 0.3, 0.6, 0.97, 1.0):
        kept = random_circuit(graph, density)
        expected, _ = gpt2_by_hand(model, clean, mask, kept, patched)
        found = run.logits(kept)
        real = mask.bool()
        torch.testing.assert_close(found[real], expected[real], rtol=0, atol=1e-11)


def take_apart(attention: Any, back: bool = False) -> None:
    """Let an attention of pairs of query heads read a key and a value of each head's own."""
    attention.num_key_value_groups = 2 if back else 1
    if hasattr(attention, "num_key_value_heads"):
        attention.num_key_value_heads = 2 if back else 4
    if "Olmo2" in type(attention).__name__:  # one norm of all keys
        weight = attention.k_norm.weight.data.unflatten(0, (-1, 8))
        weight = weight[::2] if back else weight.repeat_interleave(2, 0)
        attention.k_norm.weight.data = weight.flatten()


@pytest.mark.parametrize("expand", [False, True])
@pytest.mark.parametrize(("family", "changes"), MODELS)
@torch.no_grad()
def test_the_definition_on_every_family(family: str, changes: Any, expand: bool) -> None:
    if expand and family not in WITH_GROUPS:
        pytest.skip("without groups both graphs are the same")
    model = shaken(family, **changes)
    clean, corrupted, mask = documents("left")
    graph = Graph(HookedModel(model).shape, expand_groups=expand)
    run = PatchedRun(model, clean, corrupted, mask, graph)
    real = mask.bool()
    patched: list[Tensor] = []
    groups = {id(b.attention): b.attention for b in HookedModel(model).blocks}.values()
    for density in (0.08, 0.5, 0.95):
        kept = random_circuit(graph, density)
        found = run.logits(kept)
        for attention in groups:
            if expand:
                take_apart(attention)
        for ids, circuit in ((corrupted, graph.exists), (clean, kept)):
            written: list[Tensor] = []
            with patched_by_definition(model, graph, circuit, patched, written):
                expected = run_plain(model, ids, mask)
            patched = written
        for attention in groups:
            if expand:
                take_apart(attention, back=True)
        assert (found - run.logits(graph.exists))[real].abs().max() > 0.05
        torch.testing.assert_close(
            found[real], expected[real], rtol=0, atol=100 * tolerance(family)
        )


@pytest.mark.parametrize("padding", ["right", "left"])
@pytest.mark.parametrize(("family", "changes"), MODELS)
@torch.no_grad()
def test_nothing_kept_is_corrupted_and_all_kept_is_clean(
    family: str, changes: Any, padding: str
) -> None:
    model = shaken(family, **changes)
    clean, corrupted, mask = documents(padding)
    real = mask.bool()
    for expand in (False, True):
        graph = Graph(HookedModel(model).shape, expand_groups=expand)
        run = PatchedRun(model, clean, corrupted, mask, graph)
        none, every = np.zeros_like(graph.exists), graph.exists
        expected = torch.stack([run_plain(model, ids, mask) for ids in (corrupted, clean)])
        alone = torch.stack([run.logits(none), run.logits(every)])
        # beside another circuit neither has a short cut: its streams are summed up
        few, most = random_circuit(graph, 0.02), random_circuit(graph, 0.98)
        summed = torch.stack(
            [
                run.logits(np.stack([none, every, few, few]))[:2],
                run.logits(np.stack([none, every, most, most]))[:2],
            ]
        )
        # the norm of all keys is in float32, and sums over copies where groups are taken apart
        close = 1e-5 if family == "olmo2" and expand else 1e-12
        torch.testing.assert_close(alone[:, real], expected[:, real], rtol=0, atol=close)
        for found in summed:
            torch.testing.assert_close(
                found[:, real], expected[:, real], rtol=0, atol=100 * tolerance(family)
            )


@torch.no_grad()
def test_padding_makes_no_difference() -> None:
    model = shaken("gpt2")
    clean, corrupted, mask = documents("left")
    run = PatchedRun(model, clean, corrupted, mask)
    kept = random_circuit(run.graph, 0.4)
    padded = run.logits(kept)
    for document, real in enumerate(mask.bool()):
        alone = PatchedRun(model, clean[document, real][None], corrupted[document, real][None])
        torch.testing.assert_close(
            alone.logits(kept)[0], padded[document, real], rtol=0, atol=1e-12
        )


@pytest.mark.parametrize("family", ["gpt2", "qwen3"])
@torch.no_grad()
def test_adapter_attached_equals_merged(family: str) -> None:
    model = shaken(family)
    names = ["c_attn", "c_proj", "c_fc"] if family == "gpt2" else "all-linear"
    adapted = get_peft_model(
        model, LoraConfig(r=4, target_modules=names, fan_in_fan_out=family == "gpt2")
    )
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.3, generator=torch.Generator().manual_seed(3))
    clean, corrupted, mask = documents()
    graph = Graph(HookedModel(adapted).shape)
    sets = np.stack([random_circuit(graph, density) for density in (0.1, 0.5, 0.9)])
    attached = PatchedRun(adapted, clean, corrupted, mask).logits(sets)
    with adapted.disable_adapter():
        base = PatchedRun(adapted, clean, corrupted, mask).logits(sets)
    merged = PatchedRun(adapted.merge_and_unload(), clean, corrupted, mask).logits(sets)
    assert (attached - base).abs().max() > 0.1
    torch.testing.assert_close(attached, merged, rtol=0, atol=100 * tolerance(family))


@torch.no_grad()
def test_several_sets_little_memory_and_shared_weights_change_nothing() -> None:
    model = shaken("llama")
    clean, corrupted, mask = documents()
    run = PatchedRun(model, clean, corrupted, mask)
    sets = np.stack([random_circuit(run.graph, density) for density in (0.1, 0.3, 0.2)])
    single = torch.stack([run.hidden(kept) for kept in sets])
    at_once = run.hidden(torch.from_numpy(sets))
    shared = PatchedRun(model, clean, corrupted, mask, weights=run.weights)
    shared.memory = 1
    for found in (at_once, shared.hidden(sets)):
        torch.testing.assert_close(found, single, rtol=0, atol=1e-9)


@pytest.mark.parametrize("at_once", [1, 10**9])
@pytest.mark.parametrize("dense", [0.0, 2.0])
@torch.no_grad()
def test_both_ways_to_add_up(at_once: int, dense: float, monkeypatch: Any) -> None:
    model = shaken("gpt2")
    clean, corrupted, mask = documents()
    run = PatchedRun(model, clean, corrupted, mask)
    sets = np.stack([random_circuit(run.graph, density, 5) for density in (0.3, 0.6)])
    expected = run.hidden(sets)
    monkeypatch.setattr(patching, "DENSE_ON_CPU", dense)
    monkeypatch.setattr(patching, "STREAMS_ON_CPU", at_once)
    torch.testing.assert_close(run.hidden(sets), expected, rtol=0, atol=1e-12)


@torch.no_grad()
def test_only_wanted_positions_are_unembedded() -> None:
    model = shaken("gpt2")
    clean, corrupted, mask = documents()
    run = PatchedRun(model, clean, corrupted, mask)
    sets = np.stack([random_circuit(run.graph, density) for density in (0.1, 0.7)])
    wanted = torch.rand(clean.shape, generator=torch.Generator().manual_seed(4)) < 0.3
    rows: list[int] = []
    handle = model.lm_head.register_forward_hook(lambda m, i, out: rows.append(out[..., 0].numel()))
    found = run.logits(sets, wanted)
    handle.remove()
    assert rows == [2 * int(wanted.sum())]
    torch.testing.assert_close(found, run.logits(sets)[:, wanted])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_other_precisions(dtype: torch.dtype) -> None:
    model = shaken("qwen2")
    clean, corrupted, mask = documents()
    run = PatchedRun(model, clean, corrupted, mask)
    kept = random_circuit(run.graph, 0.3)
    expected = run.hidden(kept)
    found = PatchedRun(model.to(dtype), clean, corrupted, mask).hidden(kept)
    assert found.dtype == dtype
    error = (found.double() - expected)[mask.bool()].norm() / expected[mask.bool()].norm()
    assert error < (1e-5 if dtype == torch.float32 else 0.1)


def test_the_model_is_left_as_it_was() -> None:
    model = shaken("llama").train()
    model.model.layers[0].eval()
    modes = [module.training for module in model.modules()]
    clean, corrupted, mask = documents()
    graph = Graph(HookedModel(model).shape, expand_groups=True)
    state = torch.get_rng_state()
    run = PatchedRun(model, clean, corrupted, mask, graph)
    found = run.logits(random_circuit(graph, 0.3))
    assert not found.requires_grad
    assert torch.equal(state, torch.get_rng_state())
    assert modes == [module.training for module in model.modules()]
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert [layer.self_attn.num_key_value_groups for layer in model.model.layers] == [2, 2]


def test_hooks_go_when_a_run_fails() -> None:
    model = shaken("llama")
    clean, corrupted, mask = documents()
    graph = Graph(HookedModel(model).shape, expand_groups=True)
    run = PatchedRun(model, clean, corrupted, mask, graph)
    run.model.joined = None  # type: ignore[assignment]
    with pytest.raises(TypeError):
        run.logits(random_circuit(graph, 0.3))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert [layer.self_attn.num_key_value_groups for layer in model.model.layers] == [2, 2]


@torch.no_grad()
def test_an_unread_mlp_is_not_run() -> None:
    model = shaken("gpt2")
    clean, corrupted, mask = documents()
    run = PatchedRun(model, clean, corrupted, mask)
    graph = run.graph
    kept = np.zeros_like(graph.exists)
    kept[0, graph.mlp_destination(1)] = kept[graph.mlp_source(1), -1] = True
    rows: list[int] = []
    for block in base_model(model).transformer.h:  # type: ignore[union-attr]
        block.mlp.c_fc.register_forward_hook(lambda m, i, out: rows.append(out.shape[1]))
    found = run.logits(kept)
    assert rows == [1, 9]
    graph_full = gpt2_by_hand(model, corrupted, mask, graph.exists, torch.zeros(99, 1))[1]
    expected, _ = gpt2_by_hand(model, clean, mask, kept, graph_full)
    real = mask.bool()
    torch.testing.assert_close(found[real], expected[real], rtol=0, atol=1e-12)


def test_what_does_not_fit_is_refused() -> None:
    model = shaken("gpt2")
    clean, corrupted, mask = documents()
    with pytest.raises(UserError, match="corrupted_ids: shape"):
        PatchedRun(model, clean, corrupted[:, 1:], mask)
    with pytest.raises(UserError, match="attention_mask: shape"):
        PatchedRun(model, clean, corrupted, mask[:1])
    with pytest.raises(UserError, match="needs corrupted documents"):
        PatchedRun(model, clean)
    with pytest.raises(UserError, match="needs means"):
        PatchedRun(model, clean, ablation="mean")
    with pytest.raises(UserError, match="means: shape"):
        PatchedRun(model, clean, ablation="mean", means=torch.zeros(3, 3))
    with pytest.raises(UserError, match="take one of interchange"):
        PatchedRun(model, clean, corrupted, ablation="noise")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="graph: was made for"):
        PatchedRun(model, clean, corrupted, graph=Graph(HookedModel(small_model("llama")).shape))
    run = PatchedRun(model, clean, corrupted, weights=AttentionWeights(HookedModel(model)))
    with pytest.raises(ValueError, match="kept: shape"):
        run.logits(np.ones((2, 2), dtype=bool))
