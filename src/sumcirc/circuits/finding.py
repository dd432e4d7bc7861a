"""From pairs to a judged circuit: scores, stability over documents, faithfulness by size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from peft import PeftModel
from transformers import PreTrainedModel

from sumcirc.circuits.attribution import Scores, attribute
from sumcirc.circuits.faithfulness import Curve, Evaluator, Faithfulness, curve, faithfulness
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

JUDGEMENTS = 3

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Found:
    """A circuit with what is known of it.

    Attributes:
        circuit: [sources, destinations] the `size` edges of largest |score|, pruned.
        faithfulness: of that circuit, with its completeness.
        absolute, signed: faithfulness by size, edges ranked by |score| and by score; CMD is taken
            from the first, CPR from the second.
        unchanged: pairs left out, since corrupting the document does not raise their metric.
    """

    scores: Scores
    circuit: NDArray[np.bool_]
    faithfulness: Faithfulness
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
        judged: called after each of JUDGEMENTS: both curves, and the circuit itself.

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
    circuit = prune(top_n(mean, graph, count), graph)
    done = judged or (lambda steps: None)
    # random circuits of a size are a control of both rankings
    seeds = range(options.random_circuits)
    absolute = curve(evaluator, mean, True, options.sizes, random_seeds=seeds)
    done(1)
    signed = curve(evaluator, mean, False, options.sizes, random_seeds=())
    done(1)
    judgement = faithfulness(evaluator, circuit)
    done(1)
    return Found(
        scores=scores,
        circuit=circuit,
        faithfulness=judgement,
        stability=stability(by_document, graph, count, resamples=options.resamples)
        if len(scores.ids) > 1
        else None,
        absolute=absolute,
        signed=signed,
        unchanged=left_out,
    )
