"""Confidence intervals and tests over documents, over seeds and documents, and over many rows."""

from sumcirc.statistics.intervals import (
    MIN_DOCUMENTS,
    Interval,
    bootstrap_difference,
    bootstrap_mean,
    bootstrap_means,
    bootstrap_ratios,
    bracketed,
    excludes_zero,
    includes_zero,
    mean_over,
    share_below_zero,
    significantly_different,
)
from sumcirc.statistics.ranks import Ranks, rank_interval
from sumcirc.statistics.resampling import Bootstrap
from sumcirc.statistics.seeds import (
    SEEDS_TO_CLAIM,
    Estimate,
    crossed_difference,
    crossed_mean,
    holm,
    run_difference,
    run_mean,
)

__all__ = [
    "MIN_DOCUMENTS",
    "SEEDS_TO_CLAIM",
    "Bootstrap",
    "Estimate",
    "Interval",
    "Ranks",
    "bootstrap_difference",
    "bootstrap_mean",
    "bootstrap_means",
    "bootstrap_ratios",
    "bracketed",
    "crossed_difference",
    "crossed_mean",
    "excludes_zero",
    "holm",
    "includes_zero",
    "mean_over",
    "rank_interval",
    "run_difference",
    "run_mean",
    "share_below_zero",
    "significantly_different",
]
