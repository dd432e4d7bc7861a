"""Divides the tokens of pairs into spans, so that every token is in one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sumcirc.circuits.inputs.example_pairs import ExamplePair
from sumcirc.data.documents import Document
from sumcirc.data.encoding import DOCUMENT, Encoder
from sumcirc.data.wire_spans import wire_parts
from sumcirc.errors import UserError

OTHER = "other"  # span of the tokens that belong to no given span


def covered(pairs: Sequence[ExamplePair], setting: str) -> list[ExamplePair]:
    """Return pairs that all have the same spans; tokens that were in none get the span `other`.

    Args:
        pairs: the pairs.
        setting: the setting that needs spans, with its value, for the message.

    Raises:
        UserError: an item has no spans.
    """
    names = dict.fromkeys(name for pair in pairs for name in pair.clean.spans)
    without = [pair.id for pair in pairs if not pair.clean.spans]
    if without:
        raise UserError(
            f"{setting}: `{without[0]}` has no spans; give each line of pairs= its `spans`, or"
            f" {setting.split('=')[0]}=false"
        )
    rest = [~np.any(list(pair.clean.spans.values()), axis=0) for pair in pairs]
    if any(map(np.any, rest)):
        names[OTHER] = None
    found = []
    for pair, left in zip(pairs, rest, strict=True):
        known = pair.clean.spans
        spans = {name: known.get(name, np.zeros_like(left)) for name in names}
        if OTHER in spans:
            spans[OTHER] = spans[OTHER] | left
        found.append(_with(pair, spans))
    return found


def _with(pair: ExamplePair, spans: dict[str, np.ndarray]) -> ExamplePair:
    clean, corrupted = (replace(side, spans=spans) for side in (pair.clean, pair.corrupted))
    return replace(pair, clean=clean, corrupted=corrupted)


def with_wire_spans(
    encoder: Encoder, pairs: Sequence[ExamplePair], documents: Sequence[Document], seed: int
) -> list[ExamplePair]:
    """Divide the articles of pairs into `fact`, `salient`, `distractor` and `document`, the rest.

    The spans outside the article (`prompt`, `summary`) stay as they are.

    Args:
        encoder: turns texts into tokens; the one that made the pairs.
        pairs: pairs of articles of the built-in wire.
        documents: the articles, in any order.
        seed: setting `data.seed`, with which they were generated.
    """
    by_id = {item.id: item for item in documents}
    return [_divided(encoder, pair, by_id[pair.id], seed) for pair in pairs]


def _divided(encoder: Encoder, pair: ExamplePair, item: Document, seed: int) -> ExamplePair:
    located = encoder.located(item)
    rest = located.spans[DOCUMENT].copy()
    spans: dict[str, np.ndarray] = {}
    for name, characters in wire_parts(item, seed).items():
        spans[name] = rest & located.touching(characters)
        rest &= ~spans[name]
    spans |= {**located.spans, DOCUMENT: rest}
    spans = {name: inside[: len(pair.clean)] for name, inside in spans.items()}
    return _with(pair, spans)
