"""The error bar of a structure whose charges do not add up, see `mofgap.crystals.checks.is_unbalanced`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mofgap.uncertainty.calibrate import Calibration
from mofgap.uncertainty.columns import Floats

UNBALANCED_STD = 0.6
"""Standard deviation as a part of the predicted gap. About half of such structures have hardly any gap, and
the others the predicted one. The value is the most likely one for 17 rows of split val (``python -m
benchmarks.unbalanced --table qmof.parquet``)."""


def std_of_unbalanced(
    calibration: Calibration, std: npt.ArrayLike, gap_ev: npt.ArrayLike, unbalanced: npt.ArrayLike
) -> Floats:
    """The standard deviation with what charges add in squares, eV, shape (n,).

    It stays as it is where the error bars are not calibrated.

    Args:
        calibration: Of the model.
        std: Calibrated standard deviations in eV, shape (n,).
        gap_ev: Predicted gaps in eV, shape (n,).
        unbalanced: (n,) or (), 1 for a structure whose charges do not add up, 0 for others.
    """
    part = 0.0 if calibration.is_raw else UNBALANCED_STD
    return np.asarray(np.hypot(std, part * np.asarray(unbalanced) * np.asarray(gap_ev)))
