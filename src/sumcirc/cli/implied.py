"""Overrides that are implied by the words on the command line.

A checkpoint provides the settings of its run, a path alone replaces the built-in model, a resumed
run continues in its own folder, and what a launch decides once is the same for all of its jobs.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from sumcirc.cli.overrides import (
    SECTIONS,
    base_overrides,
    overrides_of,
    overrides_of_run,
)
from sumcirc.cli.without_effect import check_effect, check_pairs
from sumcirc.errors import UserError
from sumcirc.runtime.processes import started_together
from sumcirc.schema import ModelConfig, Template, TrainConfig
from sumcirc.schema.configuration import listed, model_path, quoted
from sumcirc.schema.data import TEXTS_OF
from sumcirc.tracking.run_directory import RunDirectory
from sumcirc.tracking.session import stored_config
from sumcirc.tracking.shapes.common_shapes import Verb

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

    from sumcirc.cli.command import Command

PACKAGE = Path(__file__).resolve().parents[1]
# in a checkout the folder is at the top; a wheel has it inside the package
CONF = next(one for one in (PACKAGE / "conf", PACKAGE.parents[1] / "conf") if one.is_dir())
RUN_VERBS = set(get_args(Verb))

# settings of a job of a launch, which has written out all the others too
ONE_JOB = {"hydra.run.dir", "sweep.name"}

# sections of a run's settings taken over by verbs that read a checkpoint but make no run
SECTIONS_OF = {"pairs": ("model", "data", "encoding", "evaluation")}

# the experiment that sets nothing a run provides, so it can be combined with compared runs
OF_PROMPTS = "rephrase"


def complete(
    command: Command,
    overrides: list[str],
    parsed: dict[str, Override],
    decided: Sequence[str] | None = None,
) -> tuple[dict[str, str], list[str]]:
    """Add the settings that a command's words imply to its overrides.

    Args:
        command: the command.
        overrides: the overrides that the user typed.
        parsed: the typed overrides in parsed form, by the name of the setting.
        decided: what `decide` returned for the whole launch; None to call it.

    Returns:
        The typed word that implies each implied setting, by the setting's name; and all overrides,
        implied and typed.

    Raises:
        UserError: words contradict each other, or name a checkpoint that can't be used.
    """
    if command.verb not in RUN_VERBS and command.verb not in SECTIONS_OF:
        return {}, overrides
    if "resume" in parsed and parsed["resume"].value() is not None:
        return _resumed(command, overrides, parsed)
    if parsed.keys() >= ONE_JOB:
        return {}, overrides
    check_effect(command.verb, parsed, command.typed.words)
    brought: dict[str, str] = {}
    if command.verb == "compare":
        brought, overrides = _compared(command, parsed, overrides)
    if "checkpoint" in parsed and parsed["checkpoint"].is_sweep_override():
        raise UserError(
            f"{parsed['checkpoint'].input_line}: each provides its own settings, and `sumcirc"
            f" {command.verb}` writes one file; give one at a time"
        )
    if "checkpoint" in parsed and parsed["checkpoint"].value() is not None:
        sections = SECTIONS_OF.get(command.verb, SECTIONS)
        items = overrides_of(_text(parsed["checkpoint"]), set(parsed), sections)
        brought = _behind(command, "checkpoint", _of_template(items, parsed))
    elif "model.path" in parsed and "model" not in parsed:
        brought = _behind(command, "model.path", _another_model(parsed))
    overrides = [*brought, *overrides]
    if command.verb in RUN_VERBS:
        check_pairs(parsed)
        overrides += decide(command, parsed) if decided is None else decided
    derived = {item.partition("=")[0]: word for item, word in brought.items()}
    if command.verb == "compare":
        # a message about the models, not about a setting: they can't be compared
        derived["compare"] = command.typed.words.get("after", "after=")
    return derived, overrides


def decide(command: Command, parsed: dict[str, Override]) -> list[str]:
    """Return overrides that a launch fixes once for all of its jobs."""
    found: list[str] = []
    if "sweep.name" not in parsed:
        together = started_together()
        if together:
            raise UserError(
                f"sweep.name=: is not set, and {together} says that several processes were started"
                " for one run; give sweep.name=NAME, so that all find the same directory"
            )
        # two launches in the same second must not share a directory
        found.append(f"sweep.name={time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}")
    varied = sorted(key for key, item in parsed.items() if item.is_sweep_override())
    if command.sweeps and varied and "run.varied" not in parsed:
        found.append(f"run.varied=[{','.join(varied)}]")
    return found


def _behind(command: Command, key: str, overrides: Sequence[str]) -> dict[str, str]:
    """Map implied overrides to the typed word that implies them."""
    return dict.fromkeys(overrides, command.typed.words.get(key, f"{key}="))


def _compared(
    command: Command, parsed: dict[str, Override], overrides: list[str]
) -> tuple[dict[str, str], list[str]]:
    """Return what the compared models imply: `before` the model, the first `after` everything else.

    Also return the overrides, with names of conf/model replaced by what they stand for.
    """
    if "before" in parsed and parsed["before"].is_sweep_override():
        raise UserError(
            f"{parsed['before'].input_line}: each provides its own settings, so a sweep can't go"
            " over them; give one at a time, with several models in after=ONE,OTHER"
        )
    given = {key: parsed[key].value() for key in ("before", "after") if key in parsed}
    given = {key: value for key, value in given.items() if value is not None}
    if not given.get("after"):
        raise UserError("after=: name the model that is compared, such as after=RUN_DIR")
    afters = [model_path(name, CONF) for name in listed(given["after"])]
    before = model_path(str(given["before"]), CONF) if "before" in given else None
    named, sections = set(parsed), tuple(name for name in SECTIONS if name != "model")
    if "experiment" in parsed and parsed["experiment"].value() == OF_PROMPTS:
        # its prompts replace the data: of a run only the model is needed
        named, sections = named - {"experiment"}, ()
    if before is None:
        brought = _behind(command, "after", base_overrides(afters[0], named))
    else:
        brought = _behind(command, "before", overrides_of(before, named, ("model",), "before"))
    rest = overrides_of_run(afters[0], named, sections, "after")
    brought |= _behind(command, "after", _of_template(rest, parsed))
    kept = [item for item in overrides if not item.startswith(("before=", "after="))]
    kept.append(f"after=[{','.join(quoted(name) for name in afters)}]")
    if before is not None:
        kept.append(f"before={quoted(before)}")
    return brought, kept


def _of_template(items: Sequence[str], parsed: dict[str, Override]) -> list[str]:
    """Return a run's settings without the texts that a template typed by the user doesn't use."""
    typed = parsed.get("encoding.template")
    if typed is None or typed.is_sweep_override() or _text(typed) not in Template.__members__:
        return list(items)
    others = [texts for template, texts in TEXTS_OF.items() if template.name != _text(typed)]
    unused = tuple(f"encoding.{name}=" for texts in others for name in texts)
    return [item for item in items if not item.startswith(unused)]


def _another_model(parsed: dict[str, Override]) -> list[str]:
    """Return overrides for `model.path` alone, to which the built-in model's name doesn't apply."""
    brought = []
    path = parsed["model.path"]
    if "model.name" not in parsed and not path.is_sweep_override():
        brought.append(f"model.name={quoted(os.path.basename(_text(path).rstrip('/')))}")
    for name in ("learning_rate", "lora_learning_rate_scale"):
        if f"model.{name}" not in parsed:
            brought.append(f"model.{name}={getattr(ModelConfig, name)}")
    return brought


def _resumed(
    command: Command, overrides: list[str], parsed: dict[str, Override]
) -> tuple[dict[str, str], list[str]]:
    """Return the settings that a resumed run provides, and the overrides with its folder."""
    path = _text(parsed["resume"])
    # overrides given to a further process of distributed training
    allowed = {"resume", "sweep.name", "trainer.max_steps", "trainer.extension"}
    others = [key for key in parsed if key not in allowed and not key.startswith("hydra.")]
    if others or command.flags:
        raise UserError(
            f"resume={path}: a resumed run uses its own configuration ({path}/config.yaml), so"
            f" {(others + command.flags)[0]} can't go with it; to change something, start a new run"
            " (only trainer.max_steps and trainer.extension add steps to a finished one)"
        )
    run = RunDirectory.open(path)
    verb = run.read_config()["verb"]
    if verb != command.verb:
        raise UserError(f"resume={path}: is a run of `sumcirc {verb}`; only training is resumed")
    stored_config(run, TrainConfig)
    added = []
    if "sweep.name" not in parsed:
        added.append(f"sweep.name={quoted(run.path.resolve().parent.name)}")
    if "hydra.run.dir" not in parsed:
        added.append(f"hydra.run.dir={quoted(str(run.path))}")
    sections = [one.name for one in fields(TrainConfig)]
    derived = [*sections, *(f"{name}." for name in sections)]
    return dict.fromkeys(derived, command.typed.words["resume"]), [*overrides, *added]


def _text(override: Override) -> str:
    """Return the value as a string, without quotes."""
    return str(override.value())
