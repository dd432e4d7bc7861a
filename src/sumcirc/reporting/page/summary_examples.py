"""The page's section with example summaries, in which words copied from the document are marked."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from sumcirc.evaluation.copying import extractive_fragments, word_spans, words
from sumcirc.reporting.page.blocks import Block, Example, Gap, Page, Piece, Summary, each
from sumcirc.tracking.run_records import RunRecords
from sumcirc.tracking.score_names import BASE, TRAINED
from sumcirc.tracking.shapes.summary_shapes import Sample

SHOWN = 8
LEAST = 2  # shortest run of words that is marked: single words are shared by chance
FACT = "fact_"
INTRO = (
    "The first test documents with the reference and the summaries. Marked words are copied: runs"
    f" of {LEAST} words or more that the document has as they stand. Where the data knows the key"
    " facts of a document, each is ticked or crossed."
)


def add(page: Page, runs: Sequence[RunRecords]) -> None:
    """Add the section with a few documents and each scored run's summaries of them.

    Runs that recorded no document texts are added to the page's gaps.

    Args:
        page: page to which the section is added.
        runs: runs to show; runs without scored summaries are ignored.
    """
    scored = [run for run in runs if run.systems]
    page.add("examples", "Example summaries", INTRO, each(scored, _blocks))
    for run in scored:
        if not run.samples:
            page.gaps.append(
                Gap(
                    f"{run.name}: the texts of its documents were not recorded, so copied words are"
                    " not marked",
                    f"sumcirc evaluate checkpoint={shlex.quote(str(run.path))}",
                )
            )


def _blocks(run: RunRecords) -> list[Block]:
    texts = {sample["id"]: sample for sample in run.samples}
    shown = (row for row in run.documents if row["prediction"] is not None)
    rows = [row for row in shown if row["system"] in (BASE, TRAINED)]
    ids = list(texts) or list(dict.fromkeys(row["id"] for row in rows))
    return [
        _example(name, texts.get(name), [row for row in rows if row["id"] == name])
        for name in ids[:SHOWN]
    ]


def _example(name: str, sample: Sample | None, rows: Sequence[dict[str, Any]]) -> Example:
    document, reference = (sample["document"], sample["reference"]) if sample else ("", "")
    summaries = [
        Summary(
            row["system"],
            marked(document, row["prediction"]),
            [
                (key.removeprefix(FACT).replace("_", " "), bool(value))
                for key, value in row.items()
                if key.startswith(FACT) and value is not None
            ],
            f"ROUGE-1 {100 * row['rouge1_f1']:.1f}, ROUGE-2 {100 * row['rouge2_f1']:.1f},"
            f" {row['length']} words",
        )
        for row in rows
    ]
    return Example(name, document, reference, summaries)


def marked(document: str, summary: str) -> list[Piece]:
    """Split a summary into parts that are copied from the document, and the parts between these.

    Args:
        document: text of the document; if it is empty, no part counts as copied.
        summary: text of the summary.
    """
    spans, end = word_spans(summary), 0
    pieces: list[Piece] = []
    runs = extractive_fragments(words(document), words(summary)) if document else []
    for start, _, length in runs:
        if length < LEAST:
            continue
        first, last = spans[start][0], spans[start + length - 1][1]
        pieces += [Piece(summary[end:first]), Piece(summary[first:last], copied=True)]
        end = last
    pieces.append(Piece(summary[end:]))
    return [piece for piece in pieces if piece.text]
