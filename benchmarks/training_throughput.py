"""Training tokens per second: sumcirc's `fit` against the Trainer of transformers.

    python benchmarks/training_throughput.py [--quick] [--device cuda]

Both train the same model from the same weights on the same batches in the same order, with AdamW
of the same settings, clipping, warm-up and logging, in the same precision, with the loss on the
summary alone (for the Trainer: labels of -100 on the prompt). They take turns step by step, and the
clock is read when the optimizer's step is done. At the end both must have arrived at the same
weights, or the benchmark fails.

The Trainer's side is what its documentation recommends: its own choice of AdamW, dynamic padding,
and the order of length buckets handed to it ready-made.
"""

from __future__ import annotations

import logging
import tempfile
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from measurement import GPT2_SMALL, TINY, Shape, Turns, parser, prepare, ratio, speed, write_result
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector
from torch.nn.utils.rnn import pad_sequence
from torch.optim.optimizer import register_optimizer_step_post_hook
from transformers import AutoModelForCausalLM, PrinterCallback, Trainer, TrainingArguments

from sumcirc.data.batches import bucketed_order
from sumcirc.data.datamodule import SummarizationData
from sumcirc.data.encoding import EncodedCorpus
from sumcirc.data.examples import TokenExample
from sumcirc.models.loading import load_model
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
    """

    shape: Shape
    batch_size: int
    steps: int
    document: int
    summary: tuple[int, int]

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


def configuration(case: Case, device: str) -> TrainConfig:
    """The configuration of `sumcirc train`, without any logger but metrics.csv."""
    return TrainConfig(
        model=ModelConfig(name="random", path="random"),
        data=DataConfig(name="random", source=Source.wire),
        adaptation=AdaptationConfig(kind=Adaptation.full),
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


def run_trainer(model: nn.Module, config: TrainConfig, pairs: list[TokenExample]) -> None:
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
            data_collator=padded,
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


def compare(case: Case, device: str, threads: int) -> dict[str, Any]:
    """Both sides' tokens per second, step by step in turns."""
    config = configuration(case, device)
    pairs = case.pairs()
    batches = bucketed_order([len(pair) for pair in pairs], case.batch_size, SEED, epoch=0)
    tokens = [float(sum(len(pairs[item]) for item in batch)) for batch in batches]
    in_order = [pairs[item] for batch in batches for item in batch]
    with tempfile.TemporaryDirectory() as folder:
        case.shape.save(folder, SEED)
        ours = load_model(ModelConfig(name="random", path=folder))
        theirs = AutoModelForCausalLM.from_pretrained(folder)
    start = parameters_to_vector(ours.parameters()).detach().clone()
    turns = Turns(device, threads)
    hook = register_optimizer_step_post_hook(lambda *_: turns.pass_on())
    try:
        turns.run(
            sumcirc=lambda: run_sumcirc(ours, config, pairs),
            trainer=lambda: run_trainer(theirs, config, in_order),
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
        "shape": asdict(case.shape),
    }


def agreement(start: Tensor, ours: nn.Module, theirs: nn.Module, most: float) -> float:
    """Distance between both sides' weights over the distance that training moved them.

    Raises:
        SystemExit: it is more than `most`, so the sides did not do the same work.
    """
    one, other = (
        parameters_to_vector(model.cpu().parameters()).detach() for model in (ours, theirs)
    )
    found = float((one - other).norm() / (one - start).norm())
    if not found <= most:
        raise SystemExit(f"the two sides arrived at different weights (by {found:.2g})")
    return found


def main() -> None:
    """Run every case, print and write the ratios."""
    options = parser(__doc__).parse_args()
    threads = prepare(options)
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    cases = QUICK if options.quick else CASES
    figures = {name: compare(case, options.device, threads) for name, case in cases.items()}
    write_result("training_throughput", options, CLAIM, TARGET, figures)


if __name__ == "__main__":
    main()
