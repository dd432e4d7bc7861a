"""Arms: groups of runs that share everything except the seed.

Two runs belong to the same arm if their configurations are equal except for seeds, names, paths and
settings that don't affect training (loggers, watchers, checkpoints). All runs of a random selector
form one arm: the drawn layers are part of the seed.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sumcirc.reporting.runs import ReportRun
from sumcirc.schema.adapting import VARIANT_NAMES
from sumcirc.tracking.sweep_axes import arm_label, commas, flat_settings, selector_of

# settings that may differ within an arm
APART = {
    *("seed", "run", "sweep", "runs_dir", "cache_dir", "resume", "logger", "selector.seed"),
    *("trainer.threads", "trainer.log_every"),
    *("trainer.checkpoint_every", "trainer.keep_checkpoints"),
    *("evaluation.base", "evaluation.bootstrap", "evaluation.confidence", "evaluation.summaries"),
    *(f"evaluation.retention{end}" for end in ("", "_column", "_documents")),
    *("callbacks.progress", "callbacks.watch", "callbacks.probes"),
    *("callbacks.schedule", "callbacks.circuit"),
}
# settings that define an arm, or are tuned for it; other differences are reported
OWN = ("adaptation.", "selector.", "optimizer.learning_rate")
KINDS = {
    "data": ("data.", "encoding."),
    "decoding": ("generation.", "evaluation."),
    "model": ("model.",),
    "training": ("optimizer.", "scheduler.", "trainer.", "callbacks."),
}
TITLES = {
    "all": "LoRA, all layers",
    "full": "full fine-tuning",
    "random": "LoRA, random layers",
}
NULL = "null"  # as `settings_of` gives it
BUDGET = 0.03  # relative difference in trainable parameters up to which two arms count as equal


@dataclass(frozen=True)
class Arm:
    """Runs whose configurations are equal except for the seed.

    Attributes:
        label: short name, such as `all` or `layers 2,3,5`.
        runs: the arm's runs, one for each seed.
        settings: the settings that the runs share: values as JSON, by dotted name.
    """

    label: str
    runs: tuple[ReportRun, ...]
    settings: Mapping[str, str]

    @property
    def title(self) -> str:
        """The arm's name in tables and text. On the command line, `label` is used instead."""
        return control_title(self.label)

    @property
    def seeds(self) -> list[str]:
        """The seed of each run, such as `1`, or `1/7` if the selector has the seed 7."""
        return [
            str(seed) if own is None else f"{seed}/{own}"
            for seed, own in (run.seeds for run in self.runs)
        ]

    @property
    def selector(self) -> str | None:
        """Name of the selector that chose the layers, or None if no selector chose them."""
        return selector_of(self.runs[0].config)

    @property
    def full(self) -> bool:
        """Whether every parameter of the model is trained, without LoRA."""
        return self.runs[0].config["adaptation"]["kind"] == "full"

    @property
    def all_layers(self) -> bool:
        """Whether the arm is LoRA on all layers, trained on documents with their own summaries."""
        config = self.runs[0].config
        if self.full or config["data"].get("permute_summaries") is not None:
            return False
        return (self.selector or config["adaptation"]["layers"]) == "all"

    @property
    def trainable_parameters(self) -> float:
        """Mean number of trainable parameters, since randomly drawn layers may differ in size."""
        return float(np.mean([run.summary["trainable_parameters"] for run in self.runs]))

    @property
    def learning_rate(self) -> float:
        """The configured peak learning rate."""
        return float(self.runs[0].config["optimizer"]["learning_rate"])

    @property
    def steps(self) -> list[int]:
        """The different numbers of optimizer steps that the runs took, in ascending order."""
        return sorted({int(run.summary["steps"]) for run in self.runs})


def control_title(label: str) -> str:
    """Return the title of an arm or a control by its label, such as `all` or `all variant=dora`.

    Args:
        label: label of the arm or control.
    """
    first, *rest = label.split(" ")
    title = TITLES.get(first, first)
    variant = rest[0].removeprefix("variant=") if rest else ""
    if variant in VARIANT_NAMES and first in ("all", "random"):
        title, rest = title.replace("LoRA", VARIANT_NAMES[variant]), rest[1:]
    return " ".join([title, *rest])


def in_text(title: str) -> str:
    """Return an arm's title in the form that is used within a sentence.

    Args:
        title: title of the arm.
    """
    for layers in ("all layers", "random layers"):
        title = title.replace(f", {layers}", f" on {layers}")
    return title


def make_arms(runs: Sequence[ReportRun]) -> tuple[list[Arm], list[str]]:
    """Group runs into arms, with labels that are as short as possible but different.

    Args:
        runs: the runs to group.

    Returns:
        The arms in the order of their first runs, and a note on each run that has the same settings
        and seed as an earlier run. Such runs are left out, so that each seed counts once.
    """
    groups: dict[str, dict[tuple[int, int | None], ReportRun]] = {}
    notes = []
    for run in runs:
        same_arm = groups.setdefault(json.dumps(_not_null(settings_of(run.config))), {})
        first = same_arm.setdefault(run.seeds, run)
        if first is not run:
            notes.append(
                f"{run.path} repeats {first.path}: same configuration and seed; it is left out"
            )
    members = [tuple(group.values()) for group in groups.values()]
    labels = _labels([group[0].config for group in members])
    arms = [
        Arm(label, group, settings_of(group[0].config))
        for label, group in zip(labels, members, strict=True)
    ]
    return arms, notes


