"""Settings of the KL penalty, which keeps a model close to its base on other texts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional

from sumcirc.schema.lists import lists_of_one
from sumcirc.schema.require import at_least, require


@dataclass
class KLPenaltyConfig:
    """A penalty on KL(base || model) on other texts, added to the loss of training."""

    # texts that have nothing to do with the task, files or patterns; empty: no penalty
    texts: list[str] = field(default_factory=list)
    column: str = "document"  # column of these texts; a .txt file is one text
    documents: Optional[int] = None  # texts of each file or pattern; null takes all
    weight: float = 1.0  # factor of the KL in nats a token, which is added to the loss
    batch_size: int = 4  # texts per device that are read with each batch of summaries
    max_length: int = 256  # tokens to which texts are cut

    def __post_init__(self) -> None:
        lists_of_one(self)
        at_least(self, "kl_penalty.", 0, "weight")
        at_least(self, "kl_penalty.", 1, "documents", "batch_size")
        at_least(self, "kl_penalty.", 2, "max_length")
        default = KLPenaltyConfig.__dataclass_fields__["weight"].default
        require(
            bool(self.texts) or self.weight in (0, default),
            f"kl_penalty.weight={self.weight}: there is nothing to measure it on; add"
            " kl_penalty.texts=FILE",
        )

    @property
    def is_on(self) -> bool:
        """Whether there is a penalty."""
        return bool(self.texts) and self.weight > 0
