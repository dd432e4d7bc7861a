"""Reads the texts of wire articles from the cache, or generates them.

To generate 4,000 articles takes about 2.5 seconds of CPU time, longer than to read a small model;
every job of a sweep needs the same ones.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import sumcirc.wire
from sumcirc.storage.cache import Cache
from sumcirc.storage.reading import read_json
from sumcirc.storage.writing import write_json
from sumcirc.wire import MAIN, articles

Text = tuple[str, str, str]  # id, document, summary

ARTICLES = Cache("articles", format=1, libraries=())
FILE = "articles.json"
FEW = 500  # generated in about 0.3 s: not worth an entry
MANY = 100_000  # 90 MB: training lasts so long that generating them again doesn't matter


def wire_texts(
    split: str, size: int, seed: int, cache_dir: Path | None, event: str = MAIN
) -> list[Text]:
    """Return the id, document and summary of the first articles of a split.

    Args:
        split: `train`, `validation` or `test`.
        size: number of articles.
        seed: seed of the data.
        cache_dir: the folder `cache_dir`, where articles are kept; None generates them again.
        event: the event that the summaries report, `main` or `second`.
    """

    def generated() -> list[Text]:
        found = articles(split, size, seed, event)
        return [(item.id, item.document, item.summary) for item in found]

    if cache_dir is None or not FEW <= size <= MANY:
        return generated()

    def write(folder: Path) -> None:
        write_json(folder / FILE, generated())

    def read(folder: Path) -> list[Text]:
        found = read_json(folder / FILE, list[list[str]])
        if len(found) != size:
            raise ValueError(f"{len(found)} articles of {size}")
        return [(id, document, summary) for id, document, summary in found]

    return ARTICLES.get(cache_dir, [_source(), split, size, seed, event], write, read)[0]


@cache
def _source() -> str:
    """Return a hash of the generator's source code, since any change may change articles."""
    root = Path(sumcirc.wire.__file__).parent
    digest = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        digest.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()
