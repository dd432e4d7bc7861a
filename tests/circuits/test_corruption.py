"""Clean and corrupted documents: what differs, where, and what is asked of the model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from sumcirc.circuits.discovery import circuit_runs, judge, score_edges
from sumcirc.circuits.edge_selection import matched_circuit, prune, top_n
from sumcirc.circuits.inputs.corruption import corpus_pairs, make_pairs
from sumcirc.circuits.inputs.example_pairs import ExamplePair, TokenPairs, pair_metric
from sumcirc.circuits.inputs.splitting import split_pairs
from sumcirc.circuits.patching.evaluator import Evaluator
from sumcirc.circuits.tasks import make_task, make_tasks
from sumcirc.data.documents import Document
from sumcirc.data.encoding import Encoder
from sumcirc.data.examples import NONE, collate
from sumcirc.errors import UserError
from sumcirc.evaluation.baselines import oracle_spans
from sumcirc.schema import CircuitMetric, CircuitOptions, Corruption, EvaluationConfig, Source
from sumcirc.wire import article_of, twin

COUNT = 8
CORRUPTIONS = [one.value for one in Corruption if one is not Corruption.auto]
SALIENT, DOCUMENT, PROMPT, SUMMARY = range(4)  # in `kinds`


def kinds(pair: ExamplePair) -> Any:
    """[length] the number of each token's span in SPANS, or -1."""
    return collate([pair.clean]).labels(list(pair.clean.spans))[0].numpy()


def salient(item: Document) -> list[tuple[int, int]]:
    return oracle_spans(item.document, item.references, 2)


def made(encoder: Encoder, documents: list[Document], corruption: str) -> list[ExamplePair]:
    found, _ = make_pairs(encoder, documents, corruption, COUNT, salient)
    assert len(found) == COUNT
    return found


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_pairs_differ_in_the_document_alone(
    encoder: Encoder, documents: list[Document], corruption: str
) -> None:
    for pair in made(encoder, documents, corruption):
        differs = pair.clean.ids != pair.corrupted.ids
        assert differs.any()
        wanted = {"control": {DOCUMENT}, "shuffled": {SALIENT, DOCUMENT}}
        assert set(kinds(pair)[differs].tolist()) == wanted.get(corruption, {SALIENT})
        for values in (pair.corrupted.ids, kinds(pair), pair.clean.good, pair.clean.bad):
            assert len(values) == len(pair.clean.ids)
        assert pair.corruption == corruption
        text = encoder.tokenizer.decode(pair.clean.ids[kinds(pair) == PROMPT])
        assert text == "\nTL;DR:"
        assert (kinds(pair)[pair.clean.prompt_length :] == SUMMARY).all()
        # every token of the summary is asked for, the end too
        answer = pair.clean.good[pair.clean.prompt_length - 1 :].tolist()
        assert answer == [*pair.clean.ids[pair.clean.prompt_length :], encoder.end]


def test_twins_tell_other_facts(encoder: Encoder, each_event: list[Document]) -> None:
    def encode(text: str) -> list[int]:
        return encoder.tokenizer(text, add_special_tokens=False).input_ids

    for pair in made(encoder, each_event, "counterfactual"):
        other = twin(article_of(pair.id), encode)
        decode = encoder.tokenizer.decode
        assert decode(pair.corrupted.ids[kinds(pair) < PROMPT]) == other.document
        start = pair.clean.prompt_length - 1
        assert encoder.decode(pair.clean.bad[start:]).strip() == other.summary
        assert encoder.decode(pair.clean.good[start:]).strip() == article_of(pair.id).summary


def test_replaced_text_is_that_of_the_salient_sentences(
    encoder: Encoder, documents: list[Document]
) -> None:
    by_id = {item.id: item for item in documents}
    for pair in made(encoder, documents, "replace"):
        item = by_id[pair.id]
        chosen = [item.document[start:end] for start, end in salient(item)]
        shown = encoder.tokenizer.decode(pair.clean.ids[kinds(pair) == SALIENT])
        assert "".join(shown.split()) == "".join("".join(chosen).split())


