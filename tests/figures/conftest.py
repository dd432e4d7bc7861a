"""What was drawn, for a look at it."""

from __future__ import annotations

from typing import Any

import pytest

from sumcirc.figures import activations, attention, differences


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that a test has drawn, in place of files."""
    figures: list[Any] = []
    for module in (attention, activations, differences):
        monkeypatch.setattr(module, "save", lambda figure, *rest: figures.append(figure))
    return figures
