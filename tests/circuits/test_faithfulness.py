"""Faithfulness: 0 for nothing, 1 for everything, the reference's numbers in between."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

from sumcirc.circuits.edge_selection import matched_circuit, prune, top_n
from sumcirc.circuits.edge_sums import by_kind, by_layer, edge_groups
from sumcirc.circuits.graph import Graph
from sumcirc.circuits.inputs.example_pairs import TokenPairs
from sumcirc.circuits.metrics import Divergence, LogitDifference
from sumcirc.circuits.patching.evaluator import Evaluator, share_of
from sumcirc.circuits.patching.faithfulness import curve, faithfulness
from sumcirc.circuits.patching.patched_run import PatchedRun
from sumcirc.errors import UserError
from sumcirc.models.architectures import Shape
from sumcirc.schema import SIZES
from sumcirc.statistics import Bootstrap
from tests.circuits.cases import family_model, some_pairs
from tests.circuits.test_graph import GPT2_SMALL
from tests.circuits.test_patched_run import FIXTURES
from tests.support.small_models import VOCABULARY, small_model


@pytest.fixture(scope="module")
def reference() -> Any:
    """Model, pairs, metrics and matrices of the stored small GPT-2."""
    config = AutoConfig.for_model(**json.loads((FIXTURES / "small_gpt2_config.json").read_text()))
    model = AutoModelForCausalLM.from_config(config).double().eval()
    model.load_state_dict(load_file(FIXTURES / "small_gpt2.safetensors"), strict=False)
    model.tie_weights()
    arrays = np.load(FIXTURES / "small_gpt2_reference.npz")
    clean, corrupted, mask, labels = (
        torch.from_numpy(arrays[name])
        for name in ("clean_ids", "corrupted_ids", "attention_mask", "labels")
    )
    pairs = TokenPairs.from_tensors(clean, corrupted, mask, [f"d{i}" for i in range(len(clean))])
    difference = LogitDifference(pairs.clean.last, labels[:, 0], labels[:, 1])
    scores = arrays["scores/EAP-IG-inputs/kl_all/f64"]
    expected = json.loads((FIXTURES / "small_gpt2_faithfulness.json").read_text())
    return model, pairs, difference, scores, expected


def made_pairs() -> TokenPairs:
    clean, corrupted = torch.randint(
        0, VOCABULARY, (2, 5, 7), generator=torch.Generator().manual_seed(0)
    )
    return TokenPairs.from_tensors(clean, corrupted, torch.ones(5, 7), list("abcde"))


def test_values_of_the_reference(reference: Any) -> None:
    model, pairs, difference, scores, expected = reference
    judges = {
        "logit_diff": Evaluator(model, pairs, difference, batch=4),
        "kl_all": Evaluator(model, pairs, Divergence(pairs.attention_mask)),
    }
    for row in expected["results"]:
        if row["select"] != "topn" or row["metric"] != "kl_all":
            continue
        for name, sign in (("logit_diff", -1), ("kl_all", 1)):
            judge = judges[name]
            kept = prune(top_n(scores, judge.graph, row["N"]), judge.graph)
            assert kept.sum() == row["edges"]
            found = faithfulness(judge, kept, bootstrap=Bootstrap(10))
            empty = np.array(expected["corrupted"][name])
            full = np.array(expected["baseline_logit_diff"]) if name == "logit_diff" else 0 * empty
            own = np.array(row[name])
            np.testing.assert_allclose(found.metric, sign * own, rtol=0, atol=1e-9)
            if not row["edges"]:
                assert np.isnan(found.faithfulness.mean)
                continue
            ratio = (own - empty).mean() / (full - empty).mean()
            assert found.faithfulness.mean == pytest.approx(ratio, abs=1e-8)
            np.testing.assert_allclose(
                np.array(found.by_document, dtype=float), (own - empty) / (full - empty), atol=1e-7
            )
            kl = row["kl_all" if name == "kl_all" else "kl_last"]
            np.testing.assert_allclose(found.kl_by_document, kl, rtol=0, atol=1e-9)
            assert found.kl.mean == pytest.approx(np.mean(kl), abs=1e-9)


@pytest.mark.parametrize("ablation", ["interchange", "zero"])
def test_everything_is_1_and_nothing_is_0(reference: Any, ablation: Any) -> None:
    model, pairs, difference, _, _ = reference
    judge = Evaluator(model, pairs, difference, ablation=ablation)
    full = faithfulness(judge, judge.graph.exists)
    assert full.faithfulness.mean == 1
    assert np.isnan([full.faithfulness.low, full.faithfulness.high]).all()  # of 6 documents
    assert full.kl.mean == 0
    assert full.completeness is not None
    assert full.completeness.mean == 1
    empty = faithfulness(judge, np.zeros_like(judge.graph.exists))
    assert empty.metric == judge.empty.metric.tolist()
    assert np.isnan([empty.faithfulness.mean, empty.faithfulness.high]).all()
    assert empty.by_document == [None] * len(pairs)
    assert empty.kl.mean > 0.1
    assert (empty.edges, full.edges) == (0, judge.graph.edges)


def test_curve_and_its_areas(reference: Any) -> None:
    model, pairs, difference, scores, _ = reference
    judge = Evaluator(model, pairs, difference)
    found = curve(judge, scores, random_seeds=(0, 1), bootstrap=Bootstrap(200), completeness=True)
    assert [point.fraction for point in found.points] == list(SIZES)
    heights = np.array([point.faithfulness.mean for point in found.points])
    assert np.isnan(heights).tolist() == [point.edges == 0 for point in found.points]
    heights = np.nan_to_num(heights)  # without edges there is nothing: 0 in the areas
    assert heights[-1] == 1
    steps = np.diff(SIZES)
    assert found.cpr.value.mean == pytest.approx(((heights[1:] + heights[:-1]) / 2) @ steps)
    below = np.abs(1 - heights)
    assert found.cmd.value.mean == pytest.approx(((below[1:] + below[:-1]) / 2) @ steps)
    assert len(found.random) == len(found.cpr.random) == 2
    for control in found.random:
        for point, random in zip(found.points, control, strict=True):
            assert random.edges == point.edges
    kept = prune(top_n(scores, judge.graph, int(0.2 * judge.graph.edges)), judge.graph)
    assert found.points[7] == replace(
        faithfulness(judge, kept, bootstrap=Bootstrap(200)), fraction=0.2
    )
    text = json.dumps(found.as_json(), allow_nan=False)
    back = json.loads(text)
    assert back["points"][0]["faithfulness"]["mean"] is None
    assert back["points"][4]["faithfulness"]["mean"] == heights[4]
    assert (back["documents"], back["ablation"]) == (pairs.names, "interchange")


def test_one_size_has_no_area(reference: Any) -> None:
    """The area over one size is 0, and a CMD of 0 would be the best there is."""
    model, pairs, difference, scores, _ = reference
    judge = Evaluator(model, pairs, difference)
    found = curve(judge, scores, fractions=(0.2,), random_seeds=(0,), bootstrap=Bootstrap(50))
    assert math.isfinite(found.points[0].faithfulness.mean)
    for area in (found.cpr, found.cmd):
        assert all(math.isnan(one.mean) for one in (area.value, *area.random))


def test_a_planted_edge() -> None:
    """Blocks that write nothing: only the embedding's way to the logits counts."""
    model = small_model("gpt2").double()
    for block in model.transformer.h:
        for linear in (block.attn.c_proj, block.mlp.c_proj):
            linear.weight.data.zero_()
    pairs = made_pairs()
    judge = Evaluator(model, pairs, Divergence(torch.ones(5, 7)), batch=2)
    scores = np.zeros(judge.graph.exists.shape)
    scores[0, -1] = 1.0
    fractions = (2 / judge.graph.edges, 0.1, 0.5, 1.0)
    found = curve(judge, scores, fractions=fractions, bootstrap=Bootstrap(50))
    assert [point.faithfulness.mean for point in found.points] == pytest.approx([1] * 4)
    assert found.cmd.value.mean == pytest.approx(0)
    assert found.cpr.value.mean == pytest.approx(1 - fractions[0])
    against = curve(judge, -scores, absolute=False, fractions=fractions, bootstrap=Bootstrap(50))
    heights = [point.faithfulness.mean for point in against.points if point.edges]
    assert heights == pytest.approx([0] * (len(heights) - 1) + [1])
    assert against.cmd.value.mean == pytest.approx(fractions[2] - fractions[0] + 0.25)
    # the embedding's edge to the logits is the only one of its kind, so every control has it
    for control in found.random:
        assert [point.faithfulness.mean for point in control] == pytest.approx([1] * 4)
    assert [one.mean for one in found.control] == pytest.approx([1] * 4)
    assert found.reached == found.points[0]
    assert against.reached == against.points[-1]


