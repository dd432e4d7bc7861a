"""The whole probe of a model: against direct computations, and by every way to give a base."""

from __future__ import annotations

import copy
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

from sumcirc.data.documents import Document
from sumcirc.data.encoding import Encoder
from sumcirc.errors import UserError
from sumcirc.measures import measuring
from sumcirc.measures.base_records import BaseStore
from sumcirc.measures.measure_batches import IN_STORE
from sumcirc.measures.measure_documents import ProbeSet, probe_set
from sumcirc.measures.measuring import BASES, base_parts, measure, prepare_base
from sumcirc.models.adapters import adapt
from sumcirc.models.architectures import ARCHITECTURES
from sumcirc.models.fingerprint import INCIDENTAL, model_fingerprint
from sumcirc.schema import Adaptation, AdaptationConfig, EncodingConfig
from sumcirc.statistics import MIN_DOCUMENTS
from sumcirc.tracking.measure_records import MEASURES, ProbeRecord
from tests.measures.test_measure_documents import ITEMS
from tests.support.hub_server import news
from tests.support.small_models import small_model

NEEDS_BASE = {
    name
    for name in MEASURES
    if name.startswith(("output/", "mlp/", "residual/"))
    or name in ("attention/kl_tuned_base", "attention/kl_base_tuned", "attention/js")
} - {"residual/magnitude"}


def base_key(model: Any, probes: ProbeSet, as_it_is: bool = False) -> str:
    """The name of a base's entry in the cache."""
    return BASES.key(base_parts(model, probes, as_it_is))


@pytest.fixture(scope="module")
def probes(tokenizer: Any) -> ProbeSet:
    spans = {"salient": lambda item: [(0, 40)], "distractor": lambda item: [(50, 90)]}
    return probe_set(Encoder(tokenizer, EncodingConfig(), 128), ITEMS, 7, batch_size=3, spans=spans)


