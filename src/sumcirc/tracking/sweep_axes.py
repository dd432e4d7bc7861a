"""The axes of a sweep and a run's value on each, with short names without dots and plain values.

An arm is a configuration that a sweep compares over several seeds. W&B interprets a dot in a
configuration key as nesting, so the key `adaptation.layers` could be neither grouped by nor
plotted; and lists can't be axes, so layers are written `2,3,5`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

# axes of every training run, with the setting behind each
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
ARM = "arm"  # shared by the runs of an arm: the selector that chose the layers, or the layers
GROUPS = ("adaptation", "selector", "model", "data")  # groups whose choice an axis contains


def flat_settings(
    settings: Mapping[str, Any], apart: Collection[str] = (), prefix: str = ""
) -> dict[str, Any]:
    """Flatten a nested configuration to a dictionary with dotted keys (`adaptation.rank`).

    An empty section is kept as a value.

    Args:
        settings: the nested configuration.
        apart: dotted keys to leave out, with everything below them.
        prefix: text put before every key, such as `adaptation.`.
    """
    found: dict[str, Any] = {}
    for key, value in settings.items():
        name = f"{prefix}{key}"
        if name in apart:
            continue
        if isinstance(value, Mapping) and value:
            found |= flat_settings(value, apart, f"{name}.")
        else:
            found[name] = value
    return found


def sweep_axes(settings: Mapping[str, Any], layers: list[int] | None = None) -> dict[str, Any]:
    """Return a run's value on each axis, by the name of the axis.

    The axes of a training run are its arm, those in `SETTINGS`, and the other settings that its
    sweep varies. A run that trains nothing has only the settings that its sweep varies.

    Args:
        settings: the run's resolved configuration.
        layers: the layers that a selector chose; None to take them from the configuration.
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
    """Return the name of the selector that chose a run's layers, or None if the user chose them.

    Args:
        settings: the run's resolved configuration.
    """
    selector = settings.get("selector")
    chose = settings["adaptation"]["layers"] == "auto" or (selector or {}).get("name") == "random"
    return selector["name"] if selector and chose else None


def arm_label(settings: Mapping[str, Any]) -> str:
    """Return the name of a training run's arm, which the runs that differ only in the seed share.

    The name is `full` for full fine-tuning, else the selector that chose the layers, else `all` or
    a list such as `layers 2,3,5`. A variant other than LoRA is appended, as in `all variant=dora`,
    and so are permuted summaries, as in `full permute_summaries=1`.

    Args:
        settings: the run's resolved configuration.
    """
    # runs written before there was the setting don't have it
    permuted = settings.get("data", {}).get("permute_summaries")
    control = "" if permuted is None else f" permute_summaries={permuted}"
    if settings["adaptation"]["kind"] == "full":
        return f"full{control}"
    # runs written before there were variants are LoRA
    variant = settings["adaptation"].get("variant", "lora")
    return _placement(settings) + ("" if variant == "lora" else f" variant={variant}") + control


def _placement(settings: Mapping[str, Any]) -> str:
    adaptation, selector = settings["adaptation"], selector_of(settings)
    if selector == "fixed":
        given = settings["selector"].get("preset") or settings["selector"].get("layers")
        return given if isinstance(given, str) else f"layers {commas(given)}"
    if selector is not None:
        # a user's own selector is named after the function it scores by
        return settings["selector"].get("score") or selector
    layers = adaptation["layers"]
    return "all" if layers == "all" else f"layers {commas(layers)}"


def commas(values: Any) -> str:
    """Join the elements of a list with commas (`2,3,5`); convert any other value to text."""
    return ",".join(map(str, values)) if isinstance(values, list) else str(values)


def _plain(value: Any) -> Any:
    return commas(value) if isinstance(value, list) else value
