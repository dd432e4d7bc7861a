"""Extension of a finished run: further optimizer steps, with a schedule that is chosen for them.

A linear or cosine schedule has brought the learning rate to 0 when a run ends, so what an extension
trains with has to be said: `trainer.extension`. Only a constant schedule goes on as if the run had
been longer from the start.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytorch_lightning as pl
import torch
import yaml
from torch.optim.lr_scheduler import LambdaLR

from sumcirc.errors import UserError
from sumcirc.runtime.quoting import command
from sumcirc.schema import (
    Extension,
    OptimizerKind,
    Schedule,
    SchedulerConfig,
    TrainConfig,
    TrainerConfig,
    Variant,
)
from sumcirc.storage.writing import write_text
from sumcirc.tracking.run_directory import RunDirectory
from sumcirc.training.checkpoint import checkpoints, reopen, step_of
from sumcirc.training.optimizers import make_schedule

CHOICES = (
    "trainer.extension=restart (the schedule again over the added steps), constant"
    " (optimizer.learning_rate throughout) or stretch (the schedule of a run of the new length)"
)


@dataclass(frozen=True)
class Extended:
    """Steps that are added to a run.

    Attributes:
        start: number of optimizer steps that the run had done.
        end: number of steps that it is extended to.
        kind: what the learning rate of the added steps is.
    """

    start: int
    end: int
    kind: Extension


def planned(run: RunDirectory, config: TrainConfig, given: TrainerConfig) -> Extended | None:
    """Return the extension that a command asks for, or None if it only resumes the run.

    Args:
        run: directory of the run.
        config: the run's stored configuration.
        given: settings of the command, of which `max_steps` and `extension` count.

    Raises:
        UserError: the run is not finished or has done these steps already, or its schedule has
            ended and the command doesn't choose another one.
    """
    if given.max_steps is None:
        if given.extension is not None:
            raise UserError(
                f"trainer.extension={given.extension}: is for adding steps to a finished run; give"
                " trainer.max_steps=N as well"
            )
        return None
    shown = f"trainer.max_steps={given.max_steps}"
    if config.trainer.max_steps == given.max_steps and given.extension in (
        *(None, config.trainer.extension),
    ):
        return None  # the same command once more, or the number of steps that the run had anyway
    state = run.status()["state"]
    if state != "done":
        raise UserError(
            f"{shown}: only a finished run can be extended, and {run.path} is {state}; first"
            f" continue with `{command('train', f'resume={run.path}')}`"
        )
    saved = checkpoints(run.checkpoints)
    if not saved:
        raise UserError(
            f"{shown}: {run.checkpoints} holds no checkpoint to go on from; train again with"
            f" trainer.max_steps={given.max_steps} and another sweep.name"
        )
    done = step_of(saved[-1])
    if given.max_steps <= done:
        raise UserError(f"{shown}: {run.path} has done {done} steps; give a larger number")
    if config.adaptation.variant is Variant.adalora:
        raise UserError(
            f"{shown}: adaptation=adalora has removed its ranks over the run's {done} steps, so it"
            f" can't be extended; train again with {shown} and another sweep.name"
        )
    _check_schedule(config, given.extension, shown)
    return Extended(done, given.max_steps, given.extension or _default(config, done, shown))


def _check_schedule(config: TrainConfig, chosen: Extension | None, shown: str) -> None:
    """Refuse to extend runs whose learning rate is not a function of the optimizer step alone."""
    if config.scheduler.kind is Schedule.other:
        raise UserError(
            f"{shown}: the run's {config.scheduler.shown} can't be continued; only the"
            " schedules of conf/scheduler can"
        )
    free = config.optimizer.kind is OptimizerKind.schedulefree
    if free and chosen not in (None, Extension.constant):
        raise UserError(
            f"trainer.extension={chosen}: the run's {config.optimizer.shown} has no schedule; leave"
            " it out"
        )


def _default(config: TrainConfig, done: int, shown: str) -> Extension:
    """Return how the learning rate goes on if the user doesn't say.

    Raises:
        UserError: the schedule ends at 0.
    """
    if config.trainer.extension is Extension.constant or _is_constant(config.scheduler):
        return Extension.constant
    name = config.scheduler.kind.value
    raise UserError(
        f"{shown}: the run's {name} schedule has reached a learning rate of 0 at step {done}, so"
        f" choose that of the added steps: {CHOICES}"
    )


def _is_constant(config: SchedulerConfig) -> bool:
    return config.kind is Schedule.constant


def equals_uninterrupted(config: TrainConfig, found: Extended) -> bool:
    """Return whether the extended run ends as a run would that had all steps from the start.

    That is so for a constant schedule whose warm-up, a fraction of all steps, has the same number
    of steps.

    Args:
        config: configuration of the run before it is extended.
        found: the steps that are added.
    """
    steps = [round(config.scheduler.warmup * total) for total in (found.start, found.end)]
    return (
        _is_constant(config.scheduler)
        # it ends with averaged weights, from which it goes on only up to rounding
        and config.optimizer.kind not in (OptimizerKind.schedulefree, OptimizerKind.other)
        and config.trainer.extension is None
        and found.kind is not Extension.restart
        and steps[0] == steps[1]
    )


def record(run: RunDirectory, config: TrainConfig, found: Extended) -> TrainConfig:
    """Write an extension to the run's config.yaml, and return the extended configuration.

    Args:
        run: directory of the run.
        config: configuration of the run before it is extended.
        found: the steps that are added.
    """
    body: dict[str, Any] = dict(run.read_config())
    entry = {"from_step": found.start, "to_step": found.end, "schedule": found.kind.name}
    body["extensions"] = [*body.get("extensions", []), entry]
    changes = {"max_steps": found.end, "extension": found.kind.name}
    body["config"] = {**body["config"], "trainer": {**body["config"]["trainer"], **changes}}
    write_text(run.config_file, yaml.safe_dump(body, sort_keys=False, allow_unicode=True))
    trainer = replace(config.trainer, max_steps=found.end, extension=found.kind)
    return replace(config, trainer=trainer)


def extension_callbacks(config: TrainConfig, run: RunDirectory) -> list[pl.Callback]:
    """Return the callback that sets the learning rate of added steps; none for other runs.

    Args:
        config: configuration of the run.
        run: directory of the run, whose config.yaml says where the added steps begin.
    """
    if config.trainer.extension is None:
        return []
    last = run.read_config().get("extensions", [])[-1]
    found = Extended(last["from_step"], last["to_step"], Extension[last["schedule"]])
    return [ExtendedSchedule(config.scheduler, found)]


class ExtendedSchedule(pl.Callback):
    """Set the learning rate of the steps that were added to a run.

    Args:
        config: the run's schedule.
        found: the added steps, and what their learning rate is.
    """

    def __init__(self, config: SchedulerConfig, found: Extended) -> None:
        self.config = config
        self.found = found

    def on_load_checkpoint(
        self, trainer: pl.Trainer, module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Let the run go on after the checkpoint with which it had ended.

        Args:
            trainer: gives the number of batches in an optimizer step.
            module: ignored.
            checkpoint: the loaded state, which is changed before Lightning restores its loops.
        """
        if checkpoint["global_step"] == self.found.start:
            reopen(checkpoint, trainer.accumulate_grad_batches)

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Replace the schedule after Lightning has restored the state of the old one.

        Args:
            trainer: has the schedules.
            module: ignored.
        """
        for one in trainer.lr_scheduler_configs:
            schedule = one.scheduler
            assert isinstance(schedule, LambdaLR), type(schedule)
            if self.found.kind is not Extension.stretch:
                schedule.lr_lambdas = [self._factor()] * len(schedule.lr_lambdas)
            # the restored rate is that of the old schedule's end
            step = schedule.last_epoch
            rates = [
                base * factor(step)
                for base, factor in zip(schedule.base_lrs, schedule.lr_lambdas, strict=True)
            ]
            for group, rate in zip(schedule.optimizer.param_groups, rates, strict=True):
                group["lr"] = rate
            schedule._last_lr = rates

    def _factor(self) -> Callable[[int], float]:
        """Return the factor of the peak learning rate at an optimizer step."""
        if self.found.kind is Extension.constant:
            return lambda step: 1.0
        start, added = self.found.start, self.found.end - self.found.start
        factor = factor_of(self.config, added)
        return lambda step: factor(step - start)


def factor_of(config: SchedulerConfig, steps: int) -> Callable[[int], float]:
    """Return the factor of the peak learning rate at each step of a run.

    Args:
        config: the schedule and its warm-up.
        steps: number of optimizer steps of the run.
    """
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    made = make_schedule(config, optimizer, round(config.warmup * steps), steps)
    return made.lr_lambdas[0]
