"""Files beside the checkout that a few tests are about: published vocabularies and data sets."""

from __future__ import annotations

from pathlib import Path

import pytest

BESIDE = "../shared"  # in the reason of every such skip, by which the run counts them


def shared(path: str) -> Path:
    """Return the path of a file or folder of `../shared`; skips the test where it is not there."""
    found = Path(__file__).resolve().parents[3] / "shared" / path
    if not found.exists():
        pytest.skip(f"is about {BESIDE}/{path}, which is not here")
    return found
