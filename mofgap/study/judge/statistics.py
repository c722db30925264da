"""What arms are compared by: the mean over seeds of one metric each.

A bootstrap calls them a thousand times. Spearman's correlation and AUSE therefore start from the ranks that
an `Arm` keeps: for 2,000 rows that is 30 and 4 times as fast as `metrics.spearman` and `metrics.ause`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mofgap.study.config import Spread
from mofgap.study.judge.arms import Arm
from mofgap.uncertainty import metrics
from mofgap.uncertainty.ranks import rank_correlation, sparsification_area


def mae(arm: Arm) -> float:
    """Mean absolute error, eV."""
    return float(np.abs(arm.gap_dft_ev - arm.gap_ev).mean())


def spearman(arm: Arm) -> float:
    """Rank correlation of std and |error|, the value of `metrics.spearman`."""
    assert arm.std_rank is not None
    return float(
        np.mean([rank_correlation(*both) for both in zip(arm.std_rank, arm.error_rank, strict=True)])
    )


def ause(arm: Arm) -> float:
    """Area under the sparsification error, the value of `metrics.ause`."""
    assert arm.std_rank is not None
    seeds = zip(np.abs(arm.gap_dft_ev - arm.gap_ev), arm.error_rank, arm.std_rank, strict=True)
    return float(np.mean([sparsification_area(*each) for each in seeds]))


def crps_ev(arm: Arm) -> float:
    """Continuous ranked probability score, eV."""
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
    "total": tuple(METRICS),
    "epistemic": ("spearman", "ause"),
}
"""The metrics that compare pairs of methods. Errors do not depend on the spread; they go with the total."""
