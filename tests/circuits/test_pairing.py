"""Clean and corrupted documents: what differs, where, and what is asked of the model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sumcirc.circuits.finding import judge, make_task, score_edges
from sumcirc.circuits.pairing import (
    DOCUMENT,
    PROMPT,
    SALIENT,
    SUMMARY,
    SummaryPair,
    changed_pairs,
    make_pairs,
    summary_metric,
    token_pairs,
)
from sumcirc.data.documents import Document, read_corpus
from sumcirc.data.encoding import Encoder
from sumcirc.data.wire import article_of, twin
from sumcirc.errors import UserError
from sumcirc.modeling.anatomy import context_length
from sumcirc.modeling.loading import load_model, load_tokenizer
from sumcirc.schema import (
    CircuitMetric,
    CircuitOptions,
    Corruption,
    DataConfig,
    EncodingConfig,
    ModelConfig,
    SizesConfig,
    Source,
)
from sumcirc.summaries.baselines import oracle_spans

COUNT = 8
TINY = ModelConfig(name="tiny", path="tiny")


@pytest.fixture(scope="module")
def model() -> Any:
    return load_model(TINY).eval()


@pytest.fixture(scope="module")
def encoder(model: Any) -> Encoder:
    return Encoder(load_tokenizer(TINY), EncodingConfig(), context_length(model.config))


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    config = DataConfig(
        name="wire",
        source=Source.wire,
        train="train",
        validation="validation",
        test="test",
        sizes=SizesConfig(test=30),
    )
    return read_corpus(config, "test").documents


def salient(item: Document) -> list[tuple[int, int]]:
    return oracle_spans(item.document, item.references, 2)


def made(encoder: Encoder, documents: list[Document], corruption: str) -> list[SummaryPair]:
    found, _ = make_pairs(encoder, documents, corruption, COUNT, salient)
    assert len(found) == COUNT
    return found


@pytest.mark.parametrize("corruption", ["twin", "replace", "control"])
def test_pairs_differ_in_the_document_alone(
    encoder: Encoder, documents: list[Document], corruption: str
) -> None:
    for pair in made(encoder, documents, corruption):
        differs = pair.clean != pair.corrupted
        assert differs.any()
        wanted = DOCUMENT if corruption == "control" else SALIENT
        assert set(pair.kinds[differs].tolist()) == {wanted}
        assert len(pair.clean) == len(pair.corrupted) == len(pair.kinds) == len(pair.other)
        text = encoder.tokenizer.decode(pair.clean[pair.kinds == PROMPT])
        assert text == "\nTL;DR:"
        assert (pair.kinds[pair.summary_start :] == SUMMARY).all()


def test_twins_tell_other_facts(encoder: Encoder, documents: list[Document]) -> None:
    def encode(text: str) -> list[int]:
        return encoder.tokenizer(text, add_special_tokens=False).input_ids

    for pair in made(encoder, documents, "twin"):
        other = twin(article_of(pair.id), encode)
        decode = encoder.tokenizer.decode
        assert decode(pair.corrupted[pair.kinds < PROMPT]) == other.document
        summary = decode(pair.other[pair.summary_start :], skip_special_tokens=True)
        assert summary.strip() == other.summary
        clean = decode(pair.clean[pair.summary_start :], skip_special_tokens=True)
        assert clean.strip() == article_of(pair.id).summary


def test_replaced_text_is_that_of_the_salient_sentences(
    encoder: Encoder, documents: list[Document]
) -> None:
    by_id = {item.id: item for item in documents}
    for pair in made(encoder, documents, "replace"):
        item = by_id[pair.id]
        chosen = [item.document[start:end] for start, end in salient(item)]
        shown = encoder.tokenizer.decode(pair.clean[pair.kinds == SALIENT])
        assert "".join(shown.split()) == "".join("".join(chosen).split())


def test_control_replaces_as_much(encoder: Encoder, documents: list[Document]) -> None:
    for pair in made(encoder, documents, "control"):
        changed = int((pair.clean != pair.corrupted).sum())
        assert 0.7 * (pair.kinds == SALIENT).sum() < changed <= (pair.kinds == SALIENT).sum()


def test_what_gives_no_pair_is_counted(encoder: Encoder, documents: list[Document]) -> None:
    _, dropped = make_pairs(encoder, documents, "replace", 30, lambda item: [(0, 5)][: item.id > "test-000015"])  # fmt: skip # noqa: E501
    assert list(dropped) == ["no salient sentence"]
    with pytest.raises(UserError, match="no document gives a pair"):
        make_pairs(encoder, documents, "replace", 30, lambda item: [])
    with pytest.raises(UserError, match=r"circuit\.corruption=swap: choose from twin"):
        make_pairs(encoder, documents, "swap", 30, salient)


def test_logit_difference_is_read_at_the_first_token_of_each_fact(
    encoder: Encoder, documents: list[Document]
) -> None:
    pairs = made(encoder, documents, "twin")
    tokens = token_pairs(pairs)
    metric: Any = summary_metric("logit_difference", pairs, tokens)
    for i, pair in enumerate(pairs):
        facts = article_of(pair.id).facts.values()
        places = metric.positions[i].nonzero().flatten()
        told = []
        for place in places.tolist():
            good, bad = metric.good[i, place], metric.bad[i, place]
            assert good == pair.clean[place + 1] != bad == pair.other[place + 1]
            told.append(encoder.tokenizer.decode(pair.clean[place + 1 :]).lstrip())
        for fact in facts:
            assert any(text.startswith(fact) for text in told)
        # beyond these only the rest of a number behind its comma
        assert len(places) <= len(facts) + sum("," in fact for fact in facts)


@pytest.mark.parametrize("name", ["kl", "surprise"])
def test_other_metrics_are_read_where_the_summary_is_predicted(
    encoder: Encoder, documents: list[Document], name: str
) -> None:
    pairs = made(encoder, documents, "replace")
    metric = summary_metric(name, pairs, token_pairs(pairs))
    for i, pair in enumerate(pairs):
        expected = range(pair.summary_start - 1, len(pair.clean) - 1)
        assert metric.positions[i].nonzero().flatten().tolist() == list(expected)


def test_metrics_that_do_not_fit_are_refused(encoder: Encoder, documents: list[Document]) -> None:
    pairs = made(encoder, documents, "replace")
    with pytest.raises(UserError, match="no other answer is known for `test-"):
        summary_metric("logit_difference", pairs, token_pairs(pairs))
    with pytest.raises(UserError, match=r"circuit\.metric=bleu: choose from kl"):
        summary_metric("bleu", pairs, token_pairs(pairs))


def test_pairs_on_which_corruption_does_nothing_are_left_out(
    encoder: Encoder, documents: list[Document]
) -> None:
    pairs = made(encoder, documents, "twin")[:3]
    kept, dropped = changed_pairs(pairs, np.array([1.0, 1.0, 1.0]), np.array([2.0, 1.0, 0.5]))
    assert ([pair.id for pair in kept], dropped) == ([pairs[0].id], 2)


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
    """Of twins at salient tokens and in the summary; of controls not at salient ones."""
    shares = {}
    for corruption in (Corruption.twin, Corruption.control):
        pairs = made(encoder, documents, corruption.value)
        chosen = options(corruption)
        scores = score_edges(model, make_task(model, pairs, chosen), chosen)
        assert scores.spans is not None
        sizes = scores.spans.mean(0).abs().sum((1, 2))
        shares[corruption] = (sizes / sizes.sum()).tolist()
    assert shares[Corruption.twin][SALIENT] + shares[Corruption.twin][SUMMARY] > 0.8
    assert shares[Corruption.control][SALIENT] < 0.1
    assert shares[Corruption.control][DOCUMENT] > 0.2


def test_a_circuit_is_found_and_judged(
    model: Any, encoder: Encoder, documents: list[Document]
) -> None:
    pairs = made(encoder, documents, "twin")
    chosen = options(Corruption.twin)
    task = make_task(model, pairs, chosen)
    scores = score_edges(model, task, chosen)
    steps: list[int] = []
    found = judge(task, scores, chosen, steps.append)
    last = found.absolute.points[-1].faithfulness
    assert last.mean == pytest.approx(1.0, abs=1e-3)
    tenth, control = found.absolute.points[1], found.absolute.random[0][1]
    assert tenth.faithfulness.low > control.faithfulness.high
    assert tenth.edges <= control.edges
    assert found.circuit.sum() <= round(0.05 * scores.graph.edges)
    assert found.stability is not None
    assert found.stability.jaccard.mean > 5 * found.stability.chance
    assert len(steps) == 4
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_model_without_the_behaviour_is_refused(
    model: Any, encoder: Encoder, documents: list[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = made(encoder, documents, "twin")
    wrong = [
        SummaryPair(
            p.id, p.corrupted, p.clean, p.kinds, np.where(p.kinds == SUMMARY, p.other, p.clean)
        )
        for p in pairs
    ]  # the corrupted document is the one that the summary is of
    chosen = options(Corruption.twin, CircuitMetric.surprise)
    with torch.no_grad(), pytest.raises(UserError, match="there is no behaviour to explain"):
        make_task(model, wrong, chosen)
