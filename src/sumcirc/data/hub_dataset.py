"""One split of a data set that is published on the Hugging Face hub or was downloaded from there.

It is read by `datasets.load_dataset`, pinned to one commit: otherwise, if anything goes wrong on
the way, the library falls back to whatever version is in its cache, with only a warning.

Some older data sets are published as a Python script, which `datasets` no longer runs (and which
should not be run unread); for most of them the hub has a Parquet conversion on the branch
`refs/convert/parquet`, with one folder per configuration. That branch is read instead.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sumcirc.errors import UserError
from sumcirc.schema import DataConfig
from sumcirc.storage import hub

if TYPE_CHECKING:
    from datasets import Dataset

log = logging.getLogger(__name__)

CONVERTED = "refs/convert/parquet"


def load_split(config: DataConfig, split: str) -> Dataset:
    """Return a split of a data set on the hub or in a downloaded folder, memory-mapped.

    If the hub is reachable, missing files are downloaded. Otherwise the data set must have been
    prepared by `load_dataset` or fetched by `hf download` before.

    Args:
        config: settings with the hub id or folder (`path`), the subset, the revision and the names
            of the splits.
        split: `train`, `validation` or `test`; the setting of this name holds the name of the split
            in the data set.

    Raises:
        UserError: the data set, its revision, its configuration (`config.subset`) or the split does
            not exist, needs a login, or is neither reachable nor cached.
    """
    if not config.path:
        raise UserError("data.path=null: set it to a hub id (OWNER/NAME) or a downloaded folder")
    return _load_split(config.path, config.subset, config.revision, split, getattr(config, split))


@lru_cache(maxsize=16)
def _load_split(
    path: str, subset: str | None, revision: str | None, split: str, name: str
) -> Dataset:
    part = f" data.subset={subset}" if subset else ""
    settings = f"data.path={path}{part} data.{split}={name}"
    folder = Path(path).expanduser()
    if folder.is_dir():
        return _load(settings, path=str(folder), name=subset, split=name)
    found = hub.require_hub(path, "data.path", kind="dataset", revision=revision)
    if not found.online:
        return _load_cached(found, subset, name, settings, part)
    if revision is None and _script(path) in (found.files or ()):
        found = _converted(path)
    if found.revision == CONVERTED:
        configuration = subset or "default"
        folder = hub.download(found, f"{configuration}/*", "data.path") / configuration
        if not folder.is_dir():
            there = sorted({file.split("/")[0] for file in found.files or () if "/" in file})
            raise UserError(f"{settings}: no such configuration; there are: {', '.join(there)}")
        return _load(settings, path=str(folder), split=name)
    dataset = _load(settings, path=path, name=subset, split=name, revision=found.commit)
    if not any(found.commit in Path(file["filename"]).parts for file in dataset.cache_files):
        raise UserError(
            f"{settings}: the download broke off, and the local cache has another version than "
            f"{found.commit}; try again, or set HF_HUB_OFFLINE=1 to use that version"
        )
    return dataset


def _script(repo_id: str) -> str:
    return repo_id.rsplit("/", 1)[-1] + ".py"


def _converted(path: str) -> hub.Repository:
    """Return the Parquet conversion of a data set that is published as a script."""
    log.info("%s is published as a script: the hub's Parquet conversion is read", path)
    try:
        return hub.require_hub(path, "data.path", kind="dataset", revision=CONVERTED)
    except UserError as error:
        raise UserError(
            f"data.path={path}: published as a Python script, which is not run, and the hub has no "
            "Parquet conversion of it; give another copy, or files (data=files data.train=FILE ...)"
        ) from error


def _load_cached(
    found: hub.Repository, subset: str | None, name: str, settings: str, part: str
) -> Dataset:
    """Load what `load_dataset` prepared before, or what `hf download` fetched."""
    import datasets

    try:
        with _quiet():
            builder = datasets.load_dataset_builder(found.id, subset)
        prepared = found.revision is None or builder.hash == (found.commit or found.revision)
    except (OSError, ValueError):  # both mean that it is not there
        prepared = False
    if prepared:
        return _load(settings, path=found.id, name=subset, split=name)
    folder = hub.snapshot(found.id, "dataset", found.revision)
    if folder and found.revision != CONVERTED and not (folder / _script(found.id)).exists():
        return _load(settings, path=str(folder), name=subset, split=name)
    configuration = subset or "default"
    folder = hub.snapshot(found.id, "dataset", CONVERTED, f"{configuration}/*")
    if found.revision in (None, CONVERTED) and folder and (folder / configuration).is_dir():
        return _load(settings, path=str(folder / configuration), split=name)
    raise hub.not_cached(found, "data.path", part)


def _load(settings: str, **arguments: Any) -> Dataset:
    import datasets

    try:
        with _quiet():
            return datasets.load_dataset(**arguments)
    except Exception as error:  # errors of the hub, HTTP, Arrow, file formats or the disk
        cause = error.__cause__ or error  # DatasetGenerationError has no information of its own
        raise UserError(f"{settings}: {type(cause).__name__}: {hub.one_line(cause)}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence warnings of `datasets`; `hub` has already reported that its cache is used offline."""
    from datasets.utils import logging as datasets_logging

    previous = datasets_logging.get_verbosity()
    datasets_logging.set_verbosity_error()
    try:
        yield
    finally:
        datasets_logging.set_verbosity(previous)
