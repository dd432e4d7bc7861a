"""Settings of the circuit card, which tests a circuit line by line."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional

from sumcirc.schema.lists import lists_of_one
from sumcirc.schema.require import at_least, positive, require

# lines that take further passes; those that a circuit's own figures answer are always there
CARD_LINES = ("minimal", "rival", "ablation", "specific", "converged", "exact")
CARD_SETS = {"none": (), "quick": ("minimal", "rival"), "full": CARD_LINES}
FEW_EDGES, MANY_EDGES = 24, 200  # edges removed one by one, for quick and where more is asked for


@dataclass
class CardOptions:
    """Settings of the circuit card (docs/circuit-card.md)."""

    # lines that are tested in addition to those that cost nothing: `quick` (minimal, rival), `full`
    # (all), or names of lines, such as [quick,converged]; `none`: no card
    lines: list[str] = field(default_factory=lambda: ["quick"])
    # most edges that are removed one by one, a sample over all sizes of score; null: 24, or 200 if
    # `lines` has `full` or `minimal`
    edges: Optional[int] = None
    floor: float = 0.001  # least cost of removing an edge that matters, as a share of the gap
    fdr: float = 0.05  # false discovery rate among the removed edges
    exact_edges: int = 100  # edges that the line `exact` patches one by one
    # of the line `specific`: a corruption, or a file of pairs as in `pairs`; null: `control`
    other: Optional[str] = None

    def __post_init__(self) -> None:
        lists_of_one(self)
        known = (*CARD_SETS, *CARD_LINES)
        unknown = [name for name in self.lines if name not in known]
        require(
            bool(self.lines) and not unknown,
            f"card.lines={self.lines}: unknown {unknown}; choose from {', '.join(known)}",
        )
        require(
            "none" not in self.lines or len(self.lines) == 1,
            f"card.lines={self.lines}: `none` is no card at all; leave out the other lines",
        )
        at_least(self, "card.", 1, "edges")
        at_least(self, "card.", 10, "exact_edges")
        at_least(self, "card.", 0, "floor")
        positive(self, "card.", "fdr")
        require(self.fdr < 1, f"card.fdr={self.fdr}: must be below 1, such as 0.05")

    @property
    def made(self) -> bool:
        """Whether a card is made at all."""
        return "none" not in self.lines

    @property
    def tested(self) -> frozenset[str]:
        """The lines of `CARD_LINES` that are tested."""
        return frozenset(line for name in self.lines for line in CARD_SETS.get(name, (name,)))

    @property
    def removed(self) -> int:
        """Most edges that are removed one by one."""
        if self.edges is not None:
            return self.edges
        return MANY_EDGES if {"full", "minimal"} & set(self.lines) else FEW_EDGES
