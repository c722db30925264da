"""Metrics: how good a gap is and how much its error bar is worth.

Every function takes plain arrays of shape (n,), energies in eV, and returns a float. A metric that is not
defined for the rows at hand (no rows, a correlation with a constant) is NaN; input that makes no sense raises
ValueError. No metric depends on the order of the rows.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from scipy.integrate import trapezoid
from scipy.special import ndtr, ndtri
from scipy.stats import rankdata

from mofgap.uncertainty.columns import Floats, columns

LEVELS = (0.5, 0.8, 0.9, 0.95)
"""Nominal coverages that `summary` reports."""


def mae(y_true: npt.ArrayLike, y_pred: npt.ArrayLike) -> float:
    """Mean absolute error in eV."""
    true, pred = columns(y_true=y_true, y_pred=y_pred)
    return _mean(np.abs(true - pred))


def rmse(y_true: npt.ArrayLike, y_pred: npt.ArrayLike) -> float:
    """Root of the mean squared error in eV."""
    true, pred = columns(y_true=y_true, y_pred=y_pred)
    return float(np.sqrt(_mean((true - pred) ** 2)))


def r2(y_true: npt.ArrayLike, y_pred: npt.ArrayLike) -> float:
    """Coefficient of determination, 1 - SS_residual / SS_total; NaN where y_true does not vary."""
    true, pred = columns(y_true=y_true, y_pred=y_pred)
    if _is_constant(true):
        return float("nan")
    return float(1 - np.sum((true - pred) ** 2) / np.sum((true - true.mean()) ** 2))


def spearman(y_true: npt.ArrayLike, y_pred: npt.ArrayLike, y_std: npt.ArrayLike) -> float:
    """Spearman's rank correlation of std against |error|, ties at their mean rank.

    Even a perfect spread stays far below 1; `expected_spearman` says how far.
    """
    error, std = _absolute_error_and_std(y_true, y_pred, y_std)
    return float(_correlation(rankdata(std), rankdata(error)))


def pearson(y_true: npt.ArrayLike, y_pred: npt.ArrayLike, y_std: npt.ArrayLike) -> float:
    """Pearson's linear correlation of std against |error|; compare with `expected_pearson`."""
    error, std = _absolute_error_and_std(y_true, y_pred, y_std)
    return float(_correlation(std, error))


def expected_spearman(y_std: npt.ArrayLike, n_draws: int = 200, seed: int = 0) -> float:
    """The Spearman correlation that these std would have if every error came from N(0, std^2).

    The mean over ``n_draws`` simulated sets of errors, after Rasmussen, Duan, Kulik and Jensen,
    J. Cheminform. 15, 121 (2023).
    """
    std, errors = _simulated_errors(y_std, n_draws, seed)
    return _mean(_correlation(rankdata(std), rankdata(errors, axis=1)))


def expected_pearson(y_std: npt.ArrayLike, n_draws: int = 200, seed: int = 0) -> float:
    """The Pearson correlation that these std would have if every error came from N(0, std^2).

    The mean over ``n_draws`` simulated sets of errors, as for `expected_spearman`.
    """
    std, errors = _simulated_errors(y_std, n_draws, seed)
    return _mean(_correlation(std, errors))


def ause(y_true: npt.ArrayLike, y_pred: npt.ArrayLike, y_std: npt.ArrayLike) -> float:
    """Area under the sparsification error, in units of the mean absolute error.

    s(k) is the mean absolute error of the rows left when the k of largest std are taken away, o(k) the same
    when the k of largest |error| are; the area is the mean over k = 0 ... n - 1 of (s(k) - o(k)) / s(0). It
    is 0 where the std sorts the rows like their errors. Rows of equal std leave in random order, and s(k) is
    its expectation. Ilg et al., ECCV 2018, section 5.
    """
    error, std = _absolute_error_and_std(y_true, y_pred, y_std)
    if len(error) == 0 or error.max() == 0:
        return float("nan") if len(error) == 0 else 0.0
    _, group = np.unique(std, return_inverse=True)
    # Equal std: each row of a tie stands for the mean of the tie, the expectation over orders.
    tied = (np.bincount(group, weights=error) / np.bincount(group))[group]
    left = np.arange(1, len(error) + 1)
    by_std = np.cumsum(tied[np.argsort(std, kind="stable")]) / left
    by_error = np.cumsum(np.sort(error)) / left
    return float(np.mean(by_std - by_error) / error.mean())


