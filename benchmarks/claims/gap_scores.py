"""Scores of gaps and of their uncertainty: each is the mean over the trainings of an arm.

The spread is the epistemic variance. The total variance has that of the likelihood besides.
"""

from __future__ import annotations

import numpy as np

from benchmarks.claims.arms import Arm
from benchmarks.claims.scores import Measures, auroc_shifted_epistemic, mean_auroc, ranks
from mofgap.uncertainty import metrics
from mofgap.uncertainty.columns import Floats


def mae_ev(arm: Arm) -> float:
    """Mean absolute error, eV."""
    return float(errors(arm).mean())


def nll(arm: Arm) -> float:
    """Mean negative log-likelihood under a normal distribution of the total variance, in nats."""
    variance = total(arm)
    return float(0.5 * (errors(arm) ** 2 / variance + np.log(2 * np.pi * variance)).mean())


def crps_ev(arm: Arm) -> float:
    """Continuous ranked probability score of the same distribution, eV."""
    score, _ = metrics.gaussian_crps(errors(arm), np.sqrt(total(arm)))
    return float(score.mean())


def ence(arm: Arm) -> float:
    """Expected normalised calibration error of the total standard deviation, in bins of equal size."""
    stds = np.sqrt(total(arm))
    found = [metrics.ence(arm.labels, own[:, 0], std) for own, std in zip(arm.predicted, stds, strict=True)]
    return float(np.mean(found))


def spearman(arm: Arm) -> float:
    """Rank correlation of the error with the total variance."""
    return _rank_correlation(errors(arm), total(arm))


def spearman_epistemic(arm: Arm) -> float:
    """Rank correlation of the error with the epistemic variance; 0 where there is none."""
    return _rank_correlation(errors(arm), arm.epistemic)


def auroc_shifted(arm: Arm) -> float:
    """AUROC of shifted inputs by the total variance."""
    return mean_auroc(np.broadcast_to(arm.is_shifted, arm.epistemic.shape), total(arm))


_OF_LABELS = (mae_ev, nll, crps_ev, ence, spearman, spearman_epistemic)
GAPS = Measures(
    of_labels={each.__name__: each for each in _OF_LABELS},
    of_shift={each.__name__: each for each in (auroc_shifted, auroc_shifted_epistemic)},
    less_is_better=("mae_ev", "nll", "crps_ev", "ence"),
    quality="mae_ev",
    by_total="spearman",
    by_spread="spearman_epistemic",
)


def errors(arm: Arm) -> Floats:
    """(n_seeds, n) absolute errors, eV."""
    found: Floats = np.abs(arm.predicted[..., 0] - arm.labels)
    return found


def total(arm: Arm) -> Floats:
    """(n_seeds, n) total variances, eV²."""
    found: Floats = arm.predicted[..., 1] ** 2 + arm.epistemic
    return found


def _rank_correlation(one: Floats, two: Floats) -> float:
    """Mean over rows of Spearman's rank correlation of two (n_seeds, n) arrays."""
    a, b = ranks(one), ranks(two)
    a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    norms = np.sqrt((a**2).sum(1) * (b**2).sum(1))
    return float(np.mean((a * b).sum(1) / np.where(norms > 0, norms, 1)))
