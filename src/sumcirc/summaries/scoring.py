"""Summaries of a model for a list of documents, made once and scored beside the baselines."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel

from sumcirc.data.documents import Document
from sumcirc.data.encoding import Encoder
from sumcirc.files import write_json
from sumcirc.modeling.fingerprint import model_fingerprint
from sumcirc.schema import GenerationConfig
from sumcirc.summaries.generation import generate

FORMAT = 1  # of the cache; raised when the same input generates differently


def summarize(
    model: nn.Module,
    encoder: Encoder,
    documents: Sequence[Document],
    config: GenerationConfig,
    progress: Callable[[int], None] | None = None,
) -> list[str]:
    """One summary a document; documents are cut to what the context leaves.

    Raises:
        UserError: the prompt and `generation.max_new_tokens` do not fit the context.
    """
    prompts = _prompts(encoder, documents, config)
    return generate(model, encoder.tokenizer, prompts, config, progress)


def check_room(encoder: Encoder, config: GenerationConfig) -> None:
    """Refuse settings under which no prompt fits.

    Raises:
        UserError: the prompt and `generation.max_new_tokens` do not fit the context.
    """
    encoder.prompt("", encoder.max_length - config.max_new_tokens)


def _prompts(
    encoder: Encoder, documents: Sequence[Document], config: GenerationConfig
) -> list[tuple[int, ...]]:
    room = encoder.max_length - config.max_new_tokens
    return [encoder.prompt(item.document, room).ids for item in documents]


def summarize_once(
    model: PreTrainedModel | PeftModel,
    encoder: Encoder,
    documents: Sequence[Document],
    config: GenerationConfig,
    cache: Path,
    progress: Callable[[int], None] | None = None,
) -> list[str]:
    """As `summarize`, read from `cache` where the same base has met the same documents.

    Raises:
        ValueError: the model has adapters, whose scaling and switch its weights don't tell.
    """
    if isinstance(model, PeftModel):
        raise ValueError("summarize_once is for a base without adapters")
    described: list[Any] = [
        FORMAT,
        model_fingerprint(model),
        encoder.fingerprint,
        _prompts(encoder, documents, config),
        asdict(config),
        {name: version(name) for name in ("torch", "transformers")},
    ]
    if encoder.fingerprint is None:
        return summarize(model, encoder, documents, config, progress)
    key = hashlib.sha256(json.dumps(described).encode()).hexdigest()[:32]
    file = cache / f"{key}.json"
    if file.exists():
        found = json.loads(file.read_text(encoding="utf-8"))
        if progress is not None:
            progress(len(found))
        return found
    summaries = summarize(model, encoder, documents, config, progress)
    write_json(file, summaries)
    return summaries
