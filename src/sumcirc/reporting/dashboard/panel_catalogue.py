"""Makes panels for names that at least one run logged."""

from __future__ import annotations

import re

from sumcirc.reporting.dashboard.axes import settings_axes
from sumcirc.reporting.dashboard.logged_runs import Material
from sumcirc.reporting.dashboard.panels import BarPanel, CurvePanel, Panel, Pictures, TablePanel
from sumcirc.tracking.metric_names import Logged, MetricKind, find
from sumcirc.tracking.sweep_axes import ARM
from sumcirc.tracking.wandb_values import times_100


class Shelf:
    """Makes panels of the requested names that were logged, and records the names that were not.

    Args:
        material: the runs and the data that they logged.

    Attributes:
        absent: descriptions of the requested names that no run logged, by name.
        present: the verbs and watchers that log the requested names that were logged, see
            `metric_names.Logged.by`.
    """

    def __init__(self, material: Material) -> None:
        self._runs = material.runs
        self._logged = {kind: material.logged(kind) for kind in MetricKind}
        axes = settings_axes(material.trained) if len(material.trained) > 1 else []
        self._arm = next((axis for axis in axes if axis.name == ARM), None)
        self.absent: dict[str, Logged] = {}
        self.present: set[str] = set()

    def take(self, kind: MetricKind, *names: str) -> tuple[str, ...]:
        """Return the requested names that at least one run logged.

        Args:
            kind: kind of the names.
            names: requested names.

        Raises:
            KeyError: nothing in the package logs a requested name.
        """
        return tuple(name for name in names if self._has(kind, name))

    def scaled(self, kind: MetricKind, name: str) -> str:
        """Return the name of a score times 100, or the given name if a run logged only that.

        Args:
            kind: kind of the name.
            name: name of the score as a fraction, such as `test/base/rouge1_f1`.
        """
        *_, times = times_100({name: 0.0})
        logged = [run.names.get(kind, frozenset()) for run in self._runs]
        return name if any(name in one and times not in one for one in logged) else times

    def having(self, kind: MetricKind, start: str) -> list[str]:
        """Return all logged names that begin with a prefix, sorted.

        Args:
            kind: kind of the names.
            start: the prefix.
        """
        return sorted(name for name in self._logged[kind] if name.startswith(start))

    def curves(self, title: str, *names: str, unit: str = "") -> list[Panel]:
        """Return a list with a panel of curves, or an empty list if none of the curves was logged.

        Args:
            title: title of the panel.
            names: names of the curves.
            unit: unit of the values.
        """
        found = self.take(MetricKind.curve, *names)
        return [CurvePanel(title, found, unit=unit)] if found else []

    def by_arm(self, title: str, *names: str) -> list[Panel]:
        """Return a panel of bars, the means over each arm of the last values of curves.

        The list is empty if none of the curves was logged, or if the runs belong to one arm.

        Args:
            title: title of the panel.
            names: names of the curves.
        """
        found = self.take(MetricKind.curve, *names)
        if not found or self._arm is None:
            return []
        return [BarPanel(title, found, self._arm, MetricKind.curve)]

    def by_layer(self, *measures: str) -> list[Panel]:
        """Return a panel for each measure that was logged by layer, with one curve for each layer.

        Args:
            measures: names of the measures.

        Raises:
            KeyError: nothing in the package logs one of the measures by layer.
        """
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
        """Return a list with a panel of images, or an empty list if none was logged.

        Args:
            title: title of the panel.
            stems: names of the image files without their extension.
        """
        found = self.take(MetricKind.image, *(f"figures/{stem}" for stem in stems))
        return [Pictures(title, found)] if found else []

    def rows(self, title: str, name: str) -> list[Panel]:
        """Return a list with a panel that shows a table, or an empty list if it was not logged.

        Args:
            title: title of the panel.
            name: name of the logged table.
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