def test_control_replaces_as_much(encoder: Encoder, documents: list[Document]) -> None:
    for pair in made(encoder, documents, "control"):
        changed = int((pair.clean.ids != pair.corrupted.ids).sum())
        assert 0.7 * (kinds(pair) == SALIENT).sum() < changed <= (kinds(pair) == SALIENT).sum()


def test_what_gives_no_pair_is_counted(encoder: Encoder, documents: list[Document]) -> None:
    _, dropped = make_pairs(encoder, documents, "replace", 30, lambda item: [(0, 5)][: item.id > "test-000015"])  # fmt: skip # noqa: E501
    assert list(dropped) == ["no salient sentence"]
    with pytest.raises(UserError, match=r"no document gives a pair \(30 no salient sentence\)"):
        make_pairs(encoder, documents, "replace", 30, lambda item: [])
    with pytest.raises(UserError, match=r"corruption=mask: choose from counterfactual"):
        make_pairs(encoder, documents, "mask", 30, salient)


def mute(item: Document, number: int) -> Document:
    """A document without a word that `swap` can exchange."""
    words = ("so they did as they had before", "and then it went on as it was")
    text = ". ".join(f"{words[(number + i) % 2]} again" for i in range(4)) + "."
    return replace(item, id=f"mute-{number}", document=text, references=(f"{words[0]}.",))


@pytest.mark.parametrize(
    ("first", "then", "chosen"),
    [
        (16, 16, "swap"),
        (15, 17, "replace"),
        (15, 30, "replace"),
        (0, 9, "replace"),
    ],
)
def test_auto_is_swap_where_half_of_the_documents_give_such_a_pair(
    encoder: Encoder, documents: list[Document], first: int, then: int, chosen: str
) -> None:
    """Of the first 32 documents; those of the wire all do, those without names don't."""
    silent = [mute(documents[i % len(documents)], i) for i in range(then)]
    items = [*silent[:17], *documents[:first], *silent[17:], *(documents if then > 17 else [])]
    made, count = {}, min(10, len(items))
    for name in ("auto", chosen):
        made[name] = corpus_pairs(encoder, items, name, count, EvaluationConfig(), "x.documents")
    assert made["auto"].corruption == made[chosen].corruption == Corruption(chosen)
    for pair, other in zip(made["auto"].pairs, made[chosen].pairs, strict=True):
        assert pair.id == other.id
        assert pair.corruption == chosen
        assert (pair.corrupted.ids == other.corrupted.ids).all()
    notice, *rest = made["auto"].notices
    assert rest == made[chosen].notices
    tried = min(32, len(items))
    try:
        pairs, _ = make_pairs(encoder, items[:tried], "swap", None, salient)
    except UserError:  # none
        pairs = []
    told = sum(bool((pair.clean.bad != NONE).any()) for pair in pairs)
    shown = told if chosen == "swap" else tried - told
    assert str(notice).startswith(f"x.corruption: {shown} of {tried} documents tried ")
    assert str(notice).endswith(f"`auto` is `{chosen}`")
    assert not notice.warning
    assert (told >= tried / 2) == (chosen == "swap")


def test_auto_is_counterfactual_on_the_wire_alone() -> None:
    chosen = CircuitOptions()
    assert chosen.corruption_of(Source.wire) is Corruption.counterfactual
    assert chosen.corruption_of(Source.files) is Corruption.auto
    for name in (Corruption.swap, Corruption.replace, Corruption.control, Corruption.shuffled):
        assert CircuitOptions(corruption=name).corruption_of(Source.files) is name


