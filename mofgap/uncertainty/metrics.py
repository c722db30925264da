"""Metrics of predicted gaps and of their error bars.

Functions take arrays of shape (n,), energies in eV, and return a float where they say nothing else. They
raise ValueError where columns differ in length or hold no finite numbers, or a standard deviation is
negative. A metric that is not defined for the given rows (no rows, a correlation with a constant) is NaN. No
metric depends on the order of rows.

Correlations, densities and the area under a ROC curve come from scipy and scikit-learn. The mean errors, R²
and the Brier score are one line of numpy each. A bootstrap calls them a thousand times, and scikit-learn
takes a hundred times as long (0.4 ms a call).
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.integrate import trapezoid
from scipy.special import ndtr, ndtri
from scipy.stats import norm, pearsonr, rankdata, spearmanr

from mofgap.uncertainty.columns import Floats, Indices, check_level, columns
from mofgap.uncertainty.ranks import dense_ranks, sparsification_area

LEVELS = (0.5, 0.8, 0.9, 0.95)
"""Nominal coverages that `summary` reports."""
NOMINAL = np.linspace(0, 1, 101)
"""Nominal coverages of a calibration curve."""
N_BINS = 10
"""Default number of bins of a calibration error."""
N_DRAWS = 200
"""Default number of simulated sets of errors of an expected correlation."""


def mae(y_true: ArrayLike, y_pred: ArrayLike) -> float:
    """Mean absolute error in eV."""
    true, pred = columns(y_true=y_true, y_pred=y_pred)
    return _mean(np.abs(true - pred))


def rmse(y_true: ArrayLike, y_pred: ArrayLike) -> float:
    """Root of the mean squared error in eV."""
    true, pred = columns(y_true=y_true, y_pred=y_pred)
    return float(np.sqrt(_mean((true - pred) ** 2)))


def r2(y_true: ArrayLike, y_pred: ArrayLike) -> float:
    """Coefficient of determination, 1 - SS_residual / SS_total; NaN if y_true does not vary."""
    true, pred = columns(y_true=y_true, y_pred=y_pred)
    if _is_constant(true):
        return float("nan")
    return float(1 - np.sum((true - pred) ** 2) / np.sum((true - true.mean()) ** 2))


def spearman(y_true: ArrayLike, y_pred: ArrayLike, y_std: ArrayLike) -> float:
    """Spearman's rank correlation of std and |error|, ties at their mean rank.

    Even a perfect spread stays far below 1; `expected_spearman` is the value that it would have.
    """
    return _correlation(spearmanr, *_absolute_error_and_std(y_true, y_pred, y_std))


def pearson(y_true: ArrayLike, y_pred: ArrayLike, y_std: ArrayLike) -> float:
    """Pearson's linear correlation of std and |error|; compare it with `expected_pearson`."""
    return _correlation(pearsonr, *_absolute_error_and_std(y_true, y_pred, y_std))


def expected_spearman(y_std: ArrayLike, n_draws: int = N_DRAWS, seed: int = 0) -> float:
    """The Spearman correlation that these std would have if every error came from N(0, std^2).

    It is the mean over ``n_draws`` simulated sets of errors. Rasmussen et al., J. Cheminform. 15, 121 (2023).
    """
    std, errors = _simulated_errors(y_std, n_draws, seed)
    return _mean_correlation(rankdata(std), rankdata(errors, axis=1))


def expected_pearson(y_std: ArrayLike, n_draws: int = N_DRAWS, seed: int = 0) -> float:
    """The Pearson correlation that these std would have if every error came from N(0, std^2).

    It is the mean over ``n_draws`` simulated sets of errors, as for `expected_spearman`.
    """
    return _mean_correlation(*_simulated_errors(y_std, n_draws, seed))


def ause(y_true: ArrayLike, y_pred: ArrayLike, y_std: ArrayLike) -> float:
    """Area under the sparsification error, in units of the mean absolute error.

    s(k) is the mean absolute error without the k rows of largest std. o(k) is the same without the k rows of
    largest |error|. The area is the mean over k = 0 ... n - 1 of (s(k) - o(k)) / s(0). It is 0 if the std
    sorts the rows like their errors. Rows of equal std are removed in random order, and s(k) is the mean over
    these orders.
    Ilg et al., ECCV 2018, section 5.
    """
    error, std = _absolute_error_and_std(y_true, y_pred, y_std)
    if len(error) == 0:
        return float("nan")
    return sparsification_area(error, dense_ranks(error), dense_ranks(std))


