"""Other texts than a run's data, which a model reads as they are: no prompt and no summary.

Each entry of `evaluation.retention` is a file or a pattern of files, whose texts are one corpus.
JSON lines, JSON, CSV and Parquet hold one text a row; a .txt file is one text. Texts are cleaned
and drawn as documents are (`data.documents`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from sumcirc.data.documents import Corpus, Document, Item, Table, corpus_of, draw, texts_of
from sumcirc.data.files import EXTENSIONS, find_files, first_columns, read_rows, read_whole
from sumcirc.errors import UserError
from sumcirc.runtime.notices import Notice, missing
from sumcirc.schema import EvaluationConfig

SETTING = "evaluation.retention"
TEXT = ".txt"


def check_texts(config: EvaluationConfig) -> None:
    """Check the files of texts without reading them whole.

    Args:
        config: the files, and the column of the texts.

    Raises:
        UserError: a file doesn't exist, is empty, or has another extension or no such column.
    """
    for pattern in config.retention:
        for path in _files(pattern):
            if path.suffix.lower() == TEXT:
                continue
            columns = first_columns(path, SETTING)
            if config.retention_column not in columns:
                raise UserError(
                    f"evaluation.retention_column={config.retention_column}: no such column in"
                    f" {path}; its columns are: {', '.join(columns)}"
                )


def read_texts(config: EvaluationConfig, seed: int) -> dict[str, Corpus]:
    """Return the texts of each entry of `config.retention`, by a name made from the entry.

    Args:
        config: the files, the column of the texts, and their number.
        seed: seed of the draw, where only some texts are taken.

    Returns:
        Corpora of documents without references, in the order of the entries.

    Raises:
        UserError: as in `check_texts`; or a value is not text, or all texts are empty.
    """
    names = corpus_names(config.retention)
    return {
        name: _read(config, pattern, name, seed)
        for name, pattern in zip(names, config.retention, strict=True)
    }


def corpus_names(patterns: Sequence[str]) -> list[str]:
    """Return a different short name for each file or pattern: its name without the ending.

    Args:
        patterns: the files or patterns.
    """
    names: list[str] = []
    for pattern in patterns:
        short = re.sub(r"[^\w.-]+", "_", Path(pattern).stem).strip("_.-") or "texts"
        name, number = short, 2
        while name in names:
            name, number = f"{short}-{number}", number + 1
        names.append(name)
    return names


def _files(pattern: str) -> list[Path]:
    return find_files(pattern, SETTING, (*EXTENSIONS, TEXT))


def _read(config: EvaluationConfig, pattern: str, name: str, seed: int) -> Corpus:
    column, items = config.retention_column, list[Item]()
    for path in _files(pattern):
        if path.suffix.lower() == TEXT:
            values = [(str(path), read_whole(path, SETTING))]
        else:
            rows = read_rows(path, SETTING, {column})
            values = [(f"{path}: {place}", row[column]) for place, row in rows]
        for place, value in values:
            text = " ".join(texts_of(value, f"{SETTING}={place}", column))
            one = Document(f"{name}-{len(items)}", text, ())
            items.append(one if text else "empty_document")
    table = Table(len(items), lambda indices: [items[index] for index in indices])
    documents, dropped, not_drawn = draw(table, config.retention_documents, seed, name)
    if not documents:
        raise UserError(
            f"{SETTING}={pattern}: every text is empty; check"
            f" evaluation.retention_column={config.retention_column}"
        )
    where, found = f"{SETTING} {name}", len(documents)
    why = f"{pattern} has {found:,} texts that are not empty"
    asked = config.retention_documents
    empty = Notice(where, "empty_document", sum(dropped.values()), len(items), "texts are empty")
    fewer = missing("evaluation.retention_documents", "texts", asked, found, why)
    return corpus_of(documents, (empty, fewer), not_drawn)
