"""Training tokens per second: sumcirc's `fit` against the Trainer of transformers.

    python benchmarks/training_throughput.py [--quick] [--device cuda] [--model FOLDER [--tokens T]]

Both train the same model from the same weights on the same batches in the same order, with AdamW
of the same settings, clipping, warm-up and logging, in the same precision, with the loss on the
summary alone (for the Trainer: labels of -100 on the prompt). They take turns step by step, and the
clock is read when the optimizer's step is done. At the end both must have arrived at the same
weights, or the benchmark fails.

The Trainer's side is what its documentation recommends: its own choice of AdamW, dynamic padding,
and the order of length buckets handed to it ready-made. Of a local model, LoRA and full fine-tuning
are measured, and the Trainer gets no mask of the padding on the right, which a causal model doesn't
need, so that both sides have the same attention kernel; `_mask` is the usual recipe with a mask.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measurement import Turns, parser, prepare, ratio, speed, write_result
from subjects import GPT2_SMALL, TINY, LocalModel, Subject, load
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector
from torch.nn.utils.rnn import pad_sequence
from torch.optim.optimizer import register_optimizer_step_post_hook
from transformers import AutoModelForCausalLM, PrinterCallback, Trainer, TrainingArguments

from sumcirc.data.batches import bucketed_order
from sumcirc.data.datamodule import SummarizationData
from sumcirc.data.encoding import EncodedCorpus
from sumcirc.data.examples import TokenExample
from sumcirc.models.adapters import adapt
from sumcirc.schema import (
    Adaptation,
    AdaptationConfig,
    CallbacksConfig,
    DataConfig,
    LoggerConfig,
    ModelConfig,
    OptimizerConfig,
    Precision,
    Source,
    TrainConfig,
    TrainerConfig,
)
from sumcirc.tracking.run_directory import RunDirectory
from sumcirc.training.trainer import fit

CLAIM = "sumcirc trains at least as many tokens per second as the Trainer of transformers"
TARGET = 1.0
LOCAL_TARGET = 1.3  # of a local model
SEED = 1
IGNORED = -100  # the label that the Trainer's loss passes over
# of the distance moved: rounding alone sets the sides apart, and Adam makes signs of small numbers
AGREEMENT = {Precision.fp32: 1e-3, Precision.bf16: 0.5}


@dataclass(frozen=True)
class Case:
    """A model's shape, and batches for it.

    Attributes:
        document: median length in tokens; lengths are lognormal, as those of news are.
        summary: range of the summary's length in tokens.
        lora: whether to train LoRA of rank 8 on all layers instead of the whole model.
        mask: whether the Trainer gets a mask of the padding.
        target: least ratio.
    """

    shape: Subject
    batch_size: int
    steps: int
    document: int
    summary: tuple[int, int]
    lora: bool = False
    mask: bool = True
    target: float = TARGET

    def pairs(self) -> list[TokenExample]:
        """Random tokens with a prompt and a summary, cut to the context."""
        random = np.random.default_rng(SEED)
        pairs = []
        for item in range(self.steps * self.batch_size):
            summary = int(random.integers(*self.summary))
            drawn = int(random.lognormal(np.log(self.document), 0.4))
            start = min(drawn, self.shape.context - summary)
            ids = random.integers(1, self.shape.vocabulary, start + summary)
            pairs.append(TokenExample.predicting(f"train-{item}", ids, start))
        return pairs


CASES = {
    "tiny": Case(TINY, batch_size=16, steps=40, document=170, summary=(25, 50)),
    "gpt2_small": Case(GPT2_SMALL, batch_size=2, steps=6, document=512, summary=(30, 80)),
}
QUICK = {
    "tiny": Case(TINY, batch_size=16, steps=12, document=170, summary=(25, 50)),
    "gpt2_small": Case(GPT2_SMALL, batch_size=1, steps=3, document=100, summary=(30, 80)),
}


def local_cases(model: Path, tokens: Sequence[int], quick: bool) -> dict[str, Case]:
    """LoRA and full fine-tuning of a local model on documents of up to T tokens."""
    found = {}
    for count in tokens:
        for kind in ("lora", "full"):
            for ending in ("", "_mask"):
                found[f"{kind}{ending}_{count}"] = Case(
                    LocalModel(model, count),
                    batch_size=max(1, 512 // count),
                    steps=3 if quick else 6,
                    document=count // 2,
                    summary=(count // 8, count // 4),
                    lora=kind == "lora",
                    mask=ending == "_mask",
                    target=LOCAL_TARGET,
                )
    return found


def configuration(case: Case, device: str) -> TrainConfig:
    """The configuration of `sumcirc train`, without any logger but metrics.csv."""
    lora = AdaptationConfig(kind=Adaptation.lora, rank=8)
    return TrainConfig(
        model=ModelConfig(name="random", path="random"),
        data=DataConfig(name="random", source=Source.wire),
        adaptation=lora if case.lora else AdaptationConfig(kind=Adaptation.full),
        optimizer=OptimizerConfig(),
        trainer=TrainerConfig(
            accelerator="gpu" if device == "cuda" else "cpu",
            precision=Precision.bf16 if device == "cuda" else Precision.fp32,
            max_steps=case.steps,
            batch_size=case.batch_size,
            checkpoint_every=case.steps,
        ),
        callbacks=CallbacksConfig(progress=False),
        logger=LoggerConfig(),
    )


def run_sumcirc(model: nn.Module, config: TrainConfig, pairs: list[TokenExample]) -> None:
    """Train `model` as `sumcirc train` does."""
    data = SummarizationData(config.data, config.trainer, None, None, SEED)  # type: ignore[arg-type]
    data.encoded = {"train": EncodedCorpus.of(pairs), "validation": EncodedCorpus.of(pairs[:1])}
    with tempfile.TemporaryDirectory() as folder:
        fit(config, model, data, RunDirectory(folder), None)


def run_trainer(
    model: nn.Module, config: TrainConfig, pairs: list[TokenExample], mask: bool = True
) -> None:
    """Train `model` with the Trainer of transformers on the same pairs in the same order."""
    options, optimizer = config.trainer, config.optimizer
    assert options.max_steps is not None
    on_gpu = options.accelerator == "gpu"
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            max_steps=options.max_steps,
            per_device_train_batch_size=options.batch_size,
            train_sampling_strategy="sequential",
            learning_rate=optimizer.learning_rate,
            weight_decay=optimizer.weight_decay,
            adam_beta1=optimizer.beta1,
            adam_beta2=optimizer.beta2,
            adam_epsilon=optimizer.epsilon,
            max_grad_norm=optimizer.clip,
            lr_scheduler_type=config.scheduler.kind.value,
            warmup_steps=round(config.scheduler.warmup * options.max_steps),
            logging_steps=options.log_every,
            bf16=on_gpu,
            use_cpu=not on_gpu,
            dataloader_pin_memory=on_gpu,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        trainer = Trainer(
            model,  # type: ignore[arg-type]
            arguments,
            data_collator=padded if mask else without_mask,
            train_dataset=[labelled(pair) for pair in pairs],  # type: ignore[arg-type]
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()


def labelled(pair: TokenExample) -> dict[str, Tensor]:
    """A pair as the Trainer wants it."""
    ids = torch.from_numpy(pair.ids)
    labels = ids.clone()
    labels[: pair.prompt_length] = IGNORED
    return {"input_ids": ids, "labels": labels}


def padded(rows: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Dynamic padding: to the longest sequence of the batch."""
    columns = {name: [row[name] for row in rows] for name in ("input_ids", "labels")}
    real = [torch.ones_like(ids) for ids in columns["input_ids"]]
    return {
        "input_ids": pad_sequence(columns["input_ids"], batch_first=True),
        "labels": pad_sequence(columns["labels"], batch_first=True, padding_value=IGNORED),
        "attention_mask": pad_sequence(real, batch_first=True),
    }


