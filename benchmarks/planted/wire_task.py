"""Articles of the built-in wire with their summaries, and the examples of a change of one fact.

An article reports a main event and, in one or two sentences, a second event. The reference summary
states the main event's facts, among them its place, `FACT`:

    ... a gas leak sent 559 people in Norrington to doctors. In Marenca, 493 patients ...
    -> A total of 493 infections were known in Marenca        before
       A total of 493 infections were known in Norrington     after

Sentences that report neither event are left out, which shortens articles by a third. `OTHER` is the
fact of trained decoys.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.planted.models import ROUTE, Examples
from sumcirc.circuits.inputs.donors import tokens_of
from sumcirc.circuits.inputs.example_pairs import ExamplePair
from sumcirc.circuits.inputs.wrong_facts import fact_answers
from sumcirc.compare.items.item_set import ItemSet
from sumcirc.data.documents import Document
from sumcirc.data.encoding import DOCUMENT, PROMPT, SUMMARY, Encoder
from sumcirc.data.examples import NoExample, TokenExample, padded
from sumcirc.errors import UserError
from sumcirc.measures.measure_documents import ProbeDocument, ProbeSet
from sumcirc.wire import MAIN, SECOND, Span, WireArticle, article, twin

FACT, OTHER = "where", "when"
# spans of the examples: of the second and the main event the place, other facts, and other words
SECOND_FACTS, SECOND_WORDS = "second facts", "second event"  # the place's span is ROUTE
MAIN_PLACE, MAIN_FACTS, MAIN_WORDS = "main place", "main facts", "main event"
READER = "reader"  # the last token, at which the place is predicted

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Report:
    """A shortened article with its summary, as tokens.

    Attributes:
        example: prompt and summary with EOS, of which the summary is predicted.
        events: the article as that of its main and of its second event.
        reads: positions at which the first tokens of `FACT` and `OTHER` are predicted.
        second: these tokens as of the second event.
    """

    example: TokenExample
    events: tuple[WireArticle, WireArticle]
    reads: dict[str, int]
    second: dict[str, int]

    @classmethod
    def of(cls, encoder: Encoder, split: str, index: int) -> Report:
        """Return an article of a split.

        Raises:
            NoExample: for the reasons given in `fact_answers`.
        """
        main, other = (shortened(article(split, index, event=event)) for event in (MAIN, SECOND))
        example = encoder.located(document_of(main))
        reads, second = {}, {}
        for role in (FACT, OTHER):
            before, right, wrong = fact_answers(encoder, main, role)
            stop = example.prompt_length + len(before)
            if example.ids[stop - len(before) : stop + 1].tolist() != [*before, right]:
                raise NoExample("fact within a token")
            reads[role], second[role] = stop - 1, wrong
        return cls(example, (main, other), reads, second)

    def spans(self) -> dict[str, Mask]:
        """Return the spans of the tokens up to the one that predicts `FACT`; they don't overlap."""
        main, other = self.events
        marked = {
            ROUTE: _of_role(other.salient, True),
            SECOND_FACTS: _of_role(other.salient, False),
            MAIN_PLACE: _of_role(main.salient, True),
            MAIN_FACTS: _of_role(main.salient, False),
            SECOND_WORDS: _of_role(other.salient_sentences, None),
        }
        known = self.example.spans
        found, rest = self.example.divided(known[DOCUMENT], marked)
        reader = np.arange(len(self.example)) == self.reads[FACT]
        found |= {
            MAIN_WORDS: rest,
            PROMPT: known[PROMPT] & ~reader,
            SUMMARY: known[SUMMARY] & ~reader,
            READER: reader,
        }
        return {name: inside[: self.reads[FACT] + 1] for name, inside in found.items()}

    def corrupted(self, encoder: Encoder) -> NDArray[np.int64]:
        """Return the tokens of the prompt with other facts in place of all those of both events.

        Raises:
            NoExample: there are no other facts with the same numbers of tokens.
        """
        found = self.example.ids.astype(np.int64)
        for one in self.events:
            try:
                other = twin(one, lambda text: tokens_of(encoder, text))
            except UserError:
                raise NoExample("no facts of the same token lengths") from None
            text = replace(document_of(self.events[0]), document=other.document)
            ids = encoder.located(text).ids
            found = np.where(ids != self.example.ids, ids, found)
        return found[: self.example.prompt_length]


