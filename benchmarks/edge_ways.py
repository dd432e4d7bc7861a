"""Ways of choosing the edges of a circuit that edge_choice.py compares.

A way returns a value for every edge; a circuit has those with the largest values. Scores and
learned masks are kept in the results folder, and so are computed once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sumcirc.circuits.aggregation import aggregated
from sumcirc.circuits.attribution.methods import AttributionSettings, attribute
from sumcirc.circuits.ensembles import mean_rank, mean_share
from sumcirc.circuits.graph import Graph
from sumcirc.circuits.inputs.example_pairs import ExamplePair, TokenPairs, pair_metric
from sumcirc.circuits.masks.learning import EdgeMaskSettings, learn_edges
from sumcirc.circuits.patching.evaluator import Evaluator
from sumcirc.circuits.resamples import edge_scores, on_edges
from sumcirc.circuits.sign_filter import SignFilter
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.schema import AT_CLEAN, Aggregation, Method

Values = NDArray[np.float64]

LABELS = {"kl": "kl", "nll": "nll", "logit_difference": "logit difference"}
SIZES = "mean of |score|"
# methods beside EAP-IG over inputs
METHODS = {
    Method.clean_corrupted: "clean-corrupted",
    Method.relp: "RelP",
    Method.eap_ig_activations: "EAP-IG over activations",
}
SIGN = SignFilter(0.95)
LEARNED, RANDOM_START = "learned masks", "learned masks, random start"


class Scorer:
    """Scores edges on the pairs that choose them; what was computed is kept in a folder.

    Args:
        model: the model.
        pairs: the pairs that choose edges.
        folder: the results folder.
        batch: number of pairs processed at once.
        memory: bytes that a pass may use in addition to the model.
        masks: settings by which masks are learned.
    """

    def __init__(
        self,
        model: Any,
        pairs: Sequence[ExamplePair],
        folder: Path,
        batch: int,
        memory: int,
        masks: EdgeMaskSettings,
    ) -> None:
        self.model, self.folder, self.batch, self.memory = model, folder, batch, memory
        self.tokens, self.masks = TokenPairs.of(pairs), masks
        self.graph = Graph(HookedModel(model).shape)

    def documents(self, metric: str, method: Method = Method.eap_ig_inputs) -> Values:
        """Return scores [pairs, sources, destinations] by a metric and a method."""
        settings = AttributionSettings(method)

        def make() -> Values:
            found = attribute(
                self.model,
                self.tokens,
                pair_metric(metric, self.tokens),
                settings,
                batch_size=self.batch,
                memory=self.memory,
            )
            return found.documents.numpy()

        return self._kept(f"scores-{metric}-{method.value}", make)

    def gaps(self, metric: str) -> Values:
        """Return how far corruption takes a metric from the model's, [pairs]."""

        def make() -> Values:
            by = pair_metric(metric, self.tokens)
            ends = Evaluator(self.model, self.tokens, by, batch=self.batch, memory=self.memory)
            return ends.empty.metric - ends.full.metric

        return self._kept(f"gaps-{metric}", make)

    def learned(self, start: Values, name: str, metric: str) -> Values:
        """Return the ranking of learned masks, [sources, destinations].

        Args:
            start: [sources, destinations] scores to start from.
            name: name of the file.
            metric: metric at whose positions distributions are compared.
        """
        positions = pair_metric(metric, self.tokens).positions

        def make() -> Values:
            some = self.masks, self.memory
            found = learn_edges(self.model, self.tokens, positions, start, *some)
            print(f"{name}: loss {found.losses[:20].mean():.3f} -> {found.losses[-20:].mean():.3f}")
            return found.scores

        return self._kept(name, make)

    def _kept(self, name: str, make: Callable[[], Values]) -> Values:
        file = self.folder / f"{name}.npz"
        if not file.exists():
            began = time.process_time()
            values = make()
            seconds = time.process_time() - began
            np.savez(file, scores=values, seconds=seconds)
            print(f"{name}: {seconds:.0f} CPU seconds", flush=True)
        return np.load(file)["scores"].astype(np.float64)


