"""Calibration of every method by the same procedure, fitted on val."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mofgap.comparison.config import Spread
from mofgap.gap.posterior import Posterior
from mofgap.training.recipe import calibration_of
from mofgap.uncertainty.calibrate import Calibration

Floats = NDArray[np.float64]
SOURCE = ["method", "n_samples"]
"""Columns that tell ways of predicting apart within one file of predictions."""


def has_spread(frame: pd.DataFrame) -> bool:
    """Whether a method says anything about its error."""
    return bool(frame.aleatoric_std_ev.notna().all() or frame.epistemic_std_ev.notna().all())


def raw_parts(frame: pd.DataFrame, spread: Spread) -> tuple[Floats, Floats]:
    """Epistemic and aleatoric std, eV; a part that a method lacks, or that is left out, is zero."""
    epistemic = np.nan_to_num(frame.epistemic_std_ev.to_numpy(dtype=np.float64))
    aleatoric = np.nan_to_num(frame.aleatoric_std_ev.to_numpy(dtype=np.float64))
    return epistemic, np.zeros_like(aleatoric) if spread == "epistemic" else aleatoric


def fit(val: pd.DataFrame, spread: Spread) -> Calibration:
    """The calibration that the val rows of one way of predicting allow."""
    epistemic, aleatoric = raw_parts(val, spread)
    found = Posterior(val.gap_ev.to_numpy(), epistemic, aleatoric, np.empty((len(val), 0)))
    return calibration_of(found, val.gap_dft_ev.to_numpy(), val.id.tolist())


def add_calibrated(frame: pd.DataFrame) -> pd.DataFrame:
    """The table with ``gap_std_ev``, ``lo_90_ev`` and ``hi_90_ev`` of the total spread."""
    parts = []
    for _, group in frame.groupby(SOURCE, sort=False):
        std, low, high = (np.full(len(group), np.nan) for _ in range(3))
        if has_spread(group):
            calibration = fit(group[group.part == "val"], "total")
            std = calibration.std(*raw_parts(group, "total"))
            low, high = calibration.interval(group.gap_ev, std, 0.9)
        parts.append(group.assign(gap_std_ev=std, lo_90_ev=low, hi_90_ev=high))
    return pd.concat(parts, ignore_index=True)
