"""`sumcirc train ... dry_run=true`: prints what would run and what it would cost; keeps nothing.

Each job reads its data and its model and trains for a few steps in a temporary folder, which is its
run directory and its cache. Jobs that differ only in settings that cost nothing (`FREE`) share the
measurement of the first of them. In a sweep each measurement has a process of its own, since the
peak memory of a process never falls.
"""

from __future__ import annotations

import json
import logging
import math
import multiprocessing
import os
import signal
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from sumcirc.errors import Stopped, UserError
from sumcirc.runtime.terminal import guard, say
from sumcirc.schema import Granularity, SelectorName, TrainConfig

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from sumcirc.jobs._training_inputs import Inputs
    from sumcirc.tracking.run_directory import RunDirectory
    from sumcirc.training.step_costs import StepCosts

# settings that change neither the data nor the time and memory of a step
FREE = (
    *("run", "sweep", "runs_dir", "cache_dir", "resume"),
    *("seed", "scheduler", "optimizer.learning_rate", "optimizer.weight_decay"),
    *("callbacks", "logger", "export"),
)
TOP = "validation, watchers and summaries come on top"


@dataclass(frozen=True)
class Plan:
    """What a job would do.

    Attributes:
        counts: numbers of items that are used, cut and dropped, by name `data/SPLIT/COUNT`.
        notices: notices about the data, as in summary.json.
        trainable, parameters: number of trainable parameters, and of all without adapters.
        epoch, steps: number of optimizer steps of a pass over the data, and of the run; None if it
            is known only on the machine that runs the job.
        costs: what a step costs; None if it wasn't measured.
        remarks: what has to be known to read the numbers.
    """

    counts: dict[str, int]
    notices: list[dict[str, Any]]
    trainable: int
    parameters: int
    epoch: int | None
    steps: int | None
    costs: StepCosts | None
    remarks: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """Estimated wall time of all training steps; NaN if it is unknown."""
        known = self.costs is not None and self.steps is not None
        return self.costs.seconds[0] * self.steps if known else math.nan  # type: ignore[union-attr, operator]


def show(
    configs: Sequence[TrainConfig],
    done: Collection[str],
    elsewhere: str | None,
    variables: Mapping[str, str],
) -> None:
    """Print what the jobs of a command would do, and what they would cost.

    Args:
        configs: configuration of each job.
        done: names of the runs of a sweep that would not run again.
        elsewhere: the launcher, if it runs the jobs on other machines, where they can't be
            measured.
        variables: environment variables of the process of each job of a sweep.

    Raises:
        UserError: a job refuses its input.
    """
    from sumcirc.tracking.session import sigterm_raises

    waiting = [config for config in configs if config.run.name not in done]
    firsts: dict[str, TrainConfig] = {}
    for config in waiting:
        firsts.setdefault(_key(config), config)
    plans: dict[str, Plan] = {}
    with sigterm_raises(), TemporaryDirectory(prefix="sumcirc-dry-run-") as folder:
        for number, (key, config) in enumerate(firsts.items()):
            scratch = Path(folder, str(number))
            if len(configs) == 1:
                plans[key] = plan(config, scratch, elsewhere)
            else:
                say(f"dry run: measures {config.run.name} ({number + 1} of {len(firsts)})")
                plans[key] = _in_process(config, scratch, elsewhere, variables)
    found = {config.run.name: plans[_key(config)] for config in waiting}
    _print_data(found)
    if len(configs) == 1:
        _print_job(configs[0].run.name, found[configs[0].run.name])
        return
    measured = {config.run.name for config in firsts.values()}
    like = {config.run.name: firsts[_key(config)].run.name for config in waiting}
    _print_jobs([config.run.name for config in configs], found, like)
    say(
        f"measured: {len(measured)} of {len(configs)} jobs; a job that differs from one of these"
        " only in seed, learning rate, schedule, watchers, loggers or export has its figures"
    )


def _key(config: TrainConfig) -> str:
    """Return a text that is equal for jobs whose measurement is shared."""
    from sumcirc.tracking.session import plain
    from sumcirc.tracking.sweep_axes import flat_settings

    return json.dumps(flat_settings(plain(config), FREE), sort_keys=True, default=str)


