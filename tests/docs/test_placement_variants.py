"""docs/results/placement-adapters.md states its records."""

from __future__ import annotations

import csv
import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import ttest_rel

from docs.record import RECORDS
from sumcirc.placement.landscape_files import read_landscape
from sumcirc.reporting.runs import read_runs
from sumcirc.reporting.tables import markdown_table

FOLDER = RECORDS / "placement/variants"
PAGE = RECORDS.parent / "placement-adapters.md"
README = RECORDS.parents[2] / "README.md"
BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
LOSS = 1.6


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("adapter_tables")


def test_the_page_states_its_tables(script: Any) -> None:
    page = PAGE.read_text(encoding="utf-8")
    for table in script.page_tables(FOLDER, LOSS):
        assert markdown_table(table) in page, table.title


def test_prose_states_its_tables(script: Any) -> None:
    words = " ".join(PAGE.read_text(encoding="utf-8").split())
    arms = {row[0]: row for row in script.arms_table(FOLDER).rows}
    forgot = {row[0]: row for row in script.forgetting_table(FOLDER, LOSS).rows}
    facts = {name: float(row[2]) for name, row in arms.items()}
    budgeted = {name: value for name, value in facts.items() if name != "full fine-tuning"}
    worst, best = min(budgeted, key=budgeted.__getitem__), max(budgeted, key=budgeted.__getitem__)
    assert f"between {budgeted[worst]} % ({worst}) and {budgeted[best]} % ({best})" in words
    assert f"LoRA ({facts['LoRA']} %): EVA gets 8.7 points more [4.6, 12.8]" in words
    assert arms["EVA"][3:5] == ["+8.7 [+4.6, +12.8]", "0.099"]
    assert arms["AdaLoRA"][3:5] == ["-6.8 [-9.6, -4.0]", "0.086"]
    assert "p (Holm) 0.099, and AdaLoRA 6.8 less [-9.6, -4.0], 0.086." in words
    shown = [name for name, row in arms.items() if row[4] != "-" and float(row[4]) < 0.05]
    assert shown == ["full fine-tuning"]
    penalty, lora = "LoRA, KL penalty 0.1", "LoRA"
    assert f"is {forgot[penalty][5]} nats instead of {forgot[lora][5]} (2.32 less" in words
    assert forgot[penalty][6] == "-2.32 [-2.41, -2.23]"
    kl = kl_at_the_end()
    paired = ttest_rel(kl["kl01"], kl["lora"])
    low, high = paired.confidence_interval(0.95)
    assert (
        f"{np.mean(kl['kl01']) - np.mean(kl['lora']):.2f} [{low:.2f}, {high:.2f}]"
        == (forgot[penalty][6])
    )
    assert (
        f"{forgot[penalty][8].split()[0]} instead of {forgot[lora][8].split()[0]} at equal loss"
        in words
    )
    assert arms[penalty][3] == "+0.9 [-1.9, +3.7]"
    assert "with 0.9 points more of the facts [-1.9, 3.7]" in words
    assert f"({arms[penalty][7]}; LoRA {arms[lora][7]})" in words
    losses = {name: float(arms[name][7]) for name in budgeted}
    assert min(losses, key=losses.__getitem__) == penalty
    assert f"It takes {100 * (float(forgot[penalty][2]) - 1):.0f} % more operations" in words
    attention, mlp = arms["LoRA, attention only"], arms["LoRA, MLP only"]
    assert f"{attention[2]} and {mlp[2]} % of the facts" in words
    assert f"losses of {attention[7]} and {mlp[7]}" in words
    assert f"{facts['full fine-tuning']} % of the facts, with 18 times" in words
    assert f"on other articles ({forgot['full fine-tuning'][5]})" in words
    readme = README.read_text(encoding="utf-8")
    assert f"differ from LoRA ({facts['LoRA']} %)" in readme
    assert f"({forgot[penalty][5]} nats instead of {forgot[lora][5]})" in readme
    assert f"no difference in facts is shown ({arms[penalty][2]} %)" in readme
    assert f"get {budgeted[worst]:.0f} to {budgeted[best]:.0f} % of the facts right" in readme


def kl_at_the_end() -> dict[str, list[float]]:
    """Return the KL on other articles after training by arm, in the order of the seeds."""
    found: dict[str, dict[str, float]] = {}
    text = (FOLDER / "learning-forgetting.csv").read_text(encoding="utf-8")
    for row in csv.DictReader(text.splitlines()):
        if row["amount"] == "1.0":
            found.setdefault(row["arm"], {})[row["seed"]] = float(row["article_kl"])
    return {arm: [own[seed] for seed in ("1", "2", "3")] for arm, own in found.items()}


def test_lora_repeats_the_landscape() -> None:
    """The arm `lora` has the landscape's scores, but for one summary of the third seed."""
    landscape, _ = read_landscape(FOLDER.parent)
    (stored,) = landscape.others.values()
    runs, _ = read_runs([FOLDER / "runs"])
    assert len(runs) == 36
    for run in runs:
        if run.name.startswith("lora-s"):
            seed = landscape.seeds.index(run.seeds[0])
            differing = {
                int((run.values[name] != stored[name][seed]).sum())
                for name in ("facts", "rougeLsum_f1", "length")
            }
            assert max(differing) == (1 if run.seeds[0] == 3 else 0)
            assert np.array_equal(run.values["facts"], stored["facts"][seed])
