"""Selectors that compare a tuned model with its base, and CKA redundancy, against plain loops."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sumcirc.circuits.discovery import circuit_of
from sumcirc.circuits.edge_sums import by_module as unsigned_by_module
from sumcirc.circuits.graph import Graph
from sumcirc.errors import UserError
from sumcirc.measures.measure_documents import ProbeSet
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.schema import MODULES, Aggregation
from sumcirc.selection.circuit import along_mean, by_module, circuit, circuit_delta
from sumcirc.selection.context import SelectionContext
from sumcirc.selection.differences import attention_kl, cka_redundancy, drift, entropy
from tests.support.small_evidence import evidence, selecting
from tests.support.small_models import small_model


@pytest.fixture
def pair(
    gpt2_folder: Path, news_files: dict[str, Path], tmp_path: Path
) -> tuple[SelectionContext, Any]:
    """SelectionContext whose tuned model is the base with its last layer's weights changed."""
    config = selecting(gpt2_folder, news_files, tmp_path, "drift", documents=5)
    found = evidence(config)
    tuned: Any = evidence(config).model
    with torch.no_grad():
        generator = torch.Generator().manual_seed(0)
        for one in tuned.transformer.h[1].parameters():
            one.add_(torch.randn(one.shape, generator=generator), alpha=0.3)
    tuned.save_pretrained(tmp_path / "tuned")
    found.config.selector.after = str(tmp_path / "tuned")
    return found, tuned


def attention(model: Any, ids: torch.Tensor) -> np.ndarray:
    """[layers, heads, query, key] of one text, by eager attention."""
    model.set_attn_implementation("eager")
    with torch.no_grad():
        rows = model.eval()(ids[None], output_attentions=True).attentions
    model.set_attn_implementation("sdpa")
    return torch.stack(rows)[:, 0].double().numpy()


