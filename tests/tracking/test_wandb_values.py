"""Names under which W&B keeps what summary.json holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sumcirc.tracking.metric_names import MetricKind, find
from sumcirc.tracking.wandb_values import (
    arm_columns,
    compared_tables,
    difference_columns,
    image_files,
    score_rows,
    summary_values,
    times_100,
)

INTERVAL = {"mean": 0.5, "low": 0.4, "high": 0.6, "n": 3}


def test_a_circuit_is_called_as_in_training() -> None:
    """`circuit/edges` are those in the circuit, by whichever verb."""
    summary: dict[str, Any] = {
        **{"model": "tiny", "pairs": 3, "nodes": 10, "edges": 99, "circuit_edges": 7},
        **{"faithfulness": INTERVAL, "cpr": {"value": INTERVAL}, "cmd": {"value": INTERVAL}},
    }
    values = summary_values("circuit", summary)
    assert (values["circuit/edges"], values["circuit/graph_edges"]) == (7, 99)
    assert (values["circuit/cmd"], values["circuit/cmd/high"]) == (0.5, 0.6)
    assert "circuit/jaccard" not in values
    assert "circuit/circuit_edges" not in values
    verdicts = {"minimal": "fail", "stable": "pass"}
    card = {"passed": 4, "failed": 1, "not_tested": 4, "verdicts": verdicts}
    logged = summary_values("circuit", summary | {"card": card})
    assert {name: value for name, value in logged.items() if name not in values} == {
        f"circuit/card/{name}": count for name, count in card.items() if name != "verdicts"
    }
    nothing = {**INTERVAL, "mean": float("nan")}
    summary |= {"jaccard": nothing, "spearman": INTERVAL, "jaccard_chance": float("nan")}
    values = summary_values("circuit", summary | {"faithfulness": nothing})
    assert not {"circuit/faithfulness", "circuit/jaccard", "circuit/jaccard_chance"} & set(values)


def test_a_circuit_judged_on_held_out_pairs() -> None:
    interval = {"mean": 0.9, "low": 0.8, "high": 1.0, "n": 8}
    area = {"value": interval, "random": []}
    summary = {
        **{"model": "tiny", "pairs": 8, "held_out_pairs": 9, "nodes": 10, "edges": 99},
        **{"circuit_edges": 7, "faithfulness": interval, "cpr": area, "cmd": area},
        "in_sample": {name: {**interval, "mean": 0.95} for name in ("faithfulness", "cpr", "cmd")},
        **{"control": {**interval, "mean": 0.1}, "reached": {"edges": 12}},
    }
    values = summary_values("circuit", summary)
    assert (values["circuit/faithfulness"], values["circuit/held_out_pairs"]) == (0.9, 9)
    assert values["circuit/in_sample/faithfulness"] == 0.95
    assert (values["circuit/control"], values["circuit/reached_edges"]) == (0.1, 12)
    assert [name for name in values if find(name, MetricKind.summary) is None] == []


def test_an_unfinished_run_has_no_values() -> None:
    assert summary_values("train", {}) == {}
    assert summary_values("select", {"seconds": {"select": 1.0}}) == {}


def test_of_a_comparison_empty_tables_are_left_out() -> None:
    one = {"metric": {"before": INTERVAL}, "direct": [], "patching": {"necessity": {"parts": [1]}}}
    summary = {"after": {"run": one}}
    assert set(compared_tables(summary)) == {"compare/run/necessity"}
    assert summary_values("compare", summary)["compare/run/before/mean"] == 0.5


def test_images_one_folder_down(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for file in ("loss.png", "loss.pdf", "run/surgery.png"):
        (tmp_path / file).write_text("")
    assert set(image_files(tmp_path)) == {"figures/loss", "figures/run/surgery"}


def test_scores_are_also_times_100_and_intervals_are_in_the_table() -> None:
    undefined = {**INTERVAL, "mean": float("nan"), "low": float("nan"), "high": float("nan")}
    scores = {"rougeLsum_f1": INTERVAL, "rougeLsum_recall": INTERVAL, "length": INTERVAL}
    summary = {"systems": {"base": {**scores, "facts": undefined}}}
    values = summary_values("train", summary)
    assert values == {"test/base/rougeLsum_f1": 0.5, "test/base/rougeLsum_x100": 50.0}
    rows = {row.pop("score"): row for row in score_rows(summary)}
    ends = {"mean": 50.0, "low": 40.0, "high": pytest.approx(60.0), "documents": 3}
    assert rows["rougeLsum_x100"] == rows["rougeLsum_recall_x100"] == {"system": "base", **ends}
    assert rows["length"]["mean"] == 0.5
    assert rows["facts_x100"]["mean"] is None


def test_cost_of_training() -> None:
    summary = {"systems": {}, "cost": {"flops": 2e12, "flops_per_second": 1e9, "mfu": 0.25}}
    assert summary_values("train", summary) == {
        "cost/flops": 2e12,
        "cost/flops_per_second": 1e9,
        "cost/mfu": 0.25,
    }


def test_curves_times_100() -> None:
    found = times_100({"summaries/rouge1_f1": 0.25, "summaries/rouge1_f1/low": 0.1, "a/b": 1.0})
    assert found.pop("summaries/rouge1_x100") == 25
    assert set(found) == {"summaries/rouge1_f1", "summaries/rouge1_f1/low", "a/b"}


def test_tables_of_arms_are_times_100_under_other_names() -> None:
    row = {"arm": "all", "rouge1_f1": 0.5, "rouge1_f1_low": None, "rouge1_f1_documents": 9}
    assert arm_columns({**row, "length": 12.0}) == {
        "arm": "all",
        "rouge1_x100": 50.0,
        "rouge1_x100_low": None,
        "rouge1_x100_documents": 9,
        "length": 12.0,
    }
    numbers = {"difference": -0.25, "low": None, "high": 0.0, "error": 0.5, "p": 0.5}
    found = difference_columns({"measure": "facts", **numbers})
    assert found == {
        **{"measure": "facts_x100", "difference": -25, "low": None, "high": 0, "error": 50},
        "p": 0.5,
    }
    assert difference_columns({"measure": "length", **numbers})["difference"] == -0.25
