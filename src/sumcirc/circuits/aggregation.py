"""How an edge's scores on the pairs become the one score by which edges are ranked.

- `mean`: the mean over pairs; edges are ranked by its size. Effects of opposite sign on two pairs
  cancel, so an edge ranks high if it has the same effect everywhere. This is the score of EAP-IG
  (M. Hanna et al., Have Faith in Faithfulness, 2024, arXiv:2403.17806).
- `mean_absolute`: the mean of |score|. Nothing cancels, so an edge also ranks high if pairs use it
  in opposite ways. This is the contribution of AtP* (J. Kramár et al., AtP*, 2024,
  arXiv:2403.00745: the expected absolute effect). Where an edge is shown, its score has the sign of
  the mean (`signed_scores`).

Both are means over pairs, of `per_document`. What resamples pairs, or needs a share for each of
them, starts from there, and so is right for both.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sumcirc.schema import Aggregation


def per_document(scores: NDArray[Any], aggregation: Aggregation) -> NDArray[Any]:
    """Return what the aggregated score is the mean of: the scores, or their absolute values.

    Args:
        scores: [documents, sources, destinations] edge scores.
        aggregation: how scores are aggregated.
    """
    return np.abs(scores) if aggregation is Aggregation.mean_absolute else scores


def aggregated(scores: NDArray[Any], aggregation: Aggregation) -> NDArray[np.float64]:
    """Return the one score of each edge by whose size edges are ranked, [sources, destinations].

    Args:
        scores: [documents, sources, destinations] edge scores.
        aggregation: how scores are aggregated.
    """
    return per_document(scores, aggregation).mean(0, dtype=np.float64)


def signed_scores(scores: NDArray[Any], aggregation: Aggregation) -> NDArray[np.float64]:
    """Return the aggregated scores with the sign of the mean scores, [sources, destinations].

    Args:
        scores: [documents, sources, destinations] edge scores.
        aggregation: how scores are aggregated.
    """
    return np.copysign(aggregated(scores, aggregation), scores.mean(0, dtype=np.float64))
