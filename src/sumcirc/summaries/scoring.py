"""Summaries of a model for a list of documents, made once and scored beside the baselines."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sumcirc.data.documents import Document
from sumcirc.data.encoding import Encoder
from sumcirc.files import write_json
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
    room = encoder.max_length - config.max_new_tokens
    prompts = [encoder.prompt(item.document, room).ids for item in documents]
    return generate(model, encoder.tokenizer, prompts, config, progress)


def summarize_once(
    model: nn.Module,
    encoder: Encoder,
    documents: Sequence[Document],
    config: GenerationConfig,
    cache: Path,
    progress: Callable[[int], None] | None = None,
) -> list[str]:
    """As `summarize`, read from `cache` where the same weights have met the same documents."""
    room = encoder.max_length - config.max_new_tokens
    described: list[Any] = [
        FORMAT,
        weights_fingerprint(model),
        [[item.id, encoder.prompt(item.document, room).ids] for item in documents],
        asdict(config),
        {name: version(name) for name in ("torch", "transformers")},
    ]
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


def weights_fingerprint(model: nn.Module) -> str:
    """A hash of every parameter's name, type, shape and bytes."""
    digest = hashlib.blake2b(digest_size=16)
    for name, parameter in sorted(model.named_parameters()):
        digest.update(f"{name} {parameter.dtype} {tuple(parameter.shape)}".encode())
        values = parameter.detach().cpu().contiguous().view(-1).view(torch.uint8)
        digest.update(memoryview(values.numpy()))
    return digest.hexdigest()
