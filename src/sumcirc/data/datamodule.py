"""The LightningDataModule: the corpus of a run, encoded once and handed out as batches."""

from __future__ import annotations

from pathlib import Path

import pytorch_lightning as pl

from sumcirc.data.batches import EvaluationBatches, TrainingStream, batches_per_epoch
from sumcirc.data.documents import Corpus, read_corpus
from sumcirc.data.encoding import EncodedCorpus, Encoder
from sumcirc.progress import counted
from sumcirc.schema import DataConfig, TrainerConfig


class SummarizationData(pl.LightningDataModule):
    """Training and validation pairs as batches.

    Args:
        cache: `cache_dir`, where encoded corpora are kept; None: nowhere.
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
        self.corpora: dict[str, Corpus] = {}
        self.encoded: dict[str, EncodedCorpus] = {}

    def read(self) -> None:
        """Read and encode both splits.

        Raises:
            UserError: see `read_corpus` and `Encoder.corpus`.
        """
        for split in ("train", "validation"):
            corpus = read_corpus(self.config, split)
            with counted(f"encode {split}", len(corpus.documents)) as advance:
                encoded = self.encoder.corpus(corpus, f"data.{split}", self.cache, advance)
            self.corpora[split], self.encoded[split] = corpus, encoded

    @property
    def counts(self) -> dict[str, int]:
        """What was kept, cut and dropped, as `data/SPLIT/WHAT`."""
        found = {}
        for split, encoded in self.encoded.items():
            counts = {"items": len(encoded.pairs), **self.corpora[split].dropped, **encoded.counts}
            found |= {f"data/{split}/{name}": count for name, count in counts.items()}
        return found

    def steps(self, world_size: int) -> tuple[int, int]:
        """(optimizer steps of one pass over the data, optimizer steps of the run).

        Where accumulation does not divide the batches, both are rounded up: the run then reads a
        few items of the next pass, rather than leaving out some of the last.
        """
        config = self.trainer_config
        items = len(self.encoded["train"].pairs)
        batches = batches_per_epoch(items, config.batch_size * world_size)
        epoch = -(-batches // config.accumulate)
        total = -(-batches * config.max_epochs // config.accumulate)
        return epoch, config.max_steps or total

    def train_dataloader(self) -> TrainingStream:
        """All batches of the run as one stream."""
        trainer = self.trainer
        assert trainer is not None
        config = self.trainer_config
        return TrainingStream(
            self.encoded["train"].pairs,
            config.batch_size,
            self.steps(trainer.world_size)[1] * config.accumulate,
            self.seed,
            config.buckets,
            trainer.global_rank,
            trainer.world_size,
        )

    def val_dataloader(self) -> EvaluationBatches:
        """Every validation pair once."""
        trainer = self.trainer
        assert trainer is not None
        return EvaluationBatches(
            self.encoded["validation"].pairs,
            self.trainer_config.batch_size,
            trainer.global_rank,
            trainer.world_size,
        )
