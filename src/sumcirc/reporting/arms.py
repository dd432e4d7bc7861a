"""Arms: what runs share except their seed; what they are called, and how they differ otherwise.

Two runs are of one arm where their configurations are equal but for seeds, names, paths and what
leaves training as it is (loggers, watchers, checkpoints). All runs of a random selector are one
arm: which layers were drawn is part of the seed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sumcirc.reporting.runs import ReportRun
from sumcirc.tracking.sweep_axes import arm_label, commas, flat_settings, selector_of

# settings that are no part of an arm
APART = {
    *("seed", "run", "sweep", "runs_dir", "cache_dir", "resume", "logger", "selector.seed"),
    *("trainer.threads", "trainer.log_every"),
    *("trainer.checkpoint_every", "trainer.keep_checkpoints"),
    *("evaluation.bootstrap", "evaluation.confidence"),
    *("callbacks.progress", "callbacks.watch", "callbacks.probes"),
    *("callbacks.schedule", "callbacks.circuit"),
}
# what makes an arm the arm it is, and what it is tuned by; other differences are pointed out
OWN = ("adaptation.", "selector.", "optimizer.learning_rate")
KINDS = {
    "data": ("data.", "encoding."),
    "decoding": ("generation.", "evaluation."),
    "model": ("model.",),
    "training": ("optimizer.", "trainer.", "callbacks."),
}
TITLES = {
    "all": "LoRA, all layers",
    "full": "full fine-tuning",
    "random": "LoRA, random layers",
}
BUDGET = 0.03  # relative difference of trainable parameters that still counts as equal


@dataclass(frozen=True)
class Arm:
    """Runs of equal configuration but for the seed.

    `settings` are flat: dotted names and values as JSON.
    """

    label: str
    runs: tuple[ReportRun, ...]
    settings: Mapping[str, str]

    @property
    def title(self) -> str:
        """What it is called where it is read and not typed."""
        return control_title(self.label)

    @property
    def seeds(self) -> list[str]:
        """Seed of each run; with a selector's own behind a slash."""
        return [
            str(seed) if own is None else f"{seed}/{own}"
            for seed, own in (run.seeds for run in self.runs)
        ]

    @property
    def selector(self) -> str | None:
        """What chose the layers; None where they were given, or all trains."""
        return selector_of(self.runs[0].config)

    @property
    def full(self) -> bool:
        """Whether every parameter trains."""
        return self.runs[0].config["adaptation"]["kind"] == "full"

    @property
    def all_layers(self) -> bool:
        """Whether it is LoRA on all layers."""
        layers = self.runs[0].config["adaptation"]["layers"]
        return not self.full and (self.selector or layers) == "all"

    @property
    def trainable_parameters(self) -> float:
        """Mean over its runs: layers that are drawn may have a few more or less."""
        return float(np.mean([run.summary["trainable_parameters"] for run in self.runs]))

    @property
    def learning_rate(self) -> float:
        """The peak."""
        return float(self.runs[0].config["optimizer"]["learning_rate"])

    @property
    def steps(self) -> list[int]:
        """Optimizer steps, of every run or the one number that they share."""
        return sorted({int(run.summary["steps"]) for run in self.runs})


def control_title(label: str) -> str:
    """Return the title of an arm or a control by its label, such as `all` or `full rank=8`."""
    first, space, rest = label.partition(" ")
    return f"{TITLES.get(first, first)}{space}{rest}"


def in_text(title: str) -> str:
    """Return the title of an arm as it stands in a sentence."""
    return title.replace("LoRA, ", "LoRA on ")


def make_arms(runs: Sequence[ReportRun]) -> tuple[list[Arm], list[str]]:
    """Group runs; labels are as short as tells arms apart.

    Returns:
        Arms in order of their first run, and notes on runs that repeat another: they are left out,
        since a seed counts once.
    """
    groups: dict[str, dict[tuple[int, int | None], ReportRun]] = {}
    notes = []
    for run in runs:
        same_arm = groups.setdefault(json.dumps(settings_of(run.config)), {})
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
    """Return the settings that make the arm: dotted names with values as JSON, sorted."""
    found = flat_settings(config, APART)
    if selector_of(config) == "random":
        found.pop("adaptation.layers", None)
    return {name: json.dumps(found[name], sort_keys=True) for name in sorted(found)}


def _labels(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """By selector, layers or `full`; arms alike in that also by the settings that differ."""
    short = [arm_label(config) for config in configs]
    labels = []
    for config, label in zip(configs, short, strict=True):
        alike = [
            settings_of(other) for other, name in zip(configs, short, strict=True) if name == label
        ]
        mine = settings_of(config)
        differing = [
            name
            for name in mine
            if len({settings.get(name) for settings in alike}) > 1
            # follows from the model's and the scale, which stand there already
            and not (name == "optimizer.learning_rate" and _scale_differs(alike))
        ]
        values = (f"{name.rsplit('.', 1)[-1]}={json.loads(mine[name])}" for name in differing)
        labels.append(" ".join([label, *values]))
    # two settings may have one last name
    return [
        label if labels.count(label) == 1 else f"{label} #{labels[: i + 1].count(label)}"
        for i, label in enumerate(labels)
    ]


def _scale_differs(alike: Sequence[Mapping[str, str]]) -> bool:
    return len({settings.get("adaptation.learning_rate_scale") for settings in alike}) > 1


def nearest(arm: Arm, others: Sequence[Arm]) -> Arm | None:
    """The arm of `others` that differs from `arm` in the fewest settings."""
    return min(others, key=lambda other: len(differing(arm, other)), default=None)


def differing(arm: Arm, other: Arm) -> list[str]:
    """Names of settings in which two arms differ."""
    names = {*arm.settings, *other.settings}
    return sorted(name for name in names if arm.settings.get(name) != other.settings.get(name))


def unlike(arm: Arm, other: Arm) -> list[str]:
    """In plain words, what sets `arm` apart from `other` beside where its adapter sits."""
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
    """In plain words, what limits an arm's own numbers; `seeds` is the most that an arm has."""
    found = []
    if len(arm.runs) == 1:
        found.append("one seed: its interval is of documents alone")
    if len(arm.runs) < seeds:
        found.append(f"fewer seeds: {len(arm.runs)} of {seeds}")
    if any(run.resumed for run in arm.runs):
        found.append("resumed: its time is that since the last resume")
    return found