@pytest.mark.parametrize(("change", "doubtful"), [(1e-9, True), (1e-2, False)])
def test_a_gap_of_rounding_is_none(change: float, doubtful: bool) -> None:
    """Corruption exchanges a token for one of nearly the same embedding."""
    model = small_model("gpt2").double()
    weight = model.transformer.wte.weight.data
    weight[1] = weight[0]
    weight[1, 0] += change
    clean = torch.zeros(3, 4, dtype=torch.int64)
    clean[:, 1:] = 5
    corrupted = clean.clone()
    corrupted[:, 0] = 1
    pairs = TokenPairs.from_tensors(clean, corrupted, torch.ones(3, 4), list("abc"))
    judge = Evaluator(model, pairs, Divergence(torch.ones(3, 4)))
    assert judge.empty.metric.mean() > 0
    assert (judge.doubt is not None) is doubtful
    found = curve(judge, judge.graph.exists * 1.0, fractions=(0.5, 1.0), random_seeds=())
    told = [found.points[-1].faithfulness.mean, found.cpr.value.mean, found.cmd.value.mean]
    assert np.isnan(told).all() if doubtful else np.isfinite(told).all()
    assert (found.points[-1].by_document == [None] * 3) is doubtful


def test_a_gap_that_may_be_zero_is_none() -> None:
    """Answers at random beside those that the two inputs do have."""
    draw = torch.Generator().manual_seed(0)
    clean, corrupted = torch.randint(0, VOCABULARY, (2, 24, 7), generator=draw)
    good, bad = torch.randint(0, VOCABULARY, (2, 24), generator=draw)
    model = small_model("gpt2").double()
    pairs = TokenPairs.from_tensors(
        clean, corrupted, torch.ones(24, 7), [str(i) for i in range(24)]
    )
    noise = Evaluator(model, pairs, LogitDifference(pairs.clean.last, good, bad))
    assert noise.doubt is not None
    assert "which includes zero" in noise.doubt
    assert "raises logit_difference of 24 pairs by" in noise.doubt
    with torch.no_grad():
        likely = [model(input_ids=ids).logits[:, -1].argmax(-1) for ids in (clean, corrupted)]
    planted = Evaluator(model, pairs, LogitDifference(pairs.clean.last, *likely))
    assert planted.doubt is None
    assert faithfulness(planted, planted.graph.exists).faithfulness.mean == 1


