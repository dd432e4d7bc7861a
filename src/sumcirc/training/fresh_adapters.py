"""Makes the adapter that a run starts with, and finds it again when the run is resumed.

Most adapters start from random numbers and are zero, so the checkpoint alone restores them. PiSSA,
OLoRA and LoRA-GA move a part of the base's weights into the adapter; EVA and LoRA-GA start from
training documents. Their start is written to `initial_adapter/` of the run directory. A resumed run
reads it instead of computing it again, and saving subtracts it, so that the saved adapter is LoRA
on the unchanged base (PEFT's `path_initial_model_for_weight_conversion`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from peft import (
    LoraConfig,
    PeftConfig,
    PeftModel,
    initialize_lora_eva_weights,
    set_peft_model_state_dict,
)
from peft.tuners.lora.layer import LoraLayer
from peft.tuners.lora.loraga import preprocess_loraga
from peft.utils import load_peft_weights
from transformers import PreTrainedModel

from sumcirc.data.batches import TrainingBatch
from sumcirc.data.datamodule import SummarizationData
from sumcirc.data.examples import collate
from sumcirc.errors import UserError
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.models.adapters import Target, resolve_targets, wrap
from sumcirc.models.model_pairs import logits_of
from sumcirc.models.modes import evaluating, inference
from sumcirc.models.variants import peft_config, rewrites, setting_of
from sumcirc.runtime.processes import is_main_process
from sumcirc.schema import Adaptation, AdaptationConfig, TrainConfig, Variant
from sumcirc.storage.writing import write_folder
from sumcirc.tracking.run_directory import RunDirectory
from sumcirc.training.module import summary_loss

DOCUMENTS = 64  # training documents from which EVA and LoRA-GA start
FROM_DATA = ("eva", "lora_ga")
TOLERANCE = 1e-3  # largest change of a fresh adapter's logits, relative to the largest logit


def check_start(config: TrainConfig) -> None:
    """Refuse adapters that need one device or another precision, before weights are loaded.

    Raises:
        UserError: the adapter starts from data or changes its ranks, and training runs in several
            processes; or AdaLoRA is combined with fp16.
    """
    adaptation, trainer = config.adaptation, config.trainer
    if adaptation.kind is not Adaptation.lora:
        return
    start = (adaptation.peft or {}).get("init_lora_weights")
    alone = adaptation.variant in (Variant.eva, Variant.loraga, Variant.adalora)
    devices = len(trainer.devices) if isinstance(trainer.devices, list) else trainer.devices
    several = devices != 1 or trainer.num_nodes != 1
    if (alone or start in FROM_DATA) and several:
        raise UserError(
            f"trainer.devices={trainer.devices}: {setting_of(adaptation)} is trained on one device,"
            " since its start or its ranks would differ between processes; use trainer.devices=1"
        )
    if adaptation.variant is Variant.adalora and trainer.precision.value == "fp16":
        raise UserError(
            "trainer.precision=fp16: scales gradients, by which adaptation=adalora ranks its"
            " singular values; use bf16 or fp32"
        )


def start(
    config: TrainConfig,
    model: PreTrainedModel,
    data: SummarizationData,
    chosen: Sequence[Target] | None,
    run: RunDirectory,
) -> PeftModel:
    """Return the model with its fresh adapter, or with the one that this run started with.

    Args:
        config: configuration of the run.
        model: the base model, which is changed in place.
        data: the training data.
        chosen: pairs of block index and module name that a selector chose; None if the
            configuration names the layers.
        run: the run directory.

    Raises:
        UserError: the fresh adapter changes what the model computes.
    """
    adaptation = config.adaptation
    targets = resolve_targets(adaptation, model.config, chosen)
    made = peft_config(adaptation, targets, total_steps=data.steps(1)[1])
    if not (rewrites(made) or _init(made) in FROM_DATA):
        return _fresh(adaptation, model, made, data, targets.parameters)
    # a resumed run draws no random numbers for its start, and has to train identically
    with torch.random.fork_rng():
        if run.initial_adapter.is_dir():
            return _again(model, made, run)
        adapted = _fresh(adaptation, model, made, data, targets.parameters)
        if is_main_process():
            _keep(adapted, run)
        return adapted


def _init(made: PeftConfig) -> str:
    return str(getattr(made, "init_lora_weights", None))


def _fresh(
    adaptation: AdaptationConfig,
    model: PreTrainedModel,
    made: PeftConfig,
    data: SummarizationData,
    parameters: int,
) -> PeftModel:
    """Return the model with a new adapter, which is checked to change nothing yet."""
    plain = adaptation.variant in (Variant.lora, Variant.rslora) and not adaptation.peft
    if plain:
        return wrap(model, made, parameters)
    before = _logits(model)
    if _init(made) in FROM_DATA:
        adapted = _from_data(model, cast(LoraConfig, made), data, parameters)
    else:
        adapted = wrap(model, made, parameters)
    _require_fresh(adaptation, before, _logits(adapted))
    return adapted


def _from_data(
    model: PreTrainedModel, made: LoraConfig, data: SummarizationData, parameters: int
) -> PeftModel:
    """Return the model with an adapter that starts from the first training documents."""
    corpus, size = data.encoded["train"], data.trainer_config.batch_size
    items = [corpus[index] for index in range(min(DOCUMENTS, len(corpus)))]
    groups = [items[start : start + size] for start in range(0, len(items), size)]
    if made.init_lora_weights == "eva":
        adapted = wrap(model, made, parameters)
        tokens = [collate(group) for group in groups]
        inputs = [
            {"input_ids": one.input_ids, "attention_mask": one.attention_mask} for one in tokens
        ]
        initialize_lora_eva_weights(adapted, inputs, show_progress_bar=False)
        return adapted
    hooked = HookedModel(model)

    def gradients() -> None:
        # without dropout, although PEFT has just switched to training
        with evaluating(model):
            for group in groups:
                batch = TrainingBatch.of(group).to(model.device)
                summary_loss(hooked.backbone, hooked.unembedding, batch).backward()

    preprocess_loraga(model, made, gradients)
    return wrap(model, made, parameters)


def _keep(adapted: PeftModel, run: RunDirectory) -> None:
    """Write the fresh adapter, as one that PEFT loads without initializing it again."""
    config: Any = adapted.peft_config["default"]
    init = config.init_lora_weights
    config.init_lora_weights = True
    try:
        write_folder(
            run.initial_adapter,
            lambda folder: adapted.save_pretrained(str(folder), save_embedding_layers=False),
        )
    finally:
        config.init_lora_weights = init


def _again(model: PreTrainedModel, made: PeftConfig, run: RunDirectory) -> PeftModel:
    """Return the model as `start` made it when the run began."""
    stored: Any = PeftConfig.from_pretrained(str(run.initial_adapter))
    stored.inference_mode = False
    adapted = wrap(model, stored, None)
    set_peft_model_state_dict(adapted, load_peft_weights(str(run.initial_adapter), device="cpu"))
    if rewrites(made):
        with torch.no_grad():
            for module in adapted.modules():
                if isinstance(module, LoraLayer):
                    _subtract(module)
    stored.init_lora_weights = made.init_lora_weights  # type: ignore[attr-defined]
    return adapted


def _subtract(module: Any) -> None:
    """Take an adapter's product out of the weight below, in the order of operations of PEFT."""
    a, b = (getattr(module, name)["default"].weight for name in ("lora_A", "lora_B"))
    weight = module.get_base_layer().weight
    product = module.scaling["default"] * b @ a
    weight.data = weight.data - (product.T if module.fan_in_fan_out else product)


def _logits(model: Any) -> torch.Tensor:
    with inference(model):
        ids = torch.arange(min(16, model.config.vocab_size), device=model.device)[None]
        return logits_of(model, ids)


def _require_fresh(config: AdaptationConfig, before: torch.Tensor, after: torch.Tensor) -> None:
    change = float((after - before).abs().max())
    if not change <= TOLERANCE * float(before.abs().max()):
        raise UserError(
            f"{setting_of(config)}: before any training its logits differ from the base's by up to"
            f" {change:.2g}, so it doesn't start from the base; leave it out"
        )
