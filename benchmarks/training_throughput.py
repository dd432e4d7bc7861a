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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measurement import Lap, Turns, parser, prepare, ratio, rounds_of, save_result, show, speed
from subjects import GPT2_SMALL, TINY, LocalModel, Subject, load, load_without_sumcirc
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector
from torch.nn.utils.rnn import pad_sequence
from torch.optim.optimizer import register_optimizer_step_post_hook
from transformers import PrinterCallback, Trainer, TrainingArguments

from sumcirc.data.batch_order import bucketed_order
from sumcirc.data.datamodule import SummarizationData
from sumcirc.data.encoding import EncodedCorpus
from sumcirc.data.examples import TokenExample
from sumcirc.models.adapters import adapt
from sumcirc.models.flops import TrainingFlops
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
from sumcirc.training.peak_flops import peak_flops
from sumcirc.training.trainer import fit

CLAIM = "sumcirc trains at least as many tokens per second as the Trainer of transformers"
TARGET = 1.0
LOCAL_TARGET = 1.3  # of a local model
SEED = 1
IGNORED = -100  # the label that the Trainer's loss passes over
# of the distance moved: rounding alone sets the sides apart, and Adam makes signs of small numbers
AGREEMENT = {Precision.fp32: 1e-3, Precision.bf16: 0.5}
DTYPES = {Precision.fp32: torch.float32, Precision.bf16: torch.bfloat16}


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


