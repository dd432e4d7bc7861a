"""Key/value cache for decoding, allocated for all tokens at the start.

By default transformers appends each new token by copying all earlier ones: with B rows, T tokens
and L layers this moves 2 * B * T * width * L numbers per step, which on a CPU costs more than the
model itself. Here a step writes only its own token, and attention reads a view.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import PretrainedConfig
from transformers.cache_utils import DynamicCache, DynamicLayer


class ReservedLayer(DynamicLayer):
    """Cache of one layer's keys and values, which is allocated for `room` tokens per row.

    It can be used only for greedy decoding, since rows can't be reordered or repeated.
    """

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append the keys and values of new tokens, and return those of all tokens.

        Args:
            key_states, value_states: [rows, key/value heads, new tokens, head width] keys and
                values of the new tokens.

        Returns:
            The keys and values of all tokens so far as views of the cache,
            [rows, key/value heads, tokens, head width] each.

        Raises:
            ValueError: there is no room for the new tokens.
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
    """Return a key/value cache that is allocated for a given number of tokens.

    Layers with a sliding window get transformers' own cache.

    Args:
        config: transformers' configuration of the model.
        room: largest number of tokens in a row, including the prompt.
    """
    cache = DynamicCache(config=config)
    cache.layers = [
        ReservedLayer(room) if type(layer) is DynamicLayer else layer for layer in cache.layers
    ]
    return cache
