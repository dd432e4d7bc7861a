"""Numbers of the summary are those that the tables of values by item give."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sumcirc.compare.findings import AFTER, BEFORE, Findings
from sumcirc.compare.patching.patching_runs import agreement
from sumcirc.compare.summary import LISTED
from sumcirc.statistics import (
    bootstrap_mean,
    bootstrap_means,
    bootstrap_ratios,
    significantly_different,
)
from tests.compare.made_findings import COUNT, ITEMS, SHAPE, made_findings, made_moved, summarize

ENDS = ("mean", "low", "high")


@pytest.fixture(scope="module")
def both() -> tuple[Findings, dict[str, Any]]:
    found = made_findings()
    return found, summarize(found, SHAPE)


def ends(row: dict[str, Any]) -> Any:
    return pytest.approx([row[name] for name in ENDS], nan_ok=True)


def test_the_metric_has_its_means(both: tuple[Findings, dict[str, Any]]) -> None:
    found, summary = both
    before, after = found.metric[BEFORE], found.metric[AFTER]
    for name, values in ((BEFORE, before), (AFTER, after), ("difference", after - before)):
        expected = bootstrap_mean(values)
        assert [expected.mean, expected.low, expected.high] == ends(summary["metric"][name])
        assert summary["metric"][name]["n"] == COUNT


def test_scores_are_shares_of_the_gap(both: tuple[Findings, dict[str, Any]]) -> None:
    found, summary = both
    for direction, carried in found.carried.items():
        moved, shown = carried.moved, summary["patching"][direction]
        significant = significantly_different(moved.effects)
        for i, (part, row) in enumerate(zip(moved.parts, shown["parts"], strict=True)):
            assert list(map(float, bootstrap_ratios(moved.effects[i], moved.gap))) == ends(row)
            assert [one[i] for one in bootstrap_means(moved.effects)] == ends(row["effect"])
            told = moved.attributed[i].mean() / moved.gap.mean()
            assert row["attributed"] == pytest.approx(told)
            assert (row["kind"], row["layer"], row["index"]) == (part.kind, part.layer, part.index)
            assert row["significant"] == significant[i]
        assert "value.1.1 (heads 2-3)" in [row["part"] for row in shown["parts"]]
        assert shown["agreement"] == agreement(moved)


def test_chosen_sets_are_judged_on_the_other_half(both: tuple[Findings, dict[str, Any]]) -> None:
    found, summary = both
    carried = found.carried["necessity"]
    rows = summary["patching"]["necessity"]["sets"]
    for one, effects, row in zip(carried.sets, carried.set_effects, rows, strict=True):
        kept = slice(None) if one.kind == "own" else slice(1, None, 2)
        expected = bootstrap_ratios(effects[kept], carried.moved.gap[kept])
        assert list(map(float, expected)) == ends(row)
        assert (row["kind"], row["draw"], row["size"]) == (one.kind, one.draw, len(one.parts))
    assert rows[0]["parts"] == ["output.0.1", "value.1.1 (heads 2-3)"]


def test_synergies_are_shares_too_the_largest_first(both: tuple[Findings, dict[str, Any]]) -> None:
    found, summary = both
    carried = found.carried["sufficiency"]
    rows = summary["patching"]["sufficiency"]["synergy"]
    shares = carried.synergies.mean(1) / carried.moved.gap.mean()
    order = np.argsort(-np.abs(shares))
    assert [row["mean"] for row in rows] == pytest.approx(shares[order].tolist())
    assert rows[0]["parts"][0] == str(carried.pairs[order[0]][0])


def test_direct_contributions_that_changed_most(both: tuple[Findings, dict[str, Any]]) -> None:
    found, summary = both
    one, other = found.direct[BEFORE], found.direct[AFTER]
    means = {}
    for layer in range(SHAPE.layers):
        for head in range(SHAPE.heads):
            means[f"head.{layer}.{head}"] = one.heads[layer, head], other.heads[layer, head]
        means[f"mlp.{layer}"] = one.mlps[layer], other.mlps[layer]
    assert len(summary["direct"]) == LISTED == len(means)
    assert {row["part"] for row in summary["direct"]} == set(means)
    for row in summary["direct"]:
        before, after = means[row["part"]]
        expected = bootstrap_mean(after - before)
        assert [expected.mean, expected.low, expected.high] == ends(row)
        assert (row[BEFORE], row[AFTER]) == pytest.approx((before.mean(), after.mean()))
    sizes = [abs(row["mean"]) for row in summary["direct"]]
    assert sizes == sorted(sizes, reverse=True)


def test_the_head_whose_attention_changed_most(both: tuple[Findings, dict[str, Any]]) -> None:
    found, summary = both
    one, other = (found.attention[name].values for name in (BEFORE, AFTER))
    for number, row in enumerate(summary["attention"]):
        assert (row["source"], row["destination"]) == found.attention[BEFORE].pairs[number]
        change = np.nanmean(other[number] - one[number], axis=-1)
        place = np.unravel_index(np.abs(change).argmax(), change.shape)
        assert (row["layer"], row["head"]) == place
        assert row["mean"] == pytest.approx(change[place])
        assert row[AFTER] - row[BEFORE] == pytest.approx(row["mean"])
        low, high = (end[place] for end in bootstrap_means(other[number] - one[number])[1:])
        assert (row["low"], row["high"]) == pytest.approx((low, high), nan_ok=True)
    assert len(summary["attention"]) == 2


def test_the_lens_of_every_depth_with_its_paired_difference(
    both: tuple[Findings, dict[str, Any]],
) -> None:
    found, summary = both
    one, other = (found.logit_lens[name].values for name in (BEFORE, AFTER))
    assert len(summary["logit_lens"]) == 3 * (SHAPE.layers + 1)
    for row in summary["logit_lens"]:
        before, after = (side[row["measure"]][row["stream"]] for side in (one, other))
        for values, shown in ((before, row[BEFORE]), (after, row[AFTER]), (after - before, row)):
            expected = bootstrap_mean(values)
            assert [expected.mean, expected.low, expected.high] == ends(shown)
        changes = other[row["measure"]] - one[row["measure"]]
        assert row["significant"] == significantly_different(changes)[row["stream"]]
    (last,) = [
        row
        for row in summary["logit_lens"]
        if (row["measure"], row["stream"]) == ("kl_model_lens", SHAPE.layers)
    ]
    assert (last["mean"], last["significant"]) == (0, False)


def test_a_span_that_no_item_has_is_left_out() -> None:
    found = made_findings()
    for one in found.attention.values():
        one.values[1] = np.nan
    assert [row["source"] for row in summarize(found, SHAPE)["attention"]] == ["fact"]


def test_delta_scaling_is_a_share_of_the_gap_with_perplexity(
    both: tuple[Findings, dict[str, Any]],
) -> None:
    found, summary = both
    surgery = found.delta_scaling
    assert surgery is not None
    gap = surgery.metric[2] - surgery.metric[0]
    for i, (arm, row) in enumerate(zip(surgery.arms, summary["surgery"], strict=True)):
        values = bootstrap_ratios(surgery.metric[i] - surgery.metric[0], gap)
        assert list(map(float, values)) == ends(row)
        assert (row["arm"], row["layer"], row["module"]) == (arm.kind, arm.layer, arm.module)
        assert row["amount"] == arm.amount
        loss = bootstrap_mean(surgery.losses[i])
        assert np.exp([loss.mean, loss.low, loss.high]).tolist() == ends(row["perplexity"])
    whole = [row["mean"] for row in summary["surgery"] if row["arm"] == "whole"]
    assert (whole[0], whole[2]) == (0, pytest.approx(1))


def test_no_text_is_no_perplexity() -> None:
    found = made_findings()
    assert found.delta_scaling is not None
    found.delta_scaling = replace(
        found.delta_scaling, losses=np.empty((len(found.delta_scaling.arms), 0))
    )
    assert all("perplexity" not in row for row in summarize(found, SHAPE)["surgery"])


def test_differences_are_those_of_the_records(both: tuple[Findings, dict[str, Any]]) -> None:
    found, summary = both
    assert found.record is not None
    values = found.record.values
    kl = values["attention/kl_tuned_base"].mean(-1, dtype=float)
    rows = summary["differences"]["heads"]
    assert len(rows) == SHAPE.layers * SHAPE.heads <= LISTED
    assert [row["kl"]["mean"] for row in rows] == pytest.approx(sorted(kl.ravel())[::-1])
    assert len(summary["differences"]["layers"]) == SHAPE.layers
    output = bootstrap_mean(values["output/kl_tuned_base"].astype(float))
    shown = summary["differences"]["output_kl_tuned_base"]
    assert [output.mean, output.low, output.high] == ends(shown)


def test_equal_models_have_no_shares() -> None:
    found = made_findings()
    metric = found.metric[BEFORE]
    found.metric = {BEFORE: metric, AFTER: metric}
    for name, one in found.carried.items():
        moved = replace(one.moved, donor=one.moved.receiver, effects=0 * one.moved.effects)
        found.carried[name] = replace(
            one, moved=moved, set_effects=0 * one.set_effects, synergies=0 * one.synergies
        )
    assert found.delta_scaling is not None
    found.delta_scaling = replace(
        found.delta_scaling, metric=np.ones_like(found.delta_scaling.metric)
    )
    summary = summarize(found, SHAPE)
    difference = summary["metric"]["difference"]
    assert [difference[name] for name in ENDS] == [0, 0, 0]
    rows = list(summary["surgery"])
    for one in summary["patching"].values():
        rows += [*one["parts"], *one["sets"], *one["synergy"]]
    for row in rows:
        assert np.isnan([row[name] for name in ENDS]).all()
    effects = [row["effect"]["mean"] for row in summary["patching"]["necessity"]["parts"]]
    assert set(effects) == {0}


@pytest.mark.parametrize(("size", "defined"), [(1e-8, False), (1e-3, True)])
def test_a_gap_of_rounding_gives_no_shares(size: float, defined: bool) -> None:
    moved = made_moved(gap=size)
    assert np.isfinite(moved.scores(moved.effects)).all() == defined
    few = replace(moved, receiver=moved.receiver[:3], donor=moved.donor[:3])
    assert np.isfinite(few.scores(moved.effects[:, :3])[0]).all() == defined


def test_only_what_was_found_is_told() -> None:
    metric = {BEFORE: np.zeros(COUNT), AFTER: np.ones(COUNT)}
    assert set(summarize(Findings("tuned", ITEMS, metric), SHAPE)) == {"metric"}
