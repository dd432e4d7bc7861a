"""Measurement on a schedule: one pass over the probe documents per step, shared by all watchers.

A watcher is a Lightning callback for one concern. The first watcher that is due runs the pass and
writes `probes/step-000200.safetensors`; the others use the same record. Training is not affected:
random generators, modes, gradients and hooks are restored, and the time is not counted as training
time.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
import torch

from sumcirc.errors import UserError
from sumcirc.figures.views import picture
from sumcirc.measures.base_records import BaseStore
from sumcirc.measures.measure_batches import BatchResult, assemble, measure_batches
from sumcirc.measures.measure_documents import ProbeSet
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.reporting.kinds import NotDrawableError, View
from sumcirc.schema import ProbeScheduleConfig
from sumcirc.tracking.measure_records import ProbeRecord, record_file, record_files
from sumcirc.tracking.run_directory import RunDirectory
from sumcirc.tracking.wandb import log_picture, log_table
from sumcirc.training.checkpoint import generators, set_generators
from sumcirc.training.module import SummarizationModule
from sumcirc.training.optimizers import averaged_weights

log = logging.getLogger(__name__)


def scheduled_steps(config: ProbeScheduleConfig, total: int) -> list[int]:
    """Return the sorted optimizer steps at which to measure.

    These are step 0, `config.points` log-spaced steps, every `config.every`-th step, and the last
    step.

    Args:
        config: the schedule.
        total: total number of optimizer steps of the run.
    """
    spaced = [round(total ** (i / (config.points + 1))) for i in range(1, config.points + 1)]
    every = range(config.every, total, config.every) if config.every else ()
    return sorted({0, *spaced, *every, total})


class Probing:
    """Measures the model on the probe documents at scheduled steps, for all watchers of a run.

    Args:
        run: directory in whose `probes/` the records are written; None to keep them in memory.
        probes: documents on which the model is measured.
        base: activations and measures of the base model on these documents.
        schedule: settings that determine the steps at which to measure.
        decode: converts a token id to text.
        model: the model that is measured; None for the attribute `model` of the trained module.

    Attributes:
        concerns: groups of measures (`measures.measure_batches.CONCERNS`) that the watchers need.
        records: the records of all steps so far, if `run` is None.
        seconds: time in seconds that watchers have taken so far, including drawing and logging.
    """

    def __init__(
        self,
        run: RunDirectory | None,
        probes: ProbeSet,
        base: BaseStore,
        schedule: ProbeScheduleConfig,
        decode: Callable[[int], str],
        model: Any = None,
    ) -> None:
        self.run = run
        self.probes = probes
        self.base = base
        self.base_record = base.record
        self.concerns: list[str] = []
        self.schedule = schedule
        self.decode = decode
        self.model = model
        self.records: list[ProbeRecord] = []
        self.seconds = 0.0
        self._began: float | None = None
        self._steps: list[int] = []
        self._decided: tuple[int, bool] = (-1, False)
        self._measured = -1
        self._record: ProbeRecord | None = None

    def attach(self, watcher: Watcher) -> None:
        """Give a watcher this probing, and add the measures that the watcher needs.

        Args:
            watcher: the watcher.
        """
        watcher.probing = self
        self.concerns += [name for name in watcher.concerns if name not in self.concerns]

    def start(self, trainer: pl.Trainer) -> None:
        """Determine the scheduled steps, and save the base's measures in the run directory.

        Only the first call has an effect.

        Args:
            trainer: gives the number of optimizer steps and the rank of this process.

        Raises:
            UserError: the number of steps is unknown.
        """
        if self._began is not None:
            return
        self._began = time.perf_counter()
        total = trainer.estimated_stepping_batches
        if not math.isfinite(total):
            raise UserError(
                "watchers: the Trainer has no last step, and they measure at steps up to it; give"
                " it max_steps or max_epochs"
            )
        self._steps = scheduled_steps(self.schedule, int(total))
        self._save(self.base_record, trainer)

    def _save(self, record: ProbeRecord, trainer: pl.Trainer) -> None:
        if self.run is not None and trainer.is_global_zero:
            record.save(record_file(self.run.probes, record.step))
        elif self.run is None and record.step >= 0:
            self.records.append(record)

    @property
    def last_step(self) -> int:
        """The last optimizer step of the run."""
        return self._steps[-1]

    def end(self, step: int) -> None:
        """Take a step for the last one, since training ended earlier than planned.

        Args:
            step: the optimizer step at which it ended.
        """
        self._steps = [*(one for one in self._steps if one < step), step]

    def is_due(self, trainer: pl.Trainer) -> bool:
        """Return whether to measure at the current step.

        All watchers and processes get the same answer. Scheduled steps other than the first and the
        last are skipped while `schedule.budget` is exceeded.

        Args:
            trainer: gives the current step.
        """
        step = trainer.global_step
        if self._decided[0] == step:
            return self._decided[1]
        due = step in self._steps
        optional = step not in (0, self.last_step)
        if due and optional and self.schedule.budget is not None:
            assert self._began is not None
            trained = time.perf_counter() - self._began - self.seconds
            affordable = self.seconds <= self.schedule.budget * trained
            # the clocks of processes differ, so the first process decides
            due = bool(trainer.strategy.broadcast(affordable))
            if not due:
                log.info("step %d: not probed, callbacks.schedule.budget is spent", step)
        self._decided = (step, due)
        return due

    @contextmanager
    def preserving_training_state(self, module: pl.LightningModule) -> Iterator[None]:
        """Make the code in a `with` block have no effect on training.

        On exit the random state is restored, and the time that the block took is not counted in the
        throughput of `module`.

        Args:
            module: the training module.
        """
        began = time.perf_counter()
        before = generators()
        try:
            yield
        finally:
            set_generators(before)
            spent = time.perf_counter() - began
            self.seconds += spent
            if isinstance(module, SummarizationModule):
                module.exclude_from_throughput(spent)

    def records_until(self, step: int) -> list[ProbeRecord]:
        """Return the records of the run up to a step, those before a resume included.

        Args:
            step: the last optimizer step.
        """
        found = self.records
        if self.run is not None:
            found = [ProbeRecord.read(file) for file in record_files(self.run.probes)]
        return sorted((one for one in found if 0 <= one.step <= step), key=lambda one: one.step)

    def model_of(self, module: pl.LightningModule) -> Any:
        """Return the model that is measured: the given one, or the attribute `model` of a module.

        Args:
            module: the module that is trained.
        """
        return module.model if self.model is None else self.model

    def record(self, trainer: pl.Trainer, module: pl.LightningModule) -> ProbeRecord | None:
        """Measure the model at the current step, save the record of its measures, and return it.

        Only the process of rank 0 gets the record; other processes get None. Until the next step,
        further calls return the same record, so that watchers share one measurement.

        Args:
            trainer: gives the current step and the rank of this process.
            module: the training module whose model is measured.
        """
        step = trainer.global_step
        # checked by step, not by record: all processes must measure together or not at all
        if self._measured == step:
            return self._record
        self._measured = step
        hooked = HookedModel(self.model_of(module))
        numbers = range(trainer.global_rank, len(self.probes.batches), trainer.world_size)
        results = _gathered(
            measure_batches(hooked, self.probes, self.base, self.concerns, numbers),
            trainer.world_size,
        )
        if not trainer.is_global_zero:
            self._record = None
            return None
        self._record = assemble(results, self.probes, step, hooked, self.decode)
        self._save(self._record, trainer)
        return self._record


def _gathered(results: list[BatchResult], processes: int) -> list[BatchResult]:
    """Return the results of all processes."""
    if processes == 1:
        return results
    found: list[Any] = [None] * processes
    torch.distributed.all_gather_object(found, results)
    return [result for share in found for result in share]


class Watcher(pl.Callback):
    """A Lightning callback that observes the model at every scheduled step.

    A subclass defines `log_record`, or `observe` if it does not use the shared measures.

    Attributes:
        concerns: groups of measures (`measures.measure_batches.CONCERNS`) that the watcher needs.
        probing: the probe documents, the base's activations and the schedule, which all watchers of
            a run share. It is set before training starts.
    """

    concerns: tuple[str, ...] = ()
    probing: Probing

    # the last step that was observed, and the last one at which the schedule was asked
    _observed = -1
    _asked = -1

    def observe(self, trainer: pl.Trainer, module: Any) -> None:
        """Analyse the model in its current state; this is called in every process.

        Unless it is overridden, the model is measured, and the process of rank 0 calls
        `log_record`.

        Args:
            trainer: gives the current step and the rank of this process.
            module: the training module, whose model is `probing.model_of(module)`.
        """
        record = self.probing.record(trainer, module)
        if record is not None:
            self.log_record(record, trainer, module)

    def log_record(self, record: ProbeRecord, trainer: pl.Trainer, module: Any) -> None:
        """Log metrics, tables and pictures of a record of measures.

        Args:
            record: measures of the model at the current step.
            trainer: gives the current step, and the loggers that are used.
            module: the module that is trained.
        """
        raise NotImplementedError

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Observe the model before its first step, unless the run is resumed.

        Args:
            trainer: gives the current step and the rank of this process.
            module: the training module whose model is observed.
        """
        self.probing.start(trainer)
        if trainer.global_step == 0:
            self._observe_if_due(trainer, module)
        self._observed = self._asked = trainer.global_step

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_index: int,
    ) -> None:
        """Observe the model after an optimizer step, if the schedule contains this step.

        Args:
            trainer: gives the current step and the rank of this process.
            module: the training module whose model is observed.
            outputs, batch, batch_index: ignored.
        """
        # with accumulation not every batch completes a step
        if trainer.global_step != self._asked:
            self._asked = trainer.global_step
            self._observe_if_due(trainer, module)

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Observe the last step if training ended before the planned one.

        Args:
            trainer: gives the current step and the rank of this process.
            module: the training module whose model is observed.
        """
        if self._observed != trainer.global_step:
            self.probing.end(trainer.global_step)
            self._observe(trainer, module)

    def _observe_if_due(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if self.probing.is_due(trainer):
            self._observe(trainer, module)

    def _observe(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._observed = trainer.global_step
        unchanged = self.probing.preserving_training_state(module)
        with unchanged, averaged_weights(trainer.optimizers):
            self.observe(trainer, module)

    def log_metrics(
        self, trainer: pl.Trainer, module: pl.LightningModule, metrics: dict[str, float]
    ) -> None:
        """Write scalars at the current step to every logger of the trainer.

        Args:
            trainer: the trainer whose loggers are used.
            module: the module that is trained.
            metrics: values by name.
        """
        if isinstance(module, SummarizationModule):
            module.record(metrics)
        elif trainer.is_global_zero:
            for logger in trainer.loggers:
                logger.log_metrics(metrics, step=trainer.global_step)

    def log_table(
        self, trainer: pl.Trainer, name: str, columns: Sequence[str], rows: Sequence[Any]
    ) -> None:
        """Log a table for the current step to Weights & Biases; do nothing for other loggers.

        Args:
            trainer: the trainer whose loggers are used.
            name: name of the table.
            columns: names of the columns.
            rows: the rows, each with one value per column.
        """
        for logger in _wandb(trainer):
            log_table(logger, trainer.global_step, name, columns, rows)

    def log_picture(self, trainer: pl.Trainer, name: str, make: Callable[[], View]) -> None:
        """Draw a view and log it for the current step to Weights & Biases, as `figures/NAME`.

        Without W&B nothing is drawn. In a run directory the last step is left out here: the job
        draws its figures as files, and logs them under the same names.

        Args:
            trainer: the trainer whose loggers are used.
            name: name of the figure.
            make: returns the view.
        """
        loggers = _wandb(trainer)
        if not loggers:
            return
        drawn_by_job = self.probing.run is not None
        if drawn_by_job and trainer.global_step == self.probing.last_step:
            return
        try:
            image = picture(make())
        except NotDrawableError as error:
            log.info("step %d: no picture %s: %s", trainer.global_step, name, error)
            return
        for logger in loggers:
            log_picture(logger, trainer.global_step, name, image)


def _wandb(trainer: pl.Trainer) -> list[Any]:
    from pytorch_lightning.loggers import WandbLogger

    return [logger for logger in trainer.loggers if isinstance(logger, WandbLogger)]
