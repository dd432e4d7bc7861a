"""The metric `wrong_fact`: which tokens it compares, and its values against a naive computation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from sumcirc.circuits.attribution.methods import attribute
from sumcirc.circuits.inputs.corruption import make_pairs
from sumcirc.circuits.inputs.example_pairs import ExamplePair, TokenPairs, pair_metric
from sumcirc.circuits.inputs.filtering import answerable, losses
from sumcirc.data.documents import Document
from sumcirc.data.encoding import Encoder
from sumcirc.data.examples import NONE
from sumcirc.errors import UserError
from sumcirc.evaluation.baselines import oracle_spans
from sumcirc.schema import CircuitMetric, CircuitOptions, Corruption, Source
from sumcirc.wire import FACTS, article_of
from tests.compare.edited import same_state, state
from tests.support.small_models import VOCABULARY, small_model
from tests.support.wire import tiny_encoder

FAMILIES = ("gpt2", "llama", "gpt_neox")


def places(pair: ExamplePair) -> list[int]:
    return np.flatnonzero(pair.clean.wrong != NONE).tolist()


@pytest.mark.parametrize("corruption", ["counterfactual", "swap", "control"])
def test_facts_of_the_other_event_stand_beside_those_of_the_summary(
    encoder: Encoder, each_event: list[Document], corruption: str
) -> None:
    """By text: what follows in the summary is a fact, and the wrong token begins the other's."""

    def salient(item: Document) -> list[tuple[int, int]]:
        return oracle_spans(item.document, item.references, 2)

    pairs, _ = make_pairs(encoder, each_event, corruption, 12, salient)
    for pair in pairs:
        article, found = article_of(pair.id), []
        answer = [*pair.clean.ids.tolist(), *encoder.summary(article.summary)[-1:]]
        for place in places(pair):
            assert pair.clean.good[place] == answer[place + 1]
            rest = encoder.decode(answer[place + 1 :]).lstrip()
            (role,) = (role for role in FACTS if rest.startswith(article.facts[role]))
            wrong = encoder.decode([int(pair.clean.wrong[place])])
            assert article.distractor[role].startswith(wrong.strip())
            assert pair.clean.wrong[place] != pair.clean.good[place]
            found.append(role)
        assert len(found) == len(set(found))
        # facts are left out only where the same token begins both
        for role in set(FACTS) - set(found):
            both = [encoder.text(f" {one[role]}") for one in (article.facts, article.distractor)]
            assert both[0][0] == both[1][0]
        assert (pair.corrupted.wrong == pair.clean.wrong).all()


def test_facts_that_were_cut_off_are_left_out(documents: list[Document]) -> None:
    short = tiny_encoder(110)
    cut = make_pairs(short, documents, "control", 12, lambda item: [(0, 30)])[0]
    assert sum(len(places(pair)) for pair in cut) < 40
    for pair in cut:
        kept = short.decode(pair.clean.ids[: pair.clean.prompt_length].tolist())
        for place in places(pair):
            wrong = short.decode([int(pair.clean.wrong[place])]).strip()
            assert wrong in kept


def test_words_that_the_document_does_not_state() -> None:
    """Of documents that are no articles of the wire, `swap` knows the wrong words."""
    encoder = tiny_encoder()
    texts = ["On Monday Halden lost 12 boats.", "On Friday Orlavento kept 37 boats."]
    documents = [
        Document(f"own-{i}", text, (text.replace("On ", "It was "),))
        for i, text in enumerate(texts)
    ]
    pairs, _ = make_pairs(encoder, documents, "swap", None, lambda item: [(0, 99)])
    for pair, own in zip(pairs, texts, strict=True):
        assert places(pair) == np.flatnonzero(pair.clean.diverges).tolist() != []
        for place in places(pair):
            assert encoder.decode([int(pair.clean.good[place])]).strip() in own
            assert encoder.decode([int(pair.clean.wrong[place])]).strip() not in own
    (replaced, *_), _ = make_pairs(encoder, documents, "replace", None, lambda item: [(0, 9)])
    assert places(replaced) == []


# ---- the metric


