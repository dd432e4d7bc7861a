"""The tuned model that some selectors compare with the base.

It is given by `selector.after`, or made by a probe run: a few steps (`selector.probe_steps`) of
LoRA on all modules of all layers. LoRA rather than full fine-tuning, since the selection is for
adapters, and on all layers equally, so that none is favoured. The run depends on data.seed, not on
the run's seed: it is made once and shared by all jobs and selectors of a sweep. Only `delta_energy`
trains all weights instead, and `extrapolated` does so for a few small steps; their scores are kept,
not the models.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import PeftModel
from transformers import PreTrainedModel, get_constant_schedule_with_warmup

from sumcirc.data.batch_order import Division
from sumcirc.data.batches import TrainingStream
from sumcirc.data.datamodule import SummarizationData
from sumcirc.data.encoding import Encoder
from sumcirc.errors import UserError
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.models.adapters import adapt
from sumcirc.models.dropout import start_training
from sumcirc.models.fingerprint import model_fingerprint
from sumcirc.models.loading import load_model
from sumcirc.models.model_pairs import check_pair
from sumcirc.models.model_reference import ModelReference, reference, same_model
from sumcirc.models.restoring import load_reference
from sumcirc.runtime.progress import counted
from sumcirc.schema import Adaptation, AdaptationConfig, SelectConfig, TrainConfig
from sumcirc.storage.cache import Cache
from sumcirc.training.module import summary_loss

PROBE_RUNS = Cache("probe_runs", format=2, libraries=("peft", "torch", "transformers"))
RANK = 8
WARMUP = 0.1  # fraction of the steps
CLIP = 1.0  # largest gradient norm
SETTING = "selector.after"
SHARE = 0.01  # of the training pairs, for the first steps
REDUCED = 0.01  # of the learning rate of full fine-tuning, for the same

Config = TrainConfig | SelectConfig


def load_tuned(
    config: Config, base: PreTrainedModel, encoder: Encoder, data: SummarizationData
) -> PreTrainedModel | PeftModel:
    """Return the model that `selector.after` names, or the result of a probe run, which is cached.

    A probe run trains LoRA on all layers for `selector.probe_steps` steps.

    Args:
        config: configuration of the job.
        base: the base model.
        encoder: encodes documents and summaries.
        data: the data on which the probe run trains.

    Raises:
        UserError: no tuned model is configured, it can't be loaded, or the probe run diverges.
    """
    check_tuned(config)
    after = config.selector.after
    if after is not None:
        return load_reference(reference(after, SETTING), base.dtype)
    parts = [
        model_fingerprint(base),
        [encoder.fingerprint, data.corpora["train"].fingerprint, config.data.seed],
        settings_of(config),
    ]
    model, _ = PROBE_RUNS.get(
        Path(config.cache_dir),
        parts,
        lambda folder: _save(_train_adapter(config, base, data), folder),
        lambda folder: load_reference(
            ModelReference("probe run", config.model, folder), base.dtype
        ),
    )
    return model


def check_tuned(config: Config) -> None:
    """Check that a tuned model is configured and was trained from the base; no model is loaded.

    Args:
        config: configuration of the job.

    Raises:
        UserError: neither a probe run nor a tuned model is configured, or the tuned model's run
            didn't finish, or the tuned model can't be compared with the base or was trained from
            another one.
    """
    options = config.selector
    if options.after is None:
        if not options.probe_steps:
            name = options.name.value if options.name else None
            raise UserError(
                f"selector={name}: compares the base with a tuned model, and there is none; train"
                " one with `sumcirc train adaptation=lora` and give selector.after=RUN_DIR, or set"
                " selector.probe_steps=50"
            )
        return
    after = reference(options.after, SETTING)
    if after.weights is not None and not same_model(after.model, config.model):
        raise UserError(
            f"{after.given}: was trained from {after.model.path}, not from"
            f" model.path={config.model.path}; give model.path={after.model.path}, or a model that"
            " was trained from this one"
        )
    check_pair(ModelReference(config.model.name, config.model), [after])


def settings_of(config: Config) -> list[int | float | str | None]:
    """Return a cache key of all that determines the tuned model apart from the base and the data.

    Args:
        config: configuration of the job.

    Raises:
        UserError: the run that `selector.after` names didn't finish.
    """
    if config.selector.after is None:
        batch_size, dropout = config.trainer.batch_size, config.model.dropout
        rates = [_rate(config), config.model.learning_rate]
        return [config.selector.probe_steps, RANK, *rates, batch_size, dropout]
    after = reference(config.selector.after, SETTING)
    folder = after.weights or Path(after.model.path)
    if not folder.is_dir():
        return [after.model.path]
    digest = hashlib.blake2b()
    for pattern in ("*.safetensors", "*.bin", "*config.json"):
        for file in sorted(folder.glob(pattern)):
            digest.update(file.read_bytes())
    return [digest.hexdigest()]


def _rate(config: Config) -> float:
    return config.model.learning_rate * config.model.lora_learning_rate_scale


def train_fully(config: Config, base: PreTrainedModel, data: SummarizationData) -> PreTrainedModel:
    """Return a copy of the base after a probe run that trains all weights.

    Seeds torch's generator, so callers have to restore its state.

    Args:
        config: configuration of the job.
        base: the base model.
        data: the data on which the copy is trained.

    Raises:
        UserError: no probe run is configured, or it diverges.
    """
    check_tuned(config)
    own = _copied(config, base, base.dtype)
    adapt(own, AdaptationConfig(kind=Adaptation.full))
    rate = config.model.learning_rate
    _train(own, config, data, _probe_run(config, "model.learning_rate", rate))
    return own


def train_first_steps(
    config: Config, base: PreTrainedModel, data: SummarizationData
) -> PreTrainedModel:
    """Return a copy of the base, in float32 at least, after a few small steps of full fine-tuning.

    These are as many steps of `trainer.batch_size` pairs as 1 % of the training pairs take, rounded
    up, at 1 % of the learning rate of full fine-tuning.

    Seeds torch's generator, so callers have to restore its state.

    Args:
        config: configuration of the job.
        base: the base model.
        data: the data on which the copy is trained.

    Raises:
        UserError: the loss is not finite.
    """
    # half precision would round such small steps away
    own = _copied(config, base, torch.promote_types(base.dtype, torch.float32))
    adapt(own, AdaptationConfig(kind=Adaptation.full))
    batch_size = config.trainer.batch_size
    steps = math.ceil(SHARE * len(data.encoded["train"]) / batch_size)
    rate = REDUCED * config.model.learning_rate
    name = config.selector.name
    shown = f"selector={name and name.value}"
    remedy = "lower model.learning_rate, of which it takes a hundredth, or take another selector"
    _train(own, config, data, ProbeRun(steps, rate, shown, remedy))
    return own


def first_step_settings(config: Config) -> list[int | float | str | None]:
    """Return a cache key of what determines `train_first_steps` apart from the base and the data.

    Args:
        config: configuration of the job.
    """
    rate, dropout = config.model.learning_rate, config.model.dropout
    return [SHARE, REDUCED, rate, config.trainer.batch_size, dropout]


@dataclass(frozen=True)
class ProbeRun:
    """A short training run.

    Attributes:
        steps: number of optimizer steps.
        rate: learning rate.
        setting: the setting that asked for the run, for messages.
        remedy: what helps if the run diverges, for the same.
    """

    steps: int
    rate: float
    setting: str
    remedy: str


def _probe_run(config: Config, setting: str, rate: float) -> ProbeRun:
    steps = config.selector.probe_steps
    remedy = f"lower {setting} (the rate is {rate:g}), or give selector.after=RUN_DIR"
    return ProbeRun(steps, rate, f"selector.probe_steps={steps}", remedy)


def _train_adapter(config: Config, base: PreTrainedModel, data: SummarizationData) -> PeftModel:
    """Return an adapter after the probe run, on a separate copy of the model.

    Seeds torch's generator, so callers have to restore its state.
    """
    own = _copied(config, base, base.dtype)
    model = adapt(own, AdaptationConfig(kind=Adaptation.lora, rank=RANK))
    assert isinstance(model, PeftModel)
    setting = "model.lora_learning_rate_scale"
    _train(model, config, data, _probe_run(config, setting, _rate(config)))
    return model


def _copied(config: Config, base: PreTrainedModel, dtype: torch.dtype) -> PreTrainedModel:
    torch.manual_seed(config.data.seed)
    return load_model(config.model, dtype).to(base.device)  # type: ignore[arg-type]


def _train(
    model: PreTrainedModel | PeftModel,
    config: Config,
    data: SummarizationData,
    run: ProbeRun,
) -> None:
    """Train a model in place.

    Args:
        model: the model, of which some parameters require gradients.
        config: configuration of the job.
        data: the data on which it trains.
        run: number of steps, and learning rate.
    """
    steps = run.steps
    hooked = HookedModel(model)
    trained = [one for one in model.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=run.rate, weight_decay=0.0)
    schedule = get_constant_schedule_with_warmup(optimizer, round(WARMUP * steps))
    pairs = data.encoded["train"]
    division = Division(config.trainer.batch_size)
    batches = TrainingStream(pairs, division, steps, config.data.seed)
    start_training(model, config.model.dropout)
    with counted("probe run", steps) as advance:
        for batch in batches:
            loss = summary_loss(hooked.backbone, hooked.unembedding, batch.to(model.device))
            if not math.isfinite(loss.item()):
                raise UserError(
                    f"{run.setting}: the probe run's loss is {loss.item()}; {run.remedy}"
                )
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, CLIP)
            optimizer.step()
            schedule.step()
            advance(1)
    model.eval()


def _save(model: PeftModel, folder: Path) -> None:
    model.save_pretrained(str(folder), save_embedding_layers=False)