def settings_of(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the settings that determine to which arm a run belongs.

    Args:
        config: configuration of the run.

    Returns:
        The settings' values as JSON, by dotted name, sorted by name.
    """
    found = flat_settings(config, APART)
    if selector_of(config) == "random":
        found.pop("adaptation.layers", None)
    return {name: json.dumps(found[name], sort_keys=True) for name in sorted(found)}


def _not_null(settings: Mapping[str, str]) -> dict[str, str]:
    """Return the settings that are not null; a run made before there was a setting lacks it."""
    return {name: value for name, value in settings.items() if value != NULL}


def _labels(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a different label for each configuration.

    A label names the selector, the layers or `full`. Where that is ambiguous, the settings follow
    in which the arm differs from most of the arms that share the name, or in which no value is that
    of most.
    """
    short = [arm_label(config) for config in configs]
    settings = [settings_of(config) for config in configs]
    known = {name for found in settings for name in found}
    labels = []
    for mine, label in zip(settings, short, strict=True):
        alike = [other for other, name in zip(settings, short, strict=True) if name == label]
        words = (
            f"{_short_name(name, known)}={commas(json.loads(value))}"
            for name, value in mine.items()
            if not _of_most(name, value, alike)
            # is determined by the model's rate and the scale, which is in the label
            and not (name == "optimizer.learning_rate" and _scale_differs(alike))
        )
        labels.append(" ".join([label, *words]))
    # a run made before there was a setting doesn't name it
    return [
        label if labels.count(label) == 1 else f"{label} #{labels[: i + 1].count(label)}"
        for i, label in enumerate(labels)
    ]


def _of_most(name: str, value: str, arms: Sequence[Mapping[str, str]]) -> bool:
    return sum(settings.get(name, NULL) == value for settings in arms) > len(arms) / 2


def _scale_differs(alike: Sequence[Mapping[str, str]]) -> bool:
    return len({settings.get("adaptation.learning_rate_scale") for settings in alike}) > 1


def _short_name(name: str, known: Collection[str]) -> str:
    """Return the shortest ending of a setting's name that no other setting's name has."""
    parts = name.split(".")
    endings = (".".join(parts[-count:]) for count in range(1, len(parts) + 1))
    return next(
        ending
        for ending in endings
        if sum(other == ending or other.endswith(f".{ending}") for other in known) == 1
    )


def nearest(arm: Arm, others: Sequence[Arm]) -> Arm | None:
    """Return the arm that differs from a given arm in the fewest settings.

    The result is None if `others` is empty.

    Args:
        arm: the given arm.
        others: arms to choose from.
    """
    return min(others, key=lambda other: len(differing(arm, other)), default=None)


def differing(arm: Arm, other: Arm) -> list[str]:
    """Return the names of the settings in which two arms differ.

    Args:
        arm, other: the two arms.
    """
    names = {*arm.settings, *other.settings}
    ours, theirs = arm.settings, other.settings
    return sorted(name for name in names if ours.get(name, NULL) != theirs.get(name, NULL))


def unlike(arm: Arm, other: Arm) -> list[str]:
    """Return, in words, how two arms differ apart from the layers that have an adapter.

    Args:
        arm: arm whose differences from `other` are described.
        other: arm with which `arm` is compared.
    """
    found = []
    ours, theirs = arm.trainable_parameters, other.trainable_parameters
    if arm.full and not other.full:
        found.append(
            f"another budget: every parameter trains, {ours / theirs:.3g} times those of"
            f" {in_text(other.title)}"
        )
    elif abs(ours - theirs) > BUDGET * theirs:
        found.append(
            f"another budget: {ours:,.0f} trainable parameters, {ours / theirs:.3g} times those of"
            f" {in_text(other.title)}"
        )
    if arm.steps != other.steps:
        found.append(
            f"other steps: {commas(arm.steps)}, not the {commas(other.steps)} of"
            f" {in_text(other.title)}"
        )
    names = [name for name in differing(arm, other) if not name.startswith(OWN)]
    for kind, prefixes in KINDS.items():
        changed = [name for name in names if name.startswith(prefixes)]
        if changed:
            words = ", ".join(
                f"{name}={_value(arm, name)} (not {_value(other, name)})" for name in changed[:3]
            )
            more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
            found.append(f"other {kind}: {words}{more}")
    return found


def _value(arm: Arm, name: str) -> str:
    return arm.settings[name].strip('"') if name in arm.settings else "unset"


def of_few_runs(arm: Arm, seeds: int) -> list[str]:
    """Return, in words, why an arm's scores or times may be less reliable than other arms'.

    Args:
        arm: the arm to describe.
        seeds: the largest number of seeds that an arm of the comparison has.
    """
    found = []
    if len(arm.runs) == 1:
        found.append("one seed: its interval is of documents alone")
    if len(arm.runs) < seeds:
        found.append(f"fewer seeds: {len(arm.runs)} of {seeds}")
    if any(run.resumed for run in arm.runs):
        found.append("resumed: its time is that since the last resume")
    return found
