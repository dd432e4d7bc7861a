"""`selector.draws=N`: N random draws of layers as one setting of a sweep.

It stands for `selector.seed=1,...,N`, so the draws are runs of one sweep with the same training
seeds, and `sumcirc report` gives the place of other arms among them (`reporting.draws`).
"""

from __future__ import annotations

from collections.abc import Sequence

from sumcirc.errors import UserError

WORD = "selector.draws"
MOST = 1000


def with_draws(verb: str, words: Sequence[str], multirun: bool) -> list[str]:
    """Return the words after a verb with `selector.draws=N` replaced by seeds of the selector.

    Args:
        verb: the verb.
        words: the settings as typed, KEY=VALUE.
        multirun: whether the command has `-m`.

    Raises:
        UserError: the number can't be used, or the command isn't a sweep of `selector=random`.
    """
    given = [word for word in words if word.partition("=")[0] == WORD]
    if not given:
        return list(words)
    word, value = given[-1], given[-1].partition("=")[2]
    if verb != "train" or not multirun:
        raise UserError(f"{word}: draws are jobs of a sweep; start it with sumcirc train -m")
    if not value.isdigit() or not 2 <= int(value) <= MOST:
        raise UserError(f"{word}: must be a whole number from 2 to {MOST}")
    if "selector=random" not in words:
        raise UserError(
            f"{word}: is for selector=random alone, since other selectors draw nothing; start them"
            " as a sweep of their own, and give both to sumcirc report"
        )
    if any(one.partition("=")[0] == "selector.seed" for one in words):
        raise UserError(f"{word}: gives each draw its selector.seed; leave one of them out")
    seeds = f"selector.seed={','.join(map(str, range(1, int(value) + 1)))}"
    return [seeds if one == word else one for one in words if one == word or one not in given]
