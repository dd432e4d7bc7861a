"""The numbers of docs/results/path.md are those of its records."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from scipy.stats import spearmanr

from docs.record import RECORDS
from sumcirc.placement.analysis import Analysis
from sumcirc.placement.landscape_files import read_landscape
from sumcirc.statistics import bootstrap_mean

PAGE = (RECORDS.parent / "path.md").read_text()
KINDS = ("path", "shapley", "add", "remove")
HEADINGS = ("path score", "Shapley value", "alone", "lost without it")
RUNS = {"full": "full fine-tuning", "lora": "LoRA, rank 16"}


def record(name: str) -> dict[str, Any]:
    return json.loads((RECORDS / "path" / f"{name}.json").read_text())


def percent(ends: Mapping[str, float], digits: int = 1) -> str:
    mean, low, high = (100 * ends[end] for end in ("mean", "low", "high"))
    return f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def share(value: float) -> str:
    return f"{100 * value:.2f}"


def layer_rows(name: str) -> list[str]:
    """Rows of the table of layers."""
    return [
        f"| {row['unit']} | " + " | ".join(percent(row[kind]) for kind in KINDS) + " |"
        for row in record(name)["path"]["effects"]["units"]
    ]


def curve_rows(name: str) -> list[str]:
    """Rows of the table of units together."""
    effects = record(name)["path"]["effects"]
    return [
        f"| + {unit} | " + " | ".join(percent(row[k], 0) for k in ("keep", "drop", "random")) + " |"
        for unit, row in zip(effects["order"], effects["curve"][1:], strict=True)
    ]


def summary_row(name: str) -> str:
    """A run's row of the table of errors."""
    found = record(name)
    path, gain = found["path"], found["metric"]["difference"]
    cells = [RUNS[name], f"{gain['mean']:.2f} [{gain['low']:.2f}, {gain['high']:.2f}]"]
    cells += [str(path["evaluations"]), *(share(path["errors"][x]) for x in ("total", "document"))]
    return f"| {' | '.join([*cells, share(path['errors']['unit'])])} |"


def rule_rows(name: str) -> list[str]:
    """Rows of the table of rules."""
    return [
        f"| {RUNS[name]} | {row['rule']} | {row['points']} | "
        + " | ".join(share(row[key]) for key in ("total", "document", "unit"))
        + " |"
        for row in record(f"bench-{name}")["rules"]
        if "points" in row
    ]


@pytest.mark.parametrize("name", RUNS)
def test_tables_state_their_records(name: str) -> None:
    lines = PAGE.splitlines()
    rows = [*layer_rows(name), *curve_rows(name), summary_row(name), *rule_rows(name)]
    for row in rows:
        assert row in lines, row


@pytest.mark.parametrize("name", RUNS)
def test_what_was_found_has_converged(name: str) -> None:
    path = record(name)["path"]
    assert path["converged"]
    assert path["effects"]["exact"]
    for kind in ("path", "shapley"):
        total = sum(row[kind]["mean"] for row in path["effects"]["units"])
        assert total == pytest.approx(1, abs=0.01)


def test_rank_correlations_state_the_records() -> None:
    """Over the six layers, without the ends of the fully trained model."""
    for name, words in RUNS.items():
        rows = [row for row in record(name)["path"]["effects"]["units"] if row["layer"] is not None]
        cells = []
        for kind in KINDS[1:]:
            pairs = [(row["path"]["mean"], row[kind]["mean"]) for row in rows]
            found: Any = spearmanr(pairs)
            cells.append(f"{found.statistic:.2f}")
        assert f"| {words} | {' | '.join(cells)} |" in PAGE.splitlines()


@pytest.mark.parametrize("name", RUNS)
def test_costs_state_the_records(name: str) -> None:
    cost = record(f"bench-{name}")["cost"]
    ends = cost["ratio"]
    cells = [f"{ends['median']:.2f} [{ends['low']:.2f}, {ends['high']:.2f}]"]
    cells.append(f"{cost['whole_ratio']:.2f}")
    assert f"| {RUNS[name]} | {' | '.join(cells)} |" in PAGE.splitlines()


def test_the_text_states_the_records() -> None:
    full, lora = (record(name)["path"]["effects"] for name in ("full", "lora"))

    def ends(effects: dict[str, Any], kind: str) -> list[int]:
        values = [100 * row[kind]["mean"] for row in effects["units"]]
        return [round(min(values)), round(max(values))]

    low, high = ends(lora, "path")
    least, most = ends(lora, "shapley")
    late = [row for row in full["units"] if row["unit"] in {f"layer {i}" for i in range(2, 6)}]
    alone = [round(100 * row["add"]["mean"]) for row in late]
    lost = max(100 * row["remove"]["mean"] for row in late)
    assert full["order"][:3] == ["embedding", "layer 0", "layer 1"]
    third, of_lora = full["curve"][3], lora["curve"]
    kept, left, drawn = (round(100 * third[kind]["mean"]) for kind in ("keep", "drop", "random"))
    first, random = (round(100 * of_lora[1][kind]["mean"]) for kind in ("keep", "random"))
    three, others = (round(100 * of_lora[3][kind]["mean"]) for kind in ("keep", "random"))
    page = " ".join(PAGE.split())
    for words in (
        f"in LoRA they go from {low} to {high} %, Shapley values from {least} to {most} %",
        f"recovers {min(alone)} to {max(alone)} % of the gain alone",
        f"removing any one of them costs at most {lost:.1f} %",
        f"they recover {left} % alone, and without all of them {kept} % remain",
        f"keep {kept} % of full fine-tuning's gain, against {drawn} % for three random ones",
        f"keeps no more alone ({first} %) than a random layer does on average ({random} %)",
        f"the first three keep {three} %, against {others} %",
    ):
        assert words in page, words


