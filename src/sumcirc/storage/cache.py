"""The cache: results that are computed once, stored in `cache_dir`, and read by later jobs.

An entry is a folder `CACHE_DIR/KIND/KEY` with the files of one result and their checksums
(`SHA256SUMS`, as read by `sha256sum -c`). KEY is a hash of everything that determines the result:
the caller's inputs, the format of the kind, and the versions of the libraries that compute it.

A cached file is checked before it is used. Any defect (a flipped byte, an incomplete file, a folder
in its place, arrays of other shapes) is reported in one line, and the result is computed again.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, is_dataclass
from enum import Enum
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from sumcirc.storage.reading import RecordError, read_text, require_regular
from sumcirc.storage.writing import (
    locked,
    plain_numbers,
    remove_leftovers_of,
    write_folder,
    write_text,
)

Result = TypeVar("Result")

log = logging.getLogger(__name__)

SUMS = "SHA256SUMS"


class Damaged(Exception):
    """A cached file is not what was written; the message names the file and the reason."""


@dataclass(frozen=True)
class Cache:
    """A kind of result that is computed once, stored in a folder and read by later jobs.

    Attributes:
        name: name of the kind's folder in `cache_dir`.
        format: number that developers raise when the same input gives another result, or when
            results are stored in another way.
        libraries: packages whose versions affect the result.
    """

    name: str
    format: int
    libraries: tuple[str, ...] = ("torch", "transformers")

    def key(self, parts: Any) -> str:
        """Return the name of a result's folder: a hash of everything that determines the result.

        Args:
            parts: what determines the result, besides `format` and the versions of `libraries`:
                JSON values, paths, dataclasses, enumerations and arrays, in containers.
        """
        versions = {name: version(name) for name in self.libraries}
        described = json.dumps([self.name, self.format, versions, parts], default=_plain)
        return hashlib.sha256(described.encode()).hexdigest()[:32]

    def get(
        self,
        cache_dir: Path,
        parts: Any,
        write: Callable[[Path], object],
        read: Callable[[Path], Result],
    ) -> tuple[Result, bool]:
        """Return a result from the cache, after computing and storing it if it isn't there.

        If several processes need the same result, one computes it while the others wait.

        Args:
            cache_dir: the folder of all caches.
            parts: everything that determines the result; see `key`.
            write: called with an empty folder; computes the result and writes its files there.
            read: called with the folder of these files; returns the result, or raises any exception
                if the files aren't what `write` writes.

        Returns:
            The result, and whether it was in the cache already.

        Raises:
            UserError: the cache can't be written.
        """
        entry = cache_dir / self.name / self.key(parts)
        # first without the lock: a cache that was filled by others may be read-only
        try:
            return _checked(entry, read), True
        except (FileNotFoundError, Damaged):
            pass
        with locked(entry):
            try:
                return _checked(entry, read), True
            except FileNotFoundError:
                pass
            except Damaged as damage:
                log.warning("cache: %s; computed again", damage)
            remove_leftovers_of(entry)

            def fill(folder: Path) -> None:
                write(folder)
                write_text(folder / SUMS, _text(_sums(folder)))

            write_folder(entry, fill)
            return read(entry), False


def _checked(entry: Path, read: Callable[[Path], Result]) -> Result:
    """Return the result in a valid entry.

    Raises:
        FileNotFoundError: there is no entry.
        Damaged: the entry is not valid.
    """
    if not entry.is_symlink() and not entry.exists():
        raise FileNotFoundError(entry)
    if not entry.is_dir():
        raise Damaged(f"{entry}: is not a folder")
    try:
        found = _sums(entry)
        stored = read_text(entry / SUMS)
    except RecordError as error:
        raise Damaged(str(error)) from None
    except OSError as error:
        raise Damaged(f"{error.filename or entry}: can't be read ({error.strerror})") from None
    if stored != _text(found):
        lines = (line.partition("  ") for line in stored.splitlines())
        declared = {name: digest for digest, _, name in lines}
        wrong = (name for name in found | declared if found.get(name) != declared.get(name))
        raise Damaged(f"{entry}/{next(wrong, SUMS)}: does not match its checksum")
    try:
        return read(entry)
    except Exception as error:
        reason = " ".join(str(error).split())
        where = entry / next(iter(found)) if len(found) == 1 else entry
        raise Damaged(f"{where}: can't be used ({type(error).__name__}: {reason})") from error


def _sums(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of an entry, by name.

    Raises:
        OSError: a file can't be read.
        RecordError: a file is a folder, a pipe or the like.
    """
    found = {}
    for file in sorted(folder.iterdir()):
        require_regular(file)
        if file.name == SUMS:
            continue
        with open(file, "rb") as content:
            found[file.name] = hashlib.file_digest(content, "sha256").hexdigest()
    return found


def _text(sums: dict[str, str]) -> str:
    return "".join(f"{digest}  {name}\n" for name, digest in sums.items())


def _plain(value: Any) -> Any:
    """Convert what `json` can't encode; refuse other types, whose text may not be stable."""
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):
        return plain_numbers(value)
    raise TypeError(f"{value!r} can't be part of a cache's key")
