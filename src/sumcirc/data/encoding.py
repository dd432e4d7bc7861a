"""From a document and its summary to tokens.

A training sequence is `prompt(document) + summary + EOS`. The summary is tokenized first and kept
whole; the document alone is cut, at a sentence end, to what the context leaves; prompt and EOS are
never cut. Each part is told by position, never by token id (a pad token may equal EOS).

Special tokens in the templates (`encoding.prompt`, `encoding.summary`) are special; in a document
or summary their spelling is text (`data.codec`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sumcirc.data.codec import Codec
from sumcirc.data.documents import Corpus, Document
from sumcirc.data.sentences import sentence_spans
from sumcirc.errors import UserError
from sumcirc.runtime.notices import Notice
from sumcirc.schema import EncodingConfig
from sumcirc.storage.cache import Cache

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FORMAT = 2  # of `fingerprint`; raised when the same text gives other tokens
ENCODED = Cache("encoded", format=3, libraries=("tokenizers", "transformers"))
PAIRS = "pairs.npz"  # the file of an entry
PARTS = ("document", "prompt", "summary")  # 0 to 2 in `PlacedPair.parts`
DOCUMENT, PROMPT, SUMMARY = range(len(PARTS))


@dataclass(frozen=True)
class Prompt:
    """A prompt ready for generation.

    Attributes:
        kept: characters of the document that went in.
        cut: whether that is not all of them.
    """

    ids: tuple[int, ...]
    kept: int
    cut: bool


@dataclass(frozen=True)
class EncodedPair:
    """One training sequence.

    Attributes:
        ids: prompt, summary and EOS.
        summary_start: index of the first summary token; loss is on `ids[summary_start:]`.
    """

    id: str
    ids: np.ndarray
    summary_start: int
    cut: bool  # the document lost its end

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class PlacedPair:
    """A training sequence whose tokens are known by their place.

    Attributes:
        parts: [length] index into PARTS; the summary's EOS is of the summary.
        places: of each prompt token its characters in the document; None where it has none there.
    """

    pair: EncodedPair
    parts: np.ndarray
    places: list[tuple[int, int] | None]


@dataclass
class EncodedCorpus:
    """Encoded training pairs, with notices of those that were cut or left out."""

    pairs: list[EncodedPair]
    notices: tuple[Notice, ...] = ()


class Encoder:
    """Encodes documents and pairs for one tokenizer and context.

    Args:
        context: the most tokens that the model takes.

    Raises:
        UserError: the tokenizer has no EOS, or `encoding.max_length` is above the context.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, config: EncodingConfig, context: int
    ) -> None:
        eos: Any = tokenizer.eos_token_id
        if eos is None:
            raise UserError(
                "the tokenizer has no EOS token, so a summary's end can't be learnt; give one"
                " that has with model.tokenizer=FOLDER_OR_ID"
            )
        if config.max_length is not None and config.max_length > context:
            raise UserError(
                f"encoding.max_length={config.max_length}: the model's context is {context} tokens"
            )
        self.tokenizer = tokenizer
        self.config = config
        self.max_length = config.max_length or context
        self.eos = int(eos)
        self.codec = Codec(tokenizer)
        self._before, self._after = map(self.codec.marked, config.prompt.split("{document}"))
        self._summary_frame = [*map(self.codec.marked, config.summary.split("{summary}"))]
        self._frame = tuple(self._wrap(""))  # the prompt of an empty document

    def summary(self, text: str) -> list[int]:
        """Encode a summary as a continuation of the prompt, ending in EOS."""
        tokens = self._continuing(self.codec.plain(text).join(self._summary_frame))
        return tokens if tokens[-1:] == [self.eos] else [*tokens, self.eos]

    def summary_start(self, text: str) -> list[int]:
        """Encode the beginning of a summary as a continuation of the prompt, without EOS."""
        return self._continuing(self._summary_frame[0] + self.codec.plain(text))

    def _continuing(self, text: str) -> list[int]:
        return self.codec.continuation(self._after or self._before, text)

    def prompt(self, document: str, room: int) -> Prompt:
        """Tokens of the prompt in at most `room` tokens; only the document is cut.

        Raises:
            UserError: not even an empty document fits.
        """
        whole = self._wrap(document)
        if len(whole) <= room:
            return Prompt(tuple(whole), len(document), cut=False)
        if len(self._frame) > room:
            raise UserError(
                f"encoding.prompt takes {len(self._frame)} tokens where {max(room, 0)} are left of"
                f" {self.max_length}: shorten it, lower generation.max_new_tokens, or raise"
                " encoding.max_length"
            )
        kept = self._fitting(document, room)
        return Prompt(tuple(self._wrap(document[:kept])), kept, cut=True)

    def _wrap(self, document: str) -> list[int]:
        return self.codec.begun(f"{self._before}{self.codec.plain(document)}{self._after}")

    def _fitting(self, document: str, room: int) -> int:
        """How many characters fit: whole sentences, or the start of a first one too long."""
        ends = [end for _, end in sentence_spans(document)]
        best = _last_that(lambda i: len(self._wrap(document[: ends[i]])) <= room, len(ends))
        if best is not None:
            return ends[best]
        first = document[: ends[0]] if ends else document
        best = _last_that(lambda i: len(self._wrap(first[:i])) <= room, len(first) + 1)
        return best or 0

    def placed(self, item: Document) -> PlacedPair | None:
        """`pair` with the place of every token; None where there is no pair.

        Raises:
            UserError: the tokenizer does not know its tokens' places.
        """
        found = self._parts_of(item)
        if found is None:
            return None
        prompt, pair = found
        places = self._offsets(item.document[: prompt.kept])
        if len(places) != pair.summary_start:
            raise UserError(
                "model.tokenizer: splits a prompt differently where it tells its tokens' places,"
                " so it isn't known which token is of the document; take another tokenizer"
            )
        parts = np.full(len(pair), SUMMARY, dtype=np.int8)
        parts[: len(places)] = [PROMPT if place is None else DOCUMENT for place in places]
        return PlacedPair(pair, parts, places)

    def text(self, text: str) -> list[int]:
        """Encode text from data: only the start token is special."""
        return self.codec.begun(self.codec.plain(text))

    def template(self, text: str) -> list[int]:
        """Encode a prompt that the user wrote: special tokens spelled in it are special."""
        return self.codec.begun(self.codec.marked(text))

    def template_places(self, text: str) -> list[tuple[int, int] | None]:
        """Return the characters (start, end) of each token of `template(text)`, or None.

        Raises:
            UserError: the tokenizer does not know its tokens' places.
        """
        return self._places(self.codec.marked(text))

    def decode(self, tokens: Sequence[int]) -> str:
        """See `Codec.decode`."""
        return self.codec.decode(tokens)

    def _places(self, text: str) -> list[tuple[int, int] | None]:
        places = self.codec.places(text)
        added = len(self.codec.begun(text)) - len(places)
        return [*[None] * added, *places]

    def _offsets(self, document: str) -> list[tuple[int, int] | None]:
        """For every token of a document's prompt its characters in the document, or None."""
        begin, end = len(self._before), len(self._before) + len(document)
        found: list[tuple[int, int] | None] = []
        for place in self._places(f"{self._before}{self.codec.plain(document)}{self._after}"):
            first, last = (0, 0) if place is None else (max(place[0], begin), min(place[1], end))
            found.append((first - begin, last - begin) if first < last else None)
        return found

    def pair(self, item: Document) -> EncodedPair | None:
        """A training sequence, or None where the summary leaves the document no room."""
        found = self._parts_of(item)
        return None if found is None else found[1]

    def _parts_of(self, item: Document) -> tuple[Prompt, EncodedPair] | None:
        summary = self.summary(item.references[0])
        room = self.max_length - len(summary)
        longest = self.config.max_summary_tokens + 1
        if len(summary) > longest or room <= len(self._frame):
            return None
        prompt = self.prompt(item.document, room)
        if prompt.ids == self._frame:  # not even the first character fits
            return None
        ids = np.array([*prompt.ids, *summary], dtype=np.int32)
        return prompt, EncodedPair(item.id, ids, len(prompt.ids), prompt.cut)

    def corpus(
        self,
        corpus: Corpus,
        what: str,
        cache: Path | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> EncodedCorpus:
        """Encode every pair; read from `cache` (`cache_dir`) what has been encoded before.

        Raises:
            UserError: no pair is left (`what` names the split's setting).
        """
        if cache is None or self.fingerprint is None:
            pairs, found = self._encode(corpus, what, progress), False
        else:
            pairs, found = ENCODED.get(
                cache,
                [self.fingerprint, corpus.fingerprint],
                lambda folder: _write(folder / PAIRS, self._encode(corpus, what, progress)),
                lambda folder: _read(folder / PAIRS, len(corpus.documents)),
            )
        if found and progress is not None:
            progress(len(corpus.documents))
        notices = self._notices(what, pairs, len(corpus.documents))
        return EncodedCorpus(pairs, (*notices, self.special_notice(what, corpus.documents)))

    def _encode(
        self, corpus: Corpus, what: str, progress: Callable[[int], None] | None
    ) -> list[EncodedPair]:
        """Encode every pair."""
        pairs = []
        for item in corpus.documents:
            pair = self.pair(item)
            if pair is not None:
                pairs.append(pair)
            if progress is not None:
                progress(1)
        if not pairs:
            raise UserError(
                f"{what}: all {len(corpus.documents)} summaries are longer than"
                f" encoding.max_summary_tokens={self.config.max_summary_tokens} or the context of"
                f" {self.max_length} tokens; raise the former or take a model with a longer context"
            )
        return pairs

    def _notices(self, what: str, pairs: Sequence[EncodedPair], total: int) -> tuple[Notice, ...]:
        """Return notices of the pairs that were cut or left out."""
        cut = sum(pair.cut for pair in pairs)
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
            Notice(what, "summary_too_long", total - len(pairs), total, long_words),
        )

    def special_notice(self, where: str, documents: Sequence[Document]) -> Notice:
        """Return a notice of documents or summaries that spell out a special token."""
        texts = ("\n".join((item.document, *item.references)) for item in documents)
        count = sum(self.codec.spelled(text) is not None for text in texts)
        words = (
            "documents or summaries contain the spelling of a special token (such as"
            f" {self.tokenizer.eos_token}), which is encoded as text"
        )
        return Notice(where, "special_token_text", count, len(documents), words)

    @property
    def fingerprint(self) -> str | None:
        """A hash of all that decides the tokens; None for a tokenizer that can't be written out."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if backend is None:
            return None
        ends = [self.codec.begin, self.eos]
        parts = [FORMAT, backend.to_str(), ends, asdict(self.config), self.max_length]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _last_that(holds: Callable[[int], bool], size: int) -> int | None:
    """The last index at which a condition that turns false once still holds (bisection)."""
    low, high = 0, size
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            low = middle + 1
        else:
            high = middle
    return low - 1 if low else None


def _write(path: Path, pairs: Sequence[EncodedPair]) -> None:
    with open(path, "wb") as file:
        np.savez(
            file,
            ids=np.concatenate([pair.ids for pair in pairs]),
            lengths=np.array([len(pair) for pair in pairs]),
            starts=np.array([pair.summary_start for pair in pairs]),
            cuts=np.array([pair.cut for pair in pairs]),
            names=np.array([pair.id for pair in pairs]),
        )


def _read(path: Path, documents: int) -> list[EncodedPair]:
    """What `_write` wrote of a corpus of so many documents.

    Raises:
        ValueError: it is of other sizes.
    """
    with np.load(path, allow_pickle=False) as stored:
        lengths, starts = stored["lengths"], stored["starts"]
        if lengths.sum() != len(stored["ids"]) or ((starts < 1) | (starts >= lengths)).any():
            raise ValueError("sequences of other lengths")
        if not 0 < len(lengths) <= documents:
            raise ValueError(f"{len(lengths)} pairs of {documents} documents")
        sequences: Sequence[np.ndarray] = np.split(stored["ids"], np.cumsum(lengths)[:-1])
        return [
            EncodedPair(str(name), ids, int(start), bool(cut))
            for name, ids, start, cut in zip(
                stored["names"], sequences, starts, stored["cuts"], strict=True
            )
        ]