def test_the_real_model_states_its_record() -> None:
    found = record("smollm2-lora")
    path, gain = found["adaptive"], bootstrap_mean(found["adaptive"]["gain_by_document"])
    assert path["converged"]
    assert len(path["layers"]) == 30
    cells = [f"{gain.mean:.2f} [{gain.low:.2f}, {gain.high:.2f}]", str(path["points"])]
    cells += [share(path["errors"][name]) for name in ("total", "document", "unit")]
    shares = [100 * value for value in path["layers"].values()]
    cells.append(f"{min(shares):.1f}, {max(shares):.1f}")
    assert f"| {' | '.join(cells)} |" in PAGE.splitlines()


def test_full_fine_tuning_of_the_real_model_states_its_record() -> None:
    def ends(found: dict[str, float], factor: float = 100, digits: int = 1) -> str:
        mean, low, high = (factor * found[end] for end in ("mean", "low", "high"))
        return f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"

    found = record("smollm2-full")
    path, effects = found["path"], found["path"]["effects"]
    gain = ends(found["metric"]["difference"], 1, 2).replace(" [", " nats [")
    assert f"Gain {gain}; converged with {path['evaluations']} points" in PAGE
    assert path["converged"]
    errors = [f"{100 * path['errors'][name]:.2f} %" for name in ("total", "document", "unit")]
    stated = "sum error {}, worst dialogue {}, largest move of a unit {}"
    assert stated.format(*errors) in PAGE
    section = PAGE.partition("### Full fine-tuning")[2]
    scores = {row["unit"]: row for row in path["units"]["layer"]}
    moved = {row["unit"]: row for row in effects["units"]}
    listed = [f"layer {layer}" for layer in (0, 1, 5, 10, 15, 20, 25, 29)]
    for name in ("embedding", *listed):
        cells = [ends(one) for one in (scores[name], moved[name]["add"], moved[name]["remove"])]
        assert f"| {name} | {' | '.join(cells)} |" in section
    for one in effects["curve"]:
        if one["size"] in (1, 3, 5, 10, 16, 25):
            assert f"| {one['size']} | {ends(one['keep'])} | {ends(one['drop'])} |" in section
    layers = [f"layer {layer}" for layer in range(30)]
    path_scores = [100 * scores[name]["mean"] for name in layers]
    alone, lost = (
        [100 * moved[name][kind]["mean"] for name in layers] for kind in ("add", "remove")
    )
    total = sum(row["add"]["mean"] for row in effects["units"])
    for words in (
        f"single layers are {min(path_scores):.1f} to {max(path_scores):.1f} %",
        f"any one layer's change costs at most {max(lost):.1f} %",
        f"a layer brings {min(alone):.1f} to {max(alone):.1f} %",
        f"units together {total:.1f} times the gain",
        f"layers 0 to 4 bring {min(alone[:5]):.0f} to {max(alone[:5]):.0f} % each",
    ):
        assert words in section, words
    assert min(alone) == alone[25]
    titles = {
        "attention_kl": "attention KL",
        "entropy_change": "entropy",
        "cka_distance": "CKA distance",
        "drift": "drift",
        "act_mag_change": "ActMag",
        "depth": "a layer's number (control)",
    }
    agree = [found["change_and_effect"][f"weights_{name}"] for name in ("alone", "removed")]
    for name, title in titles.items():
        assert f"| {title} | {' | '.join(ends(one[name], 1, 2) for one in agree)} |" in section
    assert f"by {ends(agree[0]['depth'], 1, 2)}: all but CKA distance" in section
    sizes = {name: abs(agree[0][name]["mean"]) for name in titles}
    assert [name for name in titles if sizes[name] > sizes["depth"]] == ["cka_distance"]
    other = (RECORDS.parent / "real-model.md").read_text()
    assert f"number alone does as well ({ends(agree[0]['depth'], 1, 2)})" in other
    assert f"attention KL by {ends(agree[0]['attention_kl'], 1, 2)} over" in other
    assert f"CKA distance by {ends(agree[0]['cka_distance'], 1, 2)}:" in other
    readme = (RECORDS.parents[2] / "README.md").read_text()
    assert f"correlation {ends(agree[0]['attention_kl'], 1, 2)})" in readme
    assert f"any one layer's costs at most {max(lost):.1f} % of the gain" in readme


def landscape_rows() -> list[str]:
    """Rows of the table that compares values of layers with the landscape of all sets of three."""
    landscape, _ = read_landscape(RECORDS / "placement")
    analysis = Analysis(landscape.measured("facts"))
    effects = [one.effect for one in analysis.effects]
    ranks = {one.units: one.rank for one in analysis.sets}
    rows = []
    for name, title in RUNS.items():
        units = {row["unit"]: row for row in record(name)["path"]["effects"]["units"]}
        layers = [units[f"layer {layer}"] for layer in range(6)]
        for kind, heading in zip(KINDS, HEADINGS, strict=True):
            values = [row[kind]["mean"] for row in layers]
            best = tuple(sorted(sorted(range(6), key=lambda layer: -values[layer])[:3]))
            cells = [title, heading, f"{spearmanr(values, effects)[0]:.2f}"]
            cells += [",".join(map(str, best)), str(ranks[best])]
            rows.append(f"| {' | '.join(cells)} |")
    return rows


def test_the_page_says_whether_it_tells_where_an_adapter_pays() -> None:
    for row in landscape_rows():
        assert row in PAGE
