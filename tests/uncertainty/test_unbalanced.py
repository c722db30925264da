from __future__ import annotations

import numpy as np

from mofgap.uncertainty.calibrate import Calibration
from mofgap.uncertainty.conformal import Residuals
from mofgap.uncertainty.scaling import Scaling
from mofgap.uncertainty.unbalanced import UNBALANCED_STD, std_of_unbalanced

FITTED = Calibration(Scaling(), (Residuals(tuple(np.linspace(-2, 2, 99))),))


def test_charges_add_a_part_of_the_gap_in_squares() -> None:
    found = std_of_unbalanced(FITTED, [0.3, 0.3, 0.3], [2.0, 2.0, 0.0], [0, 1, 1])
    np.testing.assert_allclose(found, [0.3, np.hypot(0.3, 2.0 * UNBALANCED_STD), 0.3])


def test_an_error_bar_that_is_not_calibrated_stays_the_network_s_own() -> None:
    np.testing.assert_array_equal(std_of_unbalanced(Calibration.raw(), [0.3], [2.0], 1), [0.3])
