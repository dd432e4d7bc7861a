"""Documents of a file that a benchmark is given with --data."""

from __future__ import annotations

import argparse
from pathlib import Path

from sumcirc.data.documents import Document, read_corpus
from sumcirc.schema import DataConfig, SizesConfig, Source


def add_data(command: argparse.ArgumentParser, what: str, required: bool = False) -> None:
    """Add --data and the names of its columns to a command line.

    Args:
        command: the command line.
        what: help for --data.
        required: whether --data has to be given.
    """
    command.add_argument("--data", type=Path, required=required, help=what)
    command.add_argument("--id-column", default="id")
    command.add_argument("--references-column", default=None)


def read_documents(options: argparse.Namespace, count: int | None = None) -> list[Document]:
    """Return the documents of --data in the order in which `sumcirc` draws a test set.

    Args:
        options: the command line, with the arguments of `add_data`.
        count: largest number of documents; None for all.
    """
    config = DataConfig(
        name=options.data.stem,
        source=Source.files,
        test=str(options.data),
        id_column=options.id_column,
        references_column=options.references_column,
        sizes=SizesConfig(test=count),
    )
    return read_corpus(config, "test").documents
