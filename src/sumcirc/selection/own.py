"""A selector of the user's: the function that selector.score names, from `Evidence` to `Scores`.

It is looked at when the configuration is checked, and called when a job needs it: its scores are
not kept, since nobody knows when its code has changed. What it asks the evidence for is (the base's
probes and circuit, the probe run). Its module has to be named in SUMCIRC_NAMESPACES
(`instantiation`), so that a configuration that somebody sent can't call what it likes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sumcirc.errors import UserError
from sumcirc.schema import MODULES, Granularity, SelectorConfig
from sumcirc.schema.instantiation import function
from sumcirc.selection.evidence import Evidence
from sumcirc.selection.scores import Scores


def score(evidence: Evidence) -> Scores:
    """What the user's function finds.

    Raises:
        UserError: it gives no scores, or scores that nothing can be chosen by.
    """
    options = evidence.config.selector
    with evidence.preserving_training_state():
        found = function_of(options)(evidence)
    wrong = _why_not(found, evidence.layers, evidence.granularity)
    if wrong:
        raise UserError(f"selector.score={options.score}: {wrong}")
    return found


def function_of(options: SelectorConfig) -> Callable[[Evidence], Scores]:
    """The function, imported.

    Raises:
        UserError: none is named, or `instantiation.function` refuses it.
    """
    if options.score is None:
        raise UserError("selector=own: name your function with selector.score=MODULE.FUNCTION")
    return function("selector.score", options.score)


def _why_not(found: object, layers: int, granularity: Granularity) -> str | None:
    """What is wrong with scores; None where nothing is."""
    if not isinstance(found, Scores):
        return (
            f"gave a {type(found).__name__}; return a `Scores`, or `rule(values, reason)`, both of"
            " sumcirc.selection.scores"
        )
    arrays = {"values": found.values}
    if found.resamples is not None:
        arrays["resamples"] = found.resamples
    for name, values in arrays.items():
        shape = np.shape(values)
        if len(shape) != 3 or shape[0] != layers or shape[1] not in (1, len(MODULES)):
            return (
                f"gave {name} of shape {list(shape)}; return [{layers} layers, 1 or"
                f" {len(MODULES)} modules, samples]"
            )
        if not shape[2] or not np.isfinite(np.asarray(values, dtype=np.float64)).all():
            return f"gave {name} that are empty, NaN or infinite; return a number for each target"
    if granularity is Granularity.module and not found.tells_modules:
        return (
            "scores whole layers, not their modules; leave out adaptation.granularity=module, or"
            f" return [{layers} layers, {len(MODULES)} modules, samples]"
        )
    return None
