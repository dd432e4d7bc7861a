"""What records say of pairs that differ in one known place, and the numbers against plain means."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sumcirc.compare.record_differences import (
    ENTROPY_DIFFERENCE,
    layer_curves,
    most_changed_heads,
    most_changed_layers,
)
from sumcirc.data.encoding import Encoder
from sumcirc.errors import UserError
from sumcirc.measures.measure_documents import ProbeSet, probe_set
from sumcirc.measures.measuring import measure
from sumcirc.models.architectures import ARCHITECTURES
from sumcirc.schema import EncodingConfig
from sumcirc.statistics import bootstrap_mean, significantly_different
from sumcirc.tracking.measure_records import ATTENTION_KL, ProbeRecord
from tests.compare.planted import KEY, QUERY, VALUE, planted_adapter, planted_head, planted_mlp
from tests.measures.test_measure_documents import ITEMS
from tests.support.small_models import scrambled

DRIFT = "residual/relative_change"


@pytest.fixture(scope="module")
def probes(tokenizer: Any) -> ProbeSet:
    return probe_set(
        Encoder(tokenizer, EncodingConfig(), 48),
        [*ITEMS, replace(ITEMS[0], id="again")],
        8,
        batch_size=3,
    )


def records(after: Any, base: Any, probes: ProbeSet) -> tuple[ProbeRecord, ProbeRecord]:
    return measure(after, probes, base), measure(base, probes)


@pytest.mark.parametrize(
    "family",
    [family for family in ARCHITECTURES if family != "olmo2"],  # whose queries share a norm
)
def test_the_head_whose_query_was_changed_is_found(family: str, probes: ProbeSet) -> None:
    base = scrambled(family)
    record, base_record = records(planted_head(base, 1, 2, QUERY), base, probes)
    at_layer = record.values[ATTENTION_KL][1].mean(-1)
    assert np.delete(at_layer, 2).max() < 1e-5 < 10 * at_layer[2]
    assert record.values[ATTENTION_KL][0].max() < 1e-5
    heads = most_changed_heads(record, base_record, 2)
    assert (heads[0].layer, heads[0].head) == (1, 2)
    assert heads[0].first == 1
    assert heads[0].kl.low > heads[1].kl.high
    assert most_changed_layers(record, base_record, 1)[0].layer == 1
    curves = layer_curves(record, base_record)
    assert curves[ATTENTION_KL][0].argmax() == 1
    assert curves[DRIFT][0][:2].max() == 0 < curves[DRIFT][0][2:].min()


@pytest.mark.parametrize("family", ["gpt_neox", "llama"])
def test_a_changed_key_is_found_at_every_head_that_shares_it(family: str, probes: ProbeSet) -> None:
    base = scrambled(family)
    record, base_record = records(planted_head(base, 1, 1, KEY), base, probes)
    shared = {1} if family == "gpt_neox" else {2, 3}
    found = most_changed_heads(record, base_record, len(shared))
    assert {(one.layer, one.head) for one in found} == {(1, head) for head in shared}
    quiet = [head for head in range(4) if head not in shared]
    assert record.values[ATTENTION_KL][1][quiet].max() < 1e-5


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_a_changed_value_is_seen_after_its_layer_only(family: str, probes: ProbeSet) -> None:
    base = scrambled(family)
    record, base_record = records(planted_head(base, 1, 1, VALUE), base, probes)
    curves = layer_curves(record, base_record)
    assert curves[ATTENTION_KL][0][:2].max() < 1e-5 < curves[ATTENTION_KL][0][2]
    drift = curves[DRIFT][0]
    assert drift[:2].max() == 0 < drift[2:].min()
    assert most_changed_heads(record, base_record, 1)[0].layer == 2
    top = most_changed_layers(record, base_record, 3)
    assert (top[0].layer, top[0].first) == (1, 1)
    assert next(one for one in top if one.layer == 0).gained.mean == 0


@pytest.mark.parametrize("plant", [planted_mlp, planted_adapter])
def test_the_layer_of_an_mlp_and_of_an_adapter_is_found(plant: Any, probes: ProbeSet) -> None:
    base = scrambled("qwen3")
    after = plant(base, 1)
    record, base_record = records(after, base, probes)
    top = most_changed_layers(record, base_record, 1)[0]
    assert (top.layer, top.first, top.rank_low, top.rank_high) == (1, 1, 1, 1)
    assert top.gained.low > 0.01
    curves = layer_curves(record)
    assert (curves[ATTENTION_KL][0][1] > 1e-4) == (plant is planted_adapter)


# ---- the numbers


def made(layers: int = 3, heads: int = 4, documents: int = 8) -> tuple[ProbeRecord, ProbeRecord]:
    rng = np.random.default_rng(2)
    names = [str(i) for i in range(documents)]
    shape = (layers, heads, documents)
    values = {
        ATTENTION_KL: rng.exponential(size=shape),
        "attention/entropy": rng.normal(size=shape) + 3,
        DRIFT: rng.exponential(size=(layers + 1, documents)),
        "residual/cka": rng.uniform(size=(layers + 1, documents)),
    }
    base = {"attention/entropy": rng.normal(size=shape) + 2.5}
    return (
        ProbeRecord(5, names, {k: v.astype(np.float32) for k, v in values.items()}),
        ProbeRecord(-1, names, {k: v.astype(np.float32) for k, v in base.items()}),
    )


def test_tables_are_plain_means_with_their_intervals() -> None:
    record, base = made()
    kl = record.values[ATTENTION_KL].astype(float)
    change = record.values["attention/entropy"].astype(float) - base.values["attention/entropy"]
    expected = sorted(np.ndindex(3, 4), key=lambda place: -kl[place].mean())
    found = most_changed_heads(record, base, 12)
    assert [(one.layer, one.head) for one in found] == expected
    significant = significantly_different(change)
    for one in found:
        place = (one.layer, one.head)
        for estimate, values in ((one.kl, kl[place]), (one.entropy, change[place])):
            interval = bootstrap_mean(values)
            assert (estimate.mean, estimate.low, estimate.high) == pytest.approx(
                (interval.mean, interval.low, interval.high), rel=1e-12
            )
        assert one.significant == significant[place]
    assert sum(one.first for one in found) == pytest.approx(1)
    drift = record.values[DRIFT].astype(float)
    layers = most_changed_layers(record, base, 2)
    gained = (drift[1:] - drift[:-1]).mean(1)
    assert [one.layer for one in layers] == np.argsort(-gained)[:2].tolist()
    for one in layers:
        assert one.gained.mean == pytest.approx(gained[one.layer])
        assert one.drift.mean == pytest.approx(drift[one.layer + 1].mean())
        assert one.kl.mean == pytest.approx(kl[one.layer].mean())
        interval = bootstrap_mean(change[one.layer].mean(0))
        assert one.entropy.low == pytest.approx(interval.low)


def test_curves_are_of_what_was_measured() -> None:
    record, base = made()
    assert set(layer_curves(record)) == {ATTENTION_KL, DRIFT, "residual/cka"}
    curves = layer_curves(record, base)
    assert set(curves) == {ATTENTION_KL, DRIFT, "residual/cka", ENTROPY_DIFFERENCE}
    for name, values in (
        (ATTENTION_KL, record.values[ATTENTION_KL].mean(1, dtype=float)),
        ("residual/cka", record.values["residual/cka"]),
    ):
        for place, row in enumerate(values):
            interval = bootstrap_mean(row)
            assert [part[place] for part in curves[name]] == pytest.approx(
                [interval.mean, interval.low, interval.high], rel=1e-12
            )


def test_undefined_values_are_left_out() -> None:
    record, base = made()
    record.values[ATTENTION_KL][1, 2, 3:] = np.nan
    curve = layer_curves(record)[ATTENTION_KL]
    assert curve[0][1] == pytest.approx(np.nanmean(record.values[ATTENTION_KL][1], axis=0).mean())
    rows = most_changed_heads(record, base, 12)
    place = next(one for one in rows if (one.layer, one.head) == (1, 2))
    assert place.kl.mean == pytest.approx(record.values[ATTENTION_KL][1, 2, :3].mean(dtype=float))


def test_one_document_has_no_interval() -> None:
    record, base = made(documents=1)
    (top,) = most_changed_heads(record, base, 1)
    assert np.isnan([top.kl.low, top.entropy.high, top.rank_low, top.first]).all()
    assert not top.significant


def test_records_that_do_not_fit_are_refused() -> None:
    record, base = made()
    _, other = made(documents=7)
    with pytest.raises(UserError, match="different documents or models"):
        most_changed_heads(record, other, 1)
    with pytest.raises(UserError, match="has no `attention/kl_tuned_base`"):
        most_changed_heads(base, base, 1)
