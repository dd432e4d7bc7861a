"""Names under which W&B keeps what summary.json holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sumcirc.tracking.wandb_values import compared_tables, image_files, summary_values

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
    nothing = {**INTERVAL, "mean": float("nan")}
    summary |= {"jaccard": nothing, "spearman": INTERVAL, "jaccard_chance": float("nan")}
    values = summary_values("circuit", summary | {"faithfulness": nothing})
    assert not {"circuit/faithfulness", "circuit/jaccard", "circuit/jaccard_chance"} & set(values)


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
