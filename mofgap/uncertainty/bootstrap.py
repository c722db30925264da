"""Bootstrap: is one method better than another, or was it the choice of test rows?"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mofgap.uncertainty.columns import columns


@dataclass(frozen=True)
class Difference:
    """A metric of method a minus that of method b, with a percentile interval, in the metric's unit."""

    value: float
    lo: float
    hi: float
    n_draws: int


def paired_bootstrap(
    metric: Callable[..., float],
    y_true: npt.ArrayLike,
    a: Sequence[npt.ArrayLike],
    b: Sequence[npt.ArrayLike],
    *,
    level: float = 0.95,
    n_draws: int = 1000,
    seed: int = 0,
) -> Difference:
    """The difference metric(a) - metric(b) and its bootstrap interval over rows.

    Each draw takes n rows with replacement, the same rows for both methods, so that what is hard for both
    cancels. Percentile interval; Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.

    Args:
        metric: A function of `metrics`, called as ``metric(y_true, *a)``.
        y_true: Reference values, shape (n,).
        a: Further arguments of the metric for the first method: ``(y_pred,)`` or ``(y_pred, y_std)``.
        b: The same for the second method.
        level: Nominal coverage of the interval.
        n_draws: Number of resamplings.
        seed: Of the random rows.

    Raises:
        ValueError: No rows, columns of different lengths, or a level or number of draws out of range.
    """
    if not 0 < level < 1 or n_draws < 1:
        raise ValueError(f"level must lie between 0 and 1 and n_draws above 0, not {level} and {n_draws}")
    (true,) = columns(y_true=y_true)
    if len(true) == 0:
        raise ValueError("a bootstrap needs at least one row")
    first, second = ([columns(y_true=true, column=column)[1] for column in side] for side in (a, b))

    def difference(rows: npt.NDArray[np.intp]) -> float:
        return metric(true[rows], *(c[rows] for c in first)) - metric(true[rows], *(c[rows] for c in second))

    rng = np.random.default_rng(seed)
    draws = [difference(rng.integers(len(true), size=len(true))) for _ in range(n_draws)]
    lo, hi = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Difference(difference(np.arange(len(true))), float(lo), float(hi), n_draws)
