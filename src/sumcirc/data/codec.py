"""Converts text to tokens and back; the only module that calls a tokenizer on text.

A tokenizer converts the spelling of a special token ("</s>") to the token wherever it occurs. In
the template of a prompt this is intended; in a document it is text (strike-through in HTML, for
example). Texts are therefore encoded by a copy of the tokenizer whose special tokens are spelled
with characters that no text contains, and `marked` rewrites those of a template accordingly.
Everything else, such as the space that some tokenizers insert before the first word, is left to the
tokenizer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer

from sumcirc.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FIRST = 0xF0000  # a special token is spelled as one character from here on (private use),
FILL = "\U0010ffff"  # padded with this noncharacter to its original length
REPLACEMENT = "�"
ROLES = tuple(f"{role}_token" for role in ("bos", "eos", "pad", "unk", "sep", "cls", "mask"))


class Codec:
    """Encodes and decodes text with one tokenizer, keeping special tokens apart from text.

    Attributes:
        tokenizer: the tokenizer.
        begin: ids of the tokens with which the tokenizer begins every text: one or none.
        special: spellings of special tokens that are encoded as plain text if a text contains them.
            Spellings of a single character, or made by a merge, are left out, since they are pieces
            of ordinary text.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        backend = getattr(tokenizer, "backend_tokenizer", None)
        state = None if backend is None else json.loads(backend.to_str())
        self.special = _special_spellings(tokenizer, state)
        self._marks = {
            spelling: chr(FIRST + i) + FILL * (len(spelling) - 1)
            for i, spelling in enumerate(self.special)
        }
        # as in the tokenizer: the longest of those that begin at the same character
        longest_first = sorted(self.special, key=len, reverse=True)
        self._spelled = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
        self._spellings = {mark: spelling for spelling, mark in self._marks.items()}
        self._marked = re.compile(f"({'|'.join(self._spellings) or '(?!)'})")
        private = f"{chr(FIRST)}-{chr(FIRST + len(self.special))}"
        # and lone surrogates (half an emoji, as JSON's "\ud83d"), which no tokenizer accepts
        self._reserved = re.compile(rf"[{private}{FILL}\ud800-\udfff]")
        self._backend = None if state is None else _respelled(state, self._marks)
        bos: Any = tokenizer.bos_token_id
        begins = bos is not None and tokenizer("a").input_ids[:1] == [bos]
        self.begin: list[Any] = [bos] if begins else []

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """Ids of all special tokens."""
        added = self.tokenizer.added_tokens_decoder
        return frozenset(int(token) for token, one in added.items() if one.special)

    @cached_property
    def silent(self) -> frozenset[int]:
        """Ids of the tokens that `decode` skips: start, end, padding and the like.

        Other special tokens are decoded, since they may be words that a user has added, such as
        "#Person1#".
        """
        named = self.tokenizer.special_tokens_map
        spellings = [str(named[role]) for role in ROLES if role in named]
        ids: Any = self.tokenizer.convert_tokens_to_ids(spellings)
        return frozenset(ids)

    def marked(self, template: str) -> str:
        """Return a template rewritten so that `ids` encodes its special tokens as special."""
        return self._spelled.sub(lambda found: self._marks[found[0]], self.plain(template))

    def plain(self, text: str) -> str:
        """Return a text rewritten so that `ids` encodes all of it as plain text.

        Lone surrogates and the characters by which `marked` marks special tokens become U+FFFD.
        """
        return self._reserved.sub(REPLACEMENT, text)

    def spelled(self, text: str) -> str | None:
        """Return the first special token that is spelled out in a text, or None."""
        found = self._spelled.search(text)
        return None if found is None else found[0]

    def ids(self, text: str) -> list[int]:
        """Return the token ids of a text prepared by `plain` or `marked`, without a start token."""
        if self._backend is not None:
            return self._backend.encode(text, add_special_tokens=False).ids
        return self._slow_ids(text)

    def begun(self, text: str) -> list[int]:
        """Return the token ids of a prepared text, as `ids`, with the tokenizer's start token.

        The start token is added only if the tokenizer has one and the text doesn't begin with it.
        """
        tokens = self.ids(text)
        return tokens if self.begin and tokens[:1] == self.begin else [*self.begin, *tokens]

    def places(self, text: str) -> list[tuple[int, int] | None]:
        """Return the character range (start, end) in a text of each token of `ids(text)`.

        It is None for a token that stands for no character.

        Raises:
            UserError: the tokenizer does not provide character spans.
        """
        if self._backend is None:
            raise UserError(
                "model.tokenizer: does not report which characters a token stands for; use a"
                " fast tokenizer (a folder with tokenizer.json)"
            )
        offsets = self._backend.encode(text, add_special_tokens=False).offsets
        return [(start, end) if start < end else None for start, end in offsets]

    def continuation(self, before: str, text: str) -> list[int]:
        """Return the tokens that `text` adds when it follows `before`.

        A tokenizer may insert a space before the first word of a text, which would be wrong in a
        continuation. If `before` is empty, or its tokens change when `text` follows, the result is
        the tokens that `text` adds to a line break, or else the tokens of `text` alone.

        Args:
            before: the text that precedes, prepared by `plain` or `marked`.
            text: the text that follows, prepared in the same way.
        """
        for context in (before, "\n"):
            start, whole = self.ids(context), self.ids(context + text)
            if start and whole[: len(start)] == start and len(whole) > len(start):
                return whole[len(start) :]
        return self.ids(text)

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of token ids, skipping those in `silent`."""
        return self._decoded([token for token in tokens if token not in self.silent])

    def spelled_out(self, tokens: Sequence[int]) -> str:
        """Return the text of token ids, in which special tokens are spelled."""
        return self._decoded(list(tokens))

    def token(self, token: int) -> str:
        """Return the spelling of a single token, which may be a special token."""
        return self._decoded([token])

    def _decoded(self, tokens: list[int]) -> str:
        return str(self.tokenizer.decode(tokens, clean_up_tokenization_spaces=False))

    def _slow_ids(self, text: str) -> list[int]:
        """Encode with a slow (Python) tokenizer, piece by piece around special tokens."""
        if self.spelled(text) is None:
            return self._tokenized(self._marked.sub(lambda found: self._spellings[found[0]], text))
        ids: list[int] = []
        for piece in filter(None, self._marked.split(text)):
            if piece in self._spellings:
                token: Any = self.tokenizer.convert_tokens_to_ids(self._spellings[piece])
                ids.append(token)
            else:
                ids += self._tokenized(piece, split=True)
        return ids

    def _tokenized(self, text: str, split: bool = False) -> list[int]:
        found = self.tokenizer(
            text, add_special_tokens=False, split_special_tokens=split, verbose=False
        ).input_ids
        if split and self.special_ids & set(found):
            raise UserError(
                f"model.tokenizer: takes the text {self.spelled(text)!r} for a special token; take"
                " a fast tokenizer (a folder with tokenizer.json), or remove it from the data"
            )
        return found


def _special_spellings(
    tokenizer: PreTrainedTokenizerBase, state: dict[str, Any] | None
) -> tuple[str, ...]:
    found = list(tokenizer.all_special_tokens)
    pieces: set[str] = set()
    if state is not None:
        found += [one["content"] for one in state["added_tokens"] if one["special"]]
        for merge in state["model"].get("merges") or ():
            pieces.add("".join(merge) if isinstance(merge, list) else merge.replace(" ", ""))
    return tuple(dict.fromkeys(one for one in found if len(one) > 1 and one not in pieces))


def _respelled(state: dict[str, Any], marks: dict[str, str]) -> Tokenizer:
    """Return a copy of a tokenizer whose special tokens have private-use spellings."""

    def mark(spelling: str) -> str:
        return marks.get(spelling, spelling)

    for added in state["added_tokens"]:
        added["content"] = mark(added["content"])
    model = state["model"]
    vocabulary = model["vocab"]
    if isinstance(vocabulary, dict):
        model["vocab"] = {mark(piece): token for piece, token in vocabulary.items()}
    else:  # Unigram
        model["vocab"] = [[mark(piece), score] for piece, score in vocabulary]
    if model.get("unk_token") is not None:
        model["unk_token"] = mark(model["unk_token"])
    state["truncation"] = state["padding"] = None
    return Tokenizer.from_str(json.dumps(state))
