"""What is printed at the end, word by word where names could be taken for something else."""

from __future__ import annotations

from typing import Any

import pytest

from sumcirc.jobs.compare import print_comparison
from sumcirc.runtime.notices import Notice
from tests.compare.made_findings import SHAPE, made_findings, summarize


def summary_of(name: str = "tuned", before: str = "base") -> dict[str, Any]:
    return {
        "before": before,
        "metric": "log_probability",
        "unit": "nats",
        "items": 8,
        "notices": [
            Notice("compare.items", "cut", 2, 8, "documents are cut").as_json(),
            Notice("compare.items", "missing", 1, 80, "items asked for are missing").as_json(),
        ],
        "after": {name: summarize(made_findings(name), SHAPE)},
    }


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")


def test_names_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    print_comparison(summary_of("[red]x", "[/]a:bug:"))
    printed = capsys.readouterr().out
    assert "[/]a:bug: and [red]x: log_probability of 8 items (nats): before " in printed
    assert printed.endswith(
        "WARNING: compare.items: 2 of 8 documents are cut\n"
        "note: compare.items: 1 of 80 items asked for are missing\n"
    )


def test_spans_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    summary = summary_of()
    row = summary["after"]["tuned"]["attention"][0]
    row["source"], row["destination"] = "[bold]", ":bug:"
    print_comparison(summary)
    assert "[bold] -> :bug:" in capsys.readouterr().out


def test_there_is_a_table_of_every_analysis(capsys: pytest.CaptureFixture[str]) -> None:
    summary = summary_of()
    lens = [{"token": " fire", "id": 1, "value": 2.0}, {"token": "\n", "id": 2, "value": -1.0}]
    summary["after"]["tuned"]["differences"]["lens"] = lens
    print_comparison(summary)
    printed = capsys.readouterr().out
    assert "' fire'" in printed
    assert r"'\n'" in printed
    for title in (
        "heads whose attention changed most",
        "layers across which the residual stream departs most",
        "direct contributions that changed most",
        "attention from span to span",
        "sufficiency: after's parts into before",
        "necessity: before's parts into after",
        "sufficiency: the first parts together",
        "tokens that the change of the last residual stream promotes",
        "necessity: synergy of two parts",
        "the whole change scaled",
        "the change without one part",
        "the change of one part alone",
        "path attribution, share of the gain by layers",
        "path attribution, share of the gain by heads and neurons",
        "NOT CONVERGED (1 %, 1 % and 2 % are allowed; raise compare.path.nodes): 7 points",
        "layers by path score, together: share of the gain",
        "the best units alone, share of the gain by size (share of the changed weights)",
        "without the best units, share of the gain",
        "modules by learned masks, with their ranks",
    ):
        assert title in printed, title
    assert "value.1.1 (heads 2-3)" in printed
    for row in ("│ 0.5 ", "│ layer 1 "):
        assert row in printed
    difference = summary["after"]["tuned"]["metric"]["difference"]
    assert f"difference {difference['mean']:.2f} [{difference['low']:.2f}, " in printed


def test_sets_stand_beside_random_ones(capsys: pytest.CaptureFixture[str]) -> None:
    summary = summary_of()
    rows = summary["after"]["tuned"]["patching"]["necessity"]["sets"]
    drawn = [row["mean"] for row in rows if row["kind"] == "random" and row["size"] == 2]
    print_comparison(summary)
    line = next(line for line in capsys.readouterr().out.splitlines() if "+ mlp.1 " in line)
    assert f"{min(drawn):.3f} to {max(drawn):.3f}" in line


def test_a_gap_of_zero_and_one_in_doubt_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    summary = summary_of()
    metric = summary["after"]["tuned"]["metric"]
    metric["difference"] = {"mean": 0.1, "low": -0.1, "high": 0.3, "n": 8}
    print_comparison(summary)
    printed = capsys.readouterr().out
    assert "the models don't differ reliably in the metric" in printed
    assert "sufficiency: after's parts into before, effect (nats)" in printed
    nan, reason = float("nan"), "masks: no weight differs between the models; nothing is ranked"
    summary["after"]["tuned"]["masks"] = {"left_out": reason}
    for mean, low, high, same in (
        (0.0, 0.0, 0.0, True),
        (1e-7, -2e-7, 3e-7, True),
        (1e-7, nan, nan, True),  # of fewer than 8 items
        (1e-7, -1e-3, 1e-3, False),
        (1e-3, nan, nan, False),
    ):
        metric["difference"] = {"mean": mean, "low": low, "high": high, "n": 8}
        print_comparison(summary)
        printed = capsys.readouterr().out
        assert ("the models give the same results on these items up to rounding" in printed) is same
        assert reason in " ".join(printed.split())


def test_shares_that_are_not_defined_are_dashes(capsys: pytest.CaptureFixture[str]) -> None:
    summary = summary_of()
    found = summary["after"]["tuned"]
    found["metric"]["difference"] = {"mean": 0.1, "low": -0.1, "high": 0.3, "n": 8}
    rows = found["patching"]["necessity"]["parts"]
    for row in (*rows, *found["surgery"]):
        row |= dict.fromkeys(("mean", "low", "high"), float("nan"))
    print_comparison(summary)
    printed = capsys.readouterr().out
    assert "nan" not in printed.replace("necessity", "")
    largest = max(
        (row for row in rows if row["kind"] not in ("residual", "unembedding")),
        key=lambda row: abs(row["effect"]["mean"]),
    )
    table = printed[printed.index("necessity: before's parts") :]
    first = next(line for line in table.splitlines() if line.startswith("│"))
    assert largest["part"] in first


def test_little_may_have_been_found(capsys: pytest.CaptureFixture[str]) -> None:
    summary = summary_of()
    one = summary["after"]["tuned"]
    summary["after"]["tuned"] = {"metric": one["metric"]}
    summary["notices"] = []
    print_comparison(summary)
    printed = capsys.readouterr().out
    assert "┃" not in printed  # no table
    assert printed.lstrip().startswith("base and tuned: log_probability of 8 items (nats): before ")
