"""How two models are compared."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum
from typing import Optional

from sumcirc.schema.lists import lists_of_one
from sumcirc.schema.require import at_least, positive, require


class Analysis(Enum):
    """What `sumcirc compare` does."""

    differences = "differences"  # attention, residual stream, neurons, next tokens, lens
    direct = "direct"  # contributions of heads and MLPs to the metric
    attention = "attention"  # from spans to spans
    patching = "patching"  # parts moved from one model into the other
    surgery = "surgery"  # the change scaled and removed, part by part


class Direction(Enum):
    """Which model's parts are moved into which."""

    sufficiency = "sufficiency"  # after's into before
    necessity = "necessity"  # before's into after


# kinds of parts that are moved one by one; what each is: compare/patching/components.py
PARTS = (
    *("output", "query", "key", "value", "pattern"),  # of a head
    *("attention", "mlp", "residual"),  # of a layer
    "readout",
)
REPHRASE, FACTS = "rephrase", "facts"  # sets of prompts that are made here


@dataclass
class CompareOptions:
    """How two models are compared."""

    analyses: list[Analysis] = field(default_factory=lambda: list(Analysis))
    items: int = 32  # documents of data.test, or prompts; as many texts
    batch_size: int = 4  # items at once
    memory_budget: float = 4.0  # GB that a pass may take beside the model
    positions: Optional[str] = None  # where parts are moved; null: `read`, of prompts `last`
    sources: Optional[str] = None  # positions whose keys and values are moved; null: all
    directions: list[Direction] = field(default_factory=lambda: list(Direction))
    parts: list[str] = field(
        default_factory=lambda: ["output", "value", "mlp", "residual", "readout"]
    )  # of PARTS
    sets: list[list[str]] = field(default_factory=list)  # moved together: [[output.3.1,mlp.4],...]
    top: int = 5  # parts whose sets and pairs are moved together
    random_sets: int = 5  # of each size, for comparison
    lambdas: list[float] = field(
        default_factory=lambda: [0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5]
    )  # by which the change is scaled
    text: Optional[str] = None  # JSONL, CSV or Parquet of plain text for perplexity; null: data's

    def __post_init__(self) -> None:
        lists_of_one(self)
        at_least(self, "compare.", 1, "items", "batch_size", "random_sets")
        at_least(self, "compare.", 0, "top")
        positive(self, "compare.", "memory_budget")
        for name in ("analyses", "directions", "parts"):
            value = getattr(self, name)
            require(
                bool(value) and len(set(value)) == len(value),
                f"compare.{name}: name each once, and one at least",
            )
        for name in self.parts:
            require(
                name in PARTS, f"compare.parts: `{name}` is none; choose from {', '.join(PARTS)}"
            )
        require(all(self.sets), f"compare.sets={self.sets}: name a part in each set")
        require(
            bool(self.lambdas)
            and all(map(math.isfinite, self.lambdas))
            and sorted(set(self.lambdas)) == self.lambdas,
            f"compare.lambdas={self.lambdas}: must be rising numbers such as [0,0.5,1]",
        )

    @property
    def memory(self) -> int:
        """The budget in bytes."""
        return int(1e9 * self.memory_budget)
