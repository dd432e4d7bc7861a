"""The table of selectors, filled by a decorator.

A selector is a function from a `SelectionContext` to `Scores`, with a name in `schema.SelectorName`
and a file in conf/selector.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sumcirc.schema import SelectorName
from sumcirc.selection.context import SelectionContext
from sumcirc.selection.scores import Scores

Score = Callable[[SelectionContext], Scores]


@dataclass(frozen=True)
class Selector:
    """A way to score layers or modules.

    Attributes:
        score: function that computes the scores.
        measures: whether the scores depend on the model's weights or on documents.
        kept: whether the scores are cached for later jobs; ignored unless `measures` is true.
        modules: whether the modules of a layer get separate scores.
        compares: whether a tuned model is needed in addition to the base.
        steps: whether all weights of a copy of the base are trained for a few small steps.
        documents: whether the scores depend on documents; ignored unless `measures` is true.
        pairs: whether corrupted documents are needed.
        gradients: whether gradients of the base's weights are needed.
        weights: whether effective weights of the base are needed.
    """

    score: Score
    measures: bool = True
    kept: bool = True
    modules: bool = True
    compares: bool = False
    steps: bool = False
    documents: bool = True
    pairs: bool = False
    gradients: bool = False
    weights: bool = False


SELECTORS: dict[SelectorName, Selector] = {}


def selector(name: SelectorName, **properties: bool) -> Callable[[Score], Score]:
    """Return a decorator that registers a function as a selector.

    Args:
        name: name of the selector, which is a value of the setting `selector.name`.
        properties: values of the attributes of `Selector` that differ from their defaults.
    """

    def register(score: Score) -> Score:
        SELECTORS[name] = Selector(score, **properties)
        return score

    return register