def test_agreement_is_the_share_of_equal_top_tokens() -> None:
    """Documents with one, three and two positions, one by one, by logits of a patched run."""
    model, pairs = family_model("llama"), some_pairs()
    positions = torch.zeros_like(pairs.attention_mask)
    for item, places in enumerate(([2], [1, 3, 4], [0, 5])):
        positions[item, places] = True
    metric = Divergence(positions)
    evaluator = Evaluator(model, pairs, metric, batch=2)
    exists = evaluator.graph.exists
    kept = (np.random.default_rng(1).random(exists.shape) < 0.3) & exists
    expected = []
    for item in range(3):
        run = PatchedRun(model, *pairs.cut(torch.tensor([item]), torch.device("cpu")))
        read = positions[item, pairs.columns(torch.tensor([item]))][None]
        tops = [run.logits(one, read).argmax(-1) for one in (kept, exists)]
        expected.append(float((tops[0] == tops[1]).double().mean()))
    (found,) = evaluator.run([kept])
    assert found.agreement.tolist() == pytest.approx(expected)
    assert 0 < sum(expected) < 3
    assert evaluator.full.agreement.tolist() == [1, 1, 1]
    (some,) = evaluator.run([kept], [slice(0, None, 3)])
    assert np.isnan(some.agreement).sum() == 2


