"""How near EAP-IG's edge scores are to their integral, by rule and number of steps.

    python benchmarks/convergence.py [--quick] [--device cuda]

The built-in model on 8 counterfactual pairs of the built-in data, KL and logit difference. Mean
scores with m steps of each rule against 200 Gauss-Legendre steps: relative error in the 2-norm, and
Spearman correlation, over all edges. No clock is read; the table goes to results/convergence/.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from measurement import parser, prepare, rounded
from torch import Tensor

from sumcirc.circuits.attribution.methods import AttributionSettings, attribute
from sumcirc.circuits.inputs.corruption import make_pairs
from sumcirc.circuits.inputs.example_pairs import TokenPairs, pair_metric
from sumcirc.circuits.metrics import Metric
from sumcirc.data.documents import read_corpus
from sumcirc.data.encoding import Encoder
from sumcirc.measures.representation import spearman
from sumcirc.models.architectures import context_length
from sumcirc.models.loading import load_model, load_tokenizer
from sumcirc.schema import DataConfig, EncodingConfig, ModelConfig, Rule, SizesConfig, Source
from sumcirc.tracking.run_directory import git_commit

TINY = ModelConfig(name="tiny", path="tiny")
PAIRS = 8
STEPS = (1, 2, 3, 5, 10, 20)
REFERENCE = 200
METRICS = ("kl", "logit_difference")
RULES = [one.value for one in Rule]


class Case:
    """The pairs and one metric."""

    def __init__(self, model: Any, pairs: TokenPairs, metric: Metric) -> None:
        self.model, self.pairs, self.metric = model, pairs, metric

    def scores(self, rule: str, steps: int) -> Tensor:
        """Mean score of every edge, [edges]."""
        found = attribute(
            self.model,
            self.pairs,
            self.metric,
            AttributionSettings(rule=rule, steps=steps),
            batch_size=len(self.pairs),
        )
        return found.mean[torch.from_numpy(found.graph.exists)].double()

    def table(self, reference_steps: int, all_steps: tuple[int, ...]) -> list[dict[str, Any]]:
        """A row for each rule and number of steps."""
        reference = self.scores("gauss-legendre", reference_steps)
        rows = []
        for rule in RULES:
            for steps in all_steps:
                row: dict[str, Any] = {"rule": rule, "steps": steps, "error": None, "rank": None}
                # the KL has no gradient at the clean end, the only point of this rule
                if (rule, steps) != ("right", 1) or not self.metric.against_clean:
                    found = self.scores(rule, steps)
                    row["error"] = float((found - reference).norm() / reference.norm())
                    row["rank"] = float(spearman(found, reference))
                rows.append(row)
        return rows


def make_cases(count: int, device: str) -> dict[str, Case]:
    """Counterfactual pairs of the built-in data, and every metric on them."""
    model: Any = load_model(TINY).to(device)
    encoder = Encoder(load_tokenizer(TINY), EncodingConfig(), context_length(model.config))
    config = DataConfig(
        name="wire",
        source=Source.wire,
        train="train",
        validation="validation",
        test="test",
        sizes=SizesConfig(test=4 * count),
    )
    documents = read_corpus(config, "test").documents
    pairs, _ = make_pairs(encoder, documents, "counterfactual", count, lambda item: [])
    tokens = TokenPairs.of(pairs)
    return {name: Case(model, tokens, pair_metric(name, tokens)) for name in METRICS}


def write(options: argparse.Namespace, tables: dict[str, list[dict[str, Any]]]) -> None:
    """The figures as JSON, and as a table to read."""
    folder = options.results / "convergence"
    folder.mkdir(parents=True, exist_ok=True)
    body = {"quick": options.quick, "commit": git_commit(), "tables": tables}
    text = json.dumps(rounded(body), indent=2, allow_nan=False)
    (folder / "scores.json").write_text(text + "\n", encoding="utf-8")
    lines = [
        "# Edge scores by rule and number of steps",
        "",
        "Written by `convergence.py`, which describes the comparison. Each cell is the relative",
        "error of the mean scores / the Spearman correlation, for the built-in model.",
    ]
    for name, rows in tables.items():
        steps = sorted({row["steps"] for row in rows})
        lines += ["", f"## {name}", ""]
        lines += [f"| rule | {' | '.join(f'm = {m}' for m in steps)} |"]
        lines += ["|---" * (len(steps) + 1) + "|"]
        for rule in RULES:
            cells = [cell(row) for row in rows if row["rule"] == rule]
            lines.append(f"| {rule} | {' | '.join(cells)} |")
    (folder / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def cell(row: dict[str, Any]) -> str:
    """Error and correlation, or what stands for none."""
    return "no gradient" if row["error"] is None else f"{row['error']:.2g} / {row['rank']:.4f}"


def main() -> None:
    """Score, print and write the tables."""
    options = parser(__doc__).parse_args()
    prepare(options)
    count, reference, steps = (2, 10, STEPS[:3]) if options.quick else (PAIRS, REFERENCE, STEPS)
    cases = make_cases(count, options.device)
    tables = {name: case.table(reference, steps) for name, case in cases.items()}
    write(options, tables)
    print((Path(options.results) / "convergence" / "README.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
