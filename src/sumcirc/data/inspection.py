"""Checks on the items of a split: skipped, missing, repeated, or shared with another split."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from sumcirc.runtime.notices import LEAK, Notice, missing
from sumcirc.schema import DataConfig

if TYPE_CHECKING:
    from sumcirc.data.documents import Corpus, Document


def item_notices(
    config: DataConfig, split: str, documents: Sequence[Document], dropped: Mapping[str, int]
) -> list[Notice]:
    """Return notices about the items of a split that are skipped, missing, repeated or suspicious.

    An item is suspicious if its text looks like a printed list.

    Args:
        config: columns and sizes of the data.
        split: name of the split.
        documents: the items that are used.
        dropped: number of skipped items by reason, `empty_document` or `empty_summary`.
    """
    where, kept = f"data.{split}", len(documents)
    looked_at = kept + sum(dropped.values())
    columns = {"empty_document": config.document_column, "empty_summary": config.summary_column}
    found = [
        Notice(where, reason, count, looked_at, f"items are left out: `{columns[reason]}` is empty")
        for reason, count in dropped.items()
    ]
    value, asked = getattr(config, split), getattr(config.sizes, split)
    why = f"{value} has {kept:,} items that are not empty"
    found.append(missing(f"data.sizes.{split}", "items", asked, kept, why))
    listed = sum(any(map(_is_listed, (item.document, *item.references))) for item in documents)
    words = (
        "items hold a list that was written as text, such as ['a', 'b'], and is taken as one text;"
        " give JSON lines or Parquet, which have lists"
    )
    found.append(Notice(where, "list_as_text", listed, kept, words))
    twice = kept - len({text_key(item.document) for item in documents})
    words = "documents repeat an earlier one (but for case and white space)"
    found.append(Notice(where, "repeated", twice, kept, words))
    return found


def seen_before(where: str, documents: Sequence[Document], other: Corpus, name: str) -> Notice:
    """Return a notice about documents that are also in another corpus.

    Args:
        where: name of the setting that the documents come from, such as `data.test`.
        documents: the documents to look for.
        other: the other corpus.
        name: name of the setting that `other` comes from.
    """
    count = sum(text_key(item.document) in other.texts for item in documents)
    words = f"documents are in {name} too, so what they show may be memory; give other documents"
    kind = "in_" + re.sub(r"\W+", "_", name.removeprefix("data."))
    return Notice(where, kind, count, len(documents), words, LEAK)


def text_key(text: str) -> int:
    """Return a hash of a text that ignores case and white space."""
    return hash("".join(text.casefold().split()))


def _is_listed(text: str) -> bool:
    """Return whether a text is a list as printed by Python, JSON or NumPy."""
    return text[:2] in ("['", '["') and text[-2:] in ("']", '"]')
