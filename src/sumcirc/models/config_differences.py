"""Configuration settings that change a model's function without changing its weights."""

from __future__ import annotations

from typing import Any

from transformers import PretrainedConfig

# parts of the names that model families use for these settings
DECIDING = (
    *("eps", "hidden_act", "activation", "rope", "rotary", "scal", "softcap"),
    *("multiplier", "parallel"),
)
# settings of classification heads, and settings that the layers' windows already reflect
ELSEWHERE = ("summary_", "max_window_layers", "use_sliding_window")

Differing = dict[str, tuple[Any, Any]]


def differing_settings(one: PretrainedConfig, other: PretrainedConfig) -> Differing:
    """Return configuration settings that differ between two models and affect their outputs.

    Such settings are, for example, rotary embeddings and the epsilon of norms. Dropout, special
    tokens, data types and sizes are ignored; `differing_windows` compares attention windows.

    Args:
        one, other: configurations of two models.

    Returns:
        Both values of each setting, by the setting's name; None for a value that isn't set.
    """
    first, second = (_deciding(config) for config in (one, other))
    return {
        name: (first.get(name), second.get(name))
        for name in sorted({*first, *second})
        if first.get(name) != second.get(name)
    }


def differing_windows(one: PretrainedConfig, other: PretrainedConfig, longest: int) -> Differing:
    """Return the settings of attention windows that differ between two models.

    Differences that have no effect on texts of at most `longest` tokens are ignored.

    Args:
        one, other: configurations of two models.
        longest: length of the longest text, in tokens.

    Returns:
        Both values of each setting, by the setting's name; None for a value that isn't set.
    """
    if _windows(one, longest) == _windows(other, longest):
        return {}
    found = {
        name: (getattr(one, name, None), getattr(other, name, None))
        for name in ("sliding_window", "layer_types")
    }
    return {name: both for name, both in found.items() if both[0] != both[1]}


def shown(differing: Differing) -> str:
    """Return differing settings as text for an error message: `NAME VALUE and VALUE; ...`.

    Args:
        differing: both values of each setting, by the setting's name.
    """
    return "; ".join(f"{name} {one} and {other}" for name, (one, other) in differing.items())


def _deciding(config: PretrainedConfig) -> dict[str, Any]:
    return {
        name: value
        for name, value in config.to_dict().items()
        if any(part in name for part in DECIDING) and not name.startswith(ELSEWHERE)
    }


def _windows(config: PretrainedConfig, longest: int) -> list[int | None]:
    """Return each layer's attention window in tokens; None where attention is unrestricted."""
    window = getattr(config, "sliding_window", None)
    if window is None or window >= longest:
        window = None
    types = getattr(config, "layer_types", None) or ["sliding_attention"] * config.num_hidden_layers
    return [window if kind == "sliding_attention" else None for kind in types]
