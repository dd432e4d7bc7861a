"""The table of what a model forgets: how well it predicts other texts before and after training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sumcirc.reporting.kinds import Table
from sumcirc.reporting.tables import interval_of
from sumcirc.statistics import MIN_DOCUMENTS, bracketed
from sumcirc.tracking.score_names import BASE, TRAINED

CHANGES = ("change, nats a token", "KL(base || trained), nats a token")
EXPLANATION = (
    "Each text is read as it is, without a prompt, and cut to the context. Perplexity: exp of the"
    " mean negative log-likelihood over the tokens of all texts. Change: that of the trained model"
    " minus the base's, and KL: how far its predictions are from the base's; both are means over"
    " texts, with intervals from resampling texts."
)


def retention_table(summary: Mapping[str, Any], label: str, title: str = "") -> Table | None:
    """Return a table of the texts of `evaluation.retention`, one row for each corpus.

    Args:
        summary: the content of the run's summary.json.
        label: name to show for the trained model.
        title: title of the table.

    Returns:
        The table; None if the run measured no such texts.
    """
    found = summary.get("retention", {})
    if not found:
        return None
    measured = {name for values in found.values() for name in values["systems"]}
    systems = [name for name in (BASE, TRAINED) if name in measured]
    changed = any("kl" in values for values in found.values())
    names = {BASE: "base", TRAINED: label}
    headings = ["texts", "number", "tokens", *(f"perplexity of {names[one]}" for one in systems)]
    rows = []
    for name, values in found.items():
        cells = [name, f"{values['documents']:,}", f"{values['tokens']:,}"]
        for system in systems:
            one = values["systems"].get(system)
            cells.append("-" if one is None else _cell(one["perplexity"], ".2f"))
        if changed:
            cells.append(_cell(values["nll_change"], "+.3f"))
            cells.append(_cell(values["kl"], ".3f"))
        rows.append(cells)
    return Table(title, [*headings, *(CHANGES if changed else ())], rows)


def _cell(record: Mapping[str, Any], form: str) -> str:
    one = interval_of(record)
    if one.n < MIN_DOCUMENTS:
        return f"{one.mean:{form}} ({one.n} text{'s' * (one.n != 1)})"
    return bracketed(one.mean, one.low, one.high, form)
