"""The numbers of docs/results/masks.md are those of its records."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from docs.record import RECORDS
from sumcirc.reporting.tables import markdown_table
from sumcirc.reporting.views.mask_views import RANKINGS

PAGE = (RECORDS.parent / "masks.md").read_text()
RUNS = {"lora": "LoRA, rank 16"}
LISTED = 8


def record(name: str) -> dict[str, Any]:
    return json.loads((RECORDS / "masks" / f"{name}.json").read_text())


def percent(ends: Mapping[str, float], digits: int = 1) -> str:
    mean, low, high = (100 * ends[end] for end in ("mean", "low", "high"))
    return f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def gain_row(name: str) -> str:
    """A run's row of the first table."""
    found = record(name)
    gain, masks = found["metric"]["difference"], found["masks"]
    cells = [RUNS[name], f"{gain['mean']:.2f} [{gain['low']:.2f}, {gain['high']:.2f}]"]
    cells += [str(len(masks["units"])), f"{masks['trained_on']} and {masks['judged_on']}"]
    first, last = masks["rankings"]["masks"]["loss"]
    cells += [f"{100 * first:.0f}, {100 * last:.0f}"]
    agreed = masks["agreement"]
    cells += [f"{agreed[one]:.2f}" for one in ("seeds", "grafting", "path", "add", "remove")]
    return f"| {' | '.join(cells)} |"


def size_rows(name: str, which: str) -> list[str]:
    """Rows of the table of what sets keep, or leave."""
    rows = []
    for ranking, one in record(name)["masks"]["rankings"].items():
        cells = [RANKINGS[ranking]]
        cells += [f"{100 * point[which]['mean']:.0f}" for point in one["curve"]]
        cells.append(percent(one["area"][which]))
        cells.append("-" if ranking == "masks" else percent(one["difference"][which]))
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def forgetting_rows(name: str) -> list[str]:
    """Rows of the table of KL on plain texts."""
    rows = []
    for ranking, one in record(name)["masks"]["rankings"].items():
        cells = [RANKINGS[ranking], *(f"{point['kl']['mean']:.2f}" for point in one["curve"])]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def gain_at_half_kl(name: str, ranking: str) -> float:
    """Share of the gain where a ranking has half of the whole change's KL, by straight lines."""
    masks = record(name)["masks"]
    curve, whole = masks["rankings"][ranking]["curve"], masks["retention"]["kl"]["mean"]
    kl = [0.0, *(point["kl"]["mean"] for point in curve), whole]
    kept = [0.0, *(point["kept"]["mean"] for point in curve), 1.0]
    return float(np.interp(whole / 2, kl, kept))


def unit_rows(name: str) -> list[str]:
    """Rows of the table of units."""
    rows = []
    for one in record(name)["masks"]["units"][:LISTED]:
        cells = [one["unit"], f"{100 * one['weights']:.1f}", ", ".join(map(str, one["ranks"]))]
        cells += [f"{one[other]:.3g}" for other in ("grafting", "path", "add", "remove")]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def matched_row(name: str) -> str:
    """What the sets of the masks and the matched random ones reach, mean over sizes."""
    rankings = record(name)["masks"]["rankings"]
    pairs = (("masks", "random_weights", "weights"), ("masks", "random_norm", "squares"))
    cells = [RUNS[name]]
    for own, other, share in pairs:
        for ranking in (own, other):
            points = rankings[ranking]["curve"]
            cells.append(f"{100 * sum(point[share] for point in points) / len(points):.1f}")
    return f"| {' | '.join(cells)} |"


def page_rows(name: str) -> list[str]:
    """All rows of a run."""
    rows = [gain_row(name), matched_row(name), *unit_rows(name), *forgetting_rows(name)]
    return rows + [row for which in ("kept", "left") for row in size_rows(name, which)]


@pytest.mark.parametrize("name", RUNS)
def test_tables_state_their_records(name: str) -> None:
    lines = PAGE.splitlines()
    for row in page_rows(name):
        assert row in lines, row


@pytest.mark.parametrize("name", RUNS)
def test_runs_have_what_the_page_says(name: str) -> None:
    masks = record(name)["masks"]
    assert masks["path_converged"]
    assert (masks["grain"], masks["shares"]) == ("module", "weights")
    assert masks["sizes"] == [0.05, 0.1, 0.2, 0.4, 0.7]
    assert masks["rankings"]["masks"]["draws"] == 3
    assert masks["rankings"]["random_norm"]["draws"] == 10