def some_pairs() -> list[ExamplePair]:
    """Pairs with answers of six tokens, two of which begin a fact."""
    draw = np.random.default_rng(2)
    found = []
    for number, length in enumerate((5, 9, 7)):
        clean, corrupted = draw.integers(VOCABULARY, size=(2, length)).tolist()
        good = draw.integers(VOCABULARY, size=6).tolist()
        pair = ExamplePair.of(f"item-{number}", "own", (clean, corrupted), {}, good)
        wrong = np.full(len(pair.clean), NONE)
        for place in (length - 1, length + 2):
            wrong[place] = (int(pair.clean.good[place]) + 1 + number) % VOCABULARY
        found.append(pair.with_wrong(wrong))
    return found


def naive(model: Any, pair: ExamplePair, ids: np.ndarray) -> float:
    """log p(wrong) - log p(right), token by token."""
    with torch.no_grad():
        likely = model(torch.from_numpy(ids)[None]).logits[0].double().softmax(-1).numpy()
    values = [
        np.log(likely[t, pair.clean.wrong[t]]) - np.log(likely[t, pair.clean.good[t]])
        for t in places(pair)
    ]
    return sum(values) / len(values)


@pytest.mark.parametrize("family", FAMILIES)
def test_values_are_those_of_plain_runs(family: str) -> None:
    model, pairs = small_model(family).double(), some_pairs()
    before, drawn = state(model), torch.get_rng_state()
    clean, corrupted = losses(model, pairs, "wrong_fact", 2)
    for values, side in ((clean, "clean"), (corrupted, "corrupted")):
        wanted = [naive(model, pair, getattr(pair, side).ids) for pair in pairs]
        np.testing.assert_allclose(values, wanted, rtol=0, atol=1e-9)
    scores = attribute(model, TokenPairs.of(pairs), pair_metric("wrong_fact", TokenPairs.of(pairs)))
    assert scores.documents.abs().max() > 0
    same_state(before, state(model))
    assert torch.equal(drawn, torch.get_rng_state())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_that_states_wrong_facts_scores_higher(family: str) -> None:
    """The unembedding of wrong tokens is moved towards what is read before them, and away again."""
    model, pairs = small_model(family, tie_word_embeddings=False).double(), some_pairs()
    before, _ = losses(model, pairs, "wrong_fact", 2)
    weight, found = model.get_output_embeddings().weight, {}
    for amount in (0.5, -0.5):
        with torch.no_grad():
            original = weight.clone()
            for pair in pairs:
                ids = torch.from_numpy(pair.clean.ids)[None]
                hidden = model(ids, output_hidden_states=True).hidden_states[-1][0]
                for place in places(pair):
                    weight[pair.clean.wrong[place]] += amount * hidden[place]
            found[amount], _ = losses(model, pairs, "wrong_fact", 2)
            weight.copy_(original)
    assert (found[0.5] > before).all()
    assert (found[-0.5] < before).all()


def test_pairs_without_a_wrong_fact_are_left_out_or_refused() -> None:
    pairs = some_pairs()
    pairs[1] = pairs[1].with_wrong(np.full(len(pairs[1].clean), NONE))
    kept = answerable(pairs, CircuitMetric.wrong_fact)
    assert [pair.id for pair in kept] == ["item-0", "item-2"]
    assert answerable(pairs, CircuitMetric.kl) == pairs
    with pytest.raises(UserError, match="no wrong fact is known for `item-1`; take data=wire"):
        pair_metric("wrong_fact", TokenPairs.of(pairs))


def test_other_data_take_swap() -> None:
    wrong = CircuitOptions(metric=CircuitMetric.wrong_fact)
    assert wrong.corruption_of(Source.wire) is Corruption.counterfactual
    assert wrong.corruption_of(Source.files) is Corruption.swap
    control = replace(wrong, corruption=Corruption.control)
    assert control.corruption_of(Source.wire) is Corruption.control
    for section in ("circuit.", "selector."):
        with pytest.raises(UserError) as refused:
            control.corruption_of(Source.files, section)
        start = f"{section}metric=wrong_fact: needs wrong facts, which {section}corruption=control"
        assert str(refused.value).startswith(start)
        assert "\n" not in str(refused.value)


def test_units() -> None:
    assert {one.name: one.unit for one in CircuitMetric} == {
        "auto": "nats",
        "kl": "nats",
        "nll": "nats",
        "logit_difference": "logits",
        "wrong_fact": "logits",
    }
