"""The parts of pretraining, and the packaged model against what its card says."""

from __future__ import annotations

import itertools
import random
import re
from importlib.resources import files

import numpy as np
import pytest
import torch

from sumcirc.data.codec import Codec
from sumcirc.errors import UserError
from sumcirc.evaluation.generation import generate
from sumcirc.models.loading import load_model, load_tokenizer
from sumcirc.schema import GenerationConfig, ModelConfig, PretrainConfig
from sumcirc.training import pretraining
from sumcirc.wire import articles, facts_found

SMALL = PretrainConfig(
    out="",
    vocabulary=600,
    layers=2,
    heads=2,
    width=32,
    context=64,
    articles=60,
    steps=3,
    batch_size=2,
)
TINY = ModelConfig(name="tiny", path="tiny")


@pytest.fixture(scope="module")
def texts():
    return [item.document for item in articles("pretrain", 60)]


def test_tokenizer_gives_text_back_and_has_one_special_token(texts):
    tokenizer = pretraining.train_tokenizer(texts, 600)
    assert len(tokenizer) == 600
    assert tokenizer.decode(tokenizer(texts[0]).input_ids) == texts[0]
    assert tokenizer.all_special_tokens == [pretraining.EOS]


def test_first_head_starts_as_a_previous_token_head():
    torch.manual_seed(0)
    model = pretraining.new_model(PretrainConfig(out="", vocabulary=500), 0)
    pretraining.start_previous_token_head(model)
    model.set_attn_implementation("eager")
    ids = torch.randint(1, 500, (2, 200))
    head = model(ids, output_attentions=True).attentions[0][:, 0]
    previous = torch.diagonal(head, offset=-1, dim1=1, dim2=2)
    assert previous.min() > 0.9
    others = model(ids, output_attentions=True).attentions[0][:, 1]
    assert torch.diagonal(others, offset=-1, dim1=1, dim2=2).mean() < 0.2


def test_echo_loss_is_that_of_chance_for_a_new_model():
    torch.manual_seed(0)
    model = pretraining.new_model(PretrainConfig(out="", vocabulary=700), 0)
    loss = pretraining.echo_loss(model, np.random.default_rng(0)).item()
    assert loss == pytest.approx(np.log(pretraining.ECHO_TOKENS), abs=0.1)


def test_bulletins_say_some_sentences_twice(texts):
    choice = random.Random(0)
    said = [pretraining.document(text, choice) for text in texts * 10]
    twice = [text for text in said if "\n" in text]
    assert 0.25 < len(twice) / len(said) < 0.45
    for text in twice:
        first, second = text.split("\n")
        assert first == second


def test_rows_hold_the_documents_in_order(texts):
    tokenizer = pretraining.train_tokenizer(texts, 600)
    rows = pretraining.packed_rows(texts, tokenizer, SMALL, seed=0)
    assert rows.shape[1] == SMALL.context
    decoded = tokenizer.decode(rows.flatten().tolist()).split(pretraining.EOS)
    choice = random.Random(0)
    assert (
        decoded[:-1] == [pretraining.document(text, choice) for text in texts][: len(decoded) - 1]
    )


def test_bigram_perplexity_equals_a_naive_count(texts):
    tokenizer = pretraining.train_tokenizer(texts, 600)
    model = pretraining.new_model(
        PretrainConfig(out="", vocabulary=600, layers=1, heads=2, width=16, context=600), 0
    )
    found = pretraining.perplexities(model, tokenizer, 3)
    eos, size = tokenizer.convert_tokens_to_ids(pretraining.EOS), len(tokenizer)
    pairs: dict[tuple[int, int], int] = {}
    first: dict[int, int] = {}
    second: dict[int, int] = {}
    for item in articles("pretrain", 30):
        ids = [*tokenizer(item.document).input_ids, eos]
        for a, b in itertools.pairwise(ids):
            pairs[a, b] = pairs.get((a, b), 0) + 1
            first[a] = first.get(a, 0) + 1
            second[b] = second.get(b, 0) + 1
    count = sum(pairs.values())
    logs = []
    for item in articles("test", 3):
        ids = [*tokenizer(item.document).input_ids, eos]
        for a, b in itertools.pairwise(ids):
            given = pairs.get((a, b), 0) / first[a] if a in first else 0.0
            logs.append(np.log(0.9 * given + 0.1 * (second.get(b, 0) + 1) / (count + size)))
    assert found["bigram"] == pytest.approx(np.exp(-np.mean(logs)), rel=1e-9)
    assert found["model"] == pytest.approx(600, rel=0.2)


def test_pretraining_without_copying_is_refused():
    config = PretrainConfig(**{**vars(SMALL), "echo_steps": 2})
    with pytest.raises(UserError, match="echo_steps=2: repetition was not learnt"):
        pretraining.pretrain(config, lambda *_: None)


@pytest.fixture(scope="module")
def tiny():
    return load_model(TINY), load_tokenizer(TINY)


def card(pattern: str) -> float:
    text = (files("sumcirc.assets") / "tiny" / "README.md").read_text(encoding="utf-8")
    found = re.search(pattern, text)
    assert found, pattern
    return float(found[1].replace(",", ""))


def test_packaged_model_is_small_and_has_six_layers(tiny):
    model, tokenizer = tiny
    assert model.num_parameters() < 5e6
    assert model.num_parameters() == card(r"language model of ([\d,]+) parameters")
    assert model.config.n_layer == 6
    assert len(tokenizer) == model.config.vocab_size


def test_packaged_model_reads_better_than_a_bigram_model_and_as_its_card_says(tiny):
    found = pretraining.perplexities(*tiny, 60)
    assert found["model"] < 0.5 * found["bigram"]
    assert found["model"] == pytest.approx(card(r"this model \| ([\d.]+)"), rel=0.1)


def test_packaged_model_copies(tiny):
    # reading the same text for the first time costs log(perplexity), 1.7 nats a token
    assert pretraining.copy_loss(*tiny, 40) == pytest.approx(
        card(r"it copies\) \| ([\d.]+)"), rel=0.2
    )
    assert pretraining.copy_loss(*tiny, 40) < 1.2
    assert pretraining.echo_loss(tiny[0], np.random.default_rng(1)).item() < 0.5


def test_packaged_model_has_not_been_taught_to_summarize(tiny):
    model, tokenizer = tiny
    items = list(articles("test", 40))
    prompts = [tokenizer(f"{item.document}\nTL;DR:").input_ids for item in items]
    summaries = generate(model, Codec(tokenizer), prompts, GenerationConfig(max_new_tokens=56))
    found = [facts_found(item, text) for item, text in zip(items, summaries, strict=True)]
    assert np.mean([share for facts in found for share in facts.values()]) < 1 / 3
