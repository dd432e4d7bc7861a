"""Logs ROUGE, copying and faithfulness of summaries of the probe documents during training."""

from __future__ import annotations

from collections.abc import Sequence

import pytorch_lightning as pl

from sumcirc.callbacks.measuring import Watcher
from sumcirc.data.documents import Document
from sumcirc.data.encoding import Encoder
from sumcirc.evaluation.copying import STATISTICS
from sumcirc.evaluation.scoring import evaluate_summaries
from sumcirc.evaluation.summaries import summarize
from sumcirc.models.modes import inference
from sumcirc.schema import EvaluationConfig, GenerationConfig
from sumcirc.statistics import MIN_DOCUMENTS
from sumcirc.storage.writing import write_table
from sumcirc.tracking.score_names import FAITHFUL, ROUGE_LSUM

SAMPLE_COLUMNS = ("step", "id", "reference", "summary", "rougeLsum_x100")
LOGGED = ("rouge1_f1", "rouge2_f1", ROUGE_LSUM, "length", *STATISTICS, *FAITHFUL)


class SummaryQuality(Watcher):
    """Watcher that has the model summarize the probe documents, and scores the summaries.

    Mean scores are logged as `summaries/MEASURE`, and the ends of their intervals as
    `summaries/MEASURE/low` and `summaries/MEASURE/high`, and the first summaries as the table
    `summaries/samples`. The summaries and their scores are written
    to a table that is named after the step, such as `probes/summaries-000200.parquet`.

    Args:
        encoder: encodes the prompts.
        documents: the probe documents.
        generation: decoding settings.
        evaluation: scoring settings.
        samples: number of documents whose summaries are logged to W&B at each step.
    """

    def __init__(
        self,
        encoder: Encoder,
        documents: Sequence[Document],
        generation: GenerationConfig,
        evaluation: EvaluationConfig,
        samples: int = 0,
    ) -> None:
        self.encoder = encoder
        self.documents = list(documents)
        self.generation = generation
        self.evaluation = evaluation
        self.samples = samples

    def observe(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Summarize the documents, log scores and samples, and write a table of all summaries.

        Args:
            trainer: gives the current step and the rank of this process.
            module: the training module whose model generates the summaries and whose loggers are
                used.
        """
        if not trainer.is_global_zero:
            return
        model = self.probing.model_of(module)
        with inference(model):
            texts = summarize(model, self.encoder, self.documents, self.generation)
        step = trainer.global_step
        found = evaluate_summaries(self.documents, texts, self.evaluation, f"step {step}")
        metrics = {}
        for measure, interval in found.summary().items():
            if measure not in LOGGED:
                continue
            metrics[f"summaries/{measure}"] = interval.mean
            if interval.n >= MIN_DOCUMENTS:
                metrics |= {
                    f"summaries/{measure}/low": interval.low,
                    f"summaries/{measure}/high": interval.high,
                }
        self.log_metrics(trainer, module, metrics)
        if self.probing.run is not None:
            file = self.probing.run.probes / f"summaries-{step:06d}.parquet"
            write_table(file, found.records)
        if self.samples:
            rows = [
                (step, item.id, item.references[0], text, 100 * record[ROUGE_LSUM])
                for item, text, record in zip(self.documents, texts, found.records, strict=True)
            ]
            self.log_table(trainer, "summaries/samples", SAMPLE_COLUMNS, rows[: self.samples])
