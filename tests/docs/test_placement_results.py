"""docs/results/placement.md states its records."""

from __future__ import annotations

import csv
import json

import pytest
from scipy.stats import spearmanr

from docs.record import RECORDS
from sumcirc.placement import tables as landscape_tables
from sumcirc.placement.analysis import Analysis
from sumcirc.placement.landscape_files import read_landscape
from sumcirc.placement.selectors import best_by_luck
from sumcirc.reporting.tables import markdown_table
from tests.support.forgetting import forgetting

README = RECORDS.parents[2] / "README.md"


def test_the_page_on_placement_states_its_records() -> None:
    """Every row of the page's tables is one that the stored landscape or its records give."""
    folder, page = RECORDS / "placement", (RECORDS.parent / "placement.md").read_text()
    choices = json.loads((folder / "choices.json").read_text())["selectors"]
    landscape, stored = read_landscape(folder)
    assert {one.name: list(one.sets[0]) for one in stored} == {
        name: one["layers"] for name, one in choices.items()
    }
    analysis = Analysis(landscape.measured("facts"))
    judged = [analysis.judged(choice) for choice in stored]
    for table in landscape_tables.tables(analysis, judged):
        missing = [row for row in markdown_table(table).splitlines()[2:] if row not in page]
        assert missing == [], table.title
    words, luck = " ".join(page.split()), best_by_luck(len(stored), len(landscape.sets))
    assert f"of {len(stored)} selectors that draw at random one picks the best set in" in words
    assert f"in {100 * luck:.0f} % of landscapes" in words
    one = next(one for one in judged if one.name == "extrapolated")
    assert one.agreement is not None
    skill, rank = one.skill, one.agreement.spearman
    assert f"sixth set ({skill.skill:.2f} [{skill.low:.2f}, {skill.high:.2f}])" in words
    assert f"(rank correlation {rank:.2f})" in words
    with (folder / "rates.csv").open() as file:
        rates = {(row["layers"], row["scale"]): row for row in csv.DictReader(file)}
    for layers in ("0,1,2", "3,4,5", "0,2,4", "1,3,5"):
        found = [rates.get((layers, scale)) for scale in ("1.25", "2.5", "5", "10")]
        losses = [f"{float(row['lowest_validation_loss']):.3f}" if row else "-" for row in found]
        assert f"| {layers} | {' | '.join(losses)} |" in page


def test_the_page_on_placement_states_what_was_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RECORDS / "placement/seed1"
    page = " ".join((RECORDS.parent / "placement.md").read_text().split())
    landscape, _ = read_landscape(folder)
    runs, loss, kl, table = forgetting(folder, monkeypatch)
    least, whole = min(kl, key=kl.__getitem__), "LoRA, all layers"
    assert f"equal loss on the references ({loss:.3f}," in page
    assert (
        f"{kl[least]:.2f} for layers {least}, {kl[whole]:.2f} for all layers,"
        f" {kl['0,1,4']:.2f} for 0,1,4 and {kl['0,1,2']:.2f} for 0,1,2."
    ) in page
    for layer, sign in ((0, 1), (5, -1)):
        change = sign * float(table[f"KL of sets with layer {layer} minus without"])
        assert f"{change:.2f} {'above' if sign > 0 else 'below'}" in page.replace(" those", "")
    assert (
        f"correlation of this KL with the facts is {table['rank correlation with facts']}" in page
    )
    ends = [curve[-1] for curve in runs.values()]
    after = sorted(end[2] for end in ends)
    assert f"from {next(iter(runs.values()))[0][2]:.2f} to between {after[0]:.1f} and" in page
    assert f"{after[-1]:.1f} nats" in page
    means = {name: landscape.scores[name].mean((1, 2)) for name in ("facts", "nll", "rougeLsum_f1")}
    for name, shown in (("nll", "{:.2f} (with"), ("rougeLsum_f1", "at {:.2f})")):
        assert shown.format(spearmanr(means["facts"], means[name])[0]) in page
    for place in (means["nll"].argmin(), means["nll"].argmax()):
        layers = ",".join(map(str, landscape.sets[place]))
        assert f"ayers {layers}" in page
        assert f"({means['nll'][place]:.3f}) and {100 * means['facts'][place]:.1f} %" in page
