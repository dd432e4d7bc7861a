"""Optimizers and learning rate schedules, from their settings.

Each optimizer is that of a library: torch, PEFT (LoRA+) or the package schedulefree. Settings are
tried on a small parameter before a model is loaded, so that a wrong argument is refused at once.
"""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Iterable, Iterator, Mapping, Set
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, Adafactor, AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers import get_scheduler

from sumcirc.errors import UserError
from sumcirc.models.unwrapping import base_model
from sumcirc.schema import OptimizerConfig, OptimizerKind, Schedule, SchedulerConfig
from sumcirc.schema.instantiation import OPTIMIZERS, SCHEDULERS, subclass
from sumcirc.storage.hub import one_line

TOTAL = "total_steps"  # an argument of a schedule that stands for the run's number of steps
TRIED_STEPS = 1000  # of the run for which a schedule is tried
WARMUP_STEPS = "warmup_steps"  # argument of schedule-free optimizers


class JointOptimizer(Optimizer):
    """Combines several optimizers, each of which updates its own parameters, into one.

    It shares parameter groups and state with them, so a schedule, a gradient scaler and a
    checkpoint see an ordinary optimizer.

    Args:
        parts: the optimizers to combine.
    """

    def __init__(self, *parts: Optimizer) -> None:
        self.parts = parts
        super().__init__([group for part in parts for group in part.param_groups], {})
        # some schedules read the peak there
        self.defaults = {"lr": parts[0].defaults["lr"]}
        self._share()

    def _share(self) -> None:
        start = 0
        for part in self.parts:
            size = len(part.param_groups)
            part.param_groups = self.param_groups[start : start + size]
            part.state = self.state
            start += size

    def __setstate__(self, state: dict[str, Any]) -> None:
        # `load_state_dict` passes new groups and a new state
        super().__setstate__(state)
        self._share()

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:  # type: ignore[override]
        """Take a step with each optimizer.

        Args:
            closure: computes the loss and gradients; it is called once.

        Returns:
            The loss, or None without a closure.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
        return loss


def averages(optimizer: Any) -> bool:
    """Return whether an optimizer is schedule-free: evaluation needs other weights than training.

    Its methods `eval()` and `train()` switch between them.
    """
    return all(callable(getattr(optimizer, name, None)) for name in ("train", "eval"))


@contextmanager
def averaged_weights(optimizers: Iterable[Any], exactly: bool = True) -> Iterator[None]:
    """Run a block with the averaged weights of the schedule-free optimizers among some optimizers.

    Without such an optimizer, or if the model has these weights already, the block is simply run.

    Args:
        optimizers: the optimizers of a training, such as `trainer.optimizers`.
        exactly: whether to go back to the weights of training bit for bit, from a copy. Otherwise
            they are computed from the averaged weights, as in a run that is resumed from a
            checkpoint, which contains only those.
    """
    training = [one for one in optimizers if averages(one) and one.param_groups[0]["train_mode"]]
    parameters = [p for one in training for group in one.param_groups for p in group["params"]]
    before = [p.detach().clone() for p in parameters] if exactly else []
    for optimizer in training:
        optimizer.eval()
    try:
        yield
    finally:
        for optimizer in training:
            optimizer.train()
        with torch.no_grad():
            for parameter, value in zip(parameters, before, strict=False):
                parameter.copy_(value)


def make_optimizer(
    config: OptimizerConfig, model: nn.Module, matrices: Set[str], warmup: int, fused: bool
) -> Optimizer:
    """Return the optimizer of a model's trainable parameters.

    Args:
        config: settings of the optimizer.
        model: the model.
        matrices: names of the parameters with two or more dimensions; only these are decayed.
        warmup: steps of warm-up, which a schedule-free optimizer takes itself.
        fused: whether AdamW may use its fused kernel.

    Raises:
        UserError: the optimizer can't be made from its settings.
    """
    kind, arguments = _class(config), _arguments(config, warmup, fused)
    if config.kind is OptimizerKind.loraplus:
        from peft.optimizers import create_loraplus_optimizer

        optimizer = create_loraplus_optimizer(
            model,  # type: ignore[arg-type]
            kind,
            loraplus_lr_ratio=config.ratio,  # type: ignore[arg-type]
            loraplus_weight_decay=config.weight_decay,
            **arguments,
        )
    elif config.kind is OptimizerKind.muon:
        optimizer = _muon(config, model, matrices, arguments, fused)
    else:
        named = model.named_parameters()
        optimizer = kind(_groups(config, kind, named, matrices), **arguments)
    if fused:
        # bf16 scales nothing, but Lightning refuses to clip gradients where this flag is set
        optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]
    return optimizer


def make_schedule(config: SchedulerConfig, optimizer: Optimizer, warmup: int, total: int) -> Any:
    """Return a schedule of the learning rate that is advanced after each optimizer step.

    Args:
        config: settings of the schedule.
        optimizer: the optimizer.
        warmup: steps over which the learning rate rises from 0.
        total: optimizer steps of the run.
    """
    arguments = {
        name: total if value == TOTAL else value for name, value in config.arguments.items()
    }
    if config.kind is Schedule.other:
        return _scheduler_class(config)(optimizer, **arguments)
    name = "constant_with_warmup" if config.kind is Schedule.constant else config.kind.value
    return get_scheduler(name, optimizer, warmup, total, arguments)


def check_optimizer(optimizer: OptimizerConfig, scheduler: SchedulerConfig) -> None:
    """Refuse settings from which no optimizer or no schedule can be made.

    Raises:
        UserError: a package is missing, a class is not allowed or refuses its arguments.
    """
    kind = _class(optimizer)
    arguments = _arguments(optimizer, 1, fused=False)
    tried = [nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))]
    for parameter in tried:
        parameter.grad = torch.ones_like(parameter)
    named = [("matrix", tried[0])]
    if optimizer.kind is not OptimizerKind.muon:
        named.append(("bias", tried[1]))
    try:
        made = kind(_groups(optimizer, kind, named, {"matrix"}), **arguments)
        if averages(made):
            made.train()
        made.step()
    except UserError:
        raise
    # the class is the user's choice, and so is what it raises
    except Exception as error:
        raise UserError(
            f"{_typed(optimizer)}: is refused by {_name(kind)} ({one_line(error)})"
        ) from None
    if averages(made) and scheduler.kind is not Schedule.constant:
        raise UserError(
            f"{scheduler.shown}: {optimizer.shown} takes the place of a schedule; use"
            " scheduler=constant"
        )
    try:
        make_schedule(scheduler, made, 1, TRIED_STEPS)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{_typed(scheduler)}: is refused ({one_line(error)})") from None


def _typed(config: OptimizerConfig | SchedulerConfig) -> str:
    section = "optimizer" if isinstance(config, OptimizerConfig) else "scheduler"
    given = f" {section}.arguments={config.arguments}" if config.arguments else ""
    return f"{config.shown}{given}"


def _name(kind: type) -> str:
    return f"{kind.__module__.partition('.')[0]}'s {kind.__name__}"


def _class(config: OptimizerConfig) -> type[Any]:
    """Return the class of the optimizer; of muon the class for the hidden matrices."""
    if config.kind is OptimizerKind.other:
        assert config._target_ is not None
        return subclass("optimizer._target_", config._target_, Optimizer, OPTIMIZERS)
    if config.kind is OptimizerKind.muon:
        if not hasattr(torch.optim, "Muon"):
            raise UserError(
                f"optimizer=muon: needs torch 2.9 or later, and {torch.__version__} is installed"
            )
        return torch.optim.Muon
    if config.kind is OptimizerKind.schedulefree:
        if importlib.util.find_spec("schedulefree") is None:
            raise UserError(
                "optimizer=schedulefree: needs a package that is not installed;"
                " pip install 'sumcirc[schedulefree]'"
            )
        return subclass("optimizer", "schedulefree.AdamWScheduleFree", Optimizer, OPTIMIZERS)
    return {OptimizerKind.adafactor: Adafactor, OptimizerKind.sgd: SGD}.get(config.kind, AdamW)


def _scheduler_class(config: SchedulerConfig) -> type[Any]:
    assert config._target_ is not None
    return subclass("scheduler._target_", config._target_, LRScheduler, SCHEDULERS)


def _arguments(config: OptimizerConfig, warmup: int, fused: bool) -> dict[str, Any]:
    """Return the keyword arguments of the optimizer's class.

    Raises:
        UserError: `optimizer.arguments` repeats one that has a setting of its own.
    """
    kind, own = config.kind, dict[str, Any](lr=config.learning_rate)
    adam: dict[str, Any] = {"betas": (config.beta1, config.beta2), "eps": config.epsilon}
    if kind in (OptimizerKind.adamw, OptimizerKind.loraplus):
        # one pass over memory instead of seven; with fp16 it would also unscale the gradients,
        # and then they can't be clipped
        own |= {**adam, "fused": fused}
    elif kind is OptimizerKind.schedulefree:
        own |= {**adam, WARMUP_STEPS: warmup}
    elif kind in (OptimizerKind.sgd, OptimizerKind.muon):
        own["momentum"] = config.momentum
    elif kind is OptimizerKind.other:
        made = _class(config)
        if averages(made) and WARMUP_STEPS in inspect.signature(made).parameters:
            own[WARMUP_STEPS] = warmup
    twice = [name for name in config.arguments if name in {*own, "params", "weight_decay"}]
    if twice:
        raise UserError(
            f"optimizer.arguments={config.arguments}: {twice[0]} is set by other settings of"
            " `optimizer`, `scheduler` and `trainer`; leave it out"
        )
    # with torch's default scale the steps of Muon need a learning rate of their own
    scale = {"adjust_lr_fn": "match_rms_adamw"} if kind is OptimizerKind.muon else {}
    return {**scale, **own, **config.arguments}


def _muon(
    config: OptimizerConfig,
    model: nn.Module,
    matrices: Set[str],
    arguments: Mapping[str, Any],
    fused: bool,
) -> Optimizer:
    """Return Muon for the hidden matrices, joined with AdamW for everything else that trains."""
    base = base_model(model)
    tables = [module for module in base.modules() if isinstance(module, nn.Embedding)]
    tables.append(base.get_output_embeddings())  # type: ignore[arg-type]
    kept = {id(p) for table in tables for p in table.parameters(recurse=False)}
    hidden, rest = [], []
    for name, p in model.named_parameters():
        (hidden if p.ndim == 2 and id(p) not in kept else rest).append((name, p))
    muon = torch.optim.Muon(parameter_groups(hidden, matrices, config.weight_decay), **arguments)
    others = parameter_groups(rest, matrices, config.weight_decay)
    if not others:
        return muon
    adam = AdamW(
        others,
        lr=config.learning_rate,
        betas=(config.beta1, config.beta2),
        eps=config.epsilon,
        fused=fused,
    )
    return JointOptimizer(muon, adam)


def _groups(
    config: OptimizerConfig,
    kind: type,
    named: Iterable[tuple[str, nn.Parameter]],
    matrices: Set[str],
) -> list[dict[str, Any]]:
    if "weight_decay" in inspect.signature(kind).parameters:
        return parameter_groups(named, matrices, config.weight_decay)
    if config.weight_decay:
        raise UserError(
            f"optimizer.weight_decay={config.weight_decay}: {_name(kind)} has no weight decay; set"
            " optimizer.weight_decay=0"
        )
    return [{"params": [p for _, p in named if p.requires_grad]}]


def plain_name(name: str) -> str:
    """Return a parameter's name without the parts that FSDP inserts."""
    return name.replace("_fsdp_wrapped_module.", "")


def parameter_groups(
    parameters: Iterable[tuple[str, nn.Parameter]], matrices: Set[str], weight_decay: float
) -> list[dict[str, Any]]:
    """Group trainable parameters for weight decay: matrices are decayed, biases and norms are not.

    Args:
        parameters: pairs of a name and a parameter.
        matrices: names of the parameters with two or more dimensions.
        weight_decay: weight decay of the matrices.

    Returns:
        One or two parameter groups as torch optimizers take them; empty groups are left out.
    """
    trained = [(plain_name(name), p) for name, p in parameters if p.requires_grad]
    groups = [
        {"params": [p for name, p in trained if name in matrices], "weight_decay": weight_decay},
        {"params": [p for name, p in trained if name not in matrices], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
