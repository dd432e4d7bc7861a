"""Keys and values of a decoded batch, with room for every token from the start.

The cache that transformers makes by default joins each new token to all earlier ones by copying
them: with B rows, T tokens and L layers that moves 2 * B * T * width * L numbers a step, which on
a CPU costs more than the model does. Here a step writes its own token, and attention reads a view.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import PretrainedConfig
from transformers.cache_utils import DynamicCache, DynamicLayer


class ReservedLayer(DynamicLayer):
    """One layer's keys and values, [rows, key/value heads, tokens, head width], for `room` tokens.

    For greedy decoding: rows are neither reordered nor repeated.
    """

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Take up the keys and values of new tokens; all of them so far.

        Raises:
            ValueError: there is no room left.
        """
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._all_keys = _reserve(key_states, self.room)
            self._all_values = _reserve(value_states, self.room)
        begin = self.get_seq_length()
        end = begin + key_states.shape[-2]
        if end > self.room:
            raise ValueError(f"{end} tokens in a cache with room for {self.room}")
        self._all_keys[:, :, begin:end] = key_states
        self._all_values[:, :, begin:end] = value_states
        self.keys = self._all_keys[:, :, :end]
        self.values = self._all_values[:, :, :end]
        return self.keys, self.values


def _reserve(states: torch.Tensor, room: int) -> torch.Tensor:
    rows, heads, _, width = states.shape
    return states.new_empty((rows, heads, room, width))


def reserved_cache(config: PretrainedConfig, room: int) -> DynamicCache:
    """A cache for `room` tokens a row, prompt included; layers with a sliding window stay as is."""
    cache = DynamicCache(config=config)
    cache.layers = [
        ReservedLayer(room) if type(layer) is DynamicLayer else layer for layer in cache.layers
    ]
    return cache
