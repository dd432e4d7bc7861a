"""A user's own selector: the function named by `selector.score`.

It takes a `SelectionContext` and returns `Scores`. The function is imported when the configuration
is checked, and called when a job needs it. Its scores are not cached, because changes of its code
can't be detected. Its module has to be listed in SUMCIRC_NAMESPACES (`schema.instantiation`), so
that a configuration from somebody else can't call arbitrary code.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sumcirc.errors import UserError
from sumcirc.schema import MODULES, Granularity, SelectorConfig, SelectorName
from sumcirc.schema.instantiation import function
from sumcirc.selection.context import SelectionContext
from sumcirc.selection.registry import selector
from sumcirc.selection.scores import Scores


@selector(SelectorName.own, kept=False, pairs=True)
def user_function(context: SelectionContext) -> Scores:
    """Return the scores that the function named by `selector.score` computes.

    Raises:
        UserError: the function returns no `Scores`, or scores that can't be used.
    """
    options = context.config.selector
    with context.preserving_training_state():
        found = function_of(options)(context)
    wrong = why_not(found, context.layers, context.granularity)
    if wrong:
        raise UserError(f"selector.score={options.score}: {wrong}")
    return found


def function_of(options: SelectorConfig) -> Callable[[SelectionContext], Scores]:
    """Import and return the function that `selector.score` names.

    Args:
        options: settings of the selector.

    Raises:
        UserError: no function is named, or the function can't be imported or may not be called.
    """
    if options.score is None:
        raise UserError("selector=own: name your function with selector.score=MODULE.FUNCTION")
    return function("selector.score", options.score)


def why_not(found: object, layers: int, granularity: Granularity) -> str | None:
    """Return why scores can't be used, or None if they can.

    Args:
        found: what a user's function returned.
        layers: number of layers of the model.
        granularity: whether layers or modules are selected.
    """
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
