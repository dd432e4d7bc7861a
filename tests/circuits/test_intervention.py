"""Patched runs against the reference's numbers, a GPT-2 written out by hand, and the definition."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from sumcirc.circuits import patching
from sumcirc.circuits.graph import Graph
from sumcirc.circuits.intervention import PatchedRun, source_means
from sumcirc.circuits.residual import Projections
from sumcirc.errors import UserError
from sumcirc.modeling.anatomy import FAMILIES
from sumcirc.modeling.parts import Parts, base_model
from tests.support.small_models import VOCABULARY, WITH_GROUPS, small_model

FIXTURES = Path(__file__).parents[1] / "fixtures" / "eap_ig"
MODELS = [(family, {}) for family in FAMILIES] + [("gpt_neox", {"use_parallel_residual": False})]


def tolerance(family: str) -> float:
    """Hugging Face keeps rotary embeddings and RMSNorm in float32."""
    return 1e-12 if family == "gpt2" else 2e-6


def shaken(family: str, **changes: Any) -> Any:
    """Random biases and norms as well, so that a term left out shows."""
    model = small_model(family, **changes).double()
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
        parameter.data += 0.3 * noise
    return model


def documents(padding: str = "right") -> tuple[Tensor, Tensor, Tensor]:
    """Clean and corrupted tokens and the mask of three documents."""
    generator = torch.Generator().manual_seed(2)
    clean, corrupted = torch.randint(0, VOCABULARY, (2, 3, 9), generator=generator)
    mask = torch.ones(3, 9, dtype=torch.long)
    for document, pads in enumerate((0, 3, 5)):
        hidden = slice(9 - pads, 9) if padding == "right" else slice(0, pads)
        mask[document, hidden] = 0
    return clean, corrupted, mask


def random_circuit(graph: Graph, density: float, seed: int = 0) -> NDArray[np.bool_]:
    draws = np.random.default_rng(seed).random(graph.exists.shape)
    return (draws < density) & graph.exists


def stored(name: str) -> tuple[Any, Any]:
    config = AutoConfig.for_model(**json.loads((FIXTURES / f"{name}_config.json").read_text()))
    model = AutoModelForCausalLM.from_config(config).double().eval()
    model.load_state_dict(load_file(FIXTURES / f"{name}.safetensors"), strict=False)
    model.tie_weights()
    return model, np.load(FIXTURES / f"{name}_reference.npz")


def reference_inputs(reference: Any) -> tuple[Tensor, Tensor, Tensor]:
    ids = (torch.from_numpy(reference[name]) for name in ("clean_ids", "corrupted_ids"))
    return *ids, torch.from_numpy(reference["attention_mask"])  # type: ignore[return-value]


def per_item(logits: Tensor, clean: Tensor, mask: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """The reference's three metrics; the logit difference is positive."""
    rows, last = torch.arange(len(logits)), mask.sum(1) - 1
    at_end = logits[rows, last].gather(1, labels)
    reference, own = clean.log_softmax(-1), logits.log_softmax(-1)
    kl = (reference.exp() * (reference - own)).sum(-1)
    return {
        "logit_diff": at_end[:, 0] - at_end[:, 1],
        "kl_last": kl[rows, last],
        "kl_all": (kl * mask).sum(1) / mask.sum(1),
    }


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


# ---- a GPT-2 written out: one residual stream per destination


def gpt2_by_hand(
    model: Any, ids: Tensor, mask: Tensor, kept: NDArray[np.bool_], patched: Tensor
) -> tuple[Tensor, Tensor]:
    """Logits, and what every source wrote [sources, documents, positions, width].

    Args:
        patched: what a cut edge carries, of the same shape (or one that broadcasts).
    """
    body, heads = model.transformer, model.config.n_head
    width = model.config.n_embd // heads
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    constant = body.wpe(positions)
    sources = [body.wte(ids)]
    causal = torch.ones(ids.shape[1], ids.shape[1]).tril().bool() & mask[:, None, :].bool()
    causal = causal | torch.eye(ids.shape[1]).bool()  # a pad sees itself
    column = 0

    def stream() -> Tensor:
        nonlocal column
        total = constant.clone()
        for row, own in enumerate(sources):
            total = total + (own if kept[row, column] else patched[row])
        column += 1
        return total

    for block in body.h:
        weight, bias = block.attn.c_attn.weight, block.attn.c_attn.bias
        made = []
        for letter in range(3):
            slices = []
            for head in range(heads):
                part = slice((letter * heads + head) * width, (letter * heads + head + 1) * width)
                slices.append(block.ln_1(stream()) @ weight[:, part] + bias[part])
            made.append(slices)
        written = []
        for head in range(heads):
            q, k, v = (made[letter][head] for letter in range(3))
            scores = (q @ k.mT / width**0.5).masked_fill(~causal, -torch.inf)
            output = block.attn.c_proj.weight[head * width : (head + 1) * width]
            written.append(scores.softmax(-1) @ v @ output)
        sources += written
        constant = constant + block.attn.c_proj.bias
        sources.append(block.mlp(block.ln_2(stream())))
    return model.lm_head(body.ln_f(stream())), torch.stack(sources)


@pytest.mark.parametrize("ablation", ["interchange", "zero", "mean"])
@pytest.mark.parametrize("padding", ["right", "left"])
@torch.no_grad()
def test_a_gpt2_written_out_by_hand(ablation: Any, padding: str) -> None:
    model = shaken("gpt2")
    clean, corrupted, mask = documents(padding)
    graph = Graph(Parts(model).shape)
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


# ---- by the definition, on any family: every destination has the sum of all sources for itself


