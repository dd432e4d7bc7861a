"""A card's lines: they pass for a known circuit, fail for a wrong one, and equal oracles."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sumcirc.circuits.card import agreement, minimality, other_tasks, rivals
from sumcirc.circuits.card.lines import BARS, FAIL, NOT_TESTED, PASS, Card
from sumcirc.circuits.card.making import make_card
from sumcirc.circuits.card.other_tasks import OtherPairs
from sumcirc.circuits.card.subject import Subject, spread
from sumcirc.circuits.discovery import judge
from sumcirc.circuits.edge_selection import prune
from sumcirc.circuits.patching.patched_run import PatchedRun
from sumcirc.circuits.tasks import make_task
from sumcirc.schema import CARD_LINES, Aggregation, CardOptions, CircuitMetric, Method
from sumcirc.statistics import Interval
from tests.circuits.card.card_cases import (
    WRONG_EDGES,
    induction_examples,
    induction_options,
    induction_subject,
    irrelevant_examples,
    names_of,
    random_examples,
    scores_of,
)
from tests.circuits.naive_intervention import gpt2_by_hand, random_circuit, shaken
from tests.support.induction import KNOWN_EDGES

FULL = CardOptions(lines=["full"], exact_edges=20)


def card_of(subject: Subject, **others: OtherPairs) -> Card:
    return make_card(
        subject.model,
        subject.task,
        subject.held_out,
        subject.found,
        subject.options,
        subject.card,
        others=others,
    )


@pytest.fixture(scope="module")
def known() -> Subject:
    return induction_subject(induction_options(), FULL)


@pytest.fixture(scope="module")
def wrong() -> Subject:
    return induction_subject(induction_options(), FULL, edges=WRONG_EDGES)


def test_the_known_circuit_passes(known: Subject) -> None:
    assert names_of(known.circuit, known.graph) == KNOWN_EDGES
    card = card_of(known)
    assert [line.name for line in card.lines] == list(BARS)
    verdicts = {line.name: line.status for line in card.lines}
    assert verdicts == {**dict.fromkeys(BARS, PASS), "ablation": NOT_TESTED, "specific": NOT_TESTED}
    assert card.counts == {"passed": len(BARS) - 2, "failed": 0, "not_tested": 2}
    assert card["specific"].said == "no other pairs are given"
    minimal = card["minimal"]
    assert minimal.number is not None
    assert minimal.number.mean == 1
    assert "5 of 5 edges matter" in minimal.said
    assert card["rival"].said.startswith("no rival found by eap_ig_inputs scores")


def test_a_wrong_circuit_fails(wrong: Subject) -> None:
    assert names_of(wrong.circuit, wrong.graph) == WRONG_EDGES
    card = card_of(wrong)
    for name in ("faithful", "complete", "minimal", "rival", "converged", "exact"):
        assert card[name].status == FAIL, name
    complete, minimal = card["complete"].number, card["minimal"].number
    assert complete is not None
    assert complete.low > 0.9  # the rest does it all
    assert minimal is not None
    assert minimal.mean == 0
    assert "not needed" in card["minimal"].said
    converged = card["converged"].number
    assert converged is not None
    assert converged.mean == 0


def test_a_circuit_with_idle_edges_is_not_minimal(known: Subject) -> None:
    subject = induction_subject(
        replace(known.options, size=7 / known.graph.edges),
        FULL,
        edges=KNOWN_EDGES | {"input->a1.h0<v>", "a1.h0->logits"},
    )
    found = minimality.minimal(subject)
    assert found.status == FAIL
    assert found.number is not None
    assert found.number.mean == pytest.approx(5 / 7)
    needed = {row["edge"] for row in found.details["tested"] if row["matters"]}
    assert needed == KNOWN_EDGES


def test_a_circuit_of_irrelevant_tokens_does_something_else(known: Subject) -> None:
    other = OtherPairs("irrelevant", irrelevant_examples(24, 2))
    # exchanging these tokens has random effects, which cancel in the mean alone
    options = replace(known.options, aggregation=Aggregation.mean)
    nothing = other_tasks.specific(replace(known, options=options), other)
    assert nothing.said == "irrelevant: its circuit has no edge"
    larger = replace(options, size=8 / known.graph.edges)
    found = other_tasks.specific(replace(known, options=larger), other)
    assert found.status == PASS
    assert found.number is not None
    assert found.number.low > 0.9
    assert found.details["removed"]["low"] > 0.3
    assert "which includes zero" in found.said  # there is nothing to explain there


def test_an_edge_that_two_tasks_share_is_not_specific() -> None:
    """Keys and values take different ways in, and the same one out."""
    subject = induction_subject(induction_options(3), FULL, ("keys",))
    values = OtherPairs("values", induction_examples(24, 3, ("values",)))
    found = other_tasks.specific(subject, values)
    assert found.status == FAIL
    assert found.number is not None
    assert found.number.low > 0.9  # it does nothing for keys
    assert found.details["removed"]["high"] < 0.1  # but without it nothing is left either
    assert found.details["there"]["this"]["high"] < 0.1
    assert found.details["there"]["other"]["low"] > 0.9


def test_another_ablation_is_judged_on_held_out_documents_alone(known: Subject) -> None:
    held = [pair.id for pair in known.held_out.pairs]
    again = [
        replace(pair, clean=replace(pair.clean, id=id), corrupted=replace(pair.corrupted, id=id))
        for pair, id in zip(induction_examples(24, 5, ("keys",)), held, strict=True)
    ]
    strangers = induction_examples(8, 6, ("values",))
    found = other_tasks.other_ablation(known, OtherPairs("keys", [*again, *strangers]))
    assert found.status == PASS
    assert found.number is not None
    assert found.number.n == 24
    assert "keys in place of" in found.said
    few = other_tasks.other_ablation(known, OtherPairs("keys", again[:3]))
    assert few.status == NOT_TESTED
    assert few.said == "3 of the held-out documents give a pair by keys"


# ---- oracles


@torch.no_grad()
def naive_metric(model: Any, task: Any, kept: NDArray[np.bool_]) -> NDArray[np.float64]:
    """KL to the clean run after the last token, written out by hand."""
    tokens = task.tokens
    mask = torch.ones_like(tokens.clean.input_ids)
    whole = task.evaluator.graph.exists
    clean, _ = gpt2_by_hand(model, tokens.clean.input_ids, mask, whole, torch.zeros(99, 1))
    _, patched = gpt2_by_hand(model, tokens.corrupted.input_ids, mask, whole, torch.zeros(99, 1))
    own, _ = gpt2_by_hand(model, tokens.clean.input_ids, mask, kept, patched)
    reference, run = (logits[:, -1].log_softmax(-1) for logits in (clean, own))
    return (reference.exp() * (reference - run)).sum(-1).numpy()


def test_lines_of_a_random_circuit_equal_a_naive_run() -> None:
    """Completeness, removal and patching of single edges, and rivals, in float64."""
    model = shaken("gpt2")
    card = CardOptions(lines=["full"], edges=6, exact_edges=10)
    options = replace(induction_options(), metric=CircuitMetric.kl)
    tasks = [make_task(model, random_examples(9, seed), options) for seed in (0, 1)]
    graph = tasks[0].evaluator.graph
    kept = prune(random_circuit(graph, 0.3), graph)
    scores = scores_of(names_of(kept, graph), tasks[0], seed=1)
    options = replace(options, size=kept.sum() / graph.edges)
    found = judge(tasks[0], scores, options, None, tasks[1])
    assert np.array_equal(found.circuit, kept)
    subject = Subject(model, *tasks, found, options, card)

    def share(circuit: NDArray[np.bool_]) -> float:
        empty = naive_metric(model, tasks[1], np.zeros_like(circuit))
        run = naive_metric(model, tasks[1], circuit)
        return float((empty - run).mean() / empty.mean())

    made = card_of(subject)
    complete = made["complete"].number
    assert complete is not None
    assert complete.mean == pytest.approx(share(graph.exists & ~kept), abs=1e-10)
    places = {name: (row, column) for name, row, column in graph.edge_names()}
    rows = made["minimal"].details["tested"]
    assert len(rows) == 6 < kept.sum()
    for row in rows:
        less = kept.copy()
        less[places[row["edge"]]] = False
        assert row["cost"]["mean"] == pytest.approx(share(kept) - share(less), abs=1e-10)
    for times, row in zip(rivals.TIMES, made["rival"].details["disjoint"], strict=True):
        other = rivals.without(subject, times)
        assert not (other & kept).any()
        assert row["edges"] == other.sum()
        assert row["jaccard"] == 0
        if other.any():
            assert row["faithfulness"]["mean"] == pytest.approx(share(other), abs=1e-10)
            assert row["below"]["mean"] == pytest.approx(share(kept) - share(other), abs=1e-10)
    exact = made["exact"].details
    assert len(exact["edges"]) == 10
    assert exact["pairs"] == 9
    for name, effect in zip(exact["edges"], exact["effects"], strict=True):
        cut = graph.exists.copy()
        cut[places[name]] = False
        assert effect == pytest.approx(naive_metric(model, tasks[1], cut).mean(), abs=1e-10)


# ---- parts


def test_penalties_leave_ever_fewer_of_the_circuits_edges(known: Subject) -> None:
    sizes = np.sort(np.abs(known.found.aggregated[known.circuit]))
    shared = [
        int((rivals.penalized(known, penalty) & known.circuit).sum())
        for penalty in (0.0, sizes[1], sizes[-1])
    ]
    assert shared[0] == 5 > shared[1] > shared[2] == 0
    disjoint = rivals.without(known)
    assert np.array_equal(rivals.penalized(known, sizes[-1]), disjoint)


def test_an_edge_matters_above_the_floor_and_beyond_chance() -> None:
    random = np.random.default_rng(0)
    changes = np.stack(
        [
            np.full(16, 1.0),  # clearly
            np.full(16, 1e-4),  # clearly, but below the floor
            random.normal(0.3, 2.0, 16),  # by chance
            np.full(16, -1.0),  # better without it
            np.where(np.arange(16) < 8, 1.0, -0.01),  # for half of the documents
        ]
    )
    costs = [Interval(float(row.mean()), np.nan, np.nan, 16) for row in changes]
    found = minimality.mattering(changes, costs, floor=0.001, fdr=0.05)
    assert found.tolist() == [True, False, False, False, True]
    few = minimality.mattering(changes[:, :3], costs, floor=0.001, fdr=0.05)
    assert not few.any()  # of three documents nothing can be shown


def test_a_sample_is_spread_over_all_sizes() -> None:
    edges = [(i, 0) for i in range(103)]
    drawn = spread(edges, 10)
    assert len(set(drawn)) == 10
    assert [place // 10.3 for place, _ in drawn] == pytest.approx(list(range(10)), abs=1)
    assert spread(edges[:4], 10) == edges[:4]
    assert spread(edges, 10) == drawn
    assert spread(edges, 10, seed=1) != drawn


# ---- what is not tested


def test_lines_that_are_left_out_name_setting_and_cost(known: Subject) -> None:
    quick = replace(FULL, lines=["quick"])
    tasks = known.model, known.task, known.held_out
    runs: list[int] = []
    original = PatchedRun.logits

    def counting(self: Any, kept: Any, positions: Any, documents: Any = slice(None)) -> Any:
        runs.append(len(self.clean_ids[documents]))
        return original(self, kept, positions, documents)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PatchedRun, "logits", counting)
        card = make_card(*tasks, known.found, known.options, quick)
    tested = {line.name for line in card.lines if line.status != NOT_TESTED}
    assert tested == {"faithful", "complete", "minimal", "stable", "rival"}
    for name in set(CARD_LINES) - tested:
        assert card[name].setting == f"card.lines=[quick,{name}]"
        assert card[name].passes > 0
        assert card[name].number is None
    # each test's runs, and the clean run once for each of the two tests
    distinct = len(runs) - 2 * 2  # batches of 16
    assert 0 < distinct * 12 <= card["minimal"].passes + card["rival"].passes
    assert sum(runs) <= card["minimal"].passes + card["rival"].passes + 2 * known.pairs


def test_nothing_is_tested_in_sample_or_on_few_pairs(known: Subject) -> None:
    in_sample = make_card(known.model, known.task, None, known.found, known.options, FULL)
    verdicts = {line.name: line.status for line in in_sample.lines}
    assert verdicts == {**dict.fromkeys(BARS, NOT_TESTED), "stable": PASS}
    assert "judged in-sample" in in_sample["minimal"].said
    assert in_sample["faithful"].number is not None
    few = induction_subject(known.options, FULL, count=6)
    card = card_of(few)
    assert card["faithful"].status == NOT_TESTED
    assert card["faithful"].said.startswith("6 held-out pairs; 8 or more are needed")
    less = replace(known.options, resamples=99)
    card = make_card(known.model, known.task, None, known.found, less, FULL)
    assert card["stable"].status == NOT_TESTED
    assert card["stable"].setting == "circuit.resamples=100"


def test_a_method_without_steps_does_not_converge(known: Subject) -> None:
    options = replace(known.options, method=Method.relp)
    subject = replace(known, options=options)
    found = agreement.converged(subject)
    assert found.status == NOT_TESTED
    assert found.said == "circuit.method=relp takes no steps"
