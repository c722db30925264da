from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import rankdata

from benchmarks.claims import scores
from benchmarks.claims.arms import Arm
from benchmarks.claims.estimates import Estimate
from benchmarks.claims.outcomes import Classes
from mofgap.uncertainty import metrics

P = np.array([[[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]], [[0.3, 0.7], [0.5, 0.5], [0.1, 0.9]]])
LABELS = np.array([0, 1, 1])


def arm(p=P, labels=LABELS, epistemic=None, shifted=None) -> Arm:
    n_seeds, n, _ = p.shape
    epistemic = np.zeros((n_seeds, n)) if epistemic is None else epistemic
    return Arm("way", 1, labels, np.zeros(n, bool) if shifted is None else shifted, p, epistemic)


def test_scores_of_labels_by_hand() -> None:
    assert scores.accuracy(arm()) == pytest.approx((2 / 3 + 1 / 3) / 2)
    assert scores.nll(arm()) == pytest.approx(-np.log([0.9, 0.4, 0.8, 0.3, 0.5, 0.9]).mean())
    by_hand = [0.02, 0.72, 0.08, 0.98, 0.5, 0.02]
    assert scores.brier(arm()) == pytest.approx(np.mean(by_hand))


def test_calibration_error_by_hand() -> None:
    p = np.array([[[0.95, 0.05]] * 4])
    assert scores.ece(arm(p, np.array([0, 0, 0, 1]))) == pytest.approx(0.2)
    mixed = np.array([[[0.95, 0.05], [0.55, 0.45]]])
    assert scores.ece(arm(mixed, np.array([0, 1]))) == pytest.approx((0.05 + 0.55) / 2)


def test_auroc_is_that_of_the_package_with_ties() -> None:
    rng = np.random.default_rng(0)
    positive, score = rng.random(60) < 0.3, rng.integers(5, size=60).astype(float)
    assert scores.auroc(positive, score) == pytest.approx(metrics.auroc(positive, score))
    assert np.isnan(scores.auroc(np.zeros(3, bool), score[:3]))


def test_errors_and_shifted_inputs_are_found_by_the_spread() -> None:
    epistemic = np.array([[0.0, 1.0, 0.0], [2.0, 1.0, 0.0]])
    assert scores.auroc_errors_epistemic(arm(epistemic=epistemic)) == 1.0
    shifted = np.array([False, True, True])
    assert scores.auroc_shifted_epistemic(arm(epistemic=epistemic, shifted=shifted)) == pytest.approx(0.375)


def test_a_score_is_the_mean_over_trainings() -> None:
    both = arm()
    rows = np.arange(3)
    each = [scores.nll(both.taken(rows, np.array([seed]))) for seed in (0, 1)]
    assert scores.nll(both) == pytest.approx(np.mean(each))


def test_a_temperature_mends_too_certain_probabilities() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(400, 3))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = np.array([rng.choice(3, p=row) for row in p])
    sharp = p**4 / (p**4).sum(1, keepdims=True)
    mended = Classes().at_best_temperature(Estimate(sharp, np.zeros(400)), labels)
    np.testing.assert_allclose(mended.predicted.sum(1), 1)
    before, after = (scores.nll(arm(each[None], labels)) for each in (sharp, mended.predicted))
    assert after < before - 0.3
    changed = labels.copy()
    changed[::2] = (changed[::2] + 1) % 3  # the temperature of a half does not depend on its own labels
    other = Classes().at_best_temperature(Estimate(sharp, np.zeros(400)), changed)
    np.testing.assert_array_equal(other.predicted[::2], mended.predicted[::2])


def test_ranks_are_those_of_scipy_with_ties() -> None:
    values = np.random.default_rng(0).integers(9, size=(3, 50)) / 7
    np.testing.assert_array_equal(scores.ranks(values), rankdata(values, axis=1))
