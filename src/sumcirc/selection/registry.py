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
        score: computes the scores.
        measures: reads the model or documents, rather than only counting layers.
        kept: its scores are cached for later jobs, if it measures.
        modules: scores the modules of a layer separately.
        compares: needs a tuned model in addition to the base.
        pairs: needs corrupted documents.
    """

    score: Score
    measures: bool = True
    kept: bool = True
    modules: bool = True
    compares: bool = False
    pairs: bool = False


SELECTORS: dict[SelectorName, Selector] = {}


def selector(name: SelectorName, **properties: bool) -> Callable[[Score], Score]:
    """Register the decorated function under a name.

    Args:
        name: value of `selector.name`.
        properties: those of `Selector` that differ from their defaults.
    """

    def register(score: Score) -> Score:
        SELECTORS[name] = Selector(score, **properties)
        return score

    return register
