"""Statistics that depend on the order of values alone, fast enough for a thousand resamplings.

Dense ranks are computed once. A resampling of the rows does not change their order. So it counts ranks
instead of sorting values.
"""

import numpy as np

from mofgap.uncertainty.columns import Floats, Indices


def dense_ranks(values: Floats) -> Indices:
    """The index of each value among the distinct values in ascending order, from 0, shape (n,)."""
    return np.unique(values, return_inverse=True)[1]


def rank_correlation(a: Indices, b: Indices) -> float:
    """Spearman's correlation of two columns of dense ranks, shape (n,); NaN where one is constant."""
    centred = [_mean_ranks(each) - 0.5 * (len(each) + 1) for each in (a, b)]
    scale = np.sqrt(np.prod([each @ each for each in centred]))
    return float(centred[0] @ centred[1] / scale) if scale > 0 else float("nan")


def sparsification_area(error: Floats, error_rank: Indices, std_rank: Indices) -> float:
    """The area that `metrics.ause` describes.

    Args:
        error: Absolute errors, shape (n,), n at least 1.
        error_rank: Their dense ranks, shape (n,).
        std_rank: The dense ranks of the standard deviations, shape (n,).
    """
    if error.max() == 0:
        return 0.0
    left = np.arange(1, len(error) + 1)
    by_std, by_error = (np.cumsum(in_order(error, rank)) / left for rank in (std_rank, error_rank))
    return float(np.mean(by_std - by_error) / error.mean())


def _mean_ranks(rank: Indices) -> Floats:
    """Ranks from 1; equal values get their mean rank."""
    count = np.bincount(rank)
    ranks: Floats = (np.cumsum(count) - 0.5 * (count - 1))[rank]
    return ranks


def in_order(values: Floats, rank: Indices) -> Floats:
    """Values in the order of dense ranks; values of equal rank are replaced by their mean."""
    count = np.bincount(rank)
    mean = np.bincount(rank, weights=values) / np.maximum(count, 1)
    return np.repeat(mean, count)