def test_logit_difference_is_read_at_the_first_token_of_each_fact(
    encoder: Encoder, documents: list[Document]
) -> None:
    pairs = made(encoder, documents, "counterfactual")
    tokens = TokenPairs.of(pairs)
    metric: Any = pair_metric("logit_difference", tokens)
    for i, pair in enumerate(pairs):
        facts = article_of(pair.id).facts.values()
        places = metric.positions[i].nonzero().flatten()
        told = []
        for place in places.tolist():
            good, bad = metric.good[i, place], metric.bad[i, place]
            assert good == pair.clean.ids[place + 1] != bad
            told.append(encoder.tokenizer.decode(pair.clean.ids[place + 1 :]).lstrip())
        for fact in facts:
            assert any(text.startswith(fact) for text in told)
        # beyond these only the rest of a number behind its comma
        assert len(places) <= len(facts) + sum("," in fact for fact in facts)


def options(corruption: Corruption, metric: CircuitMetric = CircuitMetric.kl) -> CircuitOptions:
    return CircuitOptions(
        corruption=corruption,
        metric=metric,
        sizes=[0.02, 0.1, 1.0],
        random_circuits=1,
        resamples=20,
        batch_size=8,
    )


def test_attribution_is_where_the_documents_differ(
    model: Any, encoder: Encoder, documents: list[Document]
) -> None:
    """How much more than its share of the document's tokens the salient text has of its scores.

    1 is what a place that nothing distinguishes has. Salient are the facts that differ of twins and
    swaps, a quarter of the document of the others.
    """
    share, concentration = {}, {}
    for corruption in CORRUPTIONS:
        pairs = made(encoder, documents, corruption)
        chosen = options(Corruption(corruption))
        scores = score_edges(model, make_task(model, pairs, chosen, keep_all=True), chosen)
        assert scores.spans is not None
        sizes = scores.spans.mean(0).abs().sum((1, 2))
        share[corruption] = (sizes / sizes.sum()).tolist()
        tokens = [
            sum((kinds(pair) == kind).sum() for pair in pairs) for kind in (SALIENT, DOCUMENT)
        ]
        text = float(sizes[SALIENT] / (sizes[SALIENT] + sizes[DOCUMENT]))
        concentration[corruption] = text / (tokens[0] / sum(tokens))
    assert share["counterfactual"][SALIENT] + share["counterfactual"][SUMMARY] > 0.8
    assert share["control"][SALIENT] < 0.1
    assert share["control"][DOCUMENT] > 0.2
    assert concentration["counterfactual"] > 8
    assert concentration["swap"] > 8
    assert concentration["replace"] > 2.5
    assert concentration["control"] < 0.2
    assert 0.5 < concentration["shuffled"] < 2


def test_shuffled_pairs_share_no_text(encoder: Encoder, documents: list[Document]) -> None:
    """What is the same at one place is so by chance: as seldom as with any other document."""
    pairs = made(encoder, documents, "shuffled")
    texts = {item.document for item in documents}
    alike = []
    for pair in pairs:
        inside = kinds(pair) < PROMPT
        alike.append((pair.clean.ids == pair.corrupted.ids)[inside].mean())
        other = encoder.decode(pair.corrupted.ids[inside])
        own = next(item.document for item in documents if item.id == pair.id)
        assert other[:40] in {text[:40] for text in texts - {own}}
    assert np.mean(alike) < 0.15


def test_text_of_others_depends_on_item_and_seed_alone(
    encoder: Encoder, documents: list[Document]
) -> None:
    def corrupted(seed: int) -> list[list[int]]:
        pairs, _ = make_pairs(encoder, documents, "replace", 5, salient, seed)
        return [pair.corrupted.ids.tolist() for pair in pairs]

    assert corrupted(0) == corrupted(0)
    assert all(one != other for one, other in zip(corrupted(0), corrupted(1), strict=True))


def test_a_replaced_beginning_has_no_space(encoder: Encoder, documents: list[Document]) -> None:
    pairs, _ = make_pairs(encoder, documents, "replace", 3, lambda item: [(0, 30)])
    for pair in pairs:
        assert encoder.decode(pair.corrupted.ids)[:1].strip()


