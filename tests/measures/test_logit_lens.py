"""The logit lens beside plain loops in float64, and what it leaves of a model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import torch

from sumcirc.data.encoding import Encoder
from sumcirc.data.examples import NONE
from sumcirc.errors import UserError
from sumcirc.measures import logit_lens as lens
from sumcirc.measures.logit_lens import check_logit_lens, logit_lens
from sumcirc.measures.measure_documents import ProbeSet, probe_set
from sumcirc.measures.measuring import measure
from sumcirc.models.activations.activation_cache import HookPoint
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.schema import EncodingConfig, ProbeRows
from sumcirc.tracking.measure_records import LENS_AGREEMENT, LENS_KL, LENS_LOG_PROBABILITY
from tests.measures.test_measure_documents import ITEMS
from tests.support.small_models import exact_norms, in_float64, scrambled

# names of the final norm; scale of the logits and cap, by hand
NORMS = {
    "gpt2": "transformer.ln_f",
    "gpt_neox": "gpt_neox.final_layer_norm",
    "llama": "model.norm",
    "granite": "model.norm",
    "gemma2": "model.norm",
}
SCALE, CAP = {"granite": 1.7}, {"gemma2": 2.5}


@pytest.fixture(scope="module")
def encoder(tokenizer: Any) -> Encoder:
    return Encoder(tokenizer, EncodingConfig(), 128)


def streams_of(model: Any, family: str, ids: torch.Tensor) -> tuple[list[Any], Any]:
    """The residual stream at each depth, and the model's logits."""
    seen: list[torch.Tensor] = []
    norm = model.get_submodule(NORMS[family])
    handle = norm.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        out = model(ids, output_hidden_states=True)
    handle.remove()
    # transformers' last hidden state is behind the final norm
    return [*(h[0] for h in out.hidden_states[:-1]), seen[0][0]], out.logits[0]


def naive(model: Any, family: str, probe: Any) -> dict[str, np.ndarray]:
    """[streams] means over the rows of a document, token by token."""
    ids = torch.tensor(probe.example.ids.astype(int))[None]
    streams, logits = streams_of(model, family, ids)
    norm, head = model.get_submodule(NORMS[family]), model.get_output_embeddings()
    found: dict[str, list[float]] = {"log": [], "kl": [], "same": []}
    for stream in streams:
        logs, kls, same = [], [], []
        for row in probe.rows.tolist():
            with torch.no_grad():
                read = head(norm(stream[row][None]))[0] / SCALE.get(family, 1.0)
            if family in CAP:
                read = CAP[family] * torch.tanh(read / CAP[family])
            p = [float(x) for x in torch.softmax(logits[row], 0)]
            q = [float(x) for x in torch.softmax(read, 0)]
            if row + 1 < ids.shape[1]:
                logs.append(np.log(q[int(ids[0, row + 1])]))
            kls.append(sum(a * np.log(a / b) for a, b in zip(p, q, strict=True)))
            same.append(float(np.argmax(p) == np.argmax(q)))
        for name, values in zip(found, (logs, kls, same), strict=True):
            found[name].append(float(np.mean(values)))
    return {name: np.array(values) for name, values in found.items()}


@pytest.mark.parametrize("family", NORMS)
@pytest.mark.parametrize("rows", [ProbeRows.summary, ProbeRows.all])
def test_every_layer_as_read_by_hand(
    family: str, rows: ProbeRows, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lens, "ROWS", 5)
    model = exact_norms(in_float64(scrambled(family)))
    probes = probe_set(encoder, ITEMS, 2 if rows is ProbeRows.all else 3, rows, batch_size=2)
    found = measure(model, probes, concerns=["logit_lens"]).values
    assert set(found) == {LENS_LOG_PROBABILITY, LENS_KL, LENS_AGREEMENT}
    expected = [naive(model, family, probe) for probe in probes.documents]
    for name, key in ((LENS_LOG_PROBABILITY, "log"), (LENS_KL, "kl"), (LENS_AGREEMENT, "same")):
        by_hand = np.stack([one[key] for one in expected], -1)
        # records are in fp32
        np.testing.assert_allclose(found[name], by_hand, rtol=1e-6, atol=1e-6, err_msg=name)
    assert (found[LENS_KL][-1] == 0).all()
    assert (found[LENS_AGREEMENT][-1] == 1).all()
    assert found[LENS_KL][:-1].min() > 1e-3


def test_logits_of_one_depth_and_some_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lens, "ROWS", 3)
    hooked = HookedModel(scrambled("llama"))
    sizes = []
    streams = torch.randn(4, 8, hooked.shape.width)
    handle = hooked.unembedding.register_forward_hook(lambda m, i, out: sizes.append(out.shape))
    with torch.no_grad():
        found = logit_lens(hooked, streams, torch.full((8,), NONE))
    handle.remove()
    assert found["log_probability"].isnan().all()
    assert found["kl_model_lens"].shape == (4, 8)
    assert {tuple(size) for size in sizes} == {(3, 400), (2, 400)}


def test_a_model_whose_logits_come_from_elsewhere_has_no_lens(probes: ProbeSet) -> None:
    model = scrambled("gpt2")
    model.config.final_logit_softcapping = 0.5  # which GPT-2 doesn't apply
    with pytest.raises(UserError, match=r"logit lens: the logits of this `gpt2` aren't"):
        measure(model, probes, concerns=["logit_lens"])


@pytest.mark.parametrize("others", ["", "drift", "attention", "spans"])
def test_the_check_observes_attention_as_the_measured_passes_do(
    others: str, probes: ProbeSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, counts, original = scrambled("gpt2"), [], HookedModel.hooks

    def counted(self: HookedModel, hooks: Iterable[Any]) -> Any:
        given = list(hooks)
        counts.append(len(given))
        return original(self, given)

    monkeypatch.setattr(HookedModel, "hooks", counted)
    measure(model, probes, concerns=["logit_lens", *others.split()])
    assert counts[0] == (HookedModel(model).shape.layers if others in ("attention", "spans") else 0)


@pytest.fixture(scope="module")
def probes(encoder: Encoder) -> ProbeSet:
    return probe_set(encoder, ITEMS, 2)


def test_the_model_is_left_as_it_was(probes: ProbeSet) -> None:
    model = scrambled("qwen3")
    model.train()
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    hooked = HookedModel(model)
    check_logit_lens(hooked, probes.batches[0].input_ids[:1])
    measure(model, probes, concerns=["logit_lens", "spans"])
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(module.training for module in model.modules())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())


def test_the_last_depth_is_the_output(probes: ProbeSet) -> None:
    """In fp32, by the model's own log-probabilities."""
    model = scrambled("mistral")
    found = measure(model, probes, concerns=["logit_lens"]).values[LENS_LOG_PROBABILITY][-1]
    for i, probe in enumerate(probes.documents):
        ids = torch.tensor(probe.example.ids.astype(int))[None]
        with torch.no_grad():
            logs = torch.log_softmax(model(ids).logits[0, probe.rows].double(), -1)
        own = logs[torch.arange(len(probe.rows)), ids[0, probe.rows + 1]].mean()
        assert found[i] == pytest.approx(float(own), abs=1e-5)
    streams = HookedModel(model).every(HookPoint.RESIDUAL)
    assert len(streams) == 4
