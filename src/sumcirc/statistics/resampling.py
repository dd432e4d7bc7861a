"""Documents drawn again with replacement, the same for every score of as many documents."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def resampled(values: NDArray[np.floating], resamples: int) -> NDArray[np.float64]:
    """Means of resamples over the last axis, [..., samples] to [..., resamples]."""
    return values.astype(np.float64) @ weights(values.shape[-1], resamples).T


def weights(samples: int, resamples: int, seed: int = 0) -> NDArray[np.float64]:
    """The weight of each sample in the mean of each resample, [resamples, samples]."""
    random = np.random.default_rng(seed)
    return random.multinomial(samples, np.full(samples, 1 / samples), resamples) / samples
