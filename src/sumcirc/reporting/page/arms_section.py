"""Section: the arms of a sweep compared with their controls, see `reporting.comparison`."""

from __future__ import annotations

from functools import partial

from sumcirc.reporting.arms import BUDGET
from sumcirc.reporting.comparison import ArmComparison
from sumcirc.reporting.comparison_files import METHOD
from sumcirc.reporting.inside import INSIDE
from sumcirc.reporting.page.blocks import Block, Bullets, Gap, Page, RunBlocks, TableBlock, Words
from sumcirc.reporting.page.plotly_charts import charts, panel_charts
from sumcirc.reporting.views import arm_views
from sumcirc.reporting.views.arm_tables import remarks, tables

INTRO = (
    "An arm is a configuration: the runs that share everything except the seed. A control is the"
    " arm that another is compared with, such as LoRA on randomly drawn layers. Intervals are over"
    " seeds and documents; a number in brackets leads to a remark below the tables."
)


def add(page: Page, comparison: ArmComparison | None) -> None:
    """Add the section with the comparison's tables, charts and remarks.

    Args:
        page: page to which the section is added.
        comparison: comparison of the arms; if None, no section is added.
    """
    if comparison is None:
        return
    found = tables(comparison)
    sizes = [result.arm.trainable_parameters for result in comparison.arms]
    several = max(sizes) > (1 + BUDGET) * min(sizes)
    blocks: list[Block] = [TableBlock(found[0]), *charts(partial(arm_views.scores, comparison))]
    blocks += charts(partial(arm_views.parameters, comparison)) if several else []
    blocks += [TableBlock(table) for table in found[1:]]
    for against in comparison.options.against:
        blocks += charts(partial(arm_views.differences, comparison, [against]))
    labels = [INSIDE[name].label for name in comparison.inside]
    blocks += panel_charts(partial(arm_views.inside, comparison), labels)
    blocks += charts(partial(arm_views.run_losses, comparison))
    titled = {"Not directly comparable": remarks(comparison), "To note": comparison.notes}
    blocks += [Bullets(title, lines) for title, lines in titled.items() if lines]
    blocks.append(Words(METHOD.replace("\n", " ")))
    page.add("bakeoff", "Comparison of arms", INTRO, [RunBlocks("", blocks)])
    for item in comparison.left_out:
        page.gaps.append(Gap(f"{item.path.name} is not compared: {item.reason}"))