def without_mask(rows: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The same without the mask."""
    found = padded(rows)
    del found["attention_mask"]
    return found


def both_sides(case: Case, config: TrainConfig) -> tuple[nn.Module, nn.Module]:
    """The same model, and adapter if any, for sumcirc and for the Trainer."""
    ours = load(case.shape, "cpu", SEED)
    with case.shape.folder(SEED) as folder:
        theirs: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    sides = []
    for model in (ours, theirs):
        torch.manual_seed(SEED)
        sides.append(adapt(model, config.adaptation))
    return sides[0], sides[1]


def trained(model: nn.Module) -> Tensor:
    """All trained weights in one vector."""
    return parameters_to_vector(p for p in model.cpu().parameters() if p.requires_grad).detach()


def compare(case: Case, device: str, threads: int) -> dict[str, Any]:
    """Both sides' tokens per second, step by step in turns."""
    config = configuration(case, device)
    pairs = case.pairs()
    batches = bucketed_order([len(pair) for pair in pairs], case.batch_size, SEED, epoch=0)
    tokens = [float(sum(len(pairs[item]) for item in batch)) for batch in batches]
    in_order = [pairs[item] for batch in batches for item in batch]
    ours, theirs = both_sides(case, config)
    start = trained(ours).clone()
    turns = Turns(device, threads)
    hook = register_optimizer_step_post_hook(lambda *_: turns.pass_on())
    try:
        turns.run(
            sumcirc=lambda: run_sumcirc(ours, config, pairs),
            trainer=lambda: run_trainer(theirs, config, in_order, case.mask),
        )
    finally:
        hook.remove()
    laps, precision = turns.laps, config.trainer.precision
    return {
        **ratio(laps["trainer"], laps["sumcirc"]),
        "sumcirc": speed(tokens[1:], laps["sumcirc"]),
        "trainer": speed(tokens[1:], laps["trainer"]),
        "unit": "real tokens, pads not counted",
        "weight_difference": agreement(start, ours, theirs, AGREEMENT[precision]),
        "steps": case.steps,
        "batch_size": case.batch_size,
        "tokens_per_batch": sum(tokens) / len(tokens),
        "precision": precision.value,
        "at_least": case.target,
        "shape": case.shape.about(),
    }


def agreement(start: Tensor, ours: nn.Module, theirs: nn.Module, most: float) -> float:
    """Distance between both sides' weights over the distance that training moved them.

    Raises:
        SystemExit: it is more than `most`, so the sides did not do the same work.
    """
    one, other = trained(ours), trained(theirs)
    found = float((one - other).norm() / (one - start).norm())
    if not found <= most:
        raise SystemExit(f"the two sides arrived at different weights (by {found:.2g})")
    return found


def main() -> None:
    """Run every case, print and write the ratios."""
    options = parser(__doc__, local=True).parse_args()
    threads = prepare(options)
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    cases = QUICK if options.quick else CASES
    if options.model is not None:
        cases = local_cases(options.model, options.tokens, options.quick)
    figures = {name: compare(case, options.device, threads) for name, case in cases.items()}
    write_result("training_throughput", options, CLAIM, TARGET, figures)


if __name__ == "__main__":
    main()
