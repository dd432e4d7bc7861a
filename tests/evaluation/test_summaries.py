"""Summaries of documents cut to the room, and the cache of what a base wrote."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from sumcirc.data.documents import Document
from sumcirc.data.encoding import Encoder
from sumcirc.errors import UserError
from sumcirc.evaluation import summaries as scoring
from sumcirc.evaluation.generation import generate, generate_tokens
from sumcirc.evaluation.summaries import check_room, model_fingerprint, summarize, summarize_once
from sumcirc.models.adapters import adapt
from sumcirc.models.loading import load_model
from sumcirc.schema import (
    Adaptation,
    AdaptationConfig,
    EncodingConfig,
    GenerationConfig,
    ModelConfig,
)

DOCUMENTS = [
    Document("a", "A storm reached Lisbon.", ("Storm.",)),
    Document("b", "Trains to Porto stood still. " * 40, ("Trains.",)),
]
CONFIG = GenerationConfig(max_new_tokens=8, no_repeat_ngram=0)


@pytest.fixture
def model(gpt2_folder: Path) -> Any:
    return load_model(ModelConfig(name="small", path=str(gpt2_folder)))


@pytest.fixture
def encoder(tokenizer: Any) -> Encoder:
    return Encoder(tokenizer, EncodingConfig(), 128)


def test_documents_are_cut_to_leave_room_for_the_summary(model: Any, encoder: Encoder) -> None:
    prompts = [encoder.prompt(item.document, 120).ids for item in DOCUMENTS]
    assert len(prompts[1]) > 100
    found = summarize(model, encoder, DOCUMENTS, CONFIG)
    assert found == generate(model, encoder.codec, prompts, CONFIG)
    assert len(found) == 2


def test_settings_under_which_no_prompt_fits_are_refused(encoder: Encoder) -> None:
    check_room(encoder, CONFIG)
    with pytest.raises(UserError, match=r"encoding\.prompt .*generation\.max_new_tokens"):
        check_room(encoder, GenerationConfig(max_new_tokens=126))


def test_the_end_of_a_reply_ends_a_summary(model: Any, tokenizer: Any) -> None:
    """The model writes a token of its own choice at once; where it ends the reply, nothing else."""
    encoder = Encoder(tokenizer, EncodingConfig(), 128)
    prompts = [encoder.prompt(DOCUMENTS[0].document, 120).ids]
    ((first, *_),) = generate_tokens(model, prompts, CONFIG, [encoder.end])
    assert summarize(model, encoder, DOCUMENTS[:1], CONFIG) != [""]
    encoder.end = first
    assert summarize(model, encoder, DOCUMENTS[:1], CONFIG) == [""]


@pytest.fixture
def generated(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many documents each call of `generate` got."""
    found: list[int] = []

    def counted(model: Any, codec: Any, prompts: Any, *rest: Any) -> list[str]:
        found.append(len(prompts))
        return generate(model, codec, prompts, *rest)

    monkeypatch.setattr(scoring, "generate", counted)
    return found


def test_a_base_is_asked_once(
    model: Any, gpt2_folder: Path, encoder: Encoder, tmp_path: Path, generated: list[int]
) -> None:
    first = summarize_once(model, encoder, DOCUMENTS, CONFIG, tmp_path)
    again = load_model(ModelConfig(name="other name", path=str(gpt2_folder)))
    advanced: list[int] = []
    assert summarize_once(again, encoder, DOCUMENTS, CONFIG, tmp_path, advanced.append) == first
    assert generated == [2]
    assert sum(advanced) == 2


def test_anything_that_changes_a_summary_misses_the_cache(
    model: Any, encoder: Encoder, tokenizer: Any, tmp_path: Path, generated: list[int]
) -> None:
    other_end = copy.deepcopy(tokenizer)
    other_end.eos_token = "a"
    other_prompt = Encoder(tokenizer, EncodingConfig(prompt="{document}\nIn short:"), 128)
    calls: list[tuple[Any, ...]] = [
        (encoder, DOCUMENTS, CONFIG),
        (encoder, DOCUMENTS[:1], CONFIG),
        (other_prompt, DOCUMENTS, CONFIG),
        (Encoder(other_end, EncodingConfig(), 128), DOCUMENTS, CONFIG),
        (encoder, DOCUMENTS, GenerationConfig(max_new_tokens=8, no_repeat_ngram=2)),
    ]
    for arguments in calls:
        summarize_once(model, *arguments, tmp_path)
    with torch.no_grad():
        model.transformer.h[1].mlp.c_proj.bias[3] += 1e-6
    summarize_once(model, *calls[0], tmp_path)
    model.generation_config.eos_token_id = [5, 6]
    model.generation_config._from_model_config = False
    summarize_once(model, *calls[0], tmp_path)
    model.config.n_head = 2  # the same weights, read otherwise
    summarize_once(model, *calls[0], tmp_path)
    assert len(generated) == len(calls) + 3


def test_fingerprint_tells_types_and_values_apart(model: Any) -> None:
    first = model_fingerprint(model)
    assert model_fingerprint(model) == first
    half = model_fingerprint(model.bfloat16())
    assert half != first
    assert model_fingerprint(model.float()) not in (first, half)  # rounding lost bits


def test_adapted_models_are_never_cached(model: Any, encoder: Encoder, tmp_path: Path) -> None:
    adapted = adapt(model, AdaptationConfig(kind=Adaptation.lora, rank=2))
    with pytest.raises(ValueError, match="without adapters"):
        summarize_once(adapted, encoder, DOCUMENTS, CONFIG, tmp_path)


def test_tokenizer_that_cannot_be_written_out_is_not_cached(
    model: Any,
    encoder: Encoder,
    tmp_path: Path,
    generated: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Encoder, "fingerprint", None)
    for _ in range(2):
        assert len(summarize_once(model, encoder, DOCUMENTS, CONFIG, tmp_path)) == 2
    assert generated == [2, 2]
    assert not list(tmp_path.iterdir())
