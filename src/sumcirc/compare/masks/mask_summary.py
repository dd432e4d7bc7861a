"""Learned masks as means with intervals for summary.json, and as rows with a value per item.

Effects on the metric are shares of the mean gain, which is taken as known; plain texts are in nats
a token. Rankings that were drawn or trained several times have an interval over draws and items as
crossed factors (`statistics.seeds`), others one over items. Differences between rankings are paired
by item, and by seed where both were trained with the same seeds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sumcirc.compare.masks.forgetting import Forgetting
from sumcirc.compare.masks.judging import (
    ADD,
    GRAFTING,
    INVERTED,
    MASKS,
    PATH,
    REMOVE,
    Judged,
)
from sumcirc.compare.masks.learned_masks import LearnedMasks
from sumcirc.statistics import crossed_difference, crossed_mean
from sumcirc.statistics.ranks import spearman
from sumcirc.statistics.seeds import Estimate

AVERAGED = 20  # number of steps at the start and at the end over which the loss is averaged
BY_SEED = (GRAFTING, INVERTED)  # have the same seeds as the nested ranking

Values = NDArray[np.float64]


def mask_summary(found: LearnedMasks) -> dict[str, Any]:
    """Return the curves of all rankings with intervals, their areas, and the units by rank.

    Args:
        found: the results, with a value for each item.
    """
    judged, options = found.judged, found.options
    names = list(dict.fromkeys(one.name for one in judged.rankings))
    return {
        "grain": str(options.grain),
        "shares": str(options.shares),
        "trained_on": len(found.trained_on),
        "judged_on": len(found.items),
        "path_converged": found.path_converged,
        "sizes": judged.sizes.tolist(),
        "rankings": {name: _ranking(found, name) for name in names},
        "units": _units(found),
        "agreement": _agreement(judged),
        **({} if found.forgetting is None else {"retention": _retention(found.forgetting)}),
    }


def mask_rows(found: LearnedMasks) -> Iterator[Mapping[str, Any]]:
    """Yield a row for the metric with and without every set, for every item."""
    judged = found.judged
    for i, ranking in enumerate(judged.rankings):
        about = {"ranking": ranking.name, "draw": ranking.draw}
        for j, size in enumerate(judged.sizes.tolist()):
            for kind, values in (("kept", judged.kept), ("left", judged.left)):
                for item, value in zip(found.items, values[i, j], strict=True):
                    yield about | {"size": size, "kind": kind, "item": item, "value": float(value)}


def text_rows(found: LearnedMasks) -> Iterator[Mapping[str, Any]]:
    """Yield a row for every set and every plain text, if they were read."""
    forgotten, judged = found.forgetting, found.judged
    if forgotten is None:
        return
    for (i, j, text), nll in np.ndenumerate(forgotten.nll):
        ranking, size = judged.rankings[i], float(judged.sizes[j])
        about = {"ranking": ranking.name, "draw": ranking.draw, "size": size, "text": text}
        yield about | {"nll": float(nll), "kl": float(forgotten.kl[i, j, text])}


def unit_rows(found: LearnedMasks) -> Iterator[Mapping[str, Any]]:
    """Yield a row for the score and the rank of every unit in every ranking."""
    for ranking in found.judged.rankings:
        ranks = np.argsort(ranking.order)
        for i, unit in enumerate(found.units):
            yield {
                "ranking": ranking.name,
                "draw": ranking.draw,
                "unit": unit.label,
                "score": float(ranking.scores[i]),
                "rank": int(ranks[i]) + 1,
            }


def _ranking(found: LearnedMasks, name: str) -> dict[str, Any]:
    """Return the curves of a ranking, and the areas under them."""
    judged, extent = found.judged, found.extent
    places = judged.of(name)
    points = []
    for j, size in enumerate(judged.sizes.tolist()):
        point: dict[str, Any] = {"size": size}
        for which in ("kept", "left"):
            values = getattr(judged, which)[places, j] - judged.before
            point[which] = _ends(crossed_mean(values), judged)
        for which in ("weights", "squares"):
            shares = getattr(extent, which)
            point[which] = float(np.mean([shares[judged.sets[i][j]].sum() for i in places]))
        if (forgotten := found.forgetting) is not None:
            point["nll_change"] = _nats(forgotten.nll[places, j] - forgotten.before)
            point["kl"] = _nats(forgotten.kl[places, j])
        points.append(point)
    row: dict[str, Any] = {"draws": len(places), "curve": points, "area": {}, "difference": {}}
    own = judged.of(MASKS)
    for which in ("kept", "left"):
        areas = judged.area(which)
        row["area"][which] = _ends(crossed_mean(areas[places]), judged)
        if name != MASKS:
            row["difference"][which] = _ends(_difference(areas[own], areas[places], name), judged)
    losses = [losses for (one, _), losses in found.losses.items() if one == name]
    if losses:
        mean = np.mean(losses, axis=0)
        row["loss"] = [float(mean[:AVERAGED].mean()), float(mean[-AVERAGED:].mean())]
    return row


def _difference(first: Values, second: Values, name: str) -> Estimate:
    """Return the mean difference between the areas of the nested ranking and of another one."""
    if name in BY_SEED:
        return crossed_difference(first, second, paired=True)
    if len(second) == 1:
        return crossed_mean(first - second)
    return crossed_difference(first, second, paired=False)


def _units(found: LearnedMasks) -> list[dict[str, Any]]:
    """Return the units by their mean rank in the nested ranking over seeds."""
    judged = found.judged
    ranks = {
        name: np.array([np.argsort(judged.rankings[i].order) + 1 for i in judged.of(name)])
        for name in (MASKS, GRAFTING, PATH, ADD, REMOVE)
    }
    mean = ranks[MASKS].mean(0)
    rows = []
    for i in np.argsort(mean, kind="stable").tolist():
        unit = found.units[i]
        rows.append(
            {
                "unit": unit.label,
                "layer": unit.layer,
                "part": unit.part,
                "index": unit.index,
                "weights": float(found.extent.weights[i]),
                "squares": float(found.extent.squares[i]),
                "ranks": ranks[MASKS][:, i].tolist(),
                **{name: float(ranks[name][:, i].mean()) for name in ranks if name != MASKS},
            }
        )
    return rows


def _agreement(judged: Judged) -> dict[str, float]:
    """Return rank correlations of the nested ranking: between seeds, and with other rankings."""
    own = [judged.rankings[i].scores for i in judged.of(MASKS)]
    found = {}
    if len(own) > 1:
        found["seeds"] = float(np.mean([spearman(*pair) for pair in combinations(own, 2)]))
    for name in (GRAFTING, PATH, ADD, REMOVE):
        others = [judged.rankings[i].scores for i in judged.of(name)]
        found[name] = float(np.mean([spearman(a, b) for a in own for b in others]))
    return found


def _retention(forgotten: Forgetting) -> dict[str, Any]:
    """Return how well both models predict the plain texts."""
    return {
        "texts": len(forgotten.before),
        "before": _nats(forgotten.before[None]),
        "nll_change": _nats((forgotten.after_nll - forgotten.before)[None]),
        "kl": _nats(forgotten.after_kl[None]),
    }


def _nats(values: Values) -> dict[str, float]:
    """Return the mean of values [draws, texts] with its interval."""
    found = crossed_mean(values)
    return {"mean": found.mean, "low": found.low, "high": found.high}


def _ends(found: Estimate, judged: Judged) -> dict[str, float]:
    gain = float((judged.after - judged.before).mean())
    ends = sorted((found.low / gain, found.high / gain))
    return {"mean": found.mean / gain, "low": ends[0], "high": ends[1]}
