from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import norm

from benchmarks.claims.estimates import FACTORS, Estimate
from benchmarks.claims.outcomes import Classes, Gaps, kind_of

GAPS = Gaps()


def test_the_loss_of_gaps_is_the_normal_likelihood() -> None:
    outputs, labels = torch.tensor([[1.0, -0.5], [2.0, 0.3]]), torch.tensor([1.4, 0.5])
    expected = -norm.logpdf(labels.numpy(), outputs[:, 0].numpy(), outputs[:, 1].exp().numpy())
    constant = 0.5 * np.log(2 * np.pi)
    assert float(GAPS.loss(outputs, labels)) == pytest.approx(expected.mean() - constant, rel=1e-5)
    found = GAPS.nlls(GAPS.of_draws(outputs[None]), labels.numpy())
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_draws_of_gaps_have_both_variances() -> None:
    outputs = torch.tensor([[[1.0, 0.0]], [[3.0, np.log(3.0)]]], dtype=torch.float64)
    found = GAPS.of_draws(outputs)
    np.testing.assert_allclose(found.predicted, [[2.0, np.sqrt(5)]])
    np.testing.assert_allclose(found.epistemic, [1.0])
    members = [GAPS.of_draws(each[None]) for each in outputs]
    np.testing.assert_allclose(GAPS.of_members(members).predicted, found.predicted)
    np.testing.assert_allclose(GAPS.nlls(found, np.array([2.0])), -norm.logpdf(0, 0, np.sqrt(6)))


def test_the_factor_of_the_variance_of_gaps_has_the_best_likelihood() -> None:
    outputs = torch.stack([torch.zeros(200), torch.full((200,), -9.0)], 1)
    covariance = torch.eye(2).expand(200, 2, 2)
    labels = 3 * np.random.default_rng(0).normal(size=200)
    factor = GAPS.best_factor((outputs, covariance), labels)
    assert factor == FACTORS[np.abs(np.log(FACTORS / 9)).argmin()]
    assert GAPS.of_moments((outputs, covariance), factor).epistemic[0] == pytest.approx(factor)


def test_the_laplace_approximation_of_gaps_is_bayesian_regression() -> None:
    generator = torch.Generator().manual_seed(0)
    phi, outputs = torch.randn(30, 3, generator=generator), torch.randn(30, 2, generator=generator)
    (found,) = GAPS.laplace((phi, outputs), (phi, outputs), torch.zeros(30), [(phi, outputs)])
    one = np.concatenate([phi.numpy(), np.ones((30, 1))], 1)
    curvature = one.T @ (one / np.exp(outputs.numpy()[:, 1:]) ** 2)
    at = [
        ((one @ np.linalg.inv(curvature + each * np.eye(4))) * one).sum(1) for each in np.logspace(-3, 4, 15)
    ]
    assert min(np.abs(variance / found.epistemic - 1).max() for variance in at) < 1e-3


def test_a_temperature_mends_too_narrow_gaps() -> None:
    rng = np.random.default_rng(0)
    labels = rng.normal(size=400)
    narrow = Estimate(np.stack([np.zeros(400), np.full(400, 0.4)], 1), np.zeros(400))
    mended = GAPS.at_best_temperature(narrow, labels)
    assert mended.predicted[:, 1] == pytest.approx(1, rel=0.15)
    assert GAPS.nlls(mended, labels).mean() < GAPS.nlls(narrow, labels).mean() - 0.5


def test_labels_say_what_is_asked() -> None:
    assert kind_of(np.array([0, 1])) == "classes"
    assert kind_of(np.array([0.5])) == "gaps"
    assert set(Classes().quality(Estimate(np.eye(2), np.zeros(2)), np.array([0, 1]))) == {"val_accuracy"}
