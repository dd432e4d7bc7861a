"""The table of names: what it says of a logged name, and the page that tells it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sumcirc.tracking.measure_records import MEASURES
from sumcirc.tracking.metric_names import LOGGED, SUMMARIES, WATCHED, MetricKind, find

PAGE = Path(__file__).resolve().parents[2] / "docs/wandb.md"


@pytest.mark.parametrize(
    ("name", "kind", "entry"),
    [
        ("attention/entropy", MetricKind.curve, "attention/entropy"),
        ("attention/entropy/layer_03", MetricKind.curve, "attention/entropy/{place}"),
        ("residual/cka/embedding", MetricKind.curve, "residual/cka/{place}"),
        ("attention/heads_fell/low", MetricKind.curve, "attention/heads_fell/{end}"),
        ("test/lead-3/rouge1_f1", MetricKind.summary, "test/{system}/{main}"),
        ("test/lead-3/rouge1_x100", MetricKind.summary, "test/{system}/{share}_x100"),
        ("summaries/rouge1_x100", MetricKind.curve, "summaries/{share}_x100"),
        ("summaries/rouge1_f1", MetricKind.curve, "summaries/{measure}"),
        ("validation/loss.min", MetricKind.summary, "validation/loss.min"),
        ("figures/run/surgery", MetricKind.image, "figures/{figure}"),
        ("lora-2_3_5-r16-s1-circuits", MetricKind.artifact, "{run}-circuits"),
    ],
)
def test_an_entry_is_found(name: str, kind: MetricKind, entry: str) -> None:
    found = find(name, kind)
    assert found is not None
    assert found.name == entry


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("attention/entropyy", MetricKind.curve),
        ("attention/entropy/layer_x", MetricKind.curve),
        ("attention/entropy", MetricKind.table),
        ("validation/lossxmin", MetricKind.summary),
        ("test/base", MetricKind.summary),
        ("test/base/rouge1_f1/low", MetricKind.summary),
        ("test/base/length", MetricKind.summary),
    ],
)
def test_a_misspelt_name_is_in_no_entry(name: str, kind: MetricKind) -> None:
    assert find(name, kind) is None


# what the panels of a workspace that version 0.1 made show
SAVED = {
    MetricKind.curve: (
        *("train/loss", "validation/loss", "validation/perplexity", "train/learning_rate"),
        *("summaries/rouge1_f1", "summaries/rouge2_f1", "summaries/rougeLsum_f1"),
        *("summaries/length", "summaries/coverage", "summaries/novel_ngrams_1"),
        *("time/tokens_per_second", "attention/entropy", "attention/entropy_no_sink"),
        *("attention/normalized_entropy", "attention/effective_keys", "attention/heads_fell"),
        *("attention/heads_fell_significantly", "attention/mass_sink", "attention/mass_document"),
        *("attention/mass_prompt", "attention/mass_summary", "attention/salience_alignment"),
        *("attention/kl_tuned_base", "attention/kl_base_tuned", "attention/js"),
        *("attention/entropy/layer_00", "attention/kl_tuned_base/layer_00"),
        *("attention/js/layer_00", "attention/salience_alignment/layer_00"),
        *("residual/cka/embedding", "residual/rsa/layer_00", "residual/centered_cosine/layer_00"),
        *("residual/relative_change/layer_00", "residual/magnitude/layer_00"),
        *("output/kl_tuned_base", "output/kl_base_tuned", "output/js", "output/top1_agreement"),
        *("circuit/faithfulness", "circuit/kl", "circuit/cpr", "circuit/cmd", "circuit/cmd_random"),
        *("circuit/jaccard_base", "circuit/jaccard_previous", "circuit/jaccard_resamples"),
        "circuit/edges",
    ),
    MetricKind.summary: (
        *(f"test/base/{name}_f1" for name in ("rouge1", "rouge2", "rougeL", "rougeLsum")),
        *("test/trained/facts", "trainable_parameters", "validation/loss.min"),
        *("circuit/graph_edges", "circuit/faithfulness", "circuit/cpr", "circuit/cmd"),
        *(f"compare/x/{side}/mean" for side in ("before", "after", "difference")),
    ),
    MetricKind.table: (
        *("samples", "selection", "arms", "differences", "circuit/top_edges"),
        *("probes/attention_entropy", "probes/base_divergence", "compare/x/direct"),
    ),
    MetricKind.image: tuple(
        f"figures/{name}"
        for name in (
            *("selection", "parameters", "differences", "validation_loss", "entropy_difference"),
            *("attention_divergence", "layer_divergence", "drift", "magnitude", "neurons"),
            *("circuit", "circuit_evolution", "faithfulness", "node_scores"),
        )
    ),
}


@pytest.mark.parametrize("kind", SAVED)
def test_workspaces_saved_with_version_0_1_find_their_names(kind: MetricKind) -> None:
    assert [name for name in SAVED[kind] if find(name, kind) is None] == []


def test_watchers_log_measures_of_the_catalogue() -> None:
    for watched in WATCHED.values():
        assert {*watched.overall, *watched.by_layer} <= set(MEASURES)


def test_minima_are_of_curves() -> None:
    assert all(find(name, MetricKind.curve) for name in SUMMARIES)


def test_the_page_is_the_table() -> None:
    """Row for row, in the same order."""
    cells = [re.split(r"(?<!\\)\|", line) for line in PAGE.read_text().splitlines()]
    rows = [
        (row[1].strip().strip("`"), *(cell.strip().replace(r"\|", "|") for cell in row[2:-1]))
        for row in cells
        if len(row) == 7 and row[1].strip().startswith("`")
    ]
    wanted = [
        (entry.name, entry.by, entry.unit, entry.what, entry.when)
        for kind in MetricKind
        for entry in LOGGED
        if entry.kind is kind
    ]
    assert rows == wanted
