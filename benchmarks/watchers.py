"""What the default watchers cost beside the training that they watch.

    python benchmarks/watchers.py [--quick] [--device cuda] [--model FOLDER [--tokens T ...]]

A model is trained with LoRA of rank 8 on all layers while the watchers of `callbacks=default`
measure it after each step, on 32 documents as long as those of training. The time of a measurement
(everything that the watchers do at a step: passes over the documents, measures, record, logging)
and of a training step come from the same run in turns. The ratio is the share of training time that
the default schedule takes in a run of 400 steps of 8 documents. The base's activations are made
before the run and cached, so they are not part of it. Full fine-tuning takes longer steps.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
import training_throughput
from measurement import Clock, Lap, parser, prepare, ratio, rounds_of, write_result
from subjects import GPT2_SMALL, Shape, load, subjects_of

from sumcirc.callbacks.factory import DEFAULT
from sumcirc.callbacks.measuring import Probing, scheduled_steps
from sumcirc.data.datamodule import SummarizationData
from sumcirc.data.encoding import DOCUMENT, PROMPT, SUMMARY, EncodedCorpus
from sumcirc.data.examples import TokenExample
from sumcirc.measures.measure_documents import ProbeDocument, ProbeSet
from sumcirc.measures.measuring import prepare_base
from sumcirc.models.adapters import adapt
from sumcirc.schema import CallbacksConfig, ProbeScheduleConfig, TrainConfig
from sumcirc.tracking.run_directory import RunDirectory
from sumcirc.training.trainer import fit

CLAIM = "the default watchers take at most 5 % of the time of training"
AT_MOST = 0.05
STEPS, BATCH = 400, 8  # the run whose share is given
SEED = training_throughput.SEED


def measured(example: TokenExample) -> ProbeDocument:
    """Return a training example as a document to be measured at the rows of its summary."""
    start = example.prompt_length
    places = np.arange(len(example))
    spans = {DOCUMENT: places < start - 2, SUMMARY: places >= start}
    spans[PROMPT] = ~(spans[DOCUMENT] | spans[SUMMARY])
    salience = np.random.default_rng(SEED).random(len(example)).astype(np.float32)
    return ProbeDocument(
        replace(example, spans=spans), np.flatnonzero(example.reads), salience * spans[DOCUMENT]
    )


class TimedProbing(Probing):
    """Measures as in any run, and notes the seconds of each measurement and of each step.

    Attributes:
        watched: the seconds that all watchers take at a step, by step.
        trained: the seconds of the training step before them, by step.
    """

    def __init__(self, device: str, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.device = device
        self.watched: dict[int, Lap] = {}
        self.trained: dict[int, Lap] = {}
        self._step = Clock(device)

    @contextmanager
    def preserving_training_state(self, module: pl.LightningModule) -> Iterator[None]:
        """Note the time of the block, and the time since the last block, which trained."""
        step = module.global_step
        if step not in self.watched:
            self.trained[step] = self._step.lap()
        clock = Clock(self.device)
        with super().preserving_training_state(module):
            yield
        one, before = clock.lap(), self.watched.get(step, Lap(0.0, 0.0))
        self.watched[step] = Lap(before.wall + one.wall, before.cpu + one.cpu)
        self._step.restart()


def compare(case: training_throughput.Case, documents: int, device: str) -> dict[str, Any]:
    """Measure which share of training time the watchers take at their default schedule."""
    config = training_throughput.configuration(case, device)
    options = CallbacksConfig(watch=list(DEFAULT), schedule=ProbeScheduleConfig(points=0, every=1))
    pairs = case.pairs()
    watched = replace(case, steps=-(-documents // case.batch_size)).pairs()[:documents]
    probes = ProbeSet([measured(pair) for pair in watched], options.probes.batch_size)
    model = load(case.shape, device, SEED)
    with tempfile.TemporaryDirectory() as cache, tempfile.TemporaryDirectory() as folder:
        base = prepare_base(model, probes, Path(cache))
        run = RunDirectory(folder)
        probing = TimedProbing(device, run, probes, base, options.schedule, str)
        watchers = [make() for make in DEFAULT.values()]
        for watcher in watchers:
            probing.attach(watcher)
        train(config, adapt(model, config.adaptation), pairs, run, watchers)
    steps = [step for step in probing.watched if step > 1]  # step 0 and 1 contain set-up
    found = [[laps[step] for step in steps] for laps in (probing.watched, probing.trained)]
    times = len(scheduled_steps(ProbeScheduleConfig(), STEPS))
    scale = BATCH / case.batch_size
    return {
        **ratio(scaled(found[0], times), scaled(found[1], STEPS * scale)),
        "measurement_cpu_seconds": float(np.median([lap.cpu for lap in found[0]])),
        "step_cpu_seconds": float(np.median([lap.cpu for lap in found[1]])),
        "batch_size": case.batch_size,
        "documents": documents,
        "rounds": len(steps),
        "of_steps": STEPS,
        "of_batch_size": BATCH,
        "measurements": times,
        "precision": config.trainer.precision.value,
        "at_most": AT_MOST,
        "shape": case.shape.about(),
    }


def scaled(laps: list[Lap], factor: float) -> list[Lap]:
    """Return the laps, each multiplied by a factor."""
    return [Lap(factor * lap.wall, factor * lap.cpu) for lap in laps]


def train(
    config: TrainConfig, model: Any, pairs: list[TokenExample], run: RunDirectory, watchers: Any
) -> None:
    """Train a model as `sumcirc train` does, with watchers."""
    data = SummarizationData(config.data, config.trainer, None, None, SEED)  # type: ignore[arg-type]
    data.encoded = {"train": EncodedCorpus.of(pairs), "validation": EncodedCorpus.of(pairs[:1])}
    fit(config, model, data, run, None, watchers)


def main() -> None:
    """Measure the ratios, print them, and write them to a file."""
    options = parser(__doc__, local=True).parse_args()
    prepare(options)
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    shape: Shape = replace(GPT2_SMALL, layers=2, context=128) if options.quick else GPT2_SMALL
    figures = {}
    for ending, subject in subjects_of(options, shape).items():
        length = subject.context
        case = training_throughput.Case(
            subject,
            batch_size=2 if options.quick else max(1, min(BATCH, 2048 // length)),
            steps=1 + rounds_of(options, 6, 2),
            document=length // 2,
            summary=(length // 8, length // 4),
            lora=True,
        )
        documents = 4 if options.quick else CallbacksConfig().probes.documents
        figures[f"default{ending}"] = compare(case, documents, options.device)
    write_result("watchers", options, CLAIM, None, figures)


if __name__ == "__main__":
    torch.manual_seed(SEED)
    main()
