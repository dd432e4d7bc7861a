"""Documents with their reference summaries, from files, the hub or the built-in wire.

What is done to a text: line ends become one newline, other control characters than tab go, half
surrogate pairs (of emoji cut in two) become U+FFFD, outer white space is stripped. Nothing else.
An item whose document or summary is then empty is dropped and counted.

A document column may hold a list of sentences, which are joined by spaces; a summary column may hold
a list of references. The first reference is the training target.

How a subset is drawn: items are put in the order of the SHA-256 of "seed/split/index" and taken from
the front, passing over empty ones, until there are enough; then they go back to their original order.
So the same source, seed and size give the same items with every version of every library, and a
smaller subset is part of a larger one. If there are fewer than wanted, all are taken, with a warning.

Ids: those of `data.id_column`, or "split-index" with the index in the source from 0 (also where the
id is null or empty). A repeated id gets "-2", "-3" and so on in source order, with a warning, since
per-document records are keyed by it.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sumcirc.data.files import find_files, first_columns, read_rows
from sumcirc.errors import UserError
from sumcirc.schema import DataConfig, Source

log = logging.getLogger(__name__)

SPLITS = ("train", "validation", "test")

# Control characters: those that end a line or page become a newline, tab stays, the others go.
_CLEAN = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)])
_CLEAN |= dict.fromkeys([0x0A, 0x0B, 0x0C, 0x0D, 0x85, 0x2028, 0x2029], "\n") | {0x09: "\t"}
_CLEAN |= dict.fromkeys(range(0xD800, 0xE000), "\ufffd")


@dataclass(frozen=True)
class Document:
    """One item: plain text and at least one reference summary, the first being the target."""

    id: str
    document: str
    references: tuple[str, ...]


@dataclass(frozen=True)
class Corpus:
    """The items of a split in source order.

    Attributes:
        documents: what was kept.
        dropped: counts by reason: empty_document, empty_summary, not_drawn; only those not zero.
        fingerprint: SHA-256 of ids and texts, for caches.
    """

    documents: list[Document]
    dropped: dict[str, int]
    fingerprint: str


Item = Document | str  # kept, or the reason for which it is dropped
ItemReader = Callable[[Sequence[int]], list[Item]]  # items at these indices of the source


def read_corpus(config: DataConfig, split: str) -> Corpus:
    """Read `train`, `validation` or `test`: all of it, or `config.sizes` items drawn at random.

    Raises UserError for a split that is not set, a source that cannot be read, a missing column, a
    value that is no text (naming the place), and a split without any item that is not empty.
    """
    value = _split_value(config, split)
    if config.source is Source.wire:
        return _corpus(_wire_documents(config, split), {})
    if config.source is Source.files:
        count, read = _files_reader(config, split)
    else:
        count, read = _hub_reader(config, split)
    size: int | None = getattr(config.sizes, split)
    documents, dropped = _draw(count, read, size, config.seed, split)
    if not documents:
        reasons = ", ".join(f"{name}: {number}" for name, number in dropped.items())
        raise UserError(
            f"data.{split}={value}: every item is empty ({reasons or 'no rows'}); check "
            f"data.document_column={config.document_column} and "
            f"data.summary_column={config.summary_column}"
        )
    if dropped.keys() & {"empty_document", "empty_summary"}:
        log.info("data.%s=%s: dropped %s", split, value, dropped)
    if size is not None and len(documents) < size:
        log.warning(
            "data.sizes.%s=%d, but %s has %d items that are not empty: all are taken",
            split, size, value, len(documents),
        )  # fmt: skip
    return _corpus(documents, dropped)


def check_files(config: DataConfig, splits: Sequence[str] = SPLITS) -> None:
    """Find the mistakes of `splits` that show without reading them in full, before a model is loaded.

    Files: that they exist, with a known extension, the columns and a first row. Hub: that the data
    set, its configuration, splits and columns exist; what is not in the cache is downloaded. Wire:
    that sizes are given.

    Raises UserError as `read_corpus` would.
    """
    for split in splits:
        value = _split_value(config, split)
        if config.source is Source.wire:
            _wire_size(config, split)
        elif config.source is Source.files:
            for path in find_files(value, f"data.{split}"):
                _require_columns(config, first_columns(path, f"data.{split}"), str(path))
        else:
            dataset = _hub_dataset(config, split)
            _require_columns(config, dataset.column_names, f"{config.path}, {value}")


def _split_value(config: DataConfig, split: str) -> str:
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is none of {', '.join(SPLITS)}")
    value: str | None = getattr(config, split)
    if not value:
        kind = "FILE" if config.source is Source.files else "the name of a split"
        raise UserError(f"data.{split}=null: this command reads the {split} split; set it to {kind}")
    return value


def _columns(config: DataConfig) -> dict[str, str]:
    """Wanted columns by the setting that names them."""
    wanted = {
        name: getattr(config, name)
        for name in ("document_column", "summary_column", "references_column", "id_column")
    }
    return {f"data.{name}": column for name, column in wanted.items() if column is not None}


def _require_columns(config: DataConfig, present: Sequence[str], where: str) -> None:
    for setting, column in _columns(config).items():
        if column not in present:
            raise UserError(
                f"{setting}={column}: no such column in {where}; its columns are: "
                f"{', '.join(present)}"
            )


def _files_reader(config: DataConfig, split: str) -> tuple[int, ItemReader]:
    setting = f"data.{split}"
    rows: list[tuple[str, dict[str, Any]]] = []
    for path in find_files(getattr(config, split), setting):
        _require_columns(config, first_columns(path, setting), str(path))
        columns = set(_columns(config).values())
        found = [(f"{setting}={path}: {place}", row) for place, row in read_rows(path, setting, columns)]
        if not found:
            raise UserError(f"{setting}={path}: the file has no rows")
        rows += found
    ids = _ids(config, split, [(place, row) for place, row in rows])
    items = [_item(config, ids[i], row, place) for i, (place, row) in enumerate(rows)]
    return len(items), lambda indices: [items[i] for i in indices]
