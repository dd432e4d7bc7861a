"""Tables of how many seeds and documents are needed to show a wanted difference."""

from __future__ import annotations

from sumcirc.reporting.arms import control_title, in_text
from sumcirc.reporting.comparison import ArmComparison
from sumcirc.reporting.kinds import Table
from sumcirc.reporting.power import needs, planned_arms
from sumcirc.statistics.power import MOST_SEEDS, POWER
from sumcirc.tracking.score_names import SCORES, scale_of


def power_tables(comparison: ArmComparison) -> list[Table]:
    """Return, for each control, how many seeds are needed to show `ComparisonOptions.wanted`.

    Args:
        comparison: comparison of the arms.

    Returns:
        One table for each control; none if no difference is wanted.
    """
    wanted, metric = comparison.options.wanted, comparison.options.metric
    if wanted is None:
        return []
    scale = scale_of(metric)
    found = []
    for against in comparison.options.against:
        rows = needs(comparison, against, wanted / scale)
        arms = planned_arms(comparison, against)
        if rows:
            title = (
                f"to show a difference of {wanted:g} in {SCORES[metric]}"
                f"{' x 100' if scale != 1 else ''} from"
                f" {in_text(control_title(against))} with"
                f" {100 * POWER:.0f} % probability, Holm over {arms} arm{'s' * (arms != 1)}"
            )
            cells = [(f"{one.documents:,}", str(one.seeds or f"> {MOST_SEEDS}")) for one in rows]
            found.append(Table(title, ("documents", "seeds of each arm"), cells))
    return found