def plan(config: TrainConfig, folder: Path, elsewhere: str | None) -> Plan:
    """Return what a job would do, after reading its model and data and training for a few steps.

    Args:
        config: configuration of the job.
        folder: an empty or missing folder, for the run directory and the cache.
        elsewhere: the launcher, if it runs the job on another machine, so no step is measured.

    Raises:
        UserError: the job refuses its input.
    """
    import pytorch_lightning as pl

    from sumcirc.jobs._training_inputs import read_inputs
    from sumcirc.models.adapters import trainable_parameters
    from sumcirc.runtime.processes import distributed
    from sumcirc.tracking.run_directory import RunDirectory
    from sumcirc.tracking.session import Clock, plain
    from sumcirc.training.machine import set_threads
    from sumcirc.training.step_costs import measure_steps

    # notices are printed at the end, together
    logging.getLogger("sumcirc.runtime.notices").addHandler(logging.NullHandler())
    config = replace(config, cache_dir=str(folder / "cache"))
    directory = RunDirectory.create(folder / "run", "train", plain(config))
    set_threads(config.trainer)
    pl.seed_everything(config.seed, verbose=False)
    inputs = read_inputs(config, directory, Clock())
    parameters = inputs.model.num_parameters()
    model, remarks = _with_adapter(config, directory, inputs)
    trainable = trainable_parameters(model)
    processes, reason = _processes(config, elsewhere)
    remarks += [reason] if reason else []
    epoch, steps = inputs.data.steps(processes) if processes else (None, config.trainer.max_steps)
    costs = None
    if reason is None:
        say("train: measures two steps after a first one")
        with distributed():
            costs = measure_steps(config, model, inputs.data, folder)
    counts, notices = dict(inputs.data.counts), inputs.data.notices.as_json()
    if inputs.board is not None:
        counts["data/test/items"] = len(inputs.board.corpus.documents)
        here = [one for one in notices if one["where"] == "data.test"]
        counts |= {f"data/test/{one['reason']}": one["count"] for one in here}
    return Plan(counts, notices, trainable, parameters, epoch, steps, costs, tuple(remarks))


def _with_adapter(
    config: TrainConfig, directory: RunDirectory, inputs: Inputs
) -> tuple[Any, list[str]]:
    """Return the model to train, and a remark if other layers stand in for a selector's choice."""
    from sumcirc.jobs._training_inputs import add_adapter
    from sumcirc.models.architectures import shape
    from sumcirc.selection.choosing import dearest, how_many
    from sumcirc.selection.registry import SELECTORS
    from sumcirc.tracking.session import Clock
    from sumcirc.training.fresh_adapters import start

    name = config.selector.name
    if name is None or not (SELECTORS[name].measures or name is SelectorName.random):
        return add_adapter(config, directory, inputs, Clock(), None)[0], []
    model, whole = inputs.model, config.adaptation.granularity is Granularity.layer
    count = how_many(config, shape(model.config).layers)
    chosen = dearest(config, model.config, count)
    parts = f"first {count} layers" if whole else f"{count} largest modules"
    remark = f"selector={name.value}: is not run; the {parts} stand in for its choice"
    return start(config, model, inputs.data, chosen, directory), [remark]


def _processes(config: TrainConfig, elsewhere: str | None) -> tuple[int | None, str | None]:
    """Return the number of training processes, and a reason if steps can't be measured here."""
    from sumcirc.training.machine import world_size

    options = config.trainer
    if elsewhere is None:
        number = world_size(options)
        if number == 1:
            return 1, None
        return number, (
            f"time and memory: not measured, since training takes {number} processes and a dry run"
            " has one; trainer.devices=1 trainer.num_nodes=1 measures one"
        )
    devices = len(options.devices) if isinstance(options.devices, list) else options.devices
    known = isinstance(devices, int) and devices > 0
    return devices * options.num_nodes if known else None, (
        f"time and memory: not measured, since hydra/launcher={elsewhere} runs jobs on other"
        " machines"
    )