def nudged(model: Any, by: float = 0.05) -> Any:
    """A copy with other weights."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(1)
        for parameter in other.parameters():
            if parameter.requires_grad:
                parameter.add_(by * torch.randn(parameter.shape, generator=generator))
    return other


def lora(model: Any) -> Any:
    """Adapters on all layers, both matrices random."""
    return nudged(adapt(model, AdaptationConfig(kind=Adaptation.lora, rank=3)))


def same(first: ProbeRecord, second: ProbeRecord, tolerance: float = 0.0) -> None:
    assert set(first.values) == set(second.values)
    for name, values in first.values.items():
        np.testing.assert_allclose(
            values, second.values[name], atol=tolerance, rtol=tolerance, err_msg=name
        )


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_every_measure_on_every_family(family: str, probes: ProbeSet) -> None:
    # a head whose window ends before the document aligns with nothing in it
    model = small_model(family, **({"sliding_window": 40} if family.startswith("gemma") else {}))
    found = measure(nudged(model), probes, model, step=7, decode=str)
    assert set(found.values) == set(MEASURES)
    assert (found.step, found.documents) == (7, probes.ids)
    for name, values in found.values.items():
        shape = {
            "layer": 2,
            "head": 4,
            "document": 7,
            "stream": 3,
            "neuron": 128 if family == "gpt2" else 48,
        }
        assert values.shape == tuple(shape[axis] for axis in MEASURES[name].axes)
        assert np.isfinite(values).all(), name
        assert values.std() > 0 or name == "output/top1_agreement", name
    masses = [v for name, v in found.values.items() if "/mass_" in name]
    np.testing.assert_allclose(sum(masses), 1, atol=1e-5)
    assert len(found.found["lens"]) == 3
    assert [len(layer) for layer in found.found["neurons"]] == [10, 10]


def test_a_model_beside_itself(probes: ProbeSet) -> None:
    """Fresh adapters change nothing: no divergence, full similarity."""
    model = adapt(small_model("gpt2"), AdaptationConfig(kind=Adaptation.lora, rank=2))
    found = measure(model, probes).values
    for name in NEEDS_BASE:
        value = found[name]
        expected = 1.0 if name.endswith(("cka", "rsa", "cosine", "agreement")) else 0.0
        np.testing.assert_allclose(value, expected, atol=2e-6, err_msg=name)


def test_without_a_base_there_is_no_comparison(probes: ProbeSet) -> None:
    found = measure(small_model("llama"), probes)
    assert set(found.values) == set(MEASURES) - NEEDS_BASE
    assert found.found == {}


@pytest.mark.parametrize("size", [1, 7])
def test_batches_do_not_show(size: int, probes: ProbeSet) -> None:
    model = small_model("qwen3")
    found = measure(nudged(model), probes, model)
    again = measure(nudged(model), ProbeSet(probes.documents, size), model)
    same(found, again, 2e-5)


def test_output_and_stream_measures_are_those_of_a_plain_run(probes: ProbeSet) -> None:
    """By transformers' own outputs, one document at a time."""
    base = small_model("gpt_neox")
    model = nudged(base)
    found = measure(model, probes, base).values
    for i, document in enumerate(probes.documents):
        ids = torch.tensor(document.example.ids.astype(int))[None]
        rows = document.rows
        with torch.no_grad():
            outs = [m(ids, output_hidden_states=True) for m in (model, base)]
        own, other = (torch.log_softmax(out.logits[0, rows].double(), -1) for out in outs)
        kl = (own.exp() * (own - other)).sum(-1).mean()
        assert found["output/kl_tuned_base"][i] == pytest.approx(kl.item(), abs=1e-5)
        agree = (own.argmax(-1) == other.argmax(-1)).double().mean()
        assert found["output/top1_agreement"][i] == pytest.approx(agree.item(), abs=1e-6)
        for stream in range(2):  # the last of transformers' hidden states is normed
            h, b = (out.hidden_states[stream][0, rows].double() for out in outs)
            change = ((h - b).norm(dim=-1) / b.norm(dim=-1)).mean()
            assert found["residual/relative_change"][stream, i] == pytest.approx(
                change.item(), abs=1e-5
            )
            assert found["residual/magnitude"][stream, i] == pytest.approx(
                h.abs().mean().item(), abs=1e-5
            )


def test_the_last_stream_is_before_the_final_norm(probes: ProbeSet) -> None:
    """A final norm of another gain changes the output, not the drift."""
    base = small_model("gpt2")
    model = copy.deepcopy(base)
    with torch.no_grad():
        model.transformer.ln_f.weight.mul_(3)
    found = measure(model, probes, base).values
    assert found["residual/relative_change"].max() == 0
    assert found["output/kl_tuned_base"].min() > 1e-4


def test_neurons_that_changed_are_named(tokenizer: Any) -> None:
    items = [
        Document(str(i), item["article"], (item["highlights"],))
        for i, item in enumerate(news("train", MIN_DOCUMENTS))  # as many as an interval takes
    ]
    probes = probe_set(Encoder(tokenizer, EncodingConfig(), 128), items, MIN_DOCUMENTS)
    base = small_model("gpt2")
    model = copy.deepcopy(base)
    with torch.no_grad():
        model.transformer.h[1].mlp.c_fc.bias[77] += 2.0
    found = measure(model, probes, base, decode=str)
    top = found.found["neurons"][1][0]
    assert top["neuron"] == 77
    assert top["low"] <= top["change"] <= top["high"]
    change = found.values["mlp/activation_change"]
    assert change[1].argmax() == 77
    assert np.delete(change[1], 77).max() == 0
    assert change[0].max() == 0


