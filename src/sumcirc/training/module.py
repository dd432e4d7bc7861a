"""The LightningModule: loss on the summary only, optimizer and schedule, metrics by optimizer step.

The unembedding is applied only at the positions that enter the loss, not to the whole document:
with GPT-2's 50,257 tokens it would cost more than the blocks of a small model.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torchmetrics import MeanMetric

from sumcirc.data.batches import TrainingBatch
from sumcirc.errors import UserError
from sumcirc.models.unembedding import unembedding_of
from sumcirc.models.unwrapping import base_model
from sumcirc.schema import OptimizerConfig, SchedulerConfig, scheduler_of
from sumcirc.tracking.measure_records import TRAIN_KL, TRAIN_LOSS, VALIDATION_LOSS
from sumcirc.training.kl_penalty import KLPenalty
from sumcirc.training.optimizers import (
    averaged_weights,
    averages,
    make_optimizer,
    make_schedule,
    plain_name,
)


class TrainingDiverged(UserError):
    """The loss or a weight is no longer a finite number."""


def summary_loss(
    backbone: Callable[..., Any], unembedding: Callable[[Tensor], Tensor], batch: TrainingBatch
) -> Tensor:
    """Return the mean cross-entropy over summary and EOS tokens, a scalar tensor in nats.

    Args:
        backbone: maps token ids to the residual stream after the final norm,
            [batch, length, width].
        unembedding: maps that residual stream to logits.
        batch: sequences padded on the right, which need no mask since attention is causal.
    """
    hidden = backbone(batch.input_ids, use_cache=False).last_hidden_state
    logits = unembedding(hidden.flatten(0, 1).index_select(0, batch.positions))
    return F.cross_entropy(logits.float(), batch.labels)


class SummarizationModule(pl.LightningModule):
    """A causal language model that is trained to summarize.

    Args:
        model: the adapted model (`models.adapters.adapt`).
        optimizer: settings of the optimizer.
        total_steps: number of optimizer steps of the whole run, over which the schedule extends.
        log_every: number of optimizer steps between logged training losses, each of which is the
            mean since the previous one.
        compile_network: whether to compile the backbone for training.
        scheduler: settings of the learning rate's schedule; None for the defaults.
        kl_penalty: penalty on the texts of each batch; None without one.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: OptimizerConfig,
        total_steps: int,
        log_every: int = 10,
        compile_network: bool = False,
        scheduler: SchedulerConfig | None = None,
        kl_penalty: KLPenalty | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.optimizer_config = optimizer
        self.scheduler_config = scheduler_of(optimizer, scheduler or SchedulerConfig())
        self.total_steps = total_steps
        self.log_every = log_every
        # determined from the shapes now, since FSDP flattens the parameters
        self._matrices = {name for name, p in model.named_parameters() if p.ndim > 1}
        backbone = base_model(model).base_model
        # in tuples, since registered submodules would be saved a second time
        self._parts: tuple[Any, Any] = (backbone, unembedding_of(base_model(model)))
        self._penalty = kl_penalty
        self._compiled: tuple[Any] = (torch.compile(backbone) if compile_network else backbone,)
        # keep NaN: by default it is ignored, and "disable" makes torchmetrics drop the weights
        self.validation_loss = MeanMetric(nan_strategy=math.nan)
        self._reset_running_loss()
        # step and value of every metric that was recorded last, by its name
        self.latest: dict[str, tuple[int, float]] = {}
        self._validation_weights = ExitStack()
        # the checkpoint of an adapter contains only the adapter
        self.strict_loading = False

    def on_fit_start(self) -> None:
        """Start the clock by which tokens per second are computed."""
        self._since, self._trained = time.perf_counter(), 0.0

    def training_step(self, batch: TrainingBatch, batch_index: int) -> Tensor:
        """Return the loss of one batch, weighted by its share of the step's summary tokens.

        Lightning divides the loss by the number of batches in a step and averages gradients over
        all processes. With this weight the result is a mean over tokens. For a single batch and
        process the weight is exactly 1. With a penalty, that of the batch's texts is added.

        Args:
            batch: the batch.
            batch_index: ignored.
        """
        batches = self.trainer.accumulate_grad_batches * self.trainer.world_size
        penalty: Tensor | float = 0.0
        if self._penalty is not None:
            assert batch.texts is not None
            kl = self._penalty.divergence(self.model, batch.texts)
            penalty = kl * self._penalty.share(batch.texts, batches)
            self._kl_sum = self._kl_sum + kl.detach().float() * batch.texts.texts
            self._texts += batch.texts.texts
        loss = summary_loss(self._compiled[0], self._parts[1], batch)
        # stays on the device: reading it here would block every step
        self._loss_sum = self._loss_sum + loss.detach().float() * batch.loss_tokens
        self._loss_tokens += batch.loss_tokens
        self._tokens += batch.tokens
        return loss * (batch.loss_tokens * batches / batch.step_tokens) + penalty

    def on_train_batch_end(self, outputs: Any, batch: TrainingBatch, batch_index: int) -> None:
        """Log the mean loss since the last logged step if an entry is due; validate the last step.

        Args:
            outputs, batch: ignored.
            batch_index: index of the batch, which shows whether it completes an optimizer step.
        """
        if batch_index + 1 == self.trainer.num_training_batches:
            # before a requested stop Lightning validates, as the last step must be
            self.trainer.should_stop = True
        accumulating = (batch_index + 1) % self.trainer.accumulate_grad_batches
        if accumulating or self.global_step % self.log_every:
            return
        seconds = time.perf_counter() - self._since
        loss, kl = self.running_loss(), self.running_kl()
        stream: Any = self.trainer.train_dataloader
        self.record(
            {
                TRAIN_LOSS: loss,
                **({} if kl is None else {TRAIN_KL: kl}),
                "train/learning_rate": self.trainer.optimizers[0].param_groups[0]["lr"],
                "train/epoch": stream.epoch,
                "time/tokens_per_second": self._tokens / seconds,
            }
        )
        self.log(TRAIN_LOSS, loss, prog_bar=True, logger=False)
        self._trained = self.training_seconds
        self._reset_running_loss()

    @property
    def training_seconds(self) -> float:
        """Time since `fit` began in seconds, without validation and what watchers took."""
        return self._trained + time.perf_counter() - self._since

    def _reset_running_loss(self) -> None:
        self._loss_sum: Tensor | float = 0.0
        self._loss_tokens, self._tokens = 0, 0
        self._kl_sum: Tensor | float = 0.0
        self._texts = 0
        self._since = time.perf_counter()

    def _running_sums(self) -> list[float]:
        """Return the sums of loss and summary tokens since the last logged step."""
        return self._reduced(float(self._loss_sum), self._loss_tokens)

    def _running_kl_sums(self) -> list[float]:
        """Return the sums of KL and texts since the last logged step."""
        return self._reduced(float(self._kl_sum), self._texts)

    def _reduced(self, *sums: float) -> list[float]:
        """Return sums over all processes."""
        own = torch.tensor(sums, device=self.device)
        return self.trainer.strategy.reduce(own, reduce_op="sum").tolist()

    def running_loss(self) -> float:
        """Return the mean loss since the last logged step, in nats per summary token.

        Raises:
            TrainingDiverged: the loss is not a finite number.
        """
        total, tokens = self._running_sums()
        loss = total / max(1.0, tokens)
        if not math.isfinite(loss):
            raise TrainingDiverged(
                f"the loss is {loss} at step {self.global_step}: lower optimizer.learning_rate"
                f" (now {self.optimizer_config.learning_rate:g}) or raise scheduler.warmup"
            )
        return loss

    def running_kl(self) -> float | None:
        """Return the mean KL(base || model) on texts since the last logged step, in nats a token.

        It is None without a penalty.
        """
        if self._penalty is None:
            return None
        total, texts = self._running_kl_sums()
        return total / max(1.0, texts)

    def on_validation_epoch_start(self) -> None:
        """Start the clock that measures validation time, which doesn't count as training time."""
        self._validation_since = time.perf_counter()

    def validation_step(self, batch: TrainingBatch, batch_index: int) -> None:
        """Add the loss of one batch to the mean over all validation tokens.

        Args:
            batch: the batch.
            batch_index: ignored.
        """
        self.validation_loss.update(summary_loss(*self._parts, batch), len(batch.labels))

    def on_validation_epoch_end(self) -> None:
        """Log the validation loss (in nats per summary token) and the perplexity.

        Raises:
            TrainingDiverged: the validation loss is not a finite number.
        """
        mean = self.validation_loss.compute().double()
        self.validation_loss.reset()
        self.exclude_from_throughput(time.perf_counter() - self._validation_since)
        loss, perplexity = float(mean), float(mean.exp())
        if not math.isfinite(loss):
            remedy = "lower optimizer.learning_rate" if self.global_step else "check model.path"
            raise TrainingDiverged(
                f"the validation loss is {loss} at step {self.global_step}: {remedy}"
            )
        self.log(VALIDATION_LOSS, loss, prog_bar=True, logger=False)
        self.log("validation/perplexity", perplexity, logger=False)
        self.record({VALIDATION_LOSS: loss, "validation/perplexity": perplexity})

    def test_step(self, batch: TrainingBatch, batch_index: int) -> None:
        """Add the loss of one batch to the mean over all test tokens.

        Runs of sumcirc score generated summaries instead; this is for a `Trainer.test` of your own.

        Args:
            batch: the batch.
            batch_index: ignored.
        """
        self.validation_step(batch, batch_index)

    def on_test_epoch_end(self) -> None:
        """Log the loss on the test batches, in nats per summary token, as `test/loss`."""
        self.log("test/loss", self.validation_loss.compute())
        self.validation_loss.reset()

    def exclude_from_throughput(self, seconds: float) -> None:
        """Exclude time that was not spent on training from the logged tokens per second.

        Args:
            seconds: length of this time.
        """
        self._since += seconds

    def record(self, metrics: dict[str, float]) -> None:
        """Write metrics to every logger, for the current optimizer step.

        Args:
            metrics: value of each metric, by its name.
        """
        self.latest |= {name: (self.global_step, value) for name, value in metrics.items()}
        if self.trainer.is_global_zero:
            for logger in self.loggers:
                logger.log_metrics(metrics, step=self.global_step)

    def configure_optimizers(self) -> dict[str, Any]:
        """Return the optimizer and the schedule of its learning rate, in Lightning's format."""
        config = self.scheduler_config
        warmup = round(config.warmup * self.total_steps)
        optimizer = make_optimizer(
            self.optimizer_config,
            self.model,
            self._matrices,
            warmup,
            fused=self.trainer.precision != "16-mixed",
        )
        if averages(optimizer):  # it needs no schedule, and takes the warm-up itself
            return {"optimizer": optimizer}
        schedule: dict[str, Any] = {"interval": "step"}
        schedule["scheduler"] = make_schedule(config, optimizer, warmup, self.total_steps)
        if isinstance(schedule["scheduler"], ReduceLROnPlateau):
            # advanced after each validation; the interval is in batches
            every = self.trainer.val_check_interval
            schedule |= {"monitor": VALIDATION_LOSS, "frequency": every}
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def on_train_start(self) -> None:
        """Switch a schedule-free optimizer to the weights of training, unless training is over."""
        if self.global_step < self.total_steps:
            for optimizer in self._averaging():
                optimizer.train()

    def on_train_end(self) -> None:
        """Leave the model with the averaged weights of a schedule-free optimizer."""
        for optimizer in self._averaging():
            optimizer.eval()

    def on_validation_start(self) -> None:
        """Validate with the averaged weights of a schedule-free optimizer."""
        self._validation_weights.enter_context(self.averaged_weights())

    def on_validation_end(self) -> None:
        """Return to the weights of training."""
        self._validation_weights.close()

    @contextmanager
    def averaged_weights(self, exactly: bool = True) -> Iterator[None]:
        """Run a block with the averaged weights of a schedule-free optimizer, if there is one.

        Args:
            exactly: as in `optimizers.averaged_weights`.
        """
        with averaged_weights(self.trainer.optimizers, exactly):
            yield

    def _averaging(self) -> list[Any]:
        return [optimizer for optimizer in self.trainer.optimizers if averages(optimizer)]

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the state of the trainable parameters only, so that adapter checkpoints are small.

        The arguments are those of `torch.nn.Module.state_dict`.
        """
        trained = self._trained_names()
        state = super().state_dict(*args, **kwargs)
        return {name: value for name, value in state.items() if name in trained}

    def _trained_names(self) -> set[str]:
        named = self.model.named_parameters()
        return {f"model.{plain_name(name)}" for name, p in named if p.requires_grad}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the running sums of the loss, taken since the last logged step, in a checkpoint.

        With these, a resumed run logs the same values as one that was never interrupted.

        Args:
            checkpoint: Lightning's state of the run, to which the sums are added.
        """
        checkpoint["running_loss"] = self._running_sums()
        if self._penalty is not None:
            checkpoint["running_kl"] = self._running_kl_sums()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the running sums of the loss from a checkpoint.

        Args:
            checkpoint: the loaded state.

        Raises:
            UserError: the checkpoint lacks parameters that this model trains.
        """
        missing = sorted(self._trained_names() - set(checkpoint["state_dict"]))
        if missing:
            raise UserError(
                f"the checkpoint is of another model or adaptation: it lacks {missing[0]} and"
                f" {len(missing) - 1} more"
            )
        if self.trainer.is_global_zero:  # the sums are over all processes
            self._loss_sum, self._loss_tokens = checkpoint["running_loss"]
            if self._penalty is not None:
                self._kl_sum, self._texts = checkpoint["running_kl"]
