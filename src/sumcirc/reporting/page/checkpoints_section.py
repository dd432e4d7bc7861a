"""Section: checkpoints compared with each other, see `reporting.checkpoints`."""

from __future__ import annotations

from collections.abc import Sequence

from sumcirc.reporting.checkpoints import Group, tables
from sumcirc.reporting.page.blocks import Page, RunBlocks, TableBlock, Words

INTRO = (
    "One row for each checkpoint, from runs of evaluate, circuit or compare. Intervals and"
    " differences are over documents: they say nothing about other seeds."
)


def add(page: Page, groups: Sequence[Group]) -> None:
    """Add the section with the tables of each group.

    Args:
        page: page to which the section is added.
        groups: groups of checkpoints; without any there is no section.
    """
    variants = [
        RunBlocks(
            group.name,
            [*map(TableBlock, tables(group)), *([Words(group.note)] if group.note else [])],
        )
        for group in groups
    ]
    page.add("checkpoints", "Comparison of checkpoints", INTRO, variants)
