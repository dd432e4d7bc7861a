"""Makes panels for names that some run logged; unknown names are errors."""

from __future__ import annotations

import re

from sumcirc.reporting.dashboard.logged_runs import Material
from sumcirc.reporting.dashboard.panels import CurvePanel, Panel, Pictures, TablePanel
from sumcirc.tracking.metric_names import Logged, MetricKind, find


class Shelf:
    """Returns panels of names that were logged, and records those that were not.

    Args:
        material: what the runs logged.

    Attributes:
        absent: requested names that no run logged.
        present: verbs and watchers (`Logged.by`) of requested names that were logged.
    """

    def __init__(self, material: Material) -> None:
        self._logged = {kind: material.logged(kind) for kind in MetricKind}
        self.absent: dict[str, Logged] = {}
        self.present: set[str] = set()

    def take(self, kind: MetricKind, *names: str) -> tuple[str, ...]:
        """Return those of the names that some run logged.

        Args:
            kind: of the names.
            names: requested names.

        Raises:
            KeyError: a name can't be logged at all.
        """
        return tuple(name for name in names if self._has(kind, name))

    def having(self, kind: MetricKind, start: str) -> list[str]:
        """Return all logged names with a prefix, sorted.

        Args:
            kind: of the names.
            start: the prefix.
        """
        return sorted(name for name in self._logged[kind] if name.startswith(start))

    def curves(self, title: str, *names: str, unit: str = "") -> list[Panel]:
        """Return a panel of curves; none if nothing was logged.

        Args:
            title: of the panel.
            names: of the curves.
            unit: of the values.
        """
        found = self.take(MetricKind.curve, *names)
        return [CurvePanel(title, found, unit=unit)] if found else []

    def by_layer(self, *measures: str) -> list[Panel]:
        """Return a panel for each measure, with a line for each layer."""
        panels: list[Panel] = []
        for measure in measures:
            entry = find(f"{measure}/layer_00", MetricKind.curve)
            if entry is None:
                raise KeyError(measure)
            if any(map(entry.matches, self._logged[MetricKind.curve])):
                pattern = rf"^{re.escape(measure)}/(embedding|layer_[0-9]+)$"
                panels.append(CurvePanel(entry.what, pattern=pattern, unit=entry.unit))
                self.present.add(entry.by)
            else:
                self.absent[entry.name] = entry
        return panels

    def pictures(self, title: str, *stems: str) -> list[Panel]:
        """Return a panel of images.

        Args:
            title: of the panel.
            stems: names of the image files.
        """
        found = self.take(MetricKind.image, *(f"figures/{stem}" for stem in stems))
        return [Pictures(title, found)] if found else []

    def rows(self, title: str, name: str) -> list[Panel]:
        """Return a panel with a table.

        Args:
            title: of the panel.
            name: of the logged table.
        """
        return [TablePanel(title, name)] if self.take(MetricKind.table, name) else []

    def _has(self, kind: MetricKind, name: str) -> bool:
        entry = find(name, kind)
        if entry is None:
            raise KeyError(name)
        if name not in self._logged[kind]:
            self.absent[name] = entry
            return False
        self.present.add(entry.by)
        return True