Way = Callable[[Scorer], Values]


def _aggregated(scorer: Scorer, metric: str, how: Aggregation) -> Values:
    return np.abs(aggregated(scorer.documents(metric), how))


def _signed(scorer: Scorer, metric: str) -> Values:
    return aggregated(scorer.documents(metric), Aggregation.mean)


def _by_gap(scorer: Scorer, metric: str) -> Values:
    """Size of the mean of scores in shares of each pair's gap, which is bounded from below."""
    gaps = np.abs(scorer.gaps(metric))
    bounded = np.maximum(gaps, np.median(gaps) / 4)
    return np.abs((scorer.documents(metric) / bounded[:, None, None]).mean(0))


def _by_document(scorer: Scorer, metric: str) -> Values:
    """Mean of each score's share of the document's sum of |score|: all documents count alike."""
    sizes = np.abs(scorer.documents(metric))
    return (sizes / sizes.sum((1, 2), keepdims=True)).mean(0)


def _by_method(scorer: Scorer, metric: str, method: Method, how: Aggregation) -> Values:
    return np.abs(aggregated(scorer.documents(metric, method), how))


def _filtered(scorer: Scorer, metric: str) -> Values:
    graph = scorer.graph
    return on_edges(SIGN.ranks(edge_scores(scorer.documents(metric), graph)), graph)


def _ensemble(
    scorer: Scorer, metrics: Sequence[str], combine: Callable[[Sequence[Values], Graph], Values]
) -> Values:
    """Combine the mean scores by several metrics, and those by clean-corrupted of the first."""
    scores = [scorer.documents(one) for one in metrics]
    scores.append(scorer.documents(metrics[0], Method.clean_corrupted))
    return combine([one.mean(0) for one in scores], scorer.graph)


def _learned(scorer: Scorer, metric: str) -> Values:
    start = aggregated(scorer.documents(metric), Aggregation.mean)
    return scorer.learned(start, "masks", metric)


def _from_random(scorer: Scorer, metric: str) -> Values:
    start = np.random.default_rng(0).random(scorer.graph.exists.shape)
    return scorer.learned(start, "masks-random-start", metric)


def default_way(own: str) -> str:
    """Return the name of the ranking that others are compared with: the size of the mean score.

    It was the default of `circuit.aggregation` when the first records were made.
    """
    return f"{LABELS[own]}, |mean|"


def ways(metrics: Sequence[str]) -> dict[str, Way]:
    """Return the functions that rank edges, by the name of the way; the default comes first.

    Args:
        metrics: metrics that are attributed; the first one also judges circuits.
    """
    own = metrics[0]
    found: dict[str, Way] = {}
    for metric in metrics:
        name = LABELS[metric]
        found[f"{name}, |mean|"] = partial(_aggregated, metric=metric, how=Aggregation.mean)
        found[f"{name}, {SIZES}"] = partial(
            _aggregated, metric=metric, how=Aggregation.mean_absolute
        )
        if metric == own:
            found[f"{name}, mean"] = partial(_signed, metric=metric)
            found[f"{name}, sign filter {SIGN.least:g}"] = partial(_filtered, metric=metric)
    label = LABELS[own]
    found[f"{label}, |mean| by gap"] = partial(_by_gap, metric=own)
    found[f"{label}, share by document"] = partial(_by_document, metric=own)
    for method, name in METHODS.items():
        # KL from the clean run has no gradient there, where RelP takes it
        metric = own if method not in AT_CLEAN or own != "kl" else "nll"
        for how, said in ((Aggregation.mean, "|mean|"), (Aggregation.mean_absolute, SIZES)):
            way = partial(_by_method, metric=metric, method=method, how=how)
            found[f"{LABELS[metric]}, {name}, {said}"] = way
    found["mean rank of scores"] = partial(_ensemble, metrics=metrics, combine=mean_rank)
    found["mean share of scores"] = partial(_ensemble, metrics=metrics, combine=mean_share)
    found[LEARNED] = partial(_learned, metric=own)
    found[RANDOM_START] = partial(_from_random, metric=own)
    return found