@contextmanager
def patched_by_definition(
    model: Any, graph: Graph, kept: NDArray[np.bool_], patched: list[Tensor], written: list[Tensor]
) -> Iterator[None]:
    """Every head's query, key and value is cut out of the whole projection of its own stream."""
    parts = Parts(model)
    size = parts.shape
    at: dict[str, Any] = {}
    busy: list[bool] = []  # modules called in here aren't patched again

    def unless_busy(function: Any) -> Any:
        def guarded(*arguments: Any) -> Any:
            if busy:
                return None
            busy.append(True)
            try:
                return function(*arguments)
            finally:
                busy.pop()

        return guarded

    def stream(column: int, base: Tensor) -> Tensor:
        total = base - sum(written[: int(graph.exists[:, column].sum())])
        for row in np.flatnonzero(graph.exists[:, column]):
            total = total + (written[row] if kept[row, column] else patched[row])
        return total

    def see_base(module: Any, inputs: Any) -> None:
        at["base"] = inputs[0]

    def project(layer: int, number: int) -> Any:
        def hook(module: Any, inputs: Any, output: Tensor) -> Tensor:
            block = parts.blocks[layer]
            letters = [number] if len(block.qkv) == 3 else [0, 1, 2]
            made = []
            for letter in letters:
                columns = [graph.query_columns, graph.key_columns, graph.value_columns][letter]
                places = range(*columns(layer).indices(10**6))
                for place, column in enumerate(places):
                    whole = module(block.norm_attention(stream(column, at["base"])))
                    index = place
                    if len(block.qkv) == 3:
                        index = place * (whole.shape[-1] // size.head_width) // len(places)
                    elif model.config.model_type == "gpt_neox":
                        index = place * 3 + letter
                    else:
                        index = letter * size.heads + place
                    made.append(whole.unflatten(-1, (-1, size.head_width))[..., index, :])
            if model.config.model_type == "gpt_neox":
                made = [
                    made[letter * size.heads + h] for h in range(size.heads) for letter in range(3)
                ]
            return torch.cat(made, -1)

        return unless_busy(hook)

    def see_heads(module: Any, inputs: Any) -> None:
        bias = module(torch.zeros_like(inputs[0]))
        for head in range(size.heads):
            alone = torch.zeros_like(inputs[0])
            part = slice(head * size.head_width, (head + 1) * size.head_width)
            alone[..., part] = inputs[0][..., part]
            written.append(module(alone) - bias)

    def replace(column: int) -> Any:
        return unless_busy(lambda module, inputs: (stream(column, inputs[0]),))

    def see_output(module: Any, inputs: Any, output: Tensor) -> None:
        written.append(output)

    handles = [parts.embedding.register_forward_hook(see_output)]
    for layer, block in enumerate(parts.blocks):
        handles += [
            block.norm_attention.register_forward_pre_hook(unless_busy(see_base)),
            *(m.register_forward_hook(project(layer, i)) for i, m in enumerate(block.qkv)),
            block.attn_out.register_forward_pre_hook(unless_busy(see_heads)),
            block.norm_mlp.register_forward_pre_hook(replace(graph.mlp_destination(layer))),
            block.mlp.register_forward_hook(see_output),
        ]
    handles.append(parts.final_norm.register_forward_pre_hook(replace(len(graph.destinations) - 1)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def run_plain(model: Any, ids: Tensor, mask: Tensor) -> Tensor:
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    return model(ids, attention_mask=mask, position_ids=positions).logits


@pytest.mark.parametrize("expand", [False, True])
@pytest.mark.parametrize(("family", "changes"), MODELS)
@torch.no_grad()
def test_the_definition_on_every_family(family: str, changes: Any, expand: bool) -> None:
    if expand and family not in WITH_GROUPS:
        pytest.skip("without groups both graphs are the same")
    model = shaken(family, **changes)
    clean, corrupted, mask = documents("left")
    graph = Graph(Parts(model).shape, expand_groups=expand)
    run = PatchedRun(model, clean, corrupted, mask, graph)
    real = mask.bool()
    patched: list[Tensor] = []
    groups = {id(b.attention): b.attention for b in Parts(model).blocks}.values()
    for density in (0.08, 0.5, 0.95):
        kept = random_circuit(graph, density)
        found = run.logits(kept)
        before = [getattr(attention, "num_key_value_groups", 1) for attention in groups]
        for attention in groups:
            if expand:
                attention.num_key_value_groups = 1
        for ids, circuit in ((corrupted, graph.exists), (clean, kept)):
            written: list[Tensor] = []
            with patched_by_definition(model, graph, circuit, patched, written):
                expected = run_plain(model, ids, mask)
            patched = written
        for attention, group in zip(groups, before, strict=True):
            if expand:
                attention.num_key_value_groups = group
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
        graph = Graph(Parts(model).shape, expand_groups=expand)
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
        torch.testing.assert_close(alone[:, real], expected[:, real], rtol=0, atol=1e-12)
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
    graph = Graph(Parts(adapted).shape)
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
    shared = PatchedRun(model, clean, corrupted, mask, projections=run.projections, memory=1)
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
    graph = Graph(Parts(model).shape, expand_groups=True)
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
    graph = Graph(Parts(model).shape, expand_groups=True)
    run = PatchedRun(model, clean, corrupted, mask, graph)
    run.projections.layers[1] = None  # type: ignore[call-overload]
    with pytest.raises(AttributeError):
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
    with pytest.raises(UserError, match="graph: made for"):
        PatchedRun(model, clean, corrupted, graph=Graph(Parts(small_model("llama")).shape))
    run = PatchedRun(
        model, clean, corrupted, projections=Projections(Parts(model), Graph(Parts(model).shape))
    )
    with pytest.raises(ValueError, match="kept: shape"):
        run.logits(np.ones((2, 2), dtype=bool))