def test_a_circuit_is_found_and_judged(
    model: Any, encoder: Encoder, documents: list[Document]
) -> None:
    pairs = made(encoder, documents, "counterfactual")
    chosen = options(Corruption.counterfactual)
    task = make_task(model, pairs, chosen)
    scores = score_edges(model, task, chosen)
    steps: list[int] = []
    found = judge(task, scores, chosen, steps.append)
    last = found.absolute.points[-1].faithfulness
    assert last.mean == pytest.approx(1.0, abs=1e-3)
    tenth, control = found.absolute.points[1], found.absolute.random[0][1]
    assert tenth.faithfulness.low > control.faithfulness.high
    assert tenth.edges == control.edges
    assert found.circuit.sum() <= int(0.05 * scores.graph.edges)
    assert found.stability is not None
    assert found.stability.jaccard.mean > 5 * found.stability.chance
    assert sum(steps) == circuit_runs(task, chosen)
    assert len(steps) > 4
    assert all(parameter.grad is None for parameter in model.parameters())


def test_edges_are_chosen_on_some_pairs_and_judged_on_others(
    model: Any, encoder: Encoder, documents: list[Document]
) -> None:
    """All figures equal those of circuits run one at a time."""
    pairs = made(encoder, documents, "counterfactual")
    chosen = replace(options(Corruption.counterfactual), held_out=0.5, random_circuits=2)
    split = make_tasks(model, pairs, chosen)
    assert split.held_out is not None
    sides = [{pair.id for pair in one.pairs} for one in (split.task, split.held_out)]
    assert not sides[0] & sides[1]
    steps: list[int] = []
    scores = score_edges(model, split.task, chosen)
    found = judge(split.task, scores, chosen, steps.append, split.held_out)
    assert sum(steps) == circuit_runs(split.task, chosen, split.held_out)
    # alone, the same pairs give the same scores and the same in-sample figures
    alone = replace(chosen, held_out=0.0)
    plain = make_tasks(model, split.task.pairs, alone)
    assert plain.held_out is None
    before = judge(plain.task, score_edges(model, plain.task, alone), alone)
    assert np.array_equal(before.aggregated, found.aggregated)
    assert found.in_sample is not None
    assert before.in_sample is None
    assert found.in_sample.faithfulness == before.faithfulness
    assert found.in_sample.absolute.points == before.absolute.points
    assert found.in_sample.signed == before.signed
    # held out: (m(C) - m(0)) / (m(G) - m(0)) of every circuit run alone
    held = split.held_out
    judged = Evaluator(model, held.tokens, held.metric)
    whole, nothing = scores.graph.exists, np.zeros_like(scores.graph.exists)

    def f(kept: Any) -> float:
        m = [judged.run([one])[0].metric.mean() for one in (kept, nothing, whole)]
        return (m[0] - m[1]) / (m[2] - m[1])

    assert found.faithfulness.faithfulness.mean == pytest.approx(f(found.circuit), abs=1e-6)
    assert found.faithfulness.completeness is not None
    rest = 1 - f(whole & ~found.circuit)
    assert found.faithfulness.completeness.mean == pytest.approx(rest, abs=1e-6)
    for size, point in zip(chosen.sizes, found.absolute.points, strict=True):
        kept = prune(top_n(found.aggregated, scores.graph, int(size * whole.sum())), scores.graph)
        assert point.edges == kept.sum()
        if point.edges:
            assert point.faithfulness.mean == pytest.approx(f(kept), abs=1e-6)
    assert found.absolute.documents == [pair.id for pair in held.pairs]
    draws = np.random.default_rng(1).random(whole.shape)
    control = matched_circuit(draws, found.circuit, scores.graph)
    first = matched_circuit(
        np.random.default_rng(0).random(whole.shape), found.circuit, scores.graph
    )
    assert found.control is not None
    assert found.control.mean == pytest.approx((f(control) + f(first)) / 2, abs=1e-6)
    shared = [(one & found.circuit).sum() / found.circuit.sum() for one in (first, control)]
    assert found.control_shared == pytest.approx(np.mean(shared))
    assert 0 < found.control_shared < 1