def nll(y_true: npt.ArrayLike, y_pred: npt.ArrayLike, y_std: npt.ArrayLike) -> float:
    """Mean negative log-likelihood of N(y_pred, std^2), in nats; NaN where a std is 0 (no density)."""
    error, std = _absolute_error_and_std(y_true, y_pred, y_std)
    if (std == 0).any():
        return float("nan")
    return _mean(0.5 * np.log(2 * np.pi) + np.log(std) + 0.5 * (error / std) ** 2)


def crps(y_true: npt.ArrayLike, y_pred: npt.ArrayLike, y_std: npt.ArrayLike) -> float:
    """Mean continuous ranked probability score of N(y_pred, std^2) in eV, the smaller the better.

    std (z (2 Phi(z) - 1) + 2 phi(z) - 1 / sqrt(pi)) with z = error / std; |error| where std is 0. Gneiting
    and Raftery, J. Am. Stat. Assoc. 102, 359 (2007), equation 21 with the sign turned.
    """
    error, std = _absolute_error_and_std(y_true, y_pred, y_std)
    z = error / np.where(std == 0, 1, std)
    density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    score = std * (z * (2 * ndtr(z) - 1) + 2 * density - 1 / np.sqrt(np.pi))
    return _mean(np.where(std == 0, error, score))