def document_of(one: WireArticle) -> Document:
    """Return an article as an item of a data set."""
    return Document(one.id, one.document, (one.summary,))


def _of_role(spans: Sequence[Span], place: bool | None) -> list[tuple[int, int]]:
    """Return the ranges of places, of other facts, or of all spans (None)."""
    return [(x.start, x.end) for x in spans if place is None or (x.role == FACT) is place]


def shortened(one: WireArticle) -> WireArticle:
    """Return an article without the sentences that report neither event.

    Args:
        one: the article.
    """
    sentences = sorted(
        (*one.salient_sentences, *one.distractor_sentences), key=lambda span: span.start
    )
    text, moved = "", []
    for span in sentences:
        text += " " if text else ""
        moved.append((span, len(text) - span.start))
        text += one.document[span.start : span.end]

    def kept(spans: Sequence[Span]) -> tuple[Span, ...]:
        return tuple(
            Span(x.start + by, x.end + by, x.role)
            for x in spans
            for inside, by in moved
            if inside.start <= x.start < inside.end
        )

    return replace(
        one,
        document=text,
        salient=kept(one.salient),
        salient_sentences=kept(one.salient_sentences),
        distractor_sentences=kept(one.distractor_sentences),
    )


def reports(encoder: Encoder, split: str, first: int) -> Iterator[Report]:
    """Yield the articles of a split from a given index on, without those that give no example.

    Args:
        encoder: turns texts into tokens.
        split: name of the split.
        first: index of the first article.
    """
    index = first
    while True:
        with suppress(NoExample):
            yield Report.of(encoder, split, index)
        index += 1


def batch_of(some: Sequence[Report]) -> tuple[Tensor, Tensor]:
    """Return [reports, tokens] token ids, padded on the right, and which of them aren't padding."""
    rows = [one.example.ids.astype(np.int64) for one in some]
    return padded(rows, 0), padded([np.ones(len(row), dtype=bool) for row in rows], False)


def examples(encoder: Encoder, count: int, first: int) -> Examples:
    """Return examples from the split `test` that end where the place is predicted.

    The new answer is the place of the second event. The words of the summary before it are the
    reference's. Measures of attention look at all positions that predict tokens of the summary up
    to the place, and a corrupted prompt has other facts of both events.

    Args:
        encoder: turns texts into tokens.
        count: number of examples.
        first: index of the first article.
    """
    items, probes, pairs = [], [], []
    for one in reports(encoder, "test", first):
        if len(items) == count:
            break
        try:
            other = one.corrupted(encoder)
            new = _new_answer(encoder, one, other)
        except NoExample:
            continue
        stop, start = one.reads[FACT] + 1, one.example.prompt_length
        answer = one.second[FACT]
        whole = np.array([*one.example.ids[:stop], answer], dtype=np.int64)
        known = {name: one.example.spans[name][: stop + 1] for name in (DOCUMENT, PROMPT, SUMMARY)}
        probe = TokenExample.predicting(one.example.id, whole, stop, spans=known)
        probes.append(
            ProbeDocument(probe, np.arange(start - 1, stop), np.zeros(stop + 1, np.float32))
        )
        spans = one.spans()
        items.append(replace(probe.until(-1), spans=spans))
        written = whole[start:stop].tolist()  # of the summary
        prompts = [*whole[:start].tolist(), *written], [*other.tolist(), *written]
        pairs.append(ExamplePair.of(probe.id, "facts", prompts, spans, [answer], [new]))
    return Examples(ItemSet(items), ProbeSet(probes, count), pairs)


def _new_answer(encoder: Encoder, one: Report, corrupted: NDArray[np.int64]) -> int:
    """Return the first token of the second event's place in a corrupted prompt.

    Raises:
        NoExample: the place is written differently in article and summary, so that its token in the
            summary isn't that in the article.
    """
    at = int(one.spans()[ROUTE].argmax())
    if one.example.ids[at] != one.second[FACT]:
        raise NoExample("fact within a token")
    return int(corrupted[at])


def kept_rows(some: Sequence[Report]) -> tuple[Tensor, Tensor]:
    """Return the rows and positions at which summaries are predicted, [predictions] each."""
    places = [(row, at) for row, one in enumerate(some) for at in np.flatnonzero(one.example.reads)]
    rows, at = torch.tensor(places).T
    return rows, at
