"""What arms are compared by, fast enough for a thousand resamplings: what was sorted once is not again."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mofgap.study.config import Spread
from mofgap.study.judge.arms import Arm, Indices
from mofgap.uncertainty import metrics

Floats = NDArray[np.float64]


def mae(arm: Arm) -> float:
    """Mean over seeds of the mean absolute error, eV."""
    return float(np.abs(arm.gap_dft_ev - arm.gap_ev).mean())


def spearman(arm: Arm) -> float:
    """Mean over seeds of the rank correlation of std and |error|, as `metrics.spearman` has it."""
    assert arm.std_rank is not None
    return float(
        np.mean([_rank_correlation(*both) for both in zip(arm.std_rank, arm.error_rank, strict=True)])
    )


def ause(arm: Arm) -> float:
    """Mean over seeds of the area under the sparsification error, as `metrics.ause` has it."""
    assert arm.std_rank is not None
    seeds = zip(np.abs(arm.gap_dft_ev - arm.gap_ev), arm.error_rank, arm.std_rank, strict=True)
    return float(np.mean([_sparsification(*each) for each in seeds]))


def crps_ev(arm: Arm) -> float:
    """Mean over seeds of the continuous ranked probability score, eV."""
    assert arm.std_ev is not None
    seeds = zip(arm.gap_ev, arm.std_ev, strict=True)
    return float(np.mean([metrics.crps(arm.gap_dft_ev, gap, std) for gap, std in seeds]))


METRICS: dict[str, Callable[[Arm], float]] = {
    "mae_ev": mae,
    "spearman": spearman,
    "ause": ause,
    "crps_ev": crps_ev,
}
COMPARED: dict[Spread, tuple[str, ...]] = {
    "total": ("mae_ev", "spearman", "ause", "crps_ev"),
    "epistemic": ("spearman", "ause"),
}
"""What pairs of methods are compared by. Errors do not depend on the spread, and stand with the total."""


def _rank_correlation(a: Indices, b: Indices) -> float:
    first, second = (ranks - ranks.mean() for ranks in (_average_ranks(a), _average_ranks(b)))
    scale = np.sqrt((first @ first) * (second @ second))
    return float(first @ second / scale) if scale > 0 else float("nan")


def _average_ranks(place: Indices) -> Floats:
    """Ranks from 1; those of a tie share their mean."""
    count = np.bincount(place)
    ranks: Floats = (np.cumsum(count) - 0.5 * (count - 1))[place]
    return ranks


def _sparsification(error: Floats, error_rank: Indices, std_rank: Indices) -> float:
    if error.max() == 0:
        return 0.0
    left = np.arange(1, len(error) + 1)
    # Equal spreads leave in random order: each stands for the mean of its tie.
    by_std, by_error = (np.cumsum(_in_order(error, rank)) / left for rank in (std_rank, error_rank))
    return float(np.mean(by_std - by_error) / error.mean())


def _in_order(values: Floats, place: Indices) -> Floats:
    """Values sorted by their places, each tie's mean for every value of the tie."""
    count = np.bincount(place)
    mean = np.bincount(place, weights=values) / np.maximum(count, 1)
    return np.repeat(mean, count)
