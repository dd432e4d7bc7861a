"""Encoding of documents and summaries as tokens.

A training sequence is `prompt(document) + summary + EOS`, where EOS is the token that ends the
summary: the tokenizer's, or with a chat template the one that ends the assistant's reply. The
summary is tokenized first and kept whole; only the document is cut, at a sentence end, to the room
that remains in the context; prompt and EOS are never cut. Each part is identified by its positions,
never by token id (a pad token may equal EOS).

Special tokens in the text around document and summary (`data.frames`) are special; in a document
or summary their spelling is text (`data.codec`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sumcirc.data.codec import Codec
from sumcirc.data.documents import Corpus, Document
from sumcirc.data.examples import NONE, NoExample, TokenExample
from sumcirc.data.frames import Frame, frame_of, message_frame
from sumcirc.data.sentences import sentence_spans
from sumcirc.errors import UserError
from sumcirc.runtime.notices import Notice
from sumcirc.schema import EncodingConfig, Template
from sumcirc.storage.cache import Cache

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FORMAT = 2  # part of `fingerprint`; raised when the same text gives other tokens
ENCODED = Cache("encoded", format=4, libraries=("tokenizers", "transformers"))
PAIRS = "pairs.npz"  # file name in a cache entry
PARTS = DOCUMENT, PROMPT, SUMMARY = ("document", "prompt", "summary")  # spans; EOS is in the last


@dataclass(frozen=True)
class EncodedPrompt:
    """The prompt for one document, after which a model writes the summary.

    Attributes:
        ids: token ids.
        kept: number of characters of the document that the prompt includes.
        cut: whether the document was cut.
    """

    ids: tuple[int, ...]
    kept: int
    cut: bool


@dataclass(frozen=True, eq=False)
class EncodedCorpus(Sequence[TokenExample]):
    """The N training sequences of a split, each consisting of prompt, summary and EOS.

    The loss is computed on the summary and EOS only. The sequences are held in a few flat arrays
    and an example is made when it is accessed, so that a large corpus needs little more memory than
    its tokens.

    Attributes:
        ids: [tokens] int32 token ids of all sequences, one after another.
        lengths: [N] number of tokens of each sequence.
        prompt_lengths: [N] number of tokens before the summary of each sequence.
        truncated: [N] whether the end of the document was cut.
        names: ids of the documents.
        notices: notices about documents that were cut or left out.
    """

    ids: np.ndarray
    lengths: np.ndarray
    prompt_lengths: np.ndarray
    truncated: np.ndarray
    names: Sequence[str]
    notices: tuple[Notice, ...] = ()

    @classmethod
    def of(cls, examples: Iterable[TokenExample]) -> EncodedCorpus:
        """Return examples as a corpus, without their spans and offsets."""
        rows = [(one.id, one.ids, one.prompt_length, one.truncated) for one in examples]
        names, ids, starts, truncated = zip(*rows, strict=True) if rows else ([], [[]], [], [])
        lengths = np.array([len(row[1]) for row in rows])
        return cls(np.concatenate(ids), lengths, np.array(starts), np.array(truncated), names)

    @cached_property
    def _ends(self) -> np.ndarray:
        return np.cumsum(self.lengths)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> TokenExample:  # type: ignore[override]
        """Return example number `index`; slices are not supported."""
        end = self._ends[index]
        return TokenExample.predicting(
            str(self.names[index]),
            self.ids[end - self.lengths[index] : end],
            int(self.prompt_lengths[index]),
            truncated=bool(self.truncated[index]),
        )


class Encoder:
    """Encodes documents and pairs for one tokenizer and context.

    Args:
        tokenizer: tokenizer of the model.
        config: the text around document and summary, and largest lengths.
        context: largest number of tokens that the model can read.

    Attributes:
        end: id of the token that ends a summary.

    Raises:
        UserError: the tokenizer has no EOS or no suitable chat template, or `encoding.max_length`
            is above the context.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, config: EncodingConfig, context: int
    ) -> None:
        if config.max_length is not None and config.max_length > context:
            raise UserError(
                f"encoding.max_length={config.max_length}: the model's context is {context} tokens"
            )
        self.tokenizer = tokenizer
        self.config = config
        self.max_length = config.max_length or context
        self.codec = Codec(tokenizer)
        self.frame = frame_of(self.codec, config)
        self.end = self.frame.end
        self._before, self._after = map(self.codec.marked, (self.frame.before, self.frame.after))
        self._summary_frame = [*map(self.codec.marked, (self.frame.lead, self.frame.tail))]
        self._frame = tuple(self._wrap(""))  # the prompt of an empty document

    def summary(self, text: str) -> list[int]:
        """Return the token ids of a summary as a continuation of the prompt, ending in EOS."""
        tokens = self._continuing(self.codec.plain(text).join(self._summary_frame))
        return tokens if tokens[-1:] == [self.end] else [*tokens, self.end]

    def summary_start(self, text: str) -> list[int]:
        """Return the token ids of the beginning of a summary, which follows the prompt; no EOS."""
        return self._continuing(self._summary_frame[0] + self.codec.plain(text))

    def _continuing(self, text: str) -> list[int]:
        return self.codec.continuation(self._after or self._before, text)

    def prompt(self, document: str, room: int) -> EncodedPrompt:
        """Return the prompt for a document in at most `room` tokens, cutting the document to fit.

        Args:
            document: text of the document.
            room: largest number of tokens of the prompt.

        Raises:
            UserError: not even the prompt of an empty document fits.
        """
        whole = self._wrap(document)
        if len(whole) <= room:
            return EncodedPrompt(tuple(whole), len(document), cut=False)
        if len(self._frame) > room:
            text = self.config.template is Template.text
            name = "encoding.prompt" if text else "encoding.instruction, in its chat,"
            raise UserError(
                f"{name} takes {len(self._frame)} tokens where {max(room, 0)} are left of"
                f" {self.max_length}: shorten it, lower generation.max_new_tokens, or raise"
                " encoding.max_length"
            )
        kept = self._fitting(document, room)
        return EncodedPrompt(tuple(self._wrap(document[:kept])), kept, cut=True)

    def _wrap(self, document: str) -> list[int]:
        return self._ids(f"{self._before}{self.codec.plain(document)}{self._after}")

    def _ids(self, text: str) -> list[int]:
        return self.codec.begun(text) if self.frame.starts else self.codec.ids(text)

    def _fitting(self, document: str, room: int) -> int:
        """Return how many characters fit: whole sentences, or the start of a too long first one."""
        ends = [end for _, end in sentence_spans(document)]
        best = _last_that(lambda i: len(self._wrap(document[: ends[i]])) <= room, len(ends))
        if best is not None:
            return ends[best]
        first = document[: ends[0]] if ends else document
        best = _last_that(lambda i: len(self._wrap(first[:i])) <= room, len(first) + 1)
        return best or 0

    def example(self, item: Document) -> TokenExample:
        """Return a document's training sequence, in which the summary and EOS are predicted.

        Raises:
            NoExample: the summary is too long, or leaves no room for the document.
        """
        prompt, ids = self._sequence(item)
        return TokenExample.predicting(item.id, ids, len(prompt.ids), truncated=prompt.cut)

    def located(self, item: Document) -> TokenExample:
        """Return a document's training sequence with spans and character offsets.

        The spans are `document`, `prompt` (the text around the document) and `summary`. The offsets
        say which characters of the document each of its tokens stands for.

        Raises:
            NoExample: the summary is too long, or leaves no room for the document.
            UserError: the tokenizer does not report character offsets.
        """
        prompt, ids = self._sequence(item)
        start = len(prompt.ids)
        places = self._offsets(item.document[: prompt.kept])
        if len(places) != start:
            raise UserError(
                "model.tokenizer: splits a prompt differently when it reports character offsets,"
                " so the document's tokens can't be identified; use another tokenizer"
            )
        offsets = np.full((len(ids), 2), NONE)
        offsets[:start] = [(NONE, NONE) if place is None else place for place in places]
        answer, document = np.arange(len(ids)) >= start, offsets[:, 0] != NONE
        spans = {DOCUMENT: document, PROMPT: ~(document | answer), SUMMARY: answer}
        return TokenExample.predicting(
            item.id, ids, start, spans=spans, offsets=offsets, truncated=prompt.cut
        )

    def text(self, text: str) -> list[int]:
        """Return the token ids of a text from data; spelled special tokens are encoded as text."""
        return self.codec.begun(self.codec.plain(text))

    def template(self, text: str) -> list[int]:
        """Return the token ids of a whole prompt, in which spelled special tokens are special."""
        return self._ids(self.codec.marked(text))

    def request(self, text: str, reply: str = "") -> tuple[str, int]:
        """Return what a model reads for a text, as a whole prompt, and where the text begins in it.

        With a chat template, the text is the user's message and `reply` begins the assistant's.
        Without one, `reply` just follows the text.

        Args:
            text: the text.
            reply: the beginning of the answer, with the white space that separates it.

        Returns:
            The prompt for `template`, and the number of characters before the text.
        """
        frame = self._message
        if not frame.starts:
            reply = reply.lstrip()
        return f"{frame.before}{text}{frame.after}{reply}", len(frame.before)

    @cached_property
    def _message(self) -> Frame:
        return message_frame(self.codec, self.config)

    def template_places(self, text: str) -> list[tuple[int, int] | None]:
        """Return the character range (start, end) in `text` of each token of `template(text)`.

        It is None for a token that stands for no character, such as an added start token.

        Raises:
            UserError: the tokenizer does not report character offsets.
        """
        return self._places(self.codec.marked(text))

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of token ids, without start, end and padding tokens.

        Those that a chat template writes are spelled, as they separate the messages.
        """
        return self.codec.decode(tokens) if self.frame.starts else self.codec.spelled_out(tokens)

    def _places(self, text: str) -> list[tuple[int, int] | None]:
        places = self.codec.places(text)
        added = len(self._ids(text)) - len(places)
        return [*[None] * added, *places]

    def _offsets(self, document: str) -> list[tuple[int, int] | None]:
        """Return for every token of a document's prompt its characters in the document, or None."""
        begin, end = len(self._before), len(self._before) + len(document)
        found: list[tuple[int, int] | None] = []
        for place in self._places(f"{self._before}{self.codec.plain(document)}{self._after}"):
            first, last = (0, 0) if place is None else (max(place[0], begin), min(place[1], end))
            found.append((first - begin, last - begin) if first < last else None)
        return found

    def _sequence(self, item: Document) -> tuple[EncodedPrompt, np.ndarray]:
        """Return the prompt, and the token ids [length] of prompt, summary and EOS."""
        summary = self.summary(item.references[0])
        room = self.max_length - len(summary)
        longest = self.config.max_summary_tokens + 1
        if len(summary) > longest or room <= len(self._frame):
            raise NoExample("summary too long")
        prompt = self.prompt(item.document, room)
        if prompt.ids == self._frame:  # not even the first character fits
            raise NoExample("summary too long")
        return prompt, np.array([*prompt.ids, *summary], dtype=np.int32)

    def corpus(
        self,
        corpus: Corpus,
        what: str,
        cache: Path | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> EncodedCorpus:
        """Return the training sequences of all documents, from the cache if it has them.

        Documents whose summary is too long are left out.

        Args:
            corpus: documents with summaries.
            what: name of the split's setting, for messages.
            cache: the folder `cache_dir`; None encodes without a cache.
            progress: called with the number of newly encoded documents.

        Raises:
            UserError: all documents are left out.
        """
        if cache is None or self.fingerprint is None:
            encoded, found = self._encode(corpus, what, progress), False
        else:
            encoded, found = ENCODED.get(
                cache,
                [self.fingerprint, corpus.fingerprint],
                lambda folder: _write(folder / PAIRS, self._encode(corpus, what, progress)),
                lambda folder: _read(folder / PAIRS, len(corpus.documents)),
            )
        if found and progress is not None:
            progress(len(corpus.documents))
        notices = self._notices(what, encoded, len(corpus.documents))
        special = self.special_notice(what, corpus.documents)
        return replace(encoded, notices=(*notices, special))

    def _encode(
        self, corpus: Corpus, what: str, progress: Callable[[int], None] | None
    ) -> EncodedCorpus:
        def examples() -> Iterator[TokenExample]:
            for item in corpus.documents:
                with suppress(NoExample):
                    yield self.example(item)
                if progress is not None:
                    progress(1)

        encoded = EncodedCorpus.of(examples())
        if not encoded:
            raise UserError(
                f"{what}: all {len(corpus.documents)} summaries are longer than"
                f" encoding.max_summary_tokens={self.config.max_summary_tokens} or the context of"
                f" {self.max_length} tokens; raise the former or take a model with a longer context"
            )
        return encoded

    def _notices(self, what: str, encoded: EncodedCorpus, total: int) -> tuple[Notice, ...]:
        """Return notices about the pairs that were cut or left out."""
        cut = int(encoded.truncated.sum())
        cut_words = (
            f"documents are cut to fit the {self.max_length} tokens of the context with their"
            " summary: their ends are not read"
        )
        long_words = (
            "pairs are left out: their summary is longer than encoding.max_summary_tokens="
            f"{self.config.max_summary_tokens}, or leaves the document no room; data.test keeps"
            " such items"
        )
        return (
            Notice(what, "cut", cut, total, cut_words),
            Notice(what, "summary_too_long", total - len(encoded), total, long_words),
        )

    def special_notice(self, where: str, documents: Sequence[Document]) -> Notice:
        """Return a notice about documents or summaries that spell out a special token.

        Args:
            where: name of the setting that the notice is about.
            documents: the documents to search.
        """
        texts = ("\n".join((item.document, *item.references)) for item in documents)
        count = sum(self.codec.spelled(text) is not None for text in texts)
        words = (
            "documents or summaries contain the spelling of a special token (such as"
            f" {self.tokenizer.eos_token}), which is encoded as text"
        )
        return Notice(where, "special_token_text", count, len(documents), words)

    @property
    def fingerprint(self) -> str | None:
        """Hash of all that determines the tokens; None for a slow tokenizer, written in Python."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if backend is None:
            return None
        parts = [FORMAT, backend.to_str(), self.codec.begin, astuple(self.frame)]
        parts += [self.config.max_summary_tokens, self.max_length]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _last_that(holds: Callable[[int], bool], size: int) -> int | None:
    """Return the last index at which a condition that turns false once still holds (bisection)."""
    low, high = 0, size
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            low = middle + 1
        else:
            high = middle
    return low - 1 if low else None


ARRAYS = ("ids", "lengths", "prompt_lengths", "truncated", "names")


def _write(path: Path, encoded: EncodedCorpus) -> None:
    with open(path, "wb") as file:
        arrays: dict[str, Any] = {name: np.asarray(getattr(encoded, name)) for name in ARRAYS}
        np.savez(file, **arrays)


def _read(path: Path, documents: int) -> EncodedCorpus:
    """Read what `_write` wrote for a corpus of `documents` documents.

    Raises:
        ValueError: the arrays have other sizes.
    """
    with np.load(path, allow_pickle=False) as stored:
        found = EncodedCorpus(*(stored[name] for name in ARRAYS))
    lengths, starts = found.lengths, found.prompt_lengths
    if lengths.sum() != len(found.ids) or ((starts < 1) | (starts >= lengths)).any():
        raise ValueError("sequences of other lengths")
    if not 0 < len(lengths) <= documents:
        raise ValueError(f"{len(lengths)} pairs of {documents} documents")
    if {len(found.truncated), len(found.names)} != {len(lengths)}:
        raise ValueError("arrays of other lengths")
    return found
