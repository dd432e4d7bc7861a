"""Panels of names that some run logged; a name that is never logged is an error at once."""

from __future__ import annotations

import re

from sumcirc.reporting.dashboard.logged_runs import Material
from sumcirc.reporting.dashboard.panels import Curves, Panel, Pictures, Rows
from sumcirc.tracking.metric_names import Kind, Logged, find


class Shelf:
    """Hands out names that were logged and remembers those that were not.

    Attributes:
        absent: what was asked for and no run logged.
        present: verbs and watchers (`Logged.by`) of what was there.
    """

    def __init__(self, material: Material) -> None:
        self._logged = {kind: material.logged(kind) for kind in Kind}
        self.absent: dict[str, Logged] = {}
        self.present: set[str] = set()

    def take(self, kind: Kind, *names: str) -> tuple[str, ...]:
        """Those of the names that some run logged.

        Raises:
            KeyError: a name is none that is ever logged.
        """
        return tuple(name for name in names if self._has(kind, name))

    def having(self, kind: Kind, start: str) -> list[str]:
        """All logged names that begin so, sorted."""
        return sorted(name for name in self._logged[kind] if name.startswith(start))

    def curves(self, title: str, *names: str, unit: str = "") -> list[Panel]:
        """A panel of curves; none where nothing was logged."""
        found = self.take(Kind.curve, *names)
        return [Curves(title, found, unit=unit)] if found else []

    def by_layer(self, *measures: str) -> list[Panel]:
        """A panel for each measure, with a line for each layer."""
        panels: list[Panel] = []
        for measure in measures:
            entry = find(f"{measure}/layer_00", Kind.curve)
            if entry is None:
                raise KeyError(measure)
            if any(map(entry.matches, self._logged[Kind.curve])):
                pattern = rf"^{re.escape(measure)}/(embedding|layer_[0-9]+)$"
                panels.append(Curves(entry.what, pattern=pattern, unit=entry.unit))
                self.present.add(entry.by)
            else:
                self.absent[entry.name] = entry
        return panels

    def pictures(self, title: str, *stems: str) -> list[Panel]:
        """Images by the name of their file."""
        found = self.take(Kind.image, *(f"figures/{stem}" for stem in stems))
        return [Pictures(title, found)] if found else []

    def rows(self, title: str, name: str) -> list[Panel]:
        """A table."""
        return [Rows(title, name)] if self.take(Kind.table, name) else []

    def _has(self, kind: Kind, name: str) -> bool:
        entry = find(name, kind)
        if entry is None:
            raise KeyError(name)
        if name not in self._logged[kind]:
            self.absent[name] = entry
            return False
        self.present.add(entry.by)
        return True