def nll(y_true: ArrayLike, y_pred: ArrayLike, y_std: ArrayLike) -> float:
    """Mean negative log-likelihood of N(y_pred, std^2), in nats; NaN if a std is 0 (no density)."""
    true, pred, std = columns(y_true=y_true, y_pred=y_pred, y_std=y_std)
    return float("nan") if (std == 0).any() else -_mean(norm.logpdf(true, pred, std))


def crps(y_true: ArrayLike, y_pred: ArrayLike, y_std: ArrayLike) -> float:
    """Mean continuous ranked probability score of N(y_pred, std^2) in eV; |error| where a std is 0."""
    error, std = _absolute_error_and_std(y_true, y_pred, y_std)
    score, _ = gaussian_crps(error, np.where(std == 0, 1, std))
    return _mean(np.where(std == 0, error, score))


def gaussian_crps(error: Floats, std: Floats) -> tuple[Floats, Floats]:
    """The continuous ranked probability score of N(0, std^2) and its derivative by std, row by row.

    The score is error (2 Phi(z) - 1) + std (2 phi(z) - 1 / sqrt(pi)) with z = error / std. Gneiting and
    Raftery, J. Am. Stat. Assoc. 102, 359 (2007), equation 21 with the sign turned.

    Args:
        error: In eV, shape (n,).
        std: In eV, above zero, shape (n,).
    """
    z = error / std
    slope = 2 * np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi) - 1 / np.sqrt(np.pi)
    return error * (2 * ndtr(z) - 1) + std * slope, slope


def ence(y_true: ArrayLike, y_pred: ArrayLike, y_std: ArrayLike, n_bins: int = N_BINS) -> float:
    """Expected normalised calibration error: the mean over bins of |RMV - RMSE| / RMV.

    Each bin holds about the same number of rows, in the order of their std. Rows of equal std share a bin,
    so there may be fewer bins than ``n_bins``. RMV is the root of a bin's mean variance. The value grows
    with the number of bins. Levi, Gispan, Giladi and Fetaya, Sensors 22, 5540 (2022).

    Raises:
        ValueError: If ``n_bins`` is below 1, or the columns differ in length.
    """
    error, std = _absolute_error_and_std(y_true, y_pred, y_std)
    bins = _bins(std, n_bins)
    counts = np.bincount(bins)
    rmv = np.sqrt(np.bincount(bins, weights=std**2) / counts)
    root = np.sqrt(np.bincount(bins, weights=error**2) / counts)
    relative = np.where(rmv == root, 0.0, np.inf)
    np.divide(np.abs(rmv - root), rmv, out=relative, where=rmv > 0)
    return _mean(relative)


def miscalibration_area(y_true: ArrayLike, y_pred: ArrayLike, y_std: ArrayLike) -> float:
    """Area between the observed and the nominal coverage of central Gaussian intervals, 0 to 0.5.

    |observed - nominal| is integrated by the trapezoidal rule over the levels 0, 0.01, ... 1. Kuleshov,
    Fenner and Ermon, ICML 2018; Tran et al., Mach. Learn.: Sci. Technol. 1, 025006 (2020).
    """
    return _area(observed_coverage(y_true, y_pred, y_std))


def observed_coverage(y_true: ArrayLike, y_pred: ArrayLike, y_std: ArrayLike) -> Floats:
    """Share of the references inside central Gaussian intervals of each of `NOMINAL`; NaN without rows."""
    error, std = _absolute_error_and_std(y_true, y_pred, y_std)
    z = np.where(error == 0, 0.0, np.inf)
    np.divide(error, std, out=z, where=std > 0)
    return _observed(2 * ndtr(z) - 1)


def predictive_area(pit: ArrayLike) -> float:
    """`miscalibration_area` of any predictive distribution, 0 to 0.5.

    Args:
        pit: The predicted P(gap <= reference) of each row (probability integral transform), 0 to 1. It is
            uniform if the distributions are right. The central interval of a level contains the reference if
            |2 pit - 1| is at most the level.

    Raises:
        ValueError: If a value of ``pit`` lies outside 0 to 1.
    """
    (value,) = columns(pit=pit)
    _check_probabilities(value)
    return _area(_observed(np.abs(2 * value - 1)))


def coverage(y_true: ArrayLike, lo: ArrayLike, hi: ArrayLike) -> float:
    """The fraction of rows that lie in their closed interval [lo, hi]; infinite ends are allowed."""
    (true,) = columns(y_true=y_true)
    low, high = _ends(lo, hi, len(true))
    return _mean(((low <= true) & (true <= high)).astype(np.float64))


