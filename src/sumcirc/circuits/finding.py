"""From pairs to a judged circuit: scores, stability over documents, faithfulness by size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from peft import PeftModel
from transformers import PreTrainedModel

from sumcirc.circuits.attribution import Scores, attribute
from sumcirc.circuits.faithfulness import Curve, Evaluator, curve
from sumcirc.circuits.metrics import Metric
from sumcirc.circuits.pairing import (
    SummaryPair,
    changed_pairs,
    summary_metric,
    token_pairs,
)
from sumcirc.circuits.pairs import TokenPairs
from sumcirc.circuits.selection import prune, top_n
from sumcirc.circuits.stability import Stability, stability
from sumcirc.errors import UserError
from sumcirc.schema import CircuitOptions

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Found:
    """A circuit with what is known of it.

    Attributes:
        circuit: [sources, destinations] the `size` edges of largest |score|, pruned.
        absolute, signed: faithfulness by size, edges ranked by |score| and by score; CMD is taken
            from the first, CPR from the second.
        unchanged: pairs left out, since corrupting the document does not raise their metric.
    """

    scores: Scores
    circuit: NDArray[np.bool_]
    stability: Stability | None
    absolute: Curve
    signed: Curve
    unchanged: int

    @property
    def mean(self) -> NDArray[np.float64]:
        """[sources, destinations] over documents."""
        return self.scores.mean.double().numpy()


def usable_pairs(
    model: PreTrainedModel | PeftModel, pairs: list[SummaryPair], options: CircuitOptions
) -> tuple[list[SummaryPair], TokenPairs, Metric, Evaluator, int]:
    """Pairs on which corruption raises the metric, ready to run, and how many others there were.

    Raises:
        UserError: there are fewer than two.
    """
    left_out = 0
    while True:
        tokens = token_pairs(pairs)
        metric = summary_metric(options.metric.value, pairs, tokens)
        evaluator = Evaluator(model, tokens, metric, batch=options.batch_size)
        kept, dropped = changed_pairs(pairs, evaluator.full.metric, evaluator.empty.metric)
        if not dropped:
            return pairs, tokens, metric, evaluator, left_out
        pairs, left_out = kept, left_out + dropped
        if len(pairs) < 2:
            raise UserError(
                f"circuit.corruption={options.corruption.value}: corrupting the document raises"
                f" {options.metric.value} in {len(pairs)} of {len(pairs) + left_out} pairs; there"
                " is no behaviour to explain (train the model first, or take another metric)"
            )


def find_circuit(
    model: PreTrainedModel | PeftModel,
    pairs: list[SummaryPair],
    options: CircuitOptions,
    attributed: Progress | None = None,
    judged: Progress | None = None,
) -> Found:
    """Score every edge, take the circuit, judge it.

    Args:
        attributed: called with the number of pairs that were scored.
        judged: called with the number of curves that were measured, of 2.

    Raises:
        UserError: see `usable_pairs` and `attribute`.
    """
    _, tokens, metric, evaluator, left_out = usable_pairs(model, pairs, options)
    scores = attribute(
        model,
        tokens,
        metric,
        method=options.method.value,
        steps=options.steps,
        rule=options.rule.value,
        batch_size=options.batch_size,
        by_span=options.method.value not in ("exact", "random"),
        progress=attributed,
    )
    mean = scores.mean.double().numpy()
    graph = scores.graph
    count = max(1, round(options.size * graph.edges))
    by_document = scores.documents.float().numpy()
    curves = []
    for absolute in (True, False):
        curves.append(
            curve(
                evaluator,
                mean,
                absolute,
                options.sizes,
                random_seeds=range(options.random_circuits),
                completeness=absolute,
            )
        )
        if judged is not None:
            judged(1)
    return Found(
        scores=scores,
        circuit=prune(top_n(mean, graph, count), graph),
        stability=stability(by_document, graph, count, resamples=options.resamples)
        if len(scores.ids) > 1
        else None,
        absolute=curves[0],
        signed=curves[1],
        unchanged=left_out,
    )
