"""Scores: one row for each way of predicting, before and after calibration."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, get_args

import numpy as np
import pandas as pd

from mofgap.study.config import Spread
from mofgap.study.judge.calibrated import fit, has_spread, raw_parts
from mofgap.study.methods.method import method_with
from mofgap.uncertainty import metrics
from mofgap.uncertainty.calibrate import Calibration

KEYS = ["split", "method", "variant", "seed", "n_samples"]
SPREADS: tuple[Spread, ...] = get_args(Spread)
ERRORS = ("mae_ev", "rmse_ev", "r2")
DEFINITIONS = {
    "mae_ev": "mean absolute error, eV",
    "rmse_ev": "root of the mean squared error, eV",
    "r2": "1 - sum of squared errors / sum of squared deviations from the mean",
    "spearman": "rank correlation of std against |error|",
    "spearman_expected": "the same if errors were drawn from N(0, std²), mean of 200 simulations",
    "pearson": "linear correlation of std against |error|",
    "pearson_expected": "the same if errors were drawn from N(0, std²), mean of 200 simulations",
    "ause": "area under the sparsification error: mean over k of (MAE without the k largest std - MAE "
    "without the k largest errors) / MAE",
    "nll": "mean negative log-likelihood of N(gap, std²), nats",
    "crps_ev": "mean continuous ranked probability score of N(gap, std²), eV",
    "ence": "expected normalised calibration error: mean over {n_bins} bins of equal counts by std of "
    "|RMV - RMSE| / RMV",
    "miscalibration_area": "area between observed and nominal coverage of central Gaussian intervals at 101 "
    "levels",
    "coverage_90": "share of test rows inside their 90 % interval: Gaussian when raw, conformal when "
    "calibrated",
    "width_90_ev": "mean width of those intervals, eV; raw ones reach below zero",
    "auroc_novelty": "P(novelty of a row with the left-out element > of an ordinary test row)",
    "auroc_distance": "the same of the distance alone; novelty knows of unseen elements too",
    "auroc_std": "the same of the std",
    "...+neighbours": "the method with the neighbour correction: residuals of the nearest training "
    "structures correct its gap and its aleatoric part; without draws or members its epistemic part is the "
    "distance from the nearest, in the geometry of its adapters' gradients where it has adapters",
    "forward_passes": "cost of one prediction in forward passes; a backward pass counts as two",
}


def scores(frame: pd.DataFrame, n_bins: int) -> pd.DataFrame:
    """Every metric of each way of predicting in a table of `prediction.predict`, raw and calibrated.

    The expected normalised calibration error has so many bins.
    """
    rows = [
        dict(zip(KEYS, key, strict=True)) | row
        for key, group in frame.groupby(KEYS, sort=False)
        for row in _rows(group, n_bins)
    ]
    return pd.DataFrame(rows)


def _rows(group: pd.DataFrame, n_bins: int) -> Iterator[dict[str, Any]]:
    test = group[(group.part == "test") & ~group.is_left_out]
    far = group[group.is_left_out]
    name = group.method.iloc[0]
    method = method_with(name)
    common = {
        "kind": method.kind,
        "n": len(test),
        "forward_passes": method.cost(name, int(group.n_samples.iloc[0])),
        "n_left_out": len(far),
        "mae_left_out_ev": metrics.mae(far.gap_dft_ev, far.gap_ev),
        "auroc_novelty": _auroc(test.novelty, far.novelty),
        "auroc_distance": _auroc(test.novelty_distance, far.novelty_distance),
    }
    common |= {
        name: getattr(metrics, name.removesuffix("_ev"))(test.gap_dft_ev, test.gap_ev) for name in ERRORS
    }
    if not has_spread(group):
        yield common | {"spread": "none", "calibration": "raw"}
        return
    for spread in SPREADS:
        if spread == "epistemic" and group.epistemic_std_ev.isna().any():
            continue
        calibrations = {"raw": Calibration.raw(), "calibrated": fit(group[group.part == "val"], spread)}
        for name, calibration in calibrations.items():
            std = calibration.std(*raw_parts(test, spread))
            std_far = calibration.std(*raw_parts(far, spread))
            scored = _scored(test, std, calibration, n_bins)
            yield common | {"spread": spread, "calibration": name, "auroc_std": _auroc(std, std_far)} | scored


def _scored(test: pd.DataFrame, std: Any, calibration: Calibration, n_bins: int) -> dict[str, float]:
    intervals = (
        None
        if calibration.is_raw
        else {level: calibration.interval(test.gap_ev, std, level) for level in metrics.LEVELS}
    )
    found = metrics.summary(test.gap_dft_ev, test.gap_ev, std, intervals=intervals)
    found["ence"] = metrics.ence(test.gap_dft_ev, test.gap_ev, std, n_bins)
    del found["n"]
    return found


def _auroc(ordinary: Any, far: Any) -> float:
    if len(far) == 0:
        return math.nan
    label = np.r_[np.zeros(len(ordinary)), np.ones(len(far))]
    return metrics.auroc(label, np.r_[ordinary, far])