def mean_width(lo: ArrayLike, hi: ArrayLike) -> float:
    """Mean of hi - lo in eV, infinite where an interval is."""
    low, high = _ends(lo, hi, len(np.atleast_1d(lo)))
    return _mean(high - low)


def interval_score(y_true: ArrayLike, lo: ArrayLike, hi: ArrayLike, level: float) -> float:
    """Mean width plus 2 / (1 - level) times the distance of each row from its interval, in eV.

    Smaller is better. Gneiting and Raftery, J. Am. Stat. Assoc. 102, 359 (2007), equation 43.

    Raises:
        ValueError: If ``level`` is not between 0 and 1, columns differ in length, or an end ``lo`` exceeds
            ``hi``.
    """
    check_level(level)
    (true,) = columns(y_true=y_true)
    low, high = _ends(lo, hi, len(true))
    outside = np.maximum(low - true, 0) + np.maximum(true - high, 0)
    return _mean(high - low + 2 / (1 - level) * outside)


def gaussian_interval(y_pred: ArrayLike, y_std: ArrayLike, level: float) -> tuple[Floats, Floats]:
    """The central interval of N(y_pred, std^2) of the given level, both ends of shape (n,) in eV.

    Raises:
        ValueError: If ``level`` is not between 0 and 1, or the columns differ in length.
    """
    check_level(level)
    pred, std = columns(y_pred=y_pred, y_std=y_std)
    half = ndtri((1 + level) / 2) * std
    return pred - half, pred + half


def auroc(is_positive: ArrayLike, score: ArrayLike) -> float:
    """Area under the receiver operating characteristic: P(score of a positive > score of a negative).

    Ties count one half. NaN if one of the classes is missing.

    Raises:
        ValueError: If the column ``is_positive`` holds anything but 0 and 1, or differs in length from
            ``score``.
    """
    from sklearn.metrics import roc_auc_score  # a second, which the other metrics need not wait for

    label, value = columns(is_positive=is_positive, score=score)
    _check_labels(label)
    return float("nan") if _is_constant(label) else float(roc_auc_score(label, value))


def brier(is_positive: ArrayLike, probability: ArrayLike) -> float:
    """Mean squared difference of probability and outcome, 0 to 1. Brier, Mon. Weather Rev. 78, 1 (1950).

    Raises:
        ValueError: If the column ``is_positive`` holds anything but 0 and 1, or a ``probability`` lies
            outside 0 to 1.
    """
    label, stated = _outcomes(is_positive, probability)
    return _mean((label - stated) ** 2)


def probability_error(is_positive: ArrayLike, probability: ArrayLike, n_bins: int = N_BINS) -> float:
    """Expected calibration error: mean over rows of |fraction of positives - mean probability| of their bin.

    Each bin holds about the same number of rows, in the order of their probability; equal ones share a bin.
    With few rows the value is above zero by chance. Naeini, Cooper and Hauskrecht, AAAI 2015.

    Raises:
        ValueError: If the column ``is_positive`` holds anything but 0 and 1, a ``probability`` lies outside 0
            to 1, or ``n_bins`` is below 1.
    """
    label, stated = _outcomes(is_positive, probability)
    excess = np.bincount(_bins(stated, n_bins), weights=label - stated)
    return float(np.abs(excess).sum() / len(stated)) if len(stated) else float("nan")


def spiegelhalter(is_positive: ArrayLike, probability: ArrayLike) -> float:
    """Spiegelhalter's z, which is standard normal if the probabilities are calibrated.

    It is positive if the Brier score is worse than the probabilities imply, as for overconfident ones.
    NaN if every probability is 0, 0.5 or 1. Spiegelhalter, Stat. Med. 5, 421 (1986).

    Raises:
        ValueError: If the column ``is_positive`` holds anything but 0 and 1, or a ``probability`` lies
            outside 0 to 1.
    """
    label, stated = _outcomes(is_positive, probability)
    variance = float(np.sum((1 - 2 * stated) ** 2 * stated * (1 - stated)))
    total = float(np.sum((label - stated) * (1 - 2 * stated)))
    return total / np.sqrt(variance) if variance > 0 else float("nan")


