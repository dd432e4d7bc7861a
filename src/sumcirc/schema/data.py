"""Documents and how they become tokens."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Optional

from omegaconf import MISSING

from sumcirc.schema.require import at_least, require

SPLITS = ("train", "validation", "test")


class Source(Enum):
    """Where documents come from."""

    wire = "wire"  # the built-in generator
    hub = "hub"  # a Hugging Face hub data set
    files = "files"  # the user's own JSONL, CSV or Parquet files


@dataclass
class SizesConfig:
    """How many items to draw, at random by `data.seed`; null takes all."""

    train: Optional[int] = None  # items to train on
    validation: Optional[int] = None  # items of the loss while training, and of probes
    test: Optional[int] = None  # items that are scored, and looked at by `circuit` and `compare`

    def __post_init__(self) -> None:
        at_least(self, "data.sizes.", 1, *SPLITS)


@dataclass
class DataConfig:
    """conf/data: pairs of documents and summaries."""

    name: str = MISSING  # short name, used in run names
    source: Source = MISSING
    path: Optional[str] = None  # hub id (source hub)
    subset: Optional[str] = None  # hub configuration name
    revision: Optional[str] = None  # hub revision
    train: Optional[str] = None  # split name (hub) or file or glob pattern (files)
    validation: Optional[str] = None  # as `train`
    test: Optional[str] = None  # as `train`
    document_column: str = "document"  # of texts
    summary_column: str = "summary"  # a string, or a list of references
    references_column: Optional[str] = None  # further references, a list; missing column: refused
    id_column: Optional[str] = None  # null: `split-index`
    sizes: SizesConfig = field(default_factory=SizesConfig)
    seed: int = 0  # draws subsets; apart from the training seed, so all runs see the same items

    def __post_init__(self) -> None:
        at_least(self, "data.", 0, "seed")


@dataclass
class EncodingConfig:
    """How a pair becomes tokens: prompt with the document, then the summary, then EOS."""

    prompt: str = "{document}\nTL;DR:"  # what the model is given; holds {document} once
    summary: str = " {summary}"  # what follows it; holds {summary} once
    max_length: Optional[int] = None  # tokens of the whole sequence; null: the model's context
    max_summary_tokens: int = 128  # longer summaries are left out of training, and counted

    def __post_init__(self) -> None:
        require(
            self.prompt.count("{document}") == 1,
            f"encoding.prompt={self.prompt!r}: must hold {{document}} exactly once",
        )
        require(
            self.summary.count("{summary}") == 1,
            f"encoding.summary={self.summary!r}: must hold {{summary}} exactly once",
        )
        at_least(self, "encoding.", 1, "max_length", "max_summary_tokens")
