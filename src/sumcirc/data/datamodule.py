"""The LightningDataModule: encodes the corpus of a run once and provides it as batches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytorch_lightning as pl

from sumcirc.data.batches import Division, EvaluationBatches, TrainingStream, steps_per_epoch
from sumcirc.data.documents import Corpus, read_corpus
from sumcirc.data.encoding import EncodedCorpus, Encoder
from sumcirc.data.inspection import seen_before
from sumcirc.runtime.notices import Notices, counts
from sumcirc.runtime.progress import counted
from sumcirc.schema import DataConfig, TrainerConfig


class SummarizationData(pl.LightningDataModule):
    """Reads the training and validation pairs of a run and provides them as batches.

    Args:
        config: source and splits of the data.
        trainer: batch size, gradient accumulation and number of steps.
        encoder: encodes documents and summaries.
        cache: the folder `cache_dir`, where articles and encoded corpora are kept, or None.
        seed: seed of the order of training batches.

    Attributes:
        corpora: documents of the splits that `read` read.
        encoded: encoded pairs of the same splits.
        notices: notices for the user about the data.
        repeat: number of training batches that are repeated throughout the run, to overfit on
            them; None to train on all of them.
    """

    def __init__(
        self,
        config: DataConfig,
        trainer: TrainerConfig,
        encoder: Encoder,
        cache: Path | None,
        seed: int,
    ) -> None:
        super().__init__()
        self.config = config
        self.trainer_config = trainer
        self.encoder = encoder
        self.cache = cache
        self.seed = seed
        self.notices = Notices()
        self.repeat: int | None = None
        self.corpora: dict[str, Corpus] = {}
        self.encoded: dict[str, EncodedCorpus] = {}

    def read(self, splits: Sequence[str] = ("train", "validation")) -> None:
        """Read and encode the training and the validation split, or the given ones.

        Args:
            splits: names of the splits.

        Raises:
            UserError: a split can't be read (see `read_corpus`), or none of its pairs fits the
                model (see `Encoder.corpus`).
        """
        for split in splits:
            corpus = read_corpus(self.config, split, self.cache)
            with counted(f"encode {split}", len(corpus.documents)) as advance:
                encoded = self.encoder.corpus(corpus, f"data.{split}", self.cache, advance)
            self.corpora[split], self.encoded[split] = corpus, encoded
            self.notices.tell(*corpus.notices, *encoded.notices)
        if {"train", "validation"} <= self.corpora.keys():
            validation = self.corpora["validation"].documents
            training = self.corpora["train"]
            self.notices.tell(seen_before("data.validation", validation, training, "data.train"))

    @property
    def counts(self) -> dict[str, int]:
        """Numbers of items that are used, not drawn, cut or skipped, by name `data/SPLIT/COUNT`."""
        found = {}
        for split, encoded in self.encoded.items():
            corpus = self.corpora[split]
            sizes = {"items": len(encoded), "not_drawn": corpus.not_drawn}
            sizes |= counts((*corpus.notices, *encoded.notices))
            found |= {f"data/{split}/{name}": count for name, count in sizes.items()}
        return found

    def steps(self, world_size: int) -> tuple[int, int]:
        """Return the numbers of optimizer steps of one pass over the data and of the whole run.

        Args:
            world_size: number of processes.
        """
        config = self.trainer_config
        size = self._division(0, world_size).step_size
        epoch = steps_per_epoch(len(self.encoded["train"]), size)
        return epoch, config.max_steps or epoch * config.max_epochs

    def _division(self, rank: int, world_size: int) -> Division:
        config = self.trainer_config
        return Division(config.batch_size, config.accumulate, rank, world_size)

    def train_dataloader(self) -> TrainingStream:
        """Return a stream of all training batches of the run for this process."""
        trainer = self.trainer
        assert trainer is not None
        return TrainingStream(
            self.encoded["train"],
            self._division(trainer.global_rank, trainer.world_size),
            self.steps(trainer.world_size)[1],
            self.seed,
            self.trainer_config.buckets,
            self.repeat,
        )

    def val_dataloader(self) -> EvaluationBatches:
        """Return this process's share of batches that contain every validation pair once."""
        trainer = self.trainer
        assert trainer is not None
        return EvaluationBatches(
            self.encoded["validation"],
            self.trainer_config.batch_size,
            trainer.global_rank,
            trainer.world_size,
        )
