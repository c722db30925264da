"""The calibrated error bar of a structure: one rule for predictions and for the scores on cards."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mofgap.gap.posterior import Posterior
from mofgap.uncertainty.calibrate import Calibration
from mofgap.uncertainty.columns import Floats
from mofgap.uncertainty.unbalanced import std_of_unbalanced

UNKNOWN_STD_EV = 2.3
"""Largest standard deviation: that of a gap of which is only known that it lies between 0 and 8 eV (uniform).
A distance to training structures has no limit."""


def total_std(
    found: Posterior,
    calibration: Calibration,
    *,
    experimental: npt.ArrayLike = 0.0,
    unbalanced: npt.ArrayLike = 0.0,
    most_ev: float = UNKNOWN_STD_EV,
) -> Floats:
    """The calibrated standard deviations of structures, eV, shape (n,).

    Args:
        found: Of n structures, widened where elements are unseen.
        calibration: Of the model.
        experimental: (n,) or (), 1 for a geometry that was not relaxed by DFT and 0 for one that was.
        unbalanced: (n,) or (), 1 for a structure whose charges do not add up, 0 for others. It counts where
            there is an epistemic part, to which it belongs.
        most_ev: Largest standard deviation.
    """
    std = calibration.std(np.nan_to_num(found.epistemic_std_ev), found.aleatoric_std_ev, experimental)
    unbalanced = np.where(np.isnan(found.epistemic_std_ev), 0.0, unbalanced)
    std = std_of_unbalanced(calibration, std, np.maximum(found.gap_ev, 0.0), unbalanced)
    return np.minimum(std, most_ev)
