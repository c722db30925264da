from __future__ import annotations

import numpy as np

from mofgap.datasets.record import reduced_formula


def test_reduced_formula_is_in_hill_order() -> None:
    assert reduced_formula(np.array([30, 30, 8, 8, 6, 6, 1, 1, 1, 1])) == "CH2OZn"
    assert reduced_formula(np.array([8, 30])) == "OZn"
