"""The calibration that held-out structures allow, and metrics of calibrated predictions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple, replace

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from mofgap.gap.error_bars import total_std
from mofgap.gap.posterior import Posterior
from mofgap.uncertainty import metrics
from mofgap.uncertainty.bootstrap import bootstrap
from mofgap.uncertainty.calibrate import Calibration, fit_calibration
from mofgap.uncertainty.conformal import Residuals
from mofgap.uncertainty.groups import quantile_edges
from mofgap.uncertainty.ranks import dense_ranks, rank_correlation
from mofgap.uncertainty.scaling import Scaling, rounded

MIN_ROWS = 25
"""With fewer validation rows no interval is fitted; the model says that its own are raw."""

MIN_SCALING_ROWS = 200
"""With fewer validation rows the scaling of the spread is not fitted; all of them go to the intervals."""

MAX_GROUPS = 5
"""Structures are dealt to so many groups of novelty at most, each with intervals of its own. On the val split
of the QMOF table 3, 4 and 5 groups have the same interval score to 0.004 eV. Other numbers have a worse one.
Coverage by novelty is the most even with 5 of these (``python -m benchmarks.accuracy --split val --groups 1 2
3 4 5 6``)."""

MIN_GROUP_ROWS = 400
"""Validation rows that each of these groups has at least: 20 in each tail of a 90 % interval."""

MIN_SPEARMAN_ROWS = 30
"""With fewer rows a rank correlation says nothing: chance alone gives 0.4 one time in twenty."""

SCORED = ("mae_ev", "spearman", "coverage_90")
"""Metrics that are given with an interval: ``NAME_lo`` and ``NAME_hi``, of 95 % over the choice of rows."""


def evaluate(
    found: Posterior,
    calibration: Calibration,
    gap_ev: NDArray[np.float64],
    novelty: NDArray[np.float64],
    unbalanced: npt.ArrayLike = 0.0,
) -> dict[str, float]:
    """Metrics of calibrated predictions against reference gaps, of structures of some novelty.

    ``found`` is widened where elements are unseen. ``unbalanced``, 1 or 0, marks structures whose charges do
    not add up.

    Of fewer than `MIN_SPEARMAN_ROWS` rows the correlations are NaN. `SCORED` have bootstrap intervals.
    """
    predicted, std = np.maximum(found.gap_ev, 0.0), total_std(found, calibration, unbalanced=unbalanced)
    intervals = {level: calibration.interval(predicted, std, level, novelty) for level in metrics.LEVELS}
    area = metrics.predictive_area(calibration.cdf(gap_ev, predicted, std, novelty))
    scores = metrics.summary(gap_ev, predicted, std, intervals=intervals) | {"predictive_area": area}
    lo, hi = intervals[0.9]
    scores |= _with_interval(np.abs(gap_ev - predicted), std, (lo <= gap_ev) & (gap_ev <= hi))
    if len(gap_ev) < MIN_SPEARMAN_ROWS:
        scores |= {name: np.nan for name in scores if name.startswith(("spearman", "pearson"))}
    return scores


def _with_interval(
    error: NDArray[np.float64], std: NDArray[np.float64], covered: NDArray[np.bool_]
) -> dict[str, float]:
    """Bootstrap intervals of `SCORED`, from (n,) absolute errors, spreads and whether intervals held."""
    ranks = dense_ranks(error), dense_ranks(std)
    statistics: tuple[Callable[[NDArray[np.intp]], float], ...] = (
        lambda rows: float(error[rows].mean()),
        lambda rows: rank_correlation(ranks[0][rows], ranks[1][rows]),
        lambda rows: float(covered[rows].mean()),
    )
    found = {name: bootstrap(each, len(error)) for name, each in zip(SCORED, statistics, strict=True)}
    return {f"{name}_{end}": getattr(each, end) for name, each in found.items() for end in ("lo", "hi")}


def calibration_of(
    found: Posterior,
    gap_ev: NDArray[np.float64],
    ids: Sequence[str],
    scaling: Scaling | None = None,
    novelty: NDArray[np.float64] | None = None,
) -> Calibration:
    """The most detailed calibration that some rows allow.

    From `MIN_SCALING_ROWS` rows on, scaling and conformal intervals are fitted; from `MIN_ROWS` on, intervals
    alone, with the scaling as it is; with fewer they are Gaussian, and raw.

    Args:
        found: Raw predictions of n structures that did not train the model.
        gap_ev: (n,) their reference gaps, eV.
        ids: Their names.
        scaling: The one to keep, fitted on other rows; by default the model's own spread.
        novelty: (n,) of the structures; where there are enough, intervals differ between groups of it.
    """
    kept = scaling or Scaling()
    if len(ids) < MIN_ROWS:
        return Calibration.raw(kept)
    gap, epistemic = np.maximum(found.gap_ev, 0.0), np.nan_to_num(found.epistemic_std_ev)
    given = kept if len(ids) < MIN_SCALING_ROWS else None
    edges = () if novelty is None else quantile_edges(novelty, MAX_GROUPS, MIN_GROUP_ROWS)
    return fit_calibration(
        gap_ev,
        gap,
        epistemic,
        found.aleatoric_std_ev,
        ids,
        scaling=given,
        novelty=novelty if edges else None,
        novelty_edges=edges,
    )


def matched(calibration: Calibration) -> Calibration:
    """A calibration whose scaling was kept, with standard deviations that fit the errors of its rows.

    All of them are multiplied by the factor of least CRPS of the standardised errors, from 0.01 to 100.
    Intervals and probabilities of windows stay as they are, but where an experimental geometry or charges add
    to the standard deviation, or it is the largest one. The CRPS in the record stays. Other calibrations are
    returned unchanged.
    """
    if calibration.record is None or calibration.record.n_scaling:
        return calibration
    from scipy.optimize import minimize_scalar  # a prediction does not need this import

    z = np.abs(np.concatenate([group.values for group in calibration.residuals]))

    def loss(log_factor: float) -> float:
        return float(metrics.gaussian_crps(z, np.full_like(z, np.exp(log_factor)))[0].mean())

    bounds = -np.log(100), np.log(100)
    factor = float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded").x))
    residuals = (tuple(rounded(z / factor) for z in group.values) for group in calibration.residuals)
    return replace(
        calibration,
        scaling=Scaling(*(rounded(factor * each) for each in astuple(calibration.scaling))),
        residuals=tuple(map(Residuals, residuals)),
    )