def test_all_ways_to_give_the_base_agree(probes: ProbeSet, tmp_path: Path) -> None:
    """The base as a model, from a store, and under the adapters of the tuned model."""
    plain = small_model("llama")
    tuned = lora(copy.deepcopy(plain))
    store = prepare_base(plain, probes, tmp_path)
    first = measure(tuned, probes, store)
    same(first, measure(tuned, probes, plain))
    same(first, measure(tuned, probes))
    assert first.values["attention/kl_tuned_base"].min() > 1e-7


def test_the_base_is_computed_once(
    probes: ProbeSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = small_model("gpt2")
    first = prepare_base(plain, probes, tmp_path)
    adapted = lora(copy.deepcopy(plain))
    assert base_key(adapted, probes) == first.folder.name  # adapters don't count
    monkeypatch.setattr(measuring, "measure_batches", None)
    assert prepare_base(plain, probes, tmp_path).folder == first.folder
    assert prepare_base(adapted, probes, tmp_path).folder == first.folder
    others = {
        base_key(nudged(plain), probes),
        base_key(plain, ProbeSet(probes.documents, 2)),
        base_key(plain.bfloat16(), probes),
    }
    assert len(others | {first.folder.name}) == 4


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "qwen3"])
def test_an_adapted_model_can_be_the_base_as_it_is(
    family: str, probes: ProbeSet, tmp_path: Path
) -> None:
    """Two LoRA models beside each other, as if each were merged into its base."""
    plain = small_model(family)
    first = lora(copy.deepcopy(plain))
    second = nudged(first)
    store = prepare_base(first, probes, tmp_path, as_it_is=True)
    found = measure(second, probes, store)
    merged = [copy.deepcopy(model).merge_and_unload() for model in (first, second)]
    same(found, measure(merged[1], probes, merged[0]), 2e-4)
    assert found.values["attention/kl_tuned_base"].max() > 1e-5
    again = measure(first, probes, store).values
    assert again["attention/kl_tuned_base"].max() < 1e-6
    assert again["residual/relative_change"].max() == 0
    for name, values in store.record.values.items():
        np.testing.assert_array_equal(again[name], values, err_msg=name)


def test_a_store_of_a_model_as_it_is_is_of_its_adapters(probes: ProbeSet, tmp_path: Path) -> None:
    plain = small_model("gpt2")
    base = prepare_base(plain, probes, tmp_path).folder.name
    assert base_key(plain, probes, as_it_is=True) == base
    tuned = lora(copy.deepcopy(plain))
    own = prepare_base(tuned, probes, tmp_path, as_it_is=True).folder.name
    assert base_key(tuned, probes, as_it_is=True) == own
    assert prepare_base(tuned, probes, tmp_path).folder.name == base
    layer: Any = tuned.base_model.model.transformer.h[0].attn.c_attn
    layer.scaling["default"] *= 2
    rescaled = base_key(tuned, probes, as_it_is=True)
    layer.scaling["default"] /= 2
    assert base_key(tuned, probes, as_it_is=True) == own
    with tuned.disable_adapter():
        off = base_key(tuned, probes, as_it_is=True)
    other = base_key(nudged(tuned), probes, as_it_is=True)
    assert len({base, own, rescaled, off, other}) == 5


def test_the_fingerprint_of_a_base_stays(probes: ProbeSet) -> None:
    """What caches hold stays valid: a plain loop over the parameters, as it was first written."""
    model = small_model("llama")
    settings = {k: v for k, v in model.config.to_dict().items() if k not in INCIDENTAL}
    digest = hashlib.blake2b(json.dumps(settings, sort_keys=True, default=str).encode())
    for name, p in sorted(model.named_parameters()):
        digest.update(repr((name, p.dtype, "cpu", tuple(p.shape))).encode())
        digest.update(p.detach().numpy().tobytes())
    assert model_fingerprint(model) == digest.hexdigest()
    assert model_fingerprint(lora(model)) == digest.hexdigest()


