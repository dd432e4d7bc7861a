"""Clean and corrupted inputs, token by token at the same places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sumcirc.data.codec import Codec
from sumcirc.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class TokenPairs:
    """N clean inputs, each with a corrupted one of as many tokens, padded on either side.

    Args:
        clean_ids: [N, T].
        corrupted_ids: [N, T].
        attention_mask: [N, T], true or 1 at real tokens, the same for both inputs.
        ids: a name per item.
        kinds: [N, T] to which span (0, 1, ...) a token belongs; negative where to none.

    Raises:
        UserError: shapes differ, a name is missing, or an item has no token.
    """

    clean_ids: Tensor
    corrupted_ids: Tensor
    attention_mask: Tensor
    ids: list[str]
    kinds: Tensor | None = None

    def __post_init__(self) -> None:
        shape = tuple(self.clean_ids.shape)
        if len(shape) != 2 or 0 in shape:
            raise UserError(f"pairs: clean_ids of shape {list(shape)}; give [items, tokens]")
        if len(self.ids) != shape[0]:
            raise UserError(f"pairs: {len(self.ids)} ids for {shape[0]} items; give one for each")
        for name in ("corrupted_ids", "attention_mask", "kinds"):
            value = getattr(self, name)
            if value is not None and tuple(value.shape) != shape:
                raise UserError(
                    f"pairs: {name} of shape {list(value.shape)} where clean_ids has {list(shape)}"
                    f" (first item `{self.ids[0]}`); both inputs of an item need as many"
                    " tokens and one padding"
                )
        object.__setattr__(self, "attention_mask", self.attention_mask.bool())
        empty = (~self.attention_mask.any(1)).nonzero().flatten().tolist()
        if empty:
            raise UserError(f"pairs: item `{self.ids[empty[0]]}` has no token; leave it out")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def spans(self) -> int:
        """How many spans `kinds` tells apart; 0 without `kinds`."""
        return 0 if self.kinds is None else max(0, int(self.kinds.max()) + 1)

    def columns(self, items: Tensor | Sequence[int]) -> slice:
        """From the first to the last place at which one of the items has a token."""
        used = self.attention_mask[items].any(0).nonzero()[:, 0]
        return slice(int(used[0]), int(used[-1]) + 1)

    def last(self) -> Tensor:
        """[N, T] true at every item's last real token alone."""
        places = torch.arange(self.clean_ids.shape[1], device=self.attention_mask.device)
        final = torch.where(self.attention_mask, places, -1).amax(1, keepdim=True)
        return places[None] == final

    @classmethod
    def from_tokens(
        cls,
        clean: Sequence[Sequence[int]],
        corrupted: Sequence[Sequence[int]],
        ids: Sequence[str] | None = None,
        kinds: Sequence[Sequence[int]] | None = None,
        *,
        pad: int = 0,
        left: bool = False,
    ) -> TokenPairs:
        """Pairs from token lists of any length, padded on the right or on the left.

        Raises:
            UserError: the two inputs of an item differ in length; it is named.
        """
        names = [str(i) for i in range(len(clean))] if ids is None else list(ids)
        lists = {"corrupted": corrupted, "ids": names, "kinds": clean if kinds is None else kinds}
        for what, values in lists.items():
            if len(values) != len(clean):
                raise UserError(f"pairs: {len(values)} {what} for {len(clean)} clean inputs")
        for name, one, other in zip(names, clean, corrupted, strict=True):
            if len(one) != len(other):
                raise UserError(
                    f"pairs: item `{name}` has {len(one)} clean and {len(other)} corrupted tokens;"
                    " an edge is compared place by place, so give both as many tokens"
                )
        for name, one, spans in zip(names, clean, lists["kinds"], strict=True):
            if len(one) != len(spans):
                raise UserError(f"pairs: item `{name}` has {len(one)} tokens, {len(spans)} kinds")
        width = max((len(one) for one in clean), default=0)

        def padded(rows: Sequence[Sequence[int]], fill: int) -> Tensor:
            found = torch.full((len(rows), width), fill, dtype=torch.long)
            for row, values in zip(found, rows, strict=True):
                start = width - len(values) if left else 0
                row[start : start + len(values)] = torch.tensor(list(values), dtype=torch.long)
            return found

        return cls(
            padded(clean, pad),
            padded(corrupted, pad),
            padded([[1] * len(one) for one in clean], 0),
            names,
            None if kinds is None else padded(kinds, -1),
        )

    @classmethod
    def from_texts(
        cls,
        tokenizer: PreTrainedTokenizerBase,
        clean: Sequence[str],
        corrupted: Sequence[str],
        ids: Sequence[str] | None = None,
        *,
        left: bool = False,
    ) -> TokenPairs:
        """Pairs from texts, which begin as the tokenizer begins a text; special tokens are special.

        Raises:
            UserError: see `from_tokens`.
        """
        codec = Codec(tokenizer)
        tokens = [
            [codec.begun(codec.marked(text)) for text in texts] for texts in (clean, corrupted)
        ]
        return cls.from_tokens(tokens[0], tokens[1], ids, left=left)
