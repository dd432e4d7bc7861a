"""benchmarks/placement_forgetting.py on runs whose learning and forgetting are known."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sumcirc.placement.landscape_files import write_landscape
from sumcirc.placement.units import label_of
from sumcirc.storage.writing import csv_text, write_text
from tests.support.landscapes import draw, landscape

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks/placement_forgetting.py"
AMOUNTS = (0.25, 0.5, 0.75, 1.0)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    return importlib.import_module("placement_forgetting")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Sets whose loss falls in proportion to the amount: by 2 with layer 0, otherwise by 1."""
    found = landscape(draw(np.arange(20.0) / 40, seeds=2, documents=4))
    found.scores["nll"] = 3 - found.scores["facts"]
    rows: list[tuple[Any, ...]] = [("base", "", 0.0, 5.0, 2.0, 0.0)]
    for layers in found.sets:
        gain = 2.0 if 0 in layers else 1.0
        for seed in (1, 2):
            for amount in AMOUNTS:
                kl = 0.4 * seed * amount
                values = 5 - gain * amount, 2 + kl / 2, kl
                rows.append((label_of(layers), seed, amount, *values))
    columns = ("arm", "seed", "amount", "reference_nll", "article_nll", "article_kl")
    write_landscape(found, [], tmp_path)
    write_text(tmp_path / "learning-forgetting.csv", csv_text(columns, rows))
    return tmp_path


def test_runs_are_compared_where_they_have_learned_the_same(script: Any, folder: Path) -> None:
    loss, at = script.equal_learning(script.curves(folder))
    assert loss == 4  # what sets without layer 0 reach at the end
    amount, nll, articles, kl = at["0,1,2", 2]
    assert (amount, nll) == pytest.approx((0.5, 4))
    assert (articles, kl) == pytest.approx((2.2, 0.4))
    assert at["3,4,5", 1] == pytest.approx([1, 4, 2.2, 0.4])
    # a loss between two amounts
    assert script.at_loss(script.curves(folder)["0,1,2", 1], 4.75)[0] == pytest.approx(0.125)
    with pytest.raises(ValueError, match=r"a loss of 2\.5000 isn't reached"):
        script.at_loss(script.curves(folder)["0,1,2", 1], 2.5)


def test_tables_record_and_picture(folder: Path) -> None:
    words = [sys.executable, str(SCRIPT), str(folder), "--figure", str(folder / "picture.png")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert "loss on references that every run reaches: 4.0000" in done.stdout
    assert "| KL of sets with layer 0 minus without | -0.3000 |" in done.stdout
    line = next(one for one in done.stdout.splitlines() if one.startswith("| 0,1,2 |"))
    assert line.endswith("| 3.000 | +0.300 | 0.600 | 0.50 | +0.150 | 0.300 (0.200 to 0.400) |")
    records = (folder / "equal-learning.csv").read_text(encoding="utf-8").splitlines()
    assert records[0] == "arm,seed,amount,article_nll_change,article_kl,article_kl_full"
    assert '"0,1,2",2,0.5,0.2,0.4,0.8' in records
    assert len(records) == 41
    assert (folder / "picture.png").stat().st_size > 5000
