"""Typed configuration behind conf/: Hydra refuses keys and types that are not here.

Every dataclass mirrors one configuration group or section. `__post_init__` refuses contradictions
when `OmegaConf.to_object` builds it, before anything heavy is imported.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Optional

from omegaconf import MISSING

from sumcirc.errors import UserError


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise UserError(message)


class Source(Enum):
    """Where documents come from."""

    wire = "wire"  # the built-in generator
    hub = "hub"  # a Hugging Face hub data set
    files = "files"  # the user's own JSONL, CSV or Parquet files


class Precision(Enum):
    """Arithmetic of training: `auto` is bf16 where the device has it, else fp32."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


@dataclass
class ModelConfig:
    """conf/model: a causal language model."""

    name: str = MISSING  # short name, used in run names
    path: str = MISSING  # hub id, folder, or `tiny` (built in)
    revision: Optional[str] = None  # hub revision
    tokenizer: Optional[str] = None  # hub id or folder; null: the model's own
    learning_rate: float = 5e-5  # peak learning rate of full fine-tuning


@dataclass
class SizesConfig:
    """How many items to draw, at random by `data.seed`; null takes all."""

    train: Optional[int] = None
    validation: Optional[int] = None
    test: Optional[int] = None

    def __post_init__(self) -> None:
        for split in ("train", "validation", "test"):
            value = getattr(self, split)
            _require(
                value is None or value > 0,
                f"data.sizes.{split}={value}: must be positive, or null for all items",
            )


@dataclass
class DataConfig:
    """conf/data: pairs of documents and summaries."""

    name: str = MISSING  # short name, used in run names
    source: Source = MISSING
    path: Optional[str] = None  # hub id (source hub)
    subset: Optional[str] = None  # hub configuration name
    revision: Optional[str] = None  # hub revision
    train: Optional[str] = None  # split name (hub) or file or glob pattern (files)
    validation: Optional[str] = None
    test: Optional[str] = None
    document_column: str = "document"
    summary_column: str = "summary"  # a string, or a list of references
    references_column: Optional[str] = None  # further references, a list; missing column: refused
    id_column: Optional[str] = None  # null: `split-index`
    sizes: SizesConfig = field(default_factory=SizesConfig)
    seed: int = 0  # draws subsets; apart from the training seed, so all runs see the same items


@dataclass
class EncodingConfig:
    """How a pair becomes tokens: prompt with the document, then the summary, then EOS."""

    prompt: str = "{document}\nTL;DR:"
    summary: str = " {summary}"
    max_length: Optional[int] = None  # tokens of the whole sequence; null: the model's context
    max_summary_tokens: int = 128  # longer summaries are dropped from training and counted


@dataclass
class GenerationConfig:
    """Decoding of summaries."""

    num_beams: int = 1  # 1 is greedy
    max_new_tokens: int = 128
    min_new_tokens: int = 0
    no_repeat_ngram: int = 3  # blocked among generated tokens only; 0 is off
    length_penalty: float = 1.0  # beam search only
    batch_size: int = 16


@dataclass
class EvaluationConfig:
    """Scoring of summaries."""

    bootstrap: int = 1000  # resamples behind each interval
    confidence: float = 0.95
    min_sentence_words: int = 6  # shorter sentences are passed over by lead, random and oracle
    sentences: int = 3  # sentences of the lead, random and oracle baselines
