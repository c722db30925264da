"""Bootstrap: intervals of a statistic, or of the difference of two methods, by resampling the test rows.

Percentile intervals; Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mofgap.uncertainty.columns import Floats, Indices, check_level, columns


@dataclass(frozen=True)
class Interval:
    """A value with its bootstrap interval, in the unit of the value."""

    value: float
    lo: float
    hi: float


def intervals(value: Floats, draws: Floats, level: float) -> list[Interval]:
    """The percentile interval of each of k statistics.

    Args:
        value: The statistics of all rows, shape (k,).
        draws: The statistics of resampled rows, shape (n_draws, k).
        level: Nominal coverage of the intervals.

    Returns:
        k intervals; NaN if a statistic is not defined in some draw.
    """
    tail = (1 - level) / 2
    ends = np.quantile(draws, [tail, 1 - tail], axis=0)
    return [Interval(float(v), float(lo), float(hi)) for v, lo, hi in zip(value, *ends, strict=True)]


def bootstrap(
    statistic: Callable[[Indices], float], n: int, *, level: float = 0.95, n_draws: int = 1000, seed: int = 0
) -> Interval:
    """A statistic of n rows, and its interval over resamplings: n rows drawn with replacement.

    Args:
        statistic: It is called with the indices of the resampled rows, shape (n,).
        n: Number of rows.
        level: Nominal coverage of the interval.
        n_draws: Number of resamplings.
        seed: Seed of the random rows.

    Raises:
        ValueError: If ``n`` is 0, ``level`` is not between 0 and 1, or ``n_draws`` is below 1.
    """
    check_level(level)
    if n_draws < 1:
        raise ValueError(f"n_draws must be at least 1, not {n_draws}")
    if n == 0:
        raise ValueError("a bootstrap needs at least one row")
    rng = np.random.default_rng(seed)
    draws = np.array([[statistic(rng.integers(n, size=n))] for _ in range(n_draws)], dtype=np.float64)
    (found,) = intervals(np.array([statistic(np.arange(n))]), draws, level)
    return found


def paired_bootstrap(
    metric: Callable[..., float],
    y_true: npt.ArrayLike,
    a: Sequence[npt.ArrayLike],
    b: Sequence[npt.ArrayLike],
    *,
    level: float = 0.95,
    n_draws: int = 1000,
    seed: int = 0,
) -> Interval:
    """The difference metric(a) - metric(b) and its interval.

    Each resampling takes the same rows for both methods, so that difficult rows affect both alike.

    Args:
        metric: A function of `metrics`, called as ``metric(y_true, *a)``.
        y_true: Reference values, shape (n,).
        a: Further arguments of the metric for the first method: ``(y_pred,)`` or ``(y_pred, y_std)``.
        b: The same for the second method.
        level: Nominal coverage of the interval.
        n_draws: Number of resamplings.
        seed: Seed of the random rows.

    Raises:
        ValueError: If the columns are empty or differ in length, ``level`` is not between 0 and 1, or
            ``n_draws`` is below 1.
    """
    (true,) = columns(y_true=y_true)
    first, second = ([columns(y_true=true, column=column)[1] for column in side] for side in (a, b))

    def difference(rows: Indices) -> float:
        return metric(true[rows], *(c[rows] for c in first)) - metric(true[rows], *(c[rows] for c in second))

    return bootstrap(difference, len(true), level=level, n_draws=n_draws, seed=seed)
