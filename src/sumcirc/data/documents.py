"""Documents with their reference summaries, from files, the hub or the built-in wire.

Changes to a text: line ends become newlines, control characters other than tab are removed, lone
surrogates (halves of an emoji) become U+FFFD, and outer white space is stripped; nothing else.
Items whose document or summary is then empty are skipped. Skipped, missing and repeated items are
counted in the notices of the corpus.

A document column may contain a list of sentences, which are joined by spaces; a summary column may
contain a list of references. The first reference is the training target; repeated references count
once.

To draw a subset, items are ordered by the SHA-256 of "seed/split/index" and taken from the front,
skipping empty ones, until there are enough; then they are put back into their original order. So
the same source, seed and size give the same items with any version of any library, and a smaller
subset is part of a larger one. If there are fewer items than requested, all are taken.

With `data.permute_summaries`, each document of the training split then gets the references of
another one (`data.permuting`); the other splits keep theirs.

Ids are those of `data.id_column`, or "split-index" with the index in the source from 0 (also if the
id is null or empty). A repeated id gets the suffix "-2", "-3" and so on in source order, since
per-document records are keyed by id.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import Any

from sumcirc.data.files import find_files, first_columns, read_rows
from sumcirc.data.hub_dataset import load_split
from sumcirc.data.inspection import item_notices, text_key
from sumcirc.data.permuting import LEAST, require_two, with_other_summaries
from sumcirc.data.wire_texts import wire_texts
from sumcirc.errors import UserError
from sumcirc.runtime.notices import Notice
from sumcirc.schema import SPLITS, DataConfig, Source
from sumcirc.wire import MAIN

# Control characters: those that end a line or page become a newline, tab stays, others are removed.
_CLEAN = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)])
_CLEAN |= dict.fromkeys([0x0A, 0x0B, 0x0C, 0x0D, 0x85, 0x2028, 0x2029], "\n") | {0x09: "\t"}
_CLEAN |= dict.fromkeys(range(0xD800, 0xE000), "\ufffd")
_UNCLEAN = re.compile("[" + "".join(map(re.escape, map(chr, _CLEAN.keys() - {0x09, 0x0A}))) + "]")


@dataclass(frozen=True)
class Document:
    """One item of a data set.

    Attributes:
        id: name of the item, unique in its split.
        document: the text to summarize.
        references: one or more reference summaries; models are trained on the first.
    """

    id: str
    document: str
    references: tuple[str, ...]


@dataclass(frozen=True)
class Corpus:
    """The items of a split in source order.

    Attributes:
        documents: the items.
        fingerprint: SHA-256 of ids and texts, used as a cache key.
        notices: notices about skipped, missing, repeated or suspicious items.
        not_drawn: number of items in the source that were left because `data.sizes` was reached.
    """

    documents: list[Document]
    fingerprint: str
    notices: tuple[Notice, ...] = ()
    not_drawn: int = 0

    @cached_property
    def texts(self) -> frozenset[int]:
        """Hashes of the texts of all documents, ignoring case and white space."""
        return frozenset(text_key(item.document) for item in self.documents)


Item = Document | str  # a document, or the reason why it is skipped
ItemReader = Callable[[Sequence[int]], list[Item]]  # returns items by index in the source


@dataclass(frozen=True)
class Table:
    """A split before items are drawn from it.

    Attributes:
        rows: number of items in the source.
        read: returns items by their index in the source.
        repeated_ids: number of ids that needed a suffix.
    """

    rows: int
    read: ItemReader
    repeated_ids: int = 0


def read_corpus(config: DataConfig, split: str, cache: Path | None = None) -> Corpus:
    """Read a split: all of it, or `config.sizes` items drawn at random.

    Args:
        config: source, splits, columns and sizes.
        split: `train`, `validation` or `test`.
        cache: the folder `cache_dir`, where generated articles are kept; None generates them again.

    Raises:
        UserError: the split is not set, the source can't be read, a column is missing, a value is
            not text (the message names its place), or all items are empty.
    """
    value = _split_value(config, split)
    if config.source is Source.wire:
        event = MAIN if config.event is None else config.event.value
        texts = wire_texts(split, _wire_size(config, split), config.seed, cache, event)
        generated = [Document(id, document, (summary,)) for id, document, summary in texts]
        return _corpus(config, split, generated)
    is_file = config.source is Source.files
    table = _files_table(config, split) if is_file else _hub_table(config, split)
    size: int | None = getattr(config.sizes, split)
    documents, dropped, not_drawn = draw(table, size, config.seed, split)
    if not documents:
        reasons = ", ".join(f"{name}: {number}" for name, number in dropped.items())
        raise UserError(
            f"data.{split}={value}: every item is empty ({reasons or 'no rows'}); check "
            f"data.document_column={config.document_column} and "
            f"data.summary_column={config.summary_column}"
        )
    words = "ids are not unique; they get a suffix"
    repeated = Notice(f"data.{split}", "repeated_id", table.repeated_ids, table.rows, words)
    notices = (*item_notices(config, split, documents, dropped), repeated)
    return _corpus(config, split, documents, notices, not_drawn)


def _corpus(
    config: DataConfig,
    split: str,
    documents: list[Document],
    notices: tuple[Notice, ...] = (),
    not_drawn: int = 0,
) -> Corpus:
    """Return a corpus whose summaries are permuted if that is asked for in this split."""
    seed = _permuted_by(config, split)
    if seed is not None:
        documents, told = with_other_summaries(documents, seed)
        notices = (*notices, *told)
    return corpus_of(documents, notices, not_drawn)


def _permuted_by(config: DataConfig, split: str) -> int | None:
    return config.permute_summaries if split == "train" else None


def check_files(config: DataConfig, splits: Sequence[str] = SPLITS) -> None:
    """Check the data settings without reading whole files.

    Files must exist and have a known extension, the columns and a first row. A data set on the hub
    must exist with its configuration, splits and columns, and is downloaded if it is not cached.
    For the wire, the built-in corpus, the sizes must be set.

    Args:
        config: source, splits, columns and sizes.
        splits: names of the splits to check.

    Raises:
        UserError: a setting has a mistake; the message names it.
    """
    for split in splits:
        value, setting = _split_value(config, split), f"data.{split}"
        seed = _permuted_by(config, split)
        if config.source is Source.wire:
            count = _wire_size(config, split)
        elif config.source is Source.files:
            paths = find_files(value, setting)
            for path in paths:
                _require_columns(config, first_columns(path, setting), str(path))
            rows = chain.from_iterable(read_rows(path, setting, ()) for path in paths)
            # a second row is read only where it is needed
            count = sum(1 for _ in islice(rows, 1 if seed is None else LEAST))
        else:
            dataset = load_split(config, split)
            _require_columns(config, dataset.column_names, f"{config.path}, {value}")
            count = len(dataset)
        if seed is not None:
            size = getattr(config.sizes, split)
            require_two(count if size is None else min(count, size), seed)


def _split_value(config: DataConfig, split: str) -> str:
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is none of {', '.join(SPLITS)}")
    value: str | None = getattr(config, split)
    if not value:
        kind = "FILE" if config.source is Source.files else "the name of a split"
        raise UserError(
            f"data.{split}=null: this command reads the {split} split; set it to {kind}"
        )
    return value


def _columns(config: DataConfig) -> dict[str, str]:
    """Return the requested columns by the setting that names them."""
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


def _files_table(config: DataConfig, split: str) -> Table:
    setting = f"data.{split}"
    columns = set(_columns(config).values())
    rows: list[tuple[str, dict[str, Any]]] = []
    for path in find_files(getattr(config, split), setting):
        _require_columns(config, first_columns(path, setting), str(path))
        rows += [
            (f"{setting}={path}: {place}", values)
            for place, values in read_rows(path, setting, columns)
        ]
    ids, repeated = [f"{split}-{index}" for index in range(len(rows))], 0
    if config.id_column is not None:
        found = [(place, row[config.id_column]) for place, row in rows]
        ids, repeated = _unique(config, ids, found)
    items = [_item(config, id, row, place) for id, (place, row) in zip(ids, rows, strict=True)]
    return Table(len(items), lambda indices: [items[index] for index in indices], repeated)


def _hub_table(config: DataConfig, split: str) -> Table:
    dataset = load_split(config, split)
    name = getattr(config, split)
    _require_columns(config, dataset.column_names, f"{config.path}, {name}")
    dataset = dataset.select_columns(sorted(set(_columns(config).values())))

    def place(index: int) -> str:
        return f"data.path={config.path}, {name}: row {index + 1}"

    ids, repeated = [f"{split}-{index}" for index in range(len(dataset))], 0
    if config.id_column is not None:
        values = dataset.select_columns([config.id_column])[:][config.id_column]
        found = [(place(i), value) for i, value in enumerate(values)]
        ids, repeated = _unique(config, ids, found)

    def read(indices: Sequence[int]) -> list[Item]:
        items: list[Item] = []
        for start in range(0, len(indices), 1000):
            chunk = list(indices[start : start + 1000])
            batch = dataset[chunk]
            for row, index in enumerate(chunk):
                values = {column: batch[column][row] for column in batch}
                items.append(_item(config, ids[index], values, place(index)))
        return items

    return Table(len(dataset), read, repeated)


def _unique(
    config: DataConfig, defaults: list[str], found: list[tuple[str, Any]]
) -> tuple[list[str], int]:
    """Return unique ids in source order, and the number of ids that needed a suffix."""
    ids: list[str] = []
    for default, (place, value) in zip(defaults, found, strict=True):
        if value is not None and (isinstance(value, bool) or not isinstance(value, str | int)):
            raise _not_text(place, config.id_column, value)
        ids.append(default if value is None or value == "" else _clean(str(value)))
    taken = set(ids)
    seen: dict[str, int] = {}
    repeated = 0
    for index, id in enumerate(ids):
        if id not in seen:
            seen[id] = 1
            continue
        repeated += 1
        while (suffixed := f"{id}-{seen[id] + 1}") in taken:
            seen[id] += 1
        seen[id] += 1
        ids[index] = suffixed
    return ids, repeated


def _item(config: DataConfig, id: str, row: dict[str, Any], place: str) -> Item:
    document = " ".join(texts_of(row[config.document_column], place, config.document_column))
    references = texts_of(row[config.summary_column], place, config.summary_column)
    if config.references_column is not None:
        references += texts_of(row[config.references_column], place, config.references_column)
    if not document:
        return "empty_document"
    if not references:
        return "empty_summary"
    return Document(id, document, tuple(dict.fromkeys(references)))


def texts_of(value: Any, place: str, column: str) -> list[str]:
    """Return a text, a list of texts or null as a list of cleaned, non-empty texts.

    Args:
        value: the value of a column.
        place: the setting, file and place of the value, for messages.
        column: name of the column, for messages.

    Raises:
        UserError: the value is something else.
    """
    values = [] if value is None else value if isinstance(value, list | tuple) else [value]
    for one in values:
        if one is not None and not isinstance(one, str):
            raise _not_text(place, column, one)
    return [text for one in values if one is not None and (text := _clean(one))]


def _not_text(place: str, column: str | None, value: Any) -> UserError:
    shown = json.dumps(value, default=str, ensure_ascii=False)[:60]
    return UserError(
        f"{place}, column {column!r}: holds {shown} ({type(value).__name__}), not text"
    )


def _clean(text: str) -> str:
    text = text.replace("\r\n", "\n")
    if _UNCLEAN.search(text):
        text = text.translate(_CLEAN)
    return text.strip()


def draw(
    table: Table, size: int | None, seed: int, split: str
) -> tuple[list[Document], dict[str, int], int]:
    """Return the drawn documents, counts of skipped ones by reason, and the number not drawn.

    Args:
        table: the source.
        size: number of items to draw; None takes all.
        seed: seed of the draw.
        split: name of the split, which the draw depends on.
    """
    count = table.rows
    order: Sequence[int] = range(count)
    if size is not None:
        order = sorted(
            order, key=lambda index: hashlib.sha256(f"{seed}/{split}/{index}".encode()).digest()
        )
    wanted = count if size is None else min(size, count)
    kept: dict[int, Document] = {}
    dropped: dict[str, int] = {}
    at = 0
    while len(kept) < wanted and at < count:
        batch = order[at : at + wanted - len(kept)]
        at += len(batch)
        for index, item in zip(batch, table.read(batch), strict=True):
            if isinstance(item, Document):
                kept[index] = item
            else:
                dropped[item] = dropped.get(item, 0) + 1
    return [kept[index] for index in sorted(kept)], dropped, count - at


def _wire_size(config: DataConfig, split: str) -> int:
    size: int | None = getattr(config.sizes, split)
    if size is None:
        raise UserError(
            f"data.sizes.{split}=null: the wire is unlimited; give the number of articles, "
            f"for example data.sizes.{split}=200"
        )
    return size


def corpus_of(
    documents: list[Document], notices: tuple[Notice, ...] = (), not_drawn: int = 0
) -> Corpus:
    """Return a corpus of documents, with the fingerprint computed from them.

    Args:
        documents: the items.
        notices: notices about the items.
        not_drawn: number of items in the source that were not drawn.
    """
    digest = hashlib.sha256()
    for item in documents:
        digest.update(json.dumps([item.id, item.document, item.references]).encode())
    return Corpus(documents, digest.hexdigest(), notices, not_drawn)
