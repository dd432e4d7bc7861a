"""Where a run stands in its sweep: short names without dots, plain values.

W&B reads a dot in a name of the configuration as a step down, so that `adaptation.layers` as a key
could be neither grouped by nor drawn; and lists make no axis, so layers are `2,3,5`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# axes that every training run has, with the setting behind each
SETTINGS = {
    "layers": "adaptation.layers",
    "selector": "selector.name",
    "modules": "adaptation.modules",
    "rank": "adaptation.rank",
    "budget": "adaptation.budget",
    "learning_rate": "optimizer.learning_rate",
    "model": "model.name",
    "data": "data.name",
    "seed": "seed",
}
ARM = "arm"  # what chose the layers, or the layers: what runs of one arm share
GROUPS = ("adaptation", "selector", "model", "data")  # groups whose choice an axis tells


def sweep_axes(settings: Mapping[str, Any], layers: list[int] | None = None) -> dict[str, Any]:
    """The run's value of each axis: those of `SETTINGS`, and whatever else its sweep varies.

    Args:
        settings: the resolved configuration; of verbs that train nothing only what is swept.
        layers: those that were chosen, where they were not given.
    """
    found: dict[str, Any] = {}
    if "adaptation" in settings:
        full = settings["adaptation"]["kind"] == "full"
        found[ARM] = arm_label(settings)
        for name, key in SETTINGS.items():
            section, _, last = key.rpartition(".")
            node = settings.get(section) if section else settings
            found[name] = _plain((node or {}).get(last))
        # without an adapter there are none
        found |= dict.fromkeys(("layers", "modules"), "full") if full else {}
        found["selector"] = selector_of(settings) or "none"
        if layers is not None:
            found["layers"] = commas(layers)
    told = {*SETTINGS.values(), *GROUPS} if found else set()
    swept = settings.get("run", {}).get("axes", {})
    return found | {key.replace(".", "_"): swept[key] for key in swept if key not in told}


def selector_of(settings: Mapping[str, Any]) -> str | None:
    """Name of the selector that chose a run's layers; None where none did."""
    selector = settings.get("selector")
    chose = settings["adaptation"]["layers"] == "auto" or (selector or {}).get("name") == "random"
    return selector["name"] if selector and chose else None


def arm_label(settings: Mapping[str, Any]) -> str:
    """What a run is called by where its adapter sits: `full`, its selector, `all`, its layers."""
    adaptation, selector = settings["adaptation"], selector_of(settings)
    if adaptation["kind"] == "full":
        return "full"
    if selector == "fixed":
        given = settings["selector"].get("preset") or settings["selector"].get("layers")
        return given if isinstance(given, str) else f"layers {commas(given)}"
    if selector is not None:
        # a selector of one's own is called by what it scores by
        return settings["selector"].get("score") or selector
    layers = adaptation["layers"]
    return "all" if layers == "all" else f"layers {commas(layers)}"


def commas(values: Any) -> str:
    """A list as `2,3,5`; anything else as text."""
    return ",".join(map(str, values)) if isinstance(values, list) else str(values)


def _plain(value: Any) -> Any:
    return commas(value) if isinstance(value, list) else value
