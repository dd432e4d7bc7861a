"""The numbers of the section on edges in docs/results/path.md are those of its records."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from docs.record import RECORDS

PAGE = (RECORDS.parent / "path.md").read_text()
RUNS = {"full": "full fine-tuning", "lora": "LoRA, rank 16"}
TOPS = {"top_0.01": "largest 1 %", "top_0.05": "largest 5 %", "top_0.1": "largest 10 %"}
SHOWN = 8  # edges of a run in the table


def record(name: str) -> dict[str, Any]:
    return json.loads((RECORDS / "path" / f"edges-{name}.json").read_text())


def percent(ends: Mapping[str, float]) -> str:
    mean, low, high = (100 * ends[end] for end in ("mean", "low", "high"))
    return f"{mean:.1f} [{low:.1f}, {high:.1f}]"


def row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def totals(name: str) -> list[str]:
    """A run's row of the table of sums, and of what is not divided."""
    edges = record(name)["edges"]
    rest = {one["unit"]: one for one in edges["rest"]}
    others = sum(one["mean"] for unit, one in rest.items() if unit != "unembedding")
    tied = percent(rest["unembedding"]) if rest else "-"
    cells = [
        RUNS[name],
        f"{edges['edges']:,}",
        str(edges["significant"]),
        percent(edges["divided"]),
    ]
    cells += [tied, f"{100 * others:.1f}" if rest else "-", f"{100 * edges['cancelled']:.0f}"]
    return [row(*cells)]


def largest() -> list[str]:
    """Rows of the table of edges, both runs side by side."""
    rows = []
    both = (record(name)["edges"]["largest"] for name in RUNS)
    for full, lora in list(zip(*both, strict=True))[:SHOWN]:
        cells = []
        for one in (full, lora):
            assert one["significant"]
            cells += [f"{one['sender']} → {one['destination']}", percent(one)]
        rows.append(row(*cells))
    return rows


def overlaps(name: str) -> list[str]:
    """A run's rows of the table of agreement with the circuit."""
    found, rows = record(name)["circuit"], []
    for key, words in {"spearman": "rank correlation", **TOPS}.items():
        value, low, high = (found[f"{key}{end}"] for end in ("", "_low", "_high"))
        more = [found[f"{key}_excess{end}"] for end in ("", "_low", "_high")]
        rows.append(
            row(
                RUNS[name],
                words,
                f"{value:.2f} [{low:.2f}, {high:.2f}]",
                f"{found[f'{key}_matched']:.2f}",
                f"{more[0]:.2f} [{more[1]:.2f}, {more[2]:.2f}]",
            )
        )
    return rows


def costs(name: str) -> list[str]:
    """A run's row of the table of costs."""
    cost = record(f"{name}-cost")["cost"]
    cells = [
        f"{one['median']:.2f} [{one['low']:.2f}, {one['high']:.2f}]"
        for one in (cost["without"], cost["with"])
    ]
    return [row(RUNS[name], *cells)]


@pytest.mark.parametrize("name", RUNS)
def test_tables_state_their_records(name: str) -> None:
    lines = PAGE.splitlines()
    for one in [*totals(name), *overlaps(name), *costs(name), *largest()]:
        assert one in lines, one


@pytest.mark.parametrize("name", RUNS)
def test_what_was_found_has_converged_and_adds_up(name: str) -> None:
    found = record(name)
    edges = found["edges"]
    assert found["converged"]
    total = edges["divided"]["mean"] + sum(one["mean"] for one in edges["rest"])
    assert total == pytest.approx(1, abs=0.01)
    assert sum(map(sum, edges["layers"])) == pytest.approx(edges["divided"]["mean"], abs=0.001)


def test_the_text_states_the_records() -> None:
    page = " ".join(PAGE.split())
    for name, words in RUNS.items():
        layers = record(name)["edges"]["layers"]
        to_logits = 100 * sum(layer[-1] for layer in layers)
        assert f"{to_logits:.0f} % of the gain of {words.split(',')[0]}" in page
