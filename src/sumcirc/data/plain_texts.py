"""Other texts than a run's data, which a model reads as they are: no prompt and no summary.

Each entry of a setting such as `evaluation.retention` is a file or a pattern of files, whose texts
are one corpus. JSON lines, JSON, CSV and Parquet hold one text a row; a .txt file is one text.
Texts are cleaned and drawn as documents are (`data.documents`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sumcirc.data.documents import Corpus, Document, Item, Table, corpus_of, draw, texts_of
from sumcirc.data.files import EXTENSIONS, find_files, first_columns, read_rows, read_whole
from sumcirc.data.inspection import seen_before
from sumcirc.errors import UserError
from sumcirc.runtime.notices import LIMIT, Notice, Notices, missing

if TYPE_CHECKING:
    from sumcirc.data.encoding import Encoder
    from sumcirc.schema import EvaluationConfig, KLPenaltyConfig

TEXT = ".txt"
TOKENS = 2  # the fewest tokens of a text: the first has nothing from which it could be predicted


@dataclass(frozen=True)
class TextFiles:
    """Where plain texts are read from, with the names of the settings for error messages.

    Attributes:
        patterns: files or patterns of files, each of which is a corpus.
        column: column of the texts.
        documents: number of texts that are drawn from each corpus; None takes all.
        setting: name of the setting of `patterns`.
        column_setting, documents_setting: names of the settings of `column` and `documents`.
    """

    patterns: Sequence[str]
    column: str
    documents: int | None
    setting: str
    column_setting: str
    documents_setting: str

    @classmethod
    def of_retention(cls, config: EvaluationConfig) -> TextFiles:
        """Return the files that `evaluation.retention` names.

        Args:
            config: settings of the evaluation.
        """
        names = ("retention", "retention_column", "retention_documents")
        return cls._of(config, "evaluation.", names)

    @classmethod
    def of_kl_penalty(cls, config: KLPenaltyConfig) -> TextFiles:
        """Return the files that `kl_penalty.texts` names.

        Args:
            config: settings of the penalty.
        """
        return cls._of(config, "kl_penalty.", ("texts", "column", "documents"))

    @classmethod
    def _of(cls, config: object, prefix: str, names: tuple[str, str, str]) -> TextFiles:
        values = [getattr(config, name) for name in names]
        return cls(*values, *(f"{prefix}{name}" for name in names))

    def found(self, pattern: str) -> list[Path]:
        """Return the files of a pattern.

        Args:
            pattern: one of `patterns`.

        Raises:
            UserError: there is none, or one has another extension.
        """
        return find_files(pattern, self.setting, (*EXTENSIONS, TEXT))


@dataclass(frozen=True)
class PlainTexts:
    """One corpus of plain texts, as a model reads it.

    Attributes:
        names: ids of the texts.
        ids: token ids of each text.
        corpus: the texts, before they are cut.
    """

    names: list[str]
    ids: list[list[int]]
    corpus: Corpus


def check_texts(files: TextFiles) -> None:
    """Check the files of texts without reading them whole.

    Args:
        files: the files, and the column of the texts.

    Raises:
        UserError: a file doesn't exist, is empty, or has another extension or no such column.
    """
    for pattern in files.patterns:
        for path in files.found(pattern):
            if path.suffix.lower() == TEXT:
                continue
            columns = first_columns(path, files.setting)
            if files.column not in columns:
                raise UserError(
                    f"{files.column_setting}={files.column}: no such column in {path}; its columns"
                    f" are: {', '.join(columns)}"
                )


def read_texts(files: TextFiles, seed: int) -> dict[str, Corpus]:
    """Return the texts of each file or pattern, by a name made from it.

    Args:
        files: the files, the column of the texts, and their number.
        seed: seed of the draw, where only some texts are taken.

    Returns:
        Corpora of documents without references, in the order of `files.patterns`.

    Raises:
        UserError: as in `check_texts`; or a value is not text, or all texts are empty.
    """
    names = corpus_names(files.patterns)
    return {
        name: _read(files, pattern, name, seed)
        for name, pattern in zip(names, files.patterns, strict=True)
    }


def encoded_texts(
    files: TextFiles,
    encoder: Encoder,
    notices: Notices,
    seed: int,
    trained_on: Mapping[str, Corpus] | None = None,
    length: int | None = None,
) -> dict[str, PlainTexts]:
    """Return the token ids of the texts of each file or pattern; empty if there are none.

    Args:
        files: the files, and how texts are drawn.
        encoder: encodes the texts, and says how many tokens a model reads.
        notices: collection to which notices about the texts are added.
        seed: seed of the draw, where only some texts are taken.
        trained_on: what a model is trained on, by the name of its setting; these documents should
            not be among the texts.
        length: number of tokens to which texts are cut on purpose; None for the context.

    Raises:
        UserError: as in `read_texts`, or all texts of a corpus are too short.
    """
    limit = encoder.max_length if length is None else min(length, encoder.max_length)
    what = "of the context" if limit == encoder.max_length else "asked for"
    found = {}
    for name, corpus in read_texts(files, seed).items():
        where, documents = f"{files.setting} {name}", corpus.documents
        whole = {item.id: encoder.text(item.document) for item in documents}
        ids = {id: one[:limit] for id, one in whole.items() if len(one) >= TOKENS}
        if not ids:
            raise UserError(f"{where}: no text has {TOKENS} tokens; give longer texts")
        cut = sum(len(one) > limit for one in whole.values())
        cuts = f"texts are cut to the {limit} tokens {what}"
        short = f"texts are left out: they have fewer than {TOKENS} tokens"
        notices.tell(
            *corpus.notices,
            # no reason to warn where it was asked for
            Notice(where, "cut", cut, len(documents), cuts, LIMIT if length is None else 1.0),
            Notice(where, "short", len(documents) - len(ids), len(documents), short),
            encoder.special_notice(where, documents),
        )
        for setting, other in (trained_on or {}).items():
            notices.tell(seen_before(where, documents, other, setting))
        found[name] = PlainTexts([*ids], [*ids.values()], corpus)
    return found


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


def _read(files: TextFiles, pattern: str, name: str, seed: int) -> Corpus:
    column, items = files.column, list[Item]()
    for path in files.found(pattern):
        if path.suffix.lower() == TEXT:
            values = [(str(path), read_whole(path, files.setting))]
        else:
            rows = read_rows(path, files.setting, {column})
            values = [(f"{path}: {place}", row[column]) for place, row in rows]
        for place, value in values:
            text = " ".join(texts_of(value, f"{files.setting}={place}", column))
            one = Document(f"{name}-{len(items)}", text, ())
            items.append(one if text else "empty_document")
    table = Table(len(items), lambda indices: [items[index] for index in indices])
    documents, dropped, not_drawn = draw(table, files.documents, seed, name)
    if not documents:
        raise UserError(
            f"{files.setting}={pattern}: every text is empty; check {files.column_setting}={column}"
        )
    where, found = f"{files.setting} {name}", len(documents)
    why = f"{pattern} has {found:,} texts that are not empty"
    empty = Notice(where, "empty_document", sum(dropped.values()), len(items), "texts are empty")
    fewer = missing(files.documents_setting, "texts", files.documents, found, why)
    return corpus_of(documents, (empty, fewer), not_drawn)
