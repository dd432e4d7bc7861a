"""Splits pairs into a set that selects edges and a held-out set that evaluates circuits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sumcirc.circuits.inputs.example_pairs import SALIENT, ExamplePair
from sumcirc.data.encoding import DOCUMENT, PROMPT, SUMMARY


def split_pairs(
    pairs: Sequence[ExamplePair], share: float
) -> tuple[list[ExamplePair], list[ExamplePair]]:
    """Split pairs in two so that no document is on both sides.

    In the given order every document goes to the held-out side unless that would then have more
    than `share` of the pairs so far. The side of a document thus depends on those before it alone,
    and a longer list keeps the division of a shorter one.

    Args:
        pairs: the pairs. Pairs of the same document, which may be cut at different lengths, stay
            together.
        share: largest fraction of the pairs on the held-out side.

    Returns:
        The pairs on which edges are chosen, and the held-out ones, each in the given order.
    """
    members: dict[int, list[int]] = {}
    for number, document in enumerate(_documents(pairs)):
        members.setdefault(document, []).append(number)
    held: set[int] = set()
    seen = 0
    for numbers in members.values():
        seen += len(numbers)
        if len(held) + len(numbers) <= share * seen + 1e-9:
            held.update(numbers)
    sides: tuple[list[ExamplePair], list[ExamplePair]] = ([], [])
    for number, pair in enumerate(pairs):
        sides[number in held].append(pair)
    return sides


def _documents(pairs: Sequence[ExamplePair]) -> list[int]:
    """Number the documents of the pairs, with one number for a document and its beginnings."""
    tokens = [_tokens(pair) for pair in pairs]
    found, shortest = [0] * len(pairs), -1
    for number in sorted(range(len(pairs)), key=tokens.__getitem__):
        if shortest < 0 or tokens[number][: len(tokens[shortest])] != tokens[shortest]:
            shortest = number  # all that begin with it follow
        found[number] = shortest
    return found


def _tokens(pair: ExamplePair) -> list[int]:
    """Return the tokens of a pair's document, or of the whole prompt if no document is marked."""
    clean = pair.clean
    if DOCUMENT in clean.spans and SALIENT in clean.spans:
        inside = [here for name, here in clean.spans.items() if name not in (PROMPT, SUMMARY)]
        return clean.ids[np.any(inside, axis=0)].tolist()
    return clean.ids[: clean.prompt_length].tolist()