def summary(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    y_std: ArrayLike,
    intervals: Mapping[float, tuple[ArrayLike, ArrayLike]] | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """Metrics of predictions and their spreads, by name.

    Args:
        y_true: Reference gaps in eV, shape (n,).
        y_pred: Predicted gaps in eV, shape (n,).
        y_std: Predicted total standard deviations in eV, shape (n,).
        intervals: Nominal level -> (lo, hi) in eV; Gaussian intervals at `LEVELS` by default.
        seed: Seed of the simulated errors of the two ``expected`` values.
    """
    if intervals is None:
        intervals = {level: gaussian_interval(y_pred, y_std, level) for level in LEVELS}
    out = {
        "n": float(len(columns(y_true=y_true)[0])),
        "mae_ev": mae(y_true, y_pred),
        "rmse_ev": rmse(y_true, y_pred),
        "r2": r2(y_true, y_pred),
        "spearman": spearman(y_true, y_pred, y_std),
        "spearman_expected": expected_spearman(y_std, seed=seed),
        "pearson": pearson(y_true, y_pred, y_std),
        "pearson_expected": expected_pearson(y_std, seed=seed),
        "ause": ause(y_true, y_pred, y_std),
        "nll": nll(y_true, y_pred, y_std),
        "crps_ev": crps(y_true, y_pred, y_std),
        "ence": ence(y_true, y_pred, y_std),
        "miscalibration_area": miscalibration_area(y_true, y_pred, y_std),
    }
    for level, (lo, hi) in intervals.items():
        out[f"coverage_{100 * level:g}"] = coverage(y_true, lo, hi)
        out[f"width_{100 * level:g}_ev"] = mean_width(lo, hi)
    return out


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _is_constant(values: Floats) -> bool:
    return len(values) < 2 or bool(values.min() == values.max())


def _correlation(test: Callable[..., Any], a: Floats, b: Floats) -> float:
    return float("nan") if _is_constant(a) or _is_constant(b) else float(test(a, b).statistic)


def _mean_correlation(a: Floats, draws: Floats) -> float:
    """The mean of Pearson's correlations of a (n,) with each row of draws (k, n); NaN for a constant a."""
    return float("nan") if _is_constant(a) else _mean(np.corrcoef(a, draws)[0, 1:])


def _simulated_errors(y_std: ArrayLike, n_draws: int, seed: int) -> tuple[Floats, Floats]:
    if n_draws < 1:
        raise ValueError(f"n_draws must be at least 1, not {n_draws}")
    (std,) = columns(y_std=y_std)
    std = np.sort(std)  # so that the order of the rows does not matter
    return std, np.abs(np.random.default_rng(seed).standard_normal((n_draws, len(std)))) * std


def _absolute_error_and_std(y_true: ArrayLike, y_pred: ArrayLike, y_std: ArrayLike) -> tuple[Floats, Floats]:
    true, pred, std = columns(y_true=y_true, y_pred=y_pred, y_std=y_std)
    return np.abs(true - pred), std


def _bins(values: Floats, n_bins: int) -> Indices:
    """The bin of each value, from 0: equal numbers of rows in ascending order, equal values in one bin."""
    if n_bins < 1:
        raise ValueError(f"n_bins must be at least 1, not {n_bins}")
    smaller = rankdata(values, method="min") - 1
    return dense_ranks((smaller * n_bins) // max(len(values), 1))


def _observed(needed: Floats) -> Floats:
    """Observed coverage of each of `NOMINAL`, from the lowest level that covers each row."""
    if len(needed) == 0:
        return np.full_like(NOMINAL, np.nan)
    return np.asarray(np.searchsorted(np.sort(needed), NOMINAL, side="right") / len(needed))


def _area(observed: Floats) -> float:
    """Area between observed and nominal coverage."""
    return float(trapezoid(np.abs(observed - NOMINAL), NOMINAL))


def _outcomes(is_positive: ArrayLike, probability: ArrayLike) -> tuple[Floats, Floats]:
    label, stated = columns(is_positive=is_positive, probability=probability)
    _check_labels(label)
    _check_probabilities(stated)
    return label, stated


def _check_labels(label: Floats) -> None:
    if not np.isin(label, (0, 1)).all():
        raise ValueError("is_positive must hold 0 and 1 only")


def _check_probabilities(stated: Floats) -> None:
    if ((stated < 0) | (stated > 1)).any():
        raise ValueError("a probability lies outside 0 to 1")


def _ends(lo: ArrayLike, hi: ArrayLike, n: int) -> tuple[Floats, Floats]:
    low, high = np.asarray(lo, dtype=np.float64), np.asarray(hi, dtype=np.float64)
    if low.shape != (n,) or high.shape != (n,):
        raise ValueError(
            f"lo and hi must have {n} values each, their shapes are {low.shape} and {high.shape}"
        )
    if not (low <= high).all():
        raise ValueError("an interval is NaN or has its lower end above its upper end")
    return low, high