def test_batches_make_no_difference(reference: Any) -> None:
    model, pairs, difference, scores, _ = reference
    kept = top_n(scores, Graph(Shape(4, 4, 4, 16, 64, 256, 512, False)), 60)
    values = [
        Evaluator(model, pairs, difference, batch=batch).run([kept])[0].metric
        for batch in (1, 4, 100)
    ]
    np.testing.assert_allclose(values[0], values[1], rtol=0, atol=1e-12)
    np.testing.assert_allclose(values[0], values[2], rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", [GPT2_SMALL, replace(GPT2_SMALL, heads=8, key_value_heads=2)])
def test_random_circuits_match_edge_kinds_and_layers(shape: Shape) -> None:
    graph = Graph(shape)
    scores, draws = np.random.default_rng(0).random((2, *graph.exists.shape))
    before = np.zeros_like(graph.exists)
    for edges in (0, 300, 1624, graph.edges):
        wanted = prune(top_n(scores, graph, edges), graph)
        kept = matched_circuit(draws, wanted, graph)
        assert not (kept & ~graph.exists).any()
        assert (by_kind(kept, graph) == by_kind(wanted, graph)).all()
        assert (by_layer(kept, graph) == by_layer(wanted, graph)).all()
        cells = edge_groups(graph)
        assert (np.bincount(cells[kept]).sum(), kept.sum()) == (wanted.sum(), wanted.sum())
        count = cells.max() + 1
        assert np.array_equal(
            np.bincount(cells[kept], minlength=count), np.bincount(cells[wanted], minlength=count)
        )
        assert (kept | ~before).all()
        before = kept
    other = matched_circuit(1 - draws, prune(top_n(scores, graph, 1624), graph), graph)
    assert 0 < (other & before).sum() < before.sum()
    # kinds and layers by the names of the nodes
    alike: dict[tuple[str, str], set[int]] = {}
    for row, column in np.argwhere(graph.exists):
        names = graph.sources[row], graph.destinations[column]
        key = tuple(re.sub(r"\.[hg]\d+", "", name) for name in names)
        alike.setdefault(key, set()).add(int(edge_groups(graph)[row, column]))  # type: ignore[arg-type]
    assert all(len(found) == 1 for found in alike.values())
    assert len(set.union(*alike.values())) == len(alike)


def test_random_circuits_run_on_some_documents(reference: Any) -> None:
    """Runs on a subset of documents equal runs on all, at any batch size."""
    model, pairs, difference, scores, _ = reference
    kept = prune(
        top_n(scores, Graph(Shape(4, 4, 4, 16, 64, 256, 512, False)), 60),
        Graph(Shape(4, 4, 4, 16, 64, 256, 512, False)),
    )
    order = pairs.attention_mask.sum(1).argsort(stable=True).numpy()
    for batch in (1, 4, 100):
        judge = Evaluator(model, pairs, difference, batch=batch)
        whole, *some = judge.run([kept] * 3, [slice(None), slice(0, None, 2), slice(1, None, 2)])
        for start, values in enumerate(some):
            run = order[start::2]
            for one, every in ((values.metric, whole.metric), (values.kl, whole.kl)):
                assert set(np.flatnonzero(np.isfinite(one))) == set(run)
                np.testing.assert_allclose(one[run], every[run], rtol=0, atol=1e-12)
    assert share_of(3, 15) == slice(0, None, 1)
    assert [share_of(i, 17) for i in range(3)] == [slice(i % 2, None, 2) for i in range(3)]


def test_what_says_nothing_is_refused(reference: Any) -> None:
    model, pairs, difference, scores, _ = reference
    judge = Evaluator(model, pairs, difference)
    for fractions in ((), (0.5, 0.1), (0.1, 1.5)):
        with pytest.raises(UserError, match="fractions="):
            curve(judge, scores, fractions=fractions)
    same = TokenPairs.from_tensors(
        pairs.clean.input_ids, pairs.clean.input_ids, pairs.attention_mask, pairs.names
    )
    nothing = Evaluator(model, same, difference)
    assert nothing.doubt is not None
    assert "which is rounding" in nothing.doubt
    found = faithfulness(nothing, judge.graph.exists)
    assert np.isnan(found.faithfulness.mean)
    assert found.kl.mean == 0
    with pytest.raises(UserError, match="make it from these pairs"):
        Evaluator(model, made_pairs(), difference)
