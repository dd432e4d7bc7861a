"""The tables of docs/results/placement-real.md are those of its records."""

from __future__ import annotations

import csv
import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from docs.record import RECORDS
from sumcirc.statistics import bootstrap_difference, bracketed

PAGE = (RECORDS.parent / "placement-real.md").read_text(encoding="utf-8")
FOLDER = RECORDS / "placement-real"
RUNS = FOLDER / "runs"
BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("draws_tables")


def test_the_page_states_its_records(tables: Any) -> None:
    records = tables.read(RUNS)
    lines = [*tables.table(records), *tables.spread_lines(records)]
    assert [line for line in lines if line not in PAGE] == []


def test_the_page_states_what_the_draws_bring(tables: Any) -> None:
    records = tables.read(RUNS)
    (whole,) = (arm for arm in records.arms if arm.name == "all")
    gain = (records.base - whole.nll).mean()
    shares = [100 * (records.base - arm.nll).mean() / gain for arm in records.draws]
    assert f"they bring {min(shares):.0f} to {max(shares):.0f} % of what" in PAGE
    means = [arm.nll.mean() for arm in records.draws]
    kl = [arm.kl.mean() for arm in records.draws]
    assert f"within {max(means) - min(means):.3f} nats of each other" in PAGE
    assert f"goes from {min(kl):.3f} to {max(kl):.3f}" in PAGE
    assert f"the model before training has {records.base.mean():.3f}" in PAGE


def test_the_page_states_where_the_other_arms_lie(tables: Any) -> None:
    records, words = tables.read(RUNS), " ".join(PAGE.split())
    arms = {arm.name: arm for arm in records.arms}

    def above(name: str) -> str:
        found = tables.beside_draws(records, arms[name])
        return bracketed(found.mean, found.low, found.high, ".3f")

    assert f"(loss {above('circuit').replace(' [', ' nats [')} above" in words
    assert f"({above('kappa')} above the mean), PAGE's by {above('page')}," in words
    assert f"attention KL by {above('attention_kl')}, and the last six by {above('last')}." in words
    assert f"layers lie {above('first')}, {above('middle')} and 0.148 above" in words
    assert f"are {above('page, modules').replace(' [', ' worse [')} than the draws" in words
    chosen = ("kappa", "page", "attention_kl", "last", "first", "middle", "page, modules")
    assert {tables.as_good(records, arms[name]) for name in chosen} == {len(records.draws)}
    assert max(arms.values(), key=lambda arm: arm.kl.mean()).name == "page, modules"
    blocks, spaced = ("block-2", "block-4"), ("spaced-1", "spaced-2")
    means = {name: f"{arms[name].nll.mean():.3f}" for name in (*blocks, *spaced)}
    assert f"the blocks have {' and '.join(means[name] for name in blocks)}," in words
    assert f"{above('block-2')} and {above('block-4')} above the draws' mean" in words
    assert f"evenly spaced sets {' and '.join(means[name] for name in spaced)} (" in words
    assert f"({above('spaced-1')} and {above('spaced-2')})" in words
    assert max(float(means[name]) for name in spaced) < 1.660 < float(means["block-2"])
    mlp, whole = arms["all, mlp_in and mlp_out"], arms["all"]
    loss, kl = bootstrap_difference(mlp.nll, whole.nll), bootstrap_difference(whole.kl, mlp.kl)
    told = bracketed(loss.mean, loss.low, loss.high, ".3f").replace(" [", " higher [")
    assert f"the loss is {told}, and the KL on other texts" in words
    assert bracketed(kl.mean, kl.low, kl.high, ".3f").replace(" [", " less [") in words


def test_the_runs_are_those_that_were_planned() -> None:
    plan = json.loads((FOLDER / "plan.json").read_text(encoding="utf-8"))
    runs = [json.loads(file.read_text(encoding="utf-8")) for file in RUNS.glob("*-s1.json")]
    for run in runs:
        assert 0 <= 1 - run["parameters"] / plan["budget"] < 0.001
        assert (run["steps"], run["seed"], run["of_layers"]) == (
            *(plan["steps"], plan["seed"], plan["of_layers"]),
        )
        if run["selector"]:
            assert len(run["layers"]) == (1 if run.get("targets") else plan["layers"])
    draws = [run["draw"] for run in runs if run["selector"] == "random"]
    assert sorted(draws) == list(range(1, 9))
    others = [run for run in runs if run["selector"] != "random"]
    whole = [run for run in others if len(run["layers"]) == plan["of_layers"]]
    named = [run["layers"] for run in others if not run["selector"] and run not in whole]
    assert sorted(named) == sorted(
        [int(layer) for layer in arm.split(" ")[1].split(",")] for arm in plan["neighbours"]["arms"]
    )
    assert [run.get("modules") for run in whole if run.get("modules")] == [["mlp_in", "mlp_out"]]
    assert sorted(run["selector"] for run in others if run["selector"]) == [
        *("attention_kl", "circuit", "first", "kappa", "last", "middle", "page", "page"),
    ]


def test_the_page_states_the_rates() -> None:
    rows = csv.DictReader((FOLDER / "rates.csv").read_text(encoding="utf-8").splitlines())
    losses: dict[float, dict[str, float]] = {}
    for row in rows:
        loss = float(row["validation_nll"])
        losses.setdefault(float(row["learning_rate"]), {})[row["step"]] = loss
    for rate, at in losses.items():
        assert f"| {rate:g} | {at['20']:.3f} | {at['40']:.3f} |" in PAGE
    assert min(losses, key=lambda rate: losses[rate]["40"]) == 0.006
