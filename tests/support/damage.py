"""What may happen to a file: each of these leaves something else where it was."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


def _flipped(place: float) -> Callable[[Path], None]:
    """Change one bit of the byte at a share of the file's length."""

    def damage(file: Path) -> None:
        body = bytearray(file.read_bytes())
        body[min(int(place * len(body)), len(body) - 1)] ^= 1
        file.write_bytes(body)

    return damage


def _cut(share: float) -> Callable[[Path], None]:
    return lambda file: os.truncate(file, int(share * file.stat().st_size))


def _folder(file: Path) -> None:
    file.unlink()
    file.mkdir()
    (file / "inside").write_text("a folder in the file's place")


def _pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def _replaced(body: bytes) -> Callable[[Path], object]:
    return lambda file: file.write_bytes(body)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "first byte flipped": _flipped(0),
    "middle byte flipped": _flipped(0.5),
    "last byte flipped": _flipped(1),
    "cut to half": _cut(0.5),
    "empty": _cut(0),
    "missing": Path.unlink,
    "a folder": _folder,
    "a pipe": _pipe,
    "not text": _replaced(b"\xff\xfe\x00\x80" * 10),
    "other JSON": _replaced(b'{"values": NaN, "a": [[[]]]}'),
}
