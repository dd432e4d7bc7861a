"""Settings of what a training run hands on."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Optional

from sumcirc.schema.require import require

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass
class ExportConfig:
    """What a training run hands on, in addition to its adapter or model."""

    merge: bool = False  # also write the model with the adapter merged into it, to merged/
    # repository OWNER/NAME on the Hugging Face hub, to which the result is uploaded: with `merge`
    # the merged model, else the adapter or model
    push_to_hub: Optional[str] = None
    private: bool = True  # a repository that is made for it is private

    def __post_init__(self) -> None:
        value = self.push_to_hub
        require(
            value is None or HUB_ID.fullmatch(value) is not None,
            f"export.push_to_hub={value}: is not an id on the hub; give OWNER/NAME",
        )