def test_the_text_states_the_record() -> None:
    rankings = record("lora")["masks"]["rankings"]

    def points(name: str, which: str) -> str:
        ends = rankings[name]["difference"][which]
        return percent({end: abs(value) for end, value in ends.items()})

    def size(name: str) -> list[int]:
        return [round(100 * point["kept"]["mean"]) for point in rankings[name]["curve"]]

    page = " ".join(PAGE.split())
    patched = [points(name, "kept").split()[0] for name in ("add", "remove")]
    for words in (
        f"by {points('random_weights', 'kept').split()[0]} points of area against as many weights",
        f"against as large a change, {points('random_norm', 'kept')[:3]} points"
        f" {points('random_norm', 'kept')[4:]} remain",
        f"to path scores is {points('path', 'kept')[:3]} points {points('path', 'kept')[4:]}",
        f"Weight patching is {patched[0]} and {patched[1]} points behind",
        f"worse here than path scores, by {points('path', 'left')[:3]} points"
        f" {points('path', 'left')[4:]}",
    ):
        assert words in page, words
    assert size("masks")[1:4:2] == [22, 74]  # a fifth, and three quarters
    assert all(a >= b for a, b in zip(size("random_norm")[:2], size("masks")[:2], strict=True))
    for name in ("path_density", "grafting"):
        ends = rankings[name]["difference"]["kept"]
        assert ends["low"] < 0 < ends["high"]
    first = [row["unit"] for row in record("lora")["masks"]["units"][:LISTED]]
    assert sum("mlp" in unit for unit in first) == 6
    assert first[4] == "layer 0 attn_out"


def test_the_text_states_what_was_forgotten() -> None:
    masks = record("lora")["masks"]
    page, whole = " ".join(PAGE.split()), masks["retention"]

    def ends(values: Mapping[str, float]) -> str:
        return f"{values['mean']:.2f} [{values['low']:.2f}, {values['high']:.2f}]"

    point = masks["rankings"]["masks"]["curve"][3]
    at = {name: f"{100 * gain_at_half_kl('lora', name):.0f} %" for name in masks["rankings"]}
    for words in (
        f"while {whole['texts']} test articles are read",
        f"The whole change has {ends(whole['kl'])}",
        f"rises from {ends(whole['before'])} by {ends(whole['nll_change'])} nats a token",
        f"keep {100 * point['kept']['mean']:.0f} % of the gain keep"
        f" {100 * point['kl']['mean'] / whole['kl']['mean']:.0f} % of the KL",
        f"path scores keep {at['path']} of the gain, random modules {at['random_weights']} (as many"
        f" weights) and {at['random_norm']} (as large a change), learned masks {at['masks']}, and"
        f" their inverted ranking {at['inverted']}",
        f"their KL there is {ends(masks['rankings']['masks']['curve'][2]['kl'])}",
    ):
        assert words in page, words


def test_the_text_states_what_was_retrained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(RECORDS.parents[2] / "benchmarks"))
    script = importlib.import_module("mask_retraining")
    found = record("retraining")
    rows = markdown_table(script.outcome_table(found)).splitlines()
    assert [row for row in rows if row not in PAGE.splitlines()] == []
    base = np.mean(found["base"]["nll"])
    loss = {arm: np.mean([run["nll"] for run in runs]) for arm, runs in script.arms(found).items()}
    whole = base - loss["all", 1.0]
    reached = {size: f"{100 * (base - loss['masks', size]) / whole:.0f} %" for size in (0.4, 0.2)}
    kept = {
        point["size"]: f"{100 * point['kept']['mean']:.0f} %"
        for point in record("lora")["masks"]["rankings"]["masks"]["curve"]
    }
    page = " ".join(PAGE.split())
    for words in (
        f"The base has a loss of {base:.3f}",
        f"40 % of the weights that keep {kept[0.4]} of the gain when the others' change is taken"
        f" out reach {reached[0.4]}",
        f"the 20 % that keep {kept[0.2]} reach {reached[0.2]}",
    ):
        assert words in page, words
    assert len(found["documents"]) == 100


def test_the_readme_states_the_record() -> None:
    readme = (RECORDS.parents[2] / "README.md").read_text()
    curve = record("lora")["masks"]["rankings"]["masks"]["curve"]
    kept = {point["size"]: f"{100 * point['kept']['mean']:.0f} %" for point in curve}
    assert f"the best 10 % of LoRA's weights keep {kept[0.1]} of the gain alone" in readme
    assert f"the best 40 % keep {kept[0.4]}" in readme
