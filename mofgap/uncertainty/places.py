"""Places: what depends on the order of rows alone, fast enough to be resampled a thousand times.

The place of a value is its index among the distinct values in ascending order. A resampling keeps the order
of places, so they are found once, and every resampling counts them instead of sorting.
"""

import numpy as np

from mofgap.uncertainty.columns import Floats, Indices


def places(values: Floats) -> Indices:
    """The place of each value, from 0; equal values share theirs. Both of shape (n,)."""
    return np.unique(values, return_inverse=True)[1]


def rank_correlation(a: Indices, b: Indices) -> float:
    """Spearman's correlation of two columns of places, shape (n,); NaN where one is constant."""
    centred = [_mean_ranks(each) - 0.5 * (len(each) + 1) for each in (a, b)]
    scale = np.sqrt(np.prod([each @ each for each in centred]))
    return float(centred[0] @ centred[1] / scale) if scale > 0 else float("nan")


def sparsification_area(error: Floats, error_place: Indices, std_place: Indices) -> float:
    """The area that `metrics.ause` describes.

    Args:
        error: Absolute errors, shape (n,), n at least 1.
        error_place: Their places, shape (n,).
        std_place: The places of the standard deviations, shape (n,).
    """
    if error.max() == 0:
        return 0.0
    left = np.arange(1, len(error) + 1)
    by_std, by_error = (np.cumsum(_in_order(error, place)) / left for place in (std_place, error_place))
    return float(np.mean(by_std - by_error) / error.mean())


def _mean_ranks(place: Indices) -> Floats:
    """Ranks from 1; those of a tie share their mean."""
    count = np.bincount(place)
    ranks: Floats = (np.cumsum(count) - 0.5 * (count - 1))[place]
    return ranks


def _in_order(values: Floats, place: Indices) -> Floats:
    """Values in the order of their places; the values of a tie become their mean."""
    count = np.bincount(place)
    mean = np.bincount(place, weights=values) / np.maximum(count, 1)
    return np.repeat(mean, count)