@pytest.mark.parametrize("as_it_is", [False, True])
def test_an_adapted_unembedding_is_kept_as_it_works(
    as_it_is: bool, probes: ProbeSet, tmp_path: Path
) -> None:
    options = {"r": 2, "target_modules": ["lm_head", "q_proj"], "init_lora_weights": False}
    plain = small_model("llama")
    tuned: Any = get_peft_model(copy.deepcopy(plain), LoraConfig(**options)).eval()
    store = prepare_base(tuned, probes, tmp_path, as_it_is=as_it_is)
    expected = tuned.merge_and_unload() if as_it_is else plain
    weight, bias = store.unembedding(torch.device("cpu"))
    torch.testing.assert_close(weight, expected.lm_head.weight, rtol=1e-6, atol=1e-6)
    assert bias is None or bias.abs().max() == 0


def test_the_store_keeps_the_bases_own_record(probes: ProbeSet, tmp_path: Path) -> None:
    plain = small_model("qwen2")
    store = BaseStore(prepare_base(plain, probes, tmp_path).folder)
    assert store.record.step == -1
    same(store.record, measure(plain, probes, concerns=IN_STORE))


def test_one_document_gives_values(tokenizer: Any) -> None:
    probes = probe_set(Encoder(tokenizer, EncodingConfig(), 128), ITEMS, 1)
    model = small_model("gpt2")
    found = measure(nudged(model), probes, model)
    assert found.values["attention/entropy"].shape == (2, 4, 1)
    assert np.isfinite(found.values["residual/cka"]).all()
    assert np.isnan(found.values["mlp/activation_change_error"]).all()
    assert found.found["neurons"][0][0]["low"] is None


@pytest.mark.parametrize(
    ("family", "changes", "message"),
    [
        ("llama", {}, "base: is a `llama`, the model a `gpt2`"),
        ("gpt2", {"layers": 3}, "layers 3 and 2"),
        ("gpt2", {"vocab_size": 401}, "vocabulary 401 and 400"),
        ("gpt2", {"n_head": 2}, "heads 2 and 4"),
    ],
)
def test_a_base_of_another_kind_is_refused(
    family: str, changes: dict[str, Any], message: str, probes: ProbeSet
) -> None:
    with pytest.raises(UserError, match=message):
        measure(small_model("gpt2"), probes, small_model(family, **changes))


def test_nothing_is_left_behind(probes: ProbeSet) -> None:
    """Modes, hooks, gradients, the attention implementation and random numbers are as before."""
    model = lora(small_model("gpt2"))
    model.train()
    model.base_model.model.transformer.h[0].eval()
    state = torch.get_rng_state()
    modes = {name: module.training for name, module in model.named_modules()}
    measure(model, probes)
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert all(not m._forward_pre_hooks and not m._forward_hooks for m in model.modules())
    assert all(p.grad is None for p in model.parameters())
    assert model.config._attn_implementation == "sdpa"
    assert torch.equal(torch.get_rng_state(), state)


def test_dropout_is_off(probes: ProbeSet) -> None:
    model = small_model("gpt2", attn_pdrop=0.5, resid_pdrop=0.5)
    base = nudged(model)
    frozen = measure(model, probes, base)
    model.train()
    same(frozen, measure(model, probes, base))


@pytest.mark.parametrize("implementation", ["eager", "flex_attention"])
def test_any_attention_implementation_is_seen(implementation: str, probes: ProbeSet) -> None:
    """Queries and keys are seen by a function of our own; then the model's is put back."""
    model = small_model("llama")
    expected = measure(model, probes)
    model.set_attn_implementation(implementation)
    same(expected, measure(model, probes), 1e-6)
    assert model.config._attn_implementation == implementation


def test_attention_that_stays_unseen_is_refused(
    probes: ProbeSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_model("gpt2")
    monkeypatch.setattr(type(model), "set_attn_implementation", lambda self, name: None)
    with pytest.raises(UserError, match=r"attention of layers \[0, 1\] .* can't be seen"):
        measure(model, probes)
