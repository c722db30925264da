"""Metrics against uncertainty-toolbox (Chung et al., arXiv 2109.10254), where it is installed."""

from __future__ import annotations

import numpy as np
import pytest

from mofgap.uncertainty import metrics

reason = "needs uncertainty-toolbox"
calibration = pytest.importorskip("uncertainty_toolbox.metrics_calibration", reason=reason)
scoring = pytest.importorskip("uncertainty_toolbox.metrics_scoring_rule", reason=reason)


@pytest.fixture(params=[0, 1, 2])
def columns(request: pytest.FixtureRequest) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, predictions and standard deviations, too small by half in one case."""
    rng = np.random.default_rng(request.param)
    std = rng.lognormal(-1, 0.7, 700)
    pred = rng.uniform(0, 5, 700)
    return pred + std * rng.standard_normal(700), pred, std * (0.5 if request.param == 1 else 1.0)


def test_proper_scores(columns: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    true, pred, std = columns
    assert metrics.crps(true, pred, std) == pytest.approx(scoring.crps_gaussian(pred, std, true))
    assert metrics.nll(true, pred, std) == pytest.approx(scoring.nll_gaussian(pred, std, true))


def test_miscalibration_area(columns: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    true, pred, std = columns
    theirs = calibration.miscalibration_area(pred, std, true, num_bins=101)
    assert metrics.miscalibration_area(true, pred, std) == pytest.approx(theirs, abs=2e-3)