def _in_process(
    config: TrainConfig, folder: Path, elsewhere: str | None, variables: Mapping[str, str]
) -> Plan:
    """Return the result of `plan`, called in a process of its own."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(sender, config, folder, elsewhere))
    with patch.dict(os.environ, variables):
        process.start()
    sender.close()
    try:
        result = receiver.recv()
    except EOFError:
        process.join()
        code = process.exitcode or 0
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else "failed, see above"
        hint = "; its memory may not have sufficed" if code == -signal.SIGKILL else ""
        raise Stopped(f"{config.run.name}: its dry run {how}{hint}", 1) from None
    finally:
        process.terminate()
        process.join()
    if isinstance(result, str):
        raise UserError(f"{config.run.name}: {result}")
    return result


def _answer(sender: Connection, *arguments: Any) -> None:
    """Send the result of `plan`, or the message of a user's mistake."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process
    guard()
    try:
        sender.send(plan(*arguments))
    except UserError as error:
        sender.send(str(error))


def _print_data(plans: Mapping[str, Plan]) -> None:
    from sumcirc.reporting.data_counts import data_counts, data_counts_of
    from sumcirc.runtime.notices import lines_of_runs

    for line in data_counts_of([(name, data_counts(one.counts)) for name, one in plans.items()]):
        say(line)
    for line in lines_of_runs([{"notices": one.notices} for one in plans.values()]):
        say(line)


def _print_job(name: str, found: Plan) -> None:
    from sumcirc.reporting.tables import format_seconds

    say(f"dry run of {name}:")
    parameters = f"{found.trainable / found.parameters:.2%} of the model's {found.parameters:,}"
    say(f"  trainable parameters: {found.trainable:,}, {parameters}")
    if found.steps is not None:
        passes = f", {found.epoch:,} for each pass over data.train" if found.epoch else ""
        say(f"  steps: {found.steps:,}{passes}")
    if found.costs is not None:
        (mean, largest), sizes = found.costs.seconds, found.costs.tokens
        say(
            f"  time a step: {mean:.3g} s ({sizes[0]:,} tokens with padding, the mean size);"
            f" {largest:.3g} s ({sizes[1]:,} tokens, the largest)"
        )
        say(f"  training: about {format_seconds(found.seconds)} by the first of the two; {TOP}")
        say(f"  peak memory of training: {_gib(found.costs.memory)}, {_whose(found.costs)}")
    for remark in found.remarks:
        say(f"  {remark}")


def _print_jobs(names: Sequence[str], plans: Mapping[str, Plan], like: Mapping[str, str]) -> None:
    from sumcirc.reporting.kinds import Table
    from sumcirc.reporting.tables import format_seconds, print_tables

    headings = ["run", "trainable", "steps", "s/step", "largest", "training", "memory", "measured"]
    rows = []
    for name in names:
        if name not in plans:
            rows.append([name, *[""] * 6, "is done"])
            continue
        one = plans[name]
        costs, steps = one.costs, "" if one.steps is None else f"{one.steps:,}"
        seconds = [f"{part:.3g}" for part in costs.seconds] if costs else ["", ""]
        memory = _gib(costs.memory) if costs else ""
        measured = "yes" if costs and like[name] == name else f"as {like[name]}" if costs else "no"
        total = format_seconds(one.seconds)
        rows.append([name, f"{one.trainable:,}", steps, *seconds, total, memory, measured])
    print_tables(Table(f"dry run of {len(names)} jobs", headings, rows, frozenset({"measured"})))
    total = sum(one.seconds for one in plans.values())
    if math.isfinite(total) and plans:
        say(f"training: about {format_seconds(total)} for all jobs one after another; {TOP}")
    costs = next((one.costs for one in plans.values() if one.costs), None)
    if costs is not None:
        say("s/step: a step of the mean size; largest: the step with the most tokens")
        say(f"memory: the peak of training, {_whose(costs)}")
    for remark in dict.fromkeys(remark for one in plans.values() for remark in one.remarks):
        say(remark)


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"


def _whose(costs: StepCosts) -> str:
    if costs.device == "process":
        return "resident in the process, from its start"
    return f"reserved by torch on {costs.device}"
