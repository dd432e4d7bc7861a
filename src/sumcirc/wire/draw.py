"""Random choices that don't depend on the Python version, using only `Random.random()`."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from typing import TypeVar

Item = TypeVar("Item")


def stable_hash(*parts: str) -> int:
    """Return a 64-bit hash of texts that is the same in every process, unlike Python's `hash`."""
    text = "\x1f".join(parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


class Draw:
    """A source of random choices that are determined by a key.

    Args:
        key: texts that together are the key.
    """

    def __init__(self, *key: str) -> None:
        self._random = random.Random(stable_hash(*key)).random

    def below(self, bound: int) -> int:
        """Return a random integer from 0 to `bound - 1`."""
        return int(self._random() * bound)

    def pick(self, items: Sequence[Item]) -> Item:
        """Return one of the items, each of which is as likely."""
        return items[int(self._random() * len(items))]

    def chance(self, probability: float) -> bool:
        """Return True with the given probability."""
        return self._random() < probability

    def shuffled(self, items: Sequence[Item]) -> list[Item]:
        """Return a list of the items in random order (Fisher-Yates)."""
        result = list(items)
        for last in range(len(result) - 1, 0, -1):
            other = int(self._random() * (last + 1))
            result[last], result[other] = result[other], result[last]
        return result
