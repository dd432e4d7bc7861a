"""The LightningDataModule: encodes the corpus of a run once and provides it as batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytorch_lightning as pl

from sumcirc.data.batch_order import Division, steps_per_epoch
from sumcirc.data.batches import EvaluationBatches, TrainingStream
from sumcirc.data.documents import Corpus, read_corpus
from sumcirc.data.encoding import EncodedCorpus, Encoder
from sumcirc.data.inspection import seen_before
from sumcirc.data.plain_texts import PlainTexts, TextFiles, encoded_texts
from sumcirc.data.text_batches import TextStream
from sumcirc.runtime.notices import Notices, counts
from sumcirc.runtime.progress import counted
from sumcirc.schema import DataConfig, KLPenaltyConfig, TrainerConfig


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
        texts: plain texts that are read beside the training batches, by the name of their corpus.
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
        self.texts: dict[str, PlainTexts] = {}
        self._texts_per_batch = 0

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

    def read_texts(self, config: KLPenaltyConfig) -> None:
        """Read and encode the plain texts of a penalty, if there is one.

        Args:
            config: settings of the penalty.

        Raises:
            UserError: as in `encoded_texts`.
        """
        if not config.is_on:
            return
        files, seed = TextFiles.of_kl_penalty(config), self.config.seed
        length = config.max_length
        self.texts = encoded_texts(files, self.encoder, self.notices, seed, length=length)
        self._texts_per_batch = config.batch_size

    @property
    def read_in_training(self) -> dict[str, Corpus]:
        """All documents that training reads, by the name of the setting that they come from."""
        texts = {f"kl_penalty.texts {name}": one.corpus for name, one in self.texts.items()}
        return {"data.train": self.corpora["train"], **texts}

    def text_stream(self, division: Division) -> TextStream | None:
        """Return the plain texts that are read with each batch; None if there are none.

        Args:
            division: how the summaries of a step are divided among batches and processes.
        """
        if not self.texts:
            return None
        texts = [ids for corpus in self.texts.values() for ids in corpus.ids]
        return TextStream(texts, replace(division, batch_size=self._texts_per_batch), self.seed)

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
        division = self._division(trainer.global_rank, trainer.world_size)
        return TrainingStream(
            self.encoded["train"],
            division,
            self.steps(trainer.world_size)[1],
            self.seed,
            self.trainer_config.buckets,
            self.repeat,
            self.text_stream(division),
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
