"""The sections on two models in docs/circuits-by-span.md state their records."""

from __future__ import annotations

import json
from typing import Any

import pytest

from docs.record import RECORDS
from sumcirc.reporting.tables import markdown_table
from sumcirc.reporting.views.circuit_spans import span_tables, where
from sumcirc.storage.reading import fitted
from sumcirc.tracking.shapes.span_shapes import SpansFile

FILE = RECORDS / "circuits-by-span" / "built-in.json"
REAL = RECORDS / "circuits-by-span" / "smollm2-dialogsum.json"
PAGE = RECORDS.parents[1] / "circuits-by-span.md"
KINDS = ("query", "key", "value", "mlp", "logits")


@pytest.fixture(scope="module")
def record() -> Any:
    return json.loads(FILE.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def page() -> str:
    """The page as one line."""
    return " ".join(PAGE.read_text(encoding="utf-8").split())


def told(interval: Any) -> str:
    return f"{interval['mean']:.2f} [{interval['low']:.2f}, {interval['high']:.2f}]"


def test_the_shares(record: Any, page: str) -> None:
    spans = fitted(record["spans"], FILE, SpansFile, "spans")
    shares = {(one["span"], one["reader"]): one for one in spans["shares"]}
    value, mlp = shares["fact", "summary"]["value"], shares["fact", "fact"]["mlp"]
    here = shares["summary", "summary"]
    assert (
        f"{100 * value:.0f} % of all |scores| are values at facts read from the summary,"
        f" {100 * mlp:.0f} % MLPs at facts, and in the summary {100 * here['mlp']:.0f} % MLPs and"
        f" {100 * here['logits']:.0f} % the logits"
    ) in page
    whole = {kind: sum(one[kind] for one in shares.values()) for kind in KINDS}
    assert sum(whole.values()) == pytest.approx(1, abs=1e-4)
    assert f"Keys ({100 * whole['key']:.1f} %) and queries ({100 * whole['query']:.1f} %)" in page
    second = sum(
        one[kind] for (span, _), one in shares.items() if span == "distractor" for kind in KINDS
    )
    tokens = spans["tokens"]
    assert (
        f"`distractor` tokens have {100 * second:.1f} % of the scores, with"
        f" {100 * tokens['distractor']:.0f} % of the tokens. `fact` has"
        f" {100 * tokens['fact']:.0f} % of the tokens"
    ) in page
    largest = [(f"{one['source']} -> {one['destination']}", where(one)) for one in spans["largest"]]
    for unit in (
        ("input -> m0", "fact"),
        ("m0 -> a1.h3<v>", "fact, read from summary"),
        ("a1.h3 -> m1", "summary"),
        ("m1 -> logits", "summary"),
    ):
        assert unit in largest
        assert all(f"`{part}`" in page for part in unit)


def test_the_circuits(record: Any, page: str) -> None:
    spans = record["spans"]
    assert markdown_table(span_tables(spans)[-1]).strip() in PAGE.read_text(encoding="utf-8")
    plain, small = spans["circuit"], spans["points"][0]
    assert plain["edges"] == record["circuit_edges"]
    assert (
        f"The plain circuit of {plain['edges']} edges keeps {plain['allowed']} units and has a"
        f" faithfulness of {told(plain['plain'])}. By span, {small['units']} units have"
        f" {told(small['faithfulness'])}"
    ) in page
    readme = (RECORDS.parents[2] / "README.md").read_text(encoding="utf-8")
    assert (
        f"{small['units']} pairs of an edge and a span reach a faithfulness of"
        f" {told(small['faithfulness'])}, where the plain circuit, whose"
        f" {plain['edges']} edges are kept at all spans, has {plain['allowed']}"
    ) in readme
    assert spans["reached"]["units"] == small["units"]
    assert f"reach {told(small['control'])} with the first size" in page
    each = spans["cancelled_by_document"]
    ends = ", ".join(f"{100 * each[end]:.1f}" for end in ("low", "high"))
    assert (
        f"{100 * spans['cancelled']:.1f} % of the mean scores, and {100 * each['mean']:.1f}"
        f" [{ends}] % of a document's own"
    ) in page
    assert f"{record['pairs']} pairs chose the units and {record['held_out_pairs']} judged" in page


def test_the_section_on_a_real_model(record: Any, page: str) -> None:
    real = json.loads(REAL.read_text(encoding="utf-8"))
    spans = fitted(real["spans"], REAL, SpansFile, "spans")
    assert markdown_table(span_tables(spans)[-1]).strip() in PAGE.read_text(encoding="utf-8")
    whole, before = _by_kind(spans), _by_kind(record["spans"])
    assert (
        f"({100 * whole['query']:.0f} and {100 * whole['key']:.0f} %, on the built-in model"
        f" {100 * before['query']:.1f} and {100 * before['key']:.1f} %), values"
        f" {100 * whole['value']:.0f} %"
    ) in page
    shares = {
        name: 100
        * sum(one[kind] for one in spans["shares"] if one["span"] == name for kind in KINDS)
        for name in ("salient", "document")
    }
    tokens = {name: 100 * spans["tokens"][name] for name in shares}
    assert (
        f"`salient` has {tokens['salient']:.0f} % of the tokens and {shares['salient']:.0f} % of"
        f" the scores, the rest of the dialogue {tokens['document']:.0f} % and"
        f" {shares['document']:.0f} %"
    ) in page
    larger, each = spans["points"][1], spans["cancelled_by_document"]
    assert f"{told(larger['faithfulness'])} with the larger size" in page
    assert f"{larger['edges']:,} edges has {told(larger['plain'])}" in page
    assert f"pair of spans ({told(larger['control'])})" in page
    assert (
        f"{100 * spans['cancelled']:.0f} % of the mean scores, and {100 * each['mean']:.0f}"
        f" [{100 * each['low']:.0f}, {100 * each['high']:.0f}] % of a dialogue's own"
    ) in page
    assert (real["pairs"], real["held_out_pairs"]) == (8, 8)


def _by_kind(spans: Any) -> dict[str, float]:
    return {kind: sum(one[kind] for one in spans["shares"]) for kind in KINDS}