def test_a_document_is_on_one_side_alone() -> None:
    def pair(id: str, prompt: list[int]) -> ExamplePair:
        return ExamplePair.of(id, "own", (prompt, [0, *prompt[1:]]), {}, [9], [8])

    texts = [[1, 2, 3], [4, 5], [1, 2, 3, 7], [6], [4, 5, 9], [7, 7], [1, 2, 3], [8]]
    pairs = [pair(str(i), text) for i, text in enumerate(texts)]
    for share in (0.25, 0.5, 0.75):
        chosen, held = ([one.id for one in side] for side in split_pairs(pairs, share))
        assert sorted(chosen + held) == [one.id for one in pairs]
        assert len(held) <= share * len(pairs)
        for same in ({"0", "2", "6"}, {"1", "4"}):
            assert same <= set(chosen) or same <= set(held)
    longer = [*pairs, pair("new", [3, 3])]
    sides = [{one.id for one in split_pairs(some, 0.5)[1]} for some in (pairs, longer)]
    assert sides[0] == sides[1] - {"new"}


def test_a_model_without_the_behaviour_is_refused(
    model: Any, encoder: Encoder, documents: list[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = made(encoder, documents, "counterfactual")
    # the corrupted document is the one that the summary is of
    wrong = [replace(pair, clean=pair.corrupted, corrupted=pair.clean) for pair in pairs]
    chosen = options(Corruption.counterfactual, CircuitMetric.nll)
    with torch.no_grad(), pytest.raises(UserError, match="there is no behaviour to explain"):
        make_task(model, wrong, chosen)


def answered(model: Any, encoder: Encoder, count: int, planted: bool) -> list[ExamplePair]:
    """Prompts of random tokens with answers at random, or those that the model gives."""
    draw = torch.Generator().manual_seed(1)
    size = len(encoder.tokenizer)
    clean, corrupted = torch.randint(10, size, (2, count, 6), generator=draw)
    answers = torch.randint(10, size, (2, count), generator=draw)
    if planted:
        with torch.no_grad():
            likely = [model(input_ids=ids).logits[:, -1].argmax(-1) for ids in (clean, corrupted)]
        answers = torch.stack(likely)
    rows = zip(clean.tolist(), corrupted.tolist(), *answers.tolist(), strict=True)
    return [
        ExamplePair.of(str(i), "own", (one, other), {}, [good], [bad])
        for i, (one, other, good, bad) in enumerate(rows)
        if good != bad
    ]


@pytest.mark.parametrize("planted", [False, True])
def test_an_effect_is_asked_of_all_pairs_before_any_is_left_out(
    model: Any, encoder: Encoder, planted: bool
) -> None:
    pairs = answered(model, encoder, 40, planted)
    chosen = options(Corruption.counterfactual, CircuitMetric.logit_difference)
    task = make_task(model, pairs, chosen)
    # by the pairs that are kept alone there is an effect in either case
    assert (task.evaluator.empty.metric > task.evaluator.full.metric).all()
    found = judge(task, score_edges(model, task, chosen), chosen)
    told = [found.faithfulness.faithfulness.mean, found.signed.cpr.value.mean]
    told += [found.absolute.cmd.value.mean, found.absolute.cmd.random[0].mean]
    words = [str(notice) for notice in task.notices if notice.warning]
    if planted:
        assert np.isfinite(told).all()
        assert not any("not defined" in line for line in words)
    else:
        assert 0.2 * len(pairs) < task.unchanged < 0.8 * len(pairs)
        assert np.isnan(told).all()
        (line,) = [line for line in words if "faithfulness, CPR and CMD are not defined" in line]
        assert f"raises logit_difference of {len(pairs)} pairs by" in line