def ence(y_true: npt.ArrayLike, y_pred: npt.ArrayLike, y_std: npt.ArrayLike, n_bins: int = 10) -> float:
    """Expected normalised calibration error: the mean over bins of |RMV - RMSE| / RMV.

    The bins hold equal numbers of rows in the order of their std (rows of equal std share a bin, so there
    may be fewer than ``n_bins``); RMV is the root of a bin's mean variance. The value grows with the number
    of bins. Levi, Gispan, Giladi and Fetaya, Sensors 22, 5540 (2022).
    """
    if n_bins < 1:
        raise ValueError(f"n_bins must be at least 1, not {n_bins}")
    error, std = _absolute_error_and_std(y_true, y_pred, y_std)
    if len(std) == 0:
        return float("nan")
    lower = rankdata(std, method="min") - 1
    _, bins = np.unique((lower * n_bins) // len(std), return_inverse=True)
    counts = np.bincount(bins)
    rmv = np.sqrt(np.bincount(bins, weights=std**2) / counts)
    root = np.sqrt(np.bincount(bins, weights=error**2) / counts)
    gap = np.abs(rmv - root)
    relative = np.where(gap == 0, 0.0, gap / np.where(rmv == 0, np.nan, rmv))
    return float(np.mean(np.where(np.isnan(relative), np.inf, relative)))


def miscalibration_area(y_true: npt.ArrayLike, y_pred: npt.ArrayLike, y_std: npt.ArrayLike) -> float:
    """Area between the observed and the nominal coverage of central Gaussian intervals, 0 to 0.5.

    |observed - nominal| integrated by the trapezoidal rule over the levels 0, 0.01, ... 1. Kuleshov, Fenner
    and Ermon, ICML 2018; Tran et al., Mach. Learn.: Sci. Technol. 1, 025006 (2020).
    """
    error, std = _absolute_error_and_std(y_true, y_pred, y_std)
    if len(error) == 0:
        return float("nan")
    z = np.where(error == 0, 0.0, error / np.where(std == 0, np.nan, std))
    return _area(2 * ndtr(np.where(np.isnan(z), np.inf, z)) - 1)


def predictive_area(pit: npt.ArrayLike) -> float:
    """`miscalibration_area` of any predictive distribution, 0 to 0.5.

    Args:
        pit: What the distribution says of P(gap <= reference) for each row (its probability integral
            transform), 0 to 1: uniform where the distributions are right. The central interval of a level
            holds a reference where |2 pit - 1| is at most the level.

    Raises:
        ValueError: A value lies outside 0 to 1.
    """
    (value,) = columns(pit=pit)
    if ((value < 0) | (value > 1)).any():
        raise ValueError("a probability lies outside 0 to 1")
    return _area(np.abs(2 * value - 1)) if len(value) else float("nan")


def coverage(y_true: npt.ArrayLike, lo: npt.ArrayLike, hi: npt.ArrayLike) -> float:
    """The fraction of rows that lie in their closed interval [lo, hi]; infinite ends are allowed."""
    (true,) = columns(y_true=y_true)
    low, high = _ends(lo, hi, len(true))
    return _mean(((low <= true) & (true <= high)).astype(np.float64))


def mean_width(lo: npt.ArrayLike, hi: npt.ArrayLike) -> float:
    """Mean of hi - lo in eV, infinite where an interval is."""
    low, high = _ends(lo, hi, len(np.atleast_1d(lo)))
    return _mean(high - low)


def interval_score(y_true: npt.ArrayLike, lo: npt.ArrayLike, hi: npt.ArrayLike, level: float) -> float:
    """Mean width in eV plus 2 / (1 - level) times what each row lies outside by, the smaller the better.

    Gneiting and Raftery, J. Am. Stat. Assoc. 102, 359 (2007), equation 43.

    Raises:
        ValueError: ``level`` is not between 0 and 1, or columns do not fit together.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, not {level}")
    (true,) = columns(y_true=y_true)
    low, high = _ends(lo, hi, len(true))
    outside = np.maximum(low - true, 0) + np.maximum(true - high, 0)
    return _mean(high - low + 2 / (1 - level) * outside)


def gaussian_interval(y_pred: npt.ArrayLike, y_std: npt.ArrayLike, level: float) -> tuple[Floats, Floats]:
    """The central interval of N(y_pred, std^2) of the given level, both ends of shape (n,) in eV."""
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, not {level}")
    pred, std = columns(y_pred=y_pred, y_std=y_std)
    half = ndtri((1 + level) / 2) * std
    return pred - half, pred + half


def auroc(is_positive: npt.ArrayLike, score: npt.ArrayLike) -> float:
    """Area under the receiver operating characteristic: P(score of a positive > score of a negative).

    Ties count one half (Mann and Whitney's U); NaN where one of the classes is missing.

    Raises:
        ValueError: ``is_positive`` holds anything but 0 and 1.
    """
    label, value = columns(is_positive=is_positive, score=score)
    if not np.isin(label, (0, 1)).all():
        raise ValueError("is_positive must hold 0 and 1 only")
    n_positive = int(label.sum())
    n_negative = len(label) - n_positive
    if n_positive == 0 or n_negative == 0:
        return float("nan")
    u = rankdata(value)[label == 1].sum() - n_positive * (n_positive + 1) / 2
    return float(u / (n_positive * n_negative))


def brier(is_positive: npt.ArrayLike, probability: npt.ArrayLike) -> float:
    """Mean squared difference of probability and outcome, 0 to 1. Brier, Mon. Weather Rev. 78, 1 (1950).

    Raises:
        ValueError: ``is_positive`` holds anything but 0 and 1, or a probability lies outside 0 to 1.
    """
    label, stated = _outcomes(is_positive, probability)
    return _mean((label - stated) ** 2)


def probability_error(is_positive: npt.ArrayLike, probability: npt.ArrayLike, n_bins: int = 10) -> float:
    """Expected calibration error: mean over rows of |fraction of positives - mean probability| of their bin.

    The bins hold equal numbers of rows in the order of their probability (equal ones share one). Chance keeps
    it above zero where rows are few. Naeini, Cooper and Hauskrecht, AAAI 2015.

    Raises:
        ValueError: ``is_positive`` holds anything but 0 and 1, a probability lies outside 0 to 1, or there
            are no bins.
    """
    if n_bins < 1:
        raise ValueError(f"n_bins must be at least 1, not {n_bins}")
    label, stated = _outcomes(is_positive, probability)
    if len(stated) == 0:
        return float("nan")
    lower = rankdata(stated, method="min") - 1
    _, bins = np.unique((lower * n_bins) // len(stated), return_inverse=True)
    return float(np.abs(np.bincount(bins, weights=label - stated)).sum() / len(stated))


def spiegelhalter(is_positive: npt.ArrayLike, probability: npt.ArrayLike) -> float:
    """Spiegelhalter's z: a standard normal number if the probabilities are calibrated.

    Positive where the Brier score is worse than the probabilities themselves say, as for overconfident ones.
    NaN where every probability is 0, 0.5 or 1. Spiegelhalter, Stat. Med. 5, 421 (1986).

    Raises:
        ValueError: ``is_positive`` holds anything but 0 and 1, or a probability lies outside 0 to 1.
    """
    label, stated = _outcomes(is_positive, probability)
    variance = float(np.sum((1 - 2 * stated) ** 2 * stated * (1 - stated)))
    total = float(np.sum((label - stated) * (1 - 2 * stated)))
    return total / np.sqrt(variance) if variance > 0 else float("nan")


def summary(
    y_true: npt.ArrayLike,
    y_pred: npt.ArrayLike,
    y_std: npt.ArrayLike,
    intervals: Mapping[float, tuple[npt.ArrayLike, npt.ArrayLike]] | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """Metrics of predictions and their spreads, by name.

    Args:
        y_true: Reference gaps in eV, shape (n,).
        y_pred: Predicted gaps in eV, shape (n,).
        y_std: Predicted total standard deviations in eV, shape (n,).
        intervals: Nominal level -> (lo, hi) in eV; Gaussian intervals at `LEVELS` by default.
        seed: Of the simulated errors behind the two ``expected`` values.
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


def _area(needed: Floats) -> float:
    """Area between observed and nominal coverage, from the level that each row needs to be covered."""
    nominal = np.linspace(0, 1, 101)
    observed = np.searchsorted(np.sort(needed), nominal, side="right") / len(needed)
    return float(trapezoid(np.abs(observed - nominal), nominal))


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _outcomes(is_positive: npt.ArrayLike, probability: npt.ArrayLike) -> tuple[Floats, Floats]:
    label, stated = columns(is_positive=is_positive, probability=probability)
    if not np.isin(label, (0, 1)).all():
        raise ValueError("is_positive must hold 0 and 1 only")
    if ((stated < 0) | (stated > 1)).any():
        raise ValueError("a probability lies outside 0 to 1")
    return label, stated


def _is_constant(values: Floats) -> bool:
    return len(values) < 2 or bool(values.min() == values.max())


def _correlation(a: Floats, b: Floats) -> Floats:
    """Pearson's of a (n,) with b (n,) or with each row of b (k, n); NaN where one of both is constant."""
    if len(a) < 2:
        return np.full(b.shape[:-1], np.nan)
    first, second = _deviations(a), _deviations(b)
    product = (second * first).sum(axis=-1)
    scale = np.sqrt((first**2).sum() * (second**2).sum(axis=-1))
    return np.asarray(np.clip(product / scale, -1, 1), dtype=np.float64)


def _deviations(values: Floats) -> Floats:
    """From the mean of the last axis, the largest 1: a spread of 1e-200 would square to nothing."""
    lowest, highest = values.min(axis=-1, keepdims=True), values.max(axis=-1, keepdims=True)
    centred = values - values.mean(axis=-1, keepdims=True)
    largest = np.abs(centred).max(axis=-1, keepdims=True)
    scaled: Floats = centred / np.where(lowest == highest, np.nan, largest)
    return scaled


def _absolute_error_and_std(
    y_true: npt.ArrayLike, y_pred: npt.ArrayLike, y_std: npt.ArrayLike
) -> tuple[Floats, Floats]:
    true, pred, std = columns(y_true=y_true, y_pred=y_pred, y_std=y_std)
    return np.abs(true - pred), std


def _simulated_errors(y_std: npt.ArrayLike, n_draws: int, seed: int) -> tuple[Floats, Floats]:
    if n_draws < 1:
        raise ValueError(f"n_draws must be at least 1, not {n_draws}")
    (std,) = columns(y_std=y_std)
    std = np.sort(std)  # so that the order of the rows does not matter
    return std, np.abs(np.random.default_rng(seed).standard_normal((n_draws, len(std)))) * std


def _ends(lo: npt.ArrayLike, hi: npt.ArrayLike, n: int) -> tuple[Floats, Floats]:
    low, high = np.asarray(lo, dtype=np.float64), np.asarray(hi, dtype=np.float64)
    if low.shape != (n,) or high.shape != (n,):
        raise ValueError(
            f"lo and hi must have {n} values each, their shapes are {low.shape} and {high.shape}"
        )
    if not (low <= high).all():
        raise ValueError("an interval is NaN or has its lower end above its upper end")
    return low, high
