"""Summaries that a model writes for a list of documents, cached for base models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypedDict

from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel

from sumcirc.data.documents import Document
from sumcirc.data.encoding import EncodedPrompt, Encoder
from sumcirc.evaluation.degeneration import Summary
from sumcirc.evaluation.generation import end_tokens, generate
from sumcirc.models.fingerprint import model_fingerprint
from sumcirc.schema import GenerationConfig
from sumcirc.storage.cache import Cache
from sumcirc.storage.reading import read_json
from sumcirc.storage.writing import write_json

FILE = "summaries.json"
SUMMARIES = Cache("summaries", format=3, libraries=("tokenizers", "torch", "transformers"))


class _Stored(TypedDict):
    text: str
    ended: bool


def summarize(
    model: nn.Module,
    encoder: Encoder,
    documents: Sequence[Document],
    config: GenerationConfig,
    progress: Callable[[int], None] | None = None,
) -> list[Summary]:
    """Return a model's summary of each document; documents are truncated to fit the context.

    Args:
        model: a transformers decoder or a PEFT model around one.
        encoder: encodes the prompts.
        documents: the documents to summarize.
        config: decoding settings.
        progress: called after each batch with the number of documents in it.

    Raises:
        UserError: the prompt template and `generation.max_new_tokens` tokens don't fit into the
            context.
    """
    prompts = [prompt.ids for prompt in prompts_of(encoder, documents, config)]
    return generate(model, encoder.codec, prompts, config, progress, encoder.end)


def check_room(encoder: Encoder, config: GenerationConfig) -> None:
    """Check that a prompt and a summary together fit into the model's context.

    Args:
        encoder: encodes the prompts.
        config: decoding settings.

    Raises:
        UserError: the prompt template and `generation.max_new_tokens` tokens don't fit into the
            context.
    """
    encoder.prompt("", encoder.max_length - config.max_new_tokens)


def prompts_of(
    encoder: Encoder, documents: Sequence[Document], config: GenerationConfig
) -> list[EncodedPrompt]:
    """Return each document's prompt, truncated to leave room for the summary.

    Args:
        encoder: encodes the prompts.
        documents: the documents to summarize.
        config: decoding settings, of which `max_new_tokens` is used.
    """
    room = encoder.max_length - config.max_new_tokens
    return [encoder.prompt(item.document, room) for item in documents]


def summarize_once(
    model: PreTrainedModel | PeftModel,
    encoder: Encoder,
    documents: Sequence[Document],
    config: GenerationConfig,
    cache: Path,
    progress: Callable[[int], None] | None = None,
) -> list[Summary]:
    """Return a base model's summary of each document, from the cache if it contains them.

    Args:
        model: a model without adapters.
        encoder: encodes the prompts.
        documents: the documents to summarize.
        config: decoding settings.
        cache: the folder `cache_dir`.
        progress: called with the number of newly generated summaries.

    Raises:
        ValueError: the model has adapters, which the cache key does not cover.
    """
    if isinstance(model, PeftModel):
        raise ValueError("summarize_once is for a base without adapters")
    if encoder.fingerprint is None:
        return summarize(model, encoder, documents, config, progress)

    def write(folder: Path) -> None:
        found = summarize(model, encoder, documents, config, progress)
        write_json(folder / FILE, [{"text": str(one), "ended": one.ended} for one in found])

    def read(folder: Path) -> list[Summary]:
        found = read_json(folder / FILE, list[_Stored])
        if len(found) != len(documents):
            raise ValueError(f"{len(found)} summaries of {len(documents)} documents")
        return [Summary(one["text"], one["ended"]) for one in found]

    prompts = [prompt.ids for prompt in prompts_of(encoder, documents, config)]
    ends = end_tokens(model, encoder.codec, encoder.end)
    parts = [model_fingerprint(model), encoder.fingerprint, prompts, config, ends]
    summaries, found = SUMMARIES.get(cache, parts, write, read)
    if found and progress is not None:
        progress(len(summaries))
    return summaries
