"""Documents resampled with replacement, with the same draws for every array of equal length."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def resampled(values: NDArray[np.floating], resamples: int) -> NDArray[np.float64]:
    """Return the means of resamples over the last axis.

    Args:
        values: [..., samples].
        resamples: number of resamples.

    Returns:
        [..., resamples].
    """
    return values.astype(np.float64) @ weights(values.shape[-1], resamples).T


def weights(samples: int, resamples: int, seed: int = 0) -> NDArray[np.float64]:
    """Return the weight of each sample in the mean of each resample.

    Args:
        samples: number of values that are resampled.
        resamples: number of resamples.
        seed: of the random draws.

    Returns:
        [resamples, samples]; every row adds up to 1.
    """
    random = np.random.default_rng(seed)
    return random.multinomial(samples, np.full(samples, 1 / samples), resamples) / samples
