"""What was drawn, for a look at it."""

from __future__ import annotations

from typing import Any

import pytest

from sumcirc.figures import views


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that a test has drawn; they are written as well."""
    figures: list[Any] = []
    save = views.save

    def keep(figure: Any, *rest: Any) -> None:
        figures.append(figure)
        save(figure, *rest)

    monkeypatch.setattr(views, "save", keep)
    return figures