def local_cases(model: Path, tokens: Sequence[int], rounds: int) -> dict[str, Case]:
    """LoRA and full fine-tuning of a local model on documents of up to T tokens."""
    found = {}
    for count in tokens:
        for ending in ("", "_mask"):
            for kind in ("lora", "full"):
                found[f"{kind}{ending}_{count}"] = Case(
                    LocalModel(model, count),
                    batch_size=max(1, 512 // count),
                    steps=rounds + 1,
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


def both_sides(case: Case, config: TrainConfig, device: str) -> tuple[nn.Module, nn.Module]:
    """The same model, and adapter if any, for sumcirc and for the Trainer."""
    sides = []
    for loader in (load, load_without_sumcirc):
        model = loader(case.shape, device, SEED)
        torch.manual_seed(SEED)
        sides.append(adapt(model, config.adaptation))
    return sides[0], sides[1]


def trained(model: nn.Module) -> Tensor:
    """All trained weights in one vector."""
    return parameters_to_vector(p for p in model.parameters() if p.requires_grad).detach().cpu()


def in_turns(device: str, threads: int, **sides: Callable[[], Any]) -> Turns:
    """Let sides train in turns, one optimizer step at a time."""
    turns = Turns(device, threads)
    hook = register_optimizer_step_post_hook(lambda *_: turns.pass_on())
    try:
        turns.run(**sides)
    finally:
        hook.remove()
    return turns


@dataclass(frozen=True)
class Work:
    """What is done in each step.

    Attributes:
        tokens: real tokens of each step.
        operations: floating-point operations that each step needs, with the unembedding of the
            summary alone; the same for both sides.
        peak: operations per second of the device, if they are known.
    """

    tokens: list[float]
    operations: list[float]
    peak: float | None

    def rates(self, laps: Sequence[Lap]) -> dict[str, Any]:
        """Return medians over the steps after the first: tokens/s, operations/s and utilization."""
        rate = speed(self.operations[1:], laps)["per_second"]
        found = {**speed(self.tokens[1:], laps), "flops_per_second": rate}
        return found if self.peak is None else {**found, "mfu": rate / self.peak}


def work_of(
    batches: Sequence[Sequence[TokenExample]], model: nn.Module, config: TrainConfig, device: str
) -> Work:
    """Return the work of training a model on the batches, in tokens and operations."""
    flops = TrainingFlops.of(model)
    operations = [
        float(
            flops.batch(
                len(batch),
                max(len(pair) for pair in batch),
                sum(len(pair) - pair.prompt_length for pair in batch),
            )
        )
        for batch in batches
    ]
    tokens = [float(sum(len(pair) for pair in batch)) for batch in batches]
    peak = peak_flops(torch.device(device), DTYPES[config.trainer.precision])
    return Work(tokens, operations, peak)


def batches_of(case: Case, pairs: Sequence[TokenExample]) -> list[list[TokenExample]]:
    """Return the pairs in the batches and in the order in which sumcirc trains on them."""
    order = bucketed_order([len(pair) for pair in pairs], case.batch_size, SEED, epoch=0)
    return [[pairs[item] for item in batch] for batch in order]


def compare(case: Case, device: str, threads: int) -> dict[str, Any]:
    """Both sides' tokens per second, step by step in turns."""
    config = configuration(case, device)
    pairs = case.pairs()
    batches = batches_of(case, pairs)
    in_order = [pair for batch in batches for pair in batch]
    ours, theirs = both_sides(case, config, device)
    start = trained(ours).clone()
    work = work_of(batches, ours, config, device)
    laps = in_turns(
        device,
        threads,
        sumcirc=lambda: run_sumcirc(ours, config, pairs),
        trainer=lambda: run_trainer(theirs, config, in_order, case.mask),
    ).laps
    precision = config.trainer.precision
    return {
        **ratio(laps["trainer"], laps["sumcirc"]),
        "sumcirc": work.rates(laps["sumcirc"]),
        "trainer": work.rates(laps["trainer"]),
        "unit": "real tokens, pads not counted",
        "weight_difference": weight_difference(start, ours, theirs),
        "weight_difference_at_most": AGREEMENT[precision],
        "steps": case.steps,
        "batch_size": case.batch_size,
        "tokens_per_batch": sum(work.tokens) / len(work.tokens),
        "precision": precision.value,
        "at_least": case.target,
        "shape": case.shape.about(),
    }


def compare_compiled(case: Case, device: str, threads: int) -> dict[str, Any]:
    """Measure training with `trainer.compile=true` against training without it, in turns."""
    config = configuration(case, device)
    compiling = replace(config, trainer=replace(config.trainer, compile=True))
    pairs = case.pairs()
    models = [adapt(load(case.shape, device, SEED), config.adaptation) for _ in range(2)]
    work = work_of(batches_of(case, pairs), models[0], config, device)
    turns = in_turns(
        device,
        threads,
        eager=lambda: run_sumcirc(models[0], config, pairs),
        compiled=lambda: run_sumcirc(models[1], compiling, pairs),
    )
    return {
        **ratio(turns.laps["eager"], turns.laps["compiled"]),
        **{name: work.rates(laps) for name, laps in turns.laps.items()},
        "first_step_seconds": {name: lap.wall for name, lap in turns.first.items()},
        "steps": case.steps,
        "precision": config.trainer.precision.value,
        "at_least": case.target,
        "shape": case.shape.about(),
    }


def weight_difference(start: Tensor, ours: nn.Module, theirs: nn.Module) -> float:
    """Distance between both sides' weights over the distance that training moved them."""
    one, other = trained(ours), trained(theirs)
    return float((one - other).norm() / (one - start).norm())


def require_agreement(figures: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse figures of sides that did not do the same work.

    Raises:
        SystemExit: the weights of both sides differ by more than rounding explains.
    """
    for name, figure in figures.items():
        if not (found := figure["weight_difference"]) <= figure["weight_difference_at_most"]:
            raise SystemExit(f"{name}: the two sides arrived at different weights (by {found:.2g})")


def main() -> None:
    """Run every case, print and write the ratios."""
    options = parser(__doc__, local=True).parse_args()
    threads = prepare(options)
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    cases = QUICK if options.quick else CASES
    if options.model is not None:
        cases = local_cases(options.model, options.tokens, rounds_of(options, 5, 2))
    elif options.rounds is not None:
        cases = {name: replace(case, steps=options.rounds + 1) for name, case in cases.items()}
    figures = {}
    for name, case in cases.items():
        found = {name: compare(case, options.device, threads)}
        require_agreement(found)
        show("training_throughput", found)
        figures |= found
        # an interrupted run keeps what it has, and says what it lacks
        missing = {case: "not measured" for case in cases if case not in figures}
        save_result("training_throughput", options, CLAIM, TARGET, figures, missing or None)


if __name__ == "__main__":
    main()