def attentions(pair: tuple[SelectionContext, Any]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows that predict the summary, [layers, heads, rows, keys], tuned and base, by document."""
    found = []
    for document in pair[0].probes.documents:
        ids = torch.from_numpy(document.example.ids.astype(np.int64))
        both = [attention(model, ids) for model in (pair[1], pair[0].model)]
        found.append(tuple(rows[:, :, document.rows] for rows in both))
    return found


def test_attention_kl(pair: tuple[SelectionContext, Any]) -> None:
    wanted = [
        np.where(p > 0, p * np.log(np.maximum(p, 1e-300) / np.maximum(q, 1e-300)), 0)
        .sum(-1)
        .mean((1, 2))
        for p, q in attentions(pair)
    ]
    found = attention_kl(pair[0])
    assert found.values[:, 0] == pytest.approx(np.array(wanted).T, abs=1e-5)
    # the first layer is the same in both
    assert found.values[0, 0] == pytest.approx(0, abs=1e-6)
    assert (found.values[1] > 1e-3).all()


def test_entropy_change_counts_whatever_its_sign(pair: tuple[SelectionContext, Any]) -> None:
    def of(rows: np.ndarray) -> np.ndarray:
        return -(rows * np.log(np.maximum(rows, 1e-300))).sum(-1).mean(2)

    change = np.array([of(p) - of(q) for p, q in attentions(pair)])  # [documents, layers, heads]
    found = entropy(pair[0])
    assert found.values.mean(-1)[:, 0] == pytest.approx(np.abs(change.mean(0)).mean(1), abs=1e-5)
    assert found.resamples is not None
    assert found.resamples.shape == (2, 1, 50)
    assert (found.resamples[1] > found.resamples[0]).all()


def streams(found: SelectionContext, model: Any) -> list[list[np.ndarray]]:
    """By position of the stream, each document's measured rows (none of them normed)."""
    hooked = HookedModel(model)
    kept: list[Any] = []
    handle = hooked.final_norm.register_forward_pre_hook(
        lambda module, inputs: kept.append(inputs[0])
    )
    by_document = []
    for document in found.probes.documents:
        ids = torch.from_numpy(document.example.ids.astype(np.int64))[None]
        with torch.no_grad():
            hidden = model.eval()(ids, output_hidden_states=True).hidden_states
        rows = [*hidden[:-1], kept.pop()]
        by_document.append([one[0, document.rows].double().numpy() for one in rows])
    handle.remove()
    return [list(position) for position in zip(*by_document, strict=True)]


def debiased(first: np.ndarray, second: np.ndarray) -> float:
    """Linear CKA by the unbiased HSIC, term by term."""

    def hsic(x: np.ndarray, y: np.ndarray) -> float:
        n = len(x)
        k, m = x @ x.T, y @ y.T
        np.fill_diagonal(k, 0)
        np.fill_diagonal(m, 0)
        ends = np.trace(k @ m) + k.sum() * m.sum() / ((n - 1) * (n - 2))
        return (ends - 2 / (n - 2) * (k @ m).sum()) / (n * (n - 3))

    first, second = first - first.mean(0), second - second.mean(0)
    return hsic(first, second) / np.sqrt(hsic(first, first) * hsic(second, second))


def jackknifed(first: list[np.ndarray], second: list[np.ndarray]) -> list[float]:
    count = len(first)
    whole = debiased(np.concatenate(first), np.concatenate(second))
    without = [
        debiased(*(np.concatenate(side[:i] + side[i + 1 :]) for side in (first, second)))
        for i in range(count)
    ]
    return [count * whole - (count - 1) * one for one in without]


def test_cka_redundancy(pair: tuple[SelectionContext, Any]) -> None:
    found = streams(pair[0], pair[0].model)
    wanted = [1 - np.array(jackknifed(found[i], found[i + 1])) for i in range(2)]
    assert cka_redundancy(pair[0]).values[:, 0] == pytest.approx(np.array(wanted), abs=1e-4)


def test_drift_is_where_the_streams_part(pair: tuple[SelectionContext, Any]) -> None:
    base, tuned = (streams(pair[0], model) for model in (pair[0].model, pair[1]))
    cka = np.array([jackknifed(one, other) for one, other in zip(tuned, base, strict=True)])
    found = drift(pair[0])
    assert found.values[:, 0] == pytest.approx(cka[:-1] - cka[1:], abs=1e-4)
    assert found.values[0].mean() == pytest.approx(0, abs=1e-5)
    assert found.values[1].mean() > 0.01


@pytest.mark.parametrize("odd", [0, 1])
@pytest.mark.parametrize("embedding", ["kept", "changed"])
def test_drift_when_all_rows_have_one_embedding(
    odd: int,
    embedding: str,
    llama_folder: Path,
    news_files: dict[str, Path],
    tmp_path: Path,
) -> None:
    """Rows are the prompt's last token, and of `odd` documents another one."""
    config = selecting(llama_folder, news_files, tmp_path, "drift", documents=8)
    context = evidence(config)
    some = context.probes.documents
    rows = [replace(one, rows=one.rows[int(i < odd) :][:1]) for i, one in enumerate(some)]
    context.__dict__["probes"] = ProbeSet(rows, 8)
    tuned: Any = evidence(config).model
    with torch.no_grad():
        if embedding == "changed":
            tuned.get_input_embeddings().weight.mul_(1.1)
        generator = torch.Generator().manual_seed(0)
        for one in tuned.model.layers[0].parameters():
            one.add_(torch.randn(one.shape, generator=generator), alpha=0.3)
    tuned.save_pretrained(tmp_path / "tuned")
    context.config.selector.after = str(tmp_path / "tuned")
    if odd and embedding == "changed":  # without that document 0/0, with it not
        with pytest.raises(UserError, match=r"^selector=drift: undefined for some layers"):
            drift(context)
        return
    found = drift(context).values[:, 0]
    pair = [streams(context, model) for model in (tuned, context.model)]
    cka = np.array(
        [jackknifed(one, other) for one, other in zip(pair[0][1:], pair[1][1:], strict=True)]
    )
    assert found[0] == pytest.approx(1 - cka[0], abs=1e-4)
    assert found[1] == pytest.approx(cka[0] - cka[1], abs=1e-4)
    assert found[0].mean() > 0.01


def test_cka_redundancy_when_all_rows_have_one_embedding(
    llama_folder: Path, news_files: dict[str, Path], tmp_path: Path
) -> None:
    config = selecting(llama_folder, news_files, tmp_path, "cka_redundancy", documents=8)
    context = evidence(config)
    rows = [replace(one, rows=one.rows[:1]) for one in context.probes.documents]
    context.__dict__["probes"] = ProbeSet(rows, 8)
    words = r"^selector=cka_redundancy: all positions .* same embedding.* another selector"
    with pytest.raises(UserError, match=words):
        cka_redundancy(context)


# ---- circuits


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_sums_over_edges_are_those_of_the_circuits_views(family: str) -> None:
    graph = Graph(HookedModel(small_model(family)).shape)
    sizes = np.random.default_rng(0).random((3, *graph.exists.shape)) * graph.exists
    found = by_module(sizes, graph)
    for number, one in enumerate(sizes):
        view = unsigned_by_module(one, graph)
        wanted = (
            view["query"] + view["key"] + view["value"],
            *(view[name] for name in ("attention_out", "mlp_in", "mlp_out")),
        )
        for place in range(len(MODULES)):
            assert found[:, place, number] == pytest.approx(wanted[place])


def test_documents_average_to_the_size_of_the_mean() -> None:
    values = np.random.default_rng(0).normal(size=(7, 4, 5))
    kept = np.random.default_rng(1).random((4, 5)) < 0.5
    assert along_mean(values, kept).mean(0) == pytest.approx(np.abs(values.mean(0)) * kept)


def test_circuit_is_what_its_edges_sum_up_to(pair: tuple[SelectionContext, Any]) -> None:
    found = circuit(pair[0])
    stored = pair[0].base_circuit
    mean = stored.scores.mean(0)
    kept = circuit_of(mean, stored.graph, pair[0].config.selector.circuit)
    assert 0 < kept.sum() < stored.graph.edges
    view = unsigned_by_module(mean * kept, stored.graph)
    assert found.values.mean(-1)[:, 3] == pytest.approx(view["mlp_out"], rel=1e-5)
    assert found.values.mean(-1)[:, 1] == pytest.approx(view["attention_out"], rel=1e-5)
    assert found.resamples is not None
    assert found.resamples.shape == (2, 4, 50)
    # a resample's circuit is its own, so that its sums are no mean of the documents'
    plain = replace(found, resamples=None).resampled([0, 1, 2, 3], False, 50)
    assert not np.allclose(found.resamples, plain)


def test_selectors_take_the_mean_of_absolute_scores(
    pair: tuple[SelectionContext, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    context = pair[0]
    chosen = context.config.selector
    stored = context.base_circuit
    turned = stored.scores * np.array([1, -1, 1, -1, 1])[:, None, None]  # effects that cancel
    monkeypatch.setitem(context.__dict__, "base_circuit", replace(stored, scores=turned))
    plain = circuit(context).values, circuit_delta(context).values
    monkeypatch.setattr(chosen, "aggregation", Aggregation.mean_absolute)
    base, tuned = context.base_circuit, context.tuned_circuit()
    graph = base.graph
    sizes = [np.abs(one.scores).astype(np.float64).mean(0) for one in (base, tuned)]
    kept = [circuit_of(size, graph, chosen.circuit) for size in sizes]
    found, moved = circuit(context), circuit_delta(context)
    view = unsigned_by_module(sizes[0] * kept[0], graph)
    assert found.values.mean(-1)[:, 3] == pytest.approx(view["mlp_out"], rel=1e-5)
    shares = [size / size.sum() for size in sizes]
    view = unsigned_by_module((shares[1] - shares[0]) * (kept[0] | kept[1]), graph)
    assert moved.values.mean(-1)[:, 1] == pytest.approx(view["attention_out"], rel=1e-4)
    assert found.resamples is not None
    assert (found.resamples.mean(-1) > 0).any()
    assert not np.allclose(found.values, plain[0], atol=0)
    assert not np.allclose(moved.values, plain[1], atol=0)


def test_a_model_has_no_circuit_delta_to_itself(pair: tuple[SelectionContext, Any]) -> None:
    found = pair[0]
    changed = circuit_delta(found).values.mean(-1)
    found.config.selector.after = found.config.model.path
    found.__dict__.pop("tuned")
    same = circuit_delta(found).values.mean(-1)
    assert np.abs(same).max() < 1e-5
    assert changed.max() > 1e-2
