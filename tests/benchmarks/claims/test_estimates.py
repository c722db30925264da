from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.claims import estimates
from benchmarks.claims.estimates import Estimate, LastLayer
from benchmarks.claims.outcomes import Classes


def test_first_samples_alone_make_an_estimate() -> None:
    logits = torch.randn(4, 5, 3, generator=torch.Generator().manual_seed(0))
    found = Classes().by_samples(logits, [1, 2, 4])
    p = logits.double().softmax(2).numpy()
    np.testing.assert_allclose(found[2].predicted, p[:2].mean(0))
    np.testing.assert_allclose(found[2].epistemic, p[:2].var(0).sum(1))
    assert (found[1].epistemic == 0).all()


def test_a_file_keeps_estimates(tmp_path) -> None:
    one = Estimate(np.array([[0.25, 0.75]]), np.array([0.5]))
    estimates.save(tmp_path / "a.npz", {("way", 2, "test"): one}, seconds=3.0)
    found, about = estimates.load(tmp_path / "a.npz")
    np.testing.assert_array_equal(found["way", 2, "test"].predicted, one.predicted)
    np.testing.assert_array_equal(found["way", 2, "test"].epistemic, one.epistemic)
    assert about == {"seconds": 3.0}


def test_the_factor_of_the_variance_has_the_best_likelihood() -> None:
    generator = torch.Generator().manual_seed(1)
    logits = 9 * torch.randn(40, 3, generator=generator, dtype=torch.float64)
    moments = (logits, torch.eye(3, dtype=torch.float64).expand(40, 3, 3))
    labels = torch.arange(40) % 3  # at chance: as uncertain as it gets is best
    assert Classes().best_factor(moments, labels.numpy()) == pytest.approx(estimates.FACTORS[-1])
    assert Classes().best_factor(moments, logits.argmax(1).numpy()) == pytest.approx(estimates.FACTORS[0])
    wide = estimates.of_moments(moments, 100.0)
    assert (wide.epistemic != estimates.of_moments(moments).epistemic).all()


def test_laplace_is_the_inverse_of_the_kronecker_product() -> None:
    generator = torch.Generator().manual_seed(1)
    phi, logits = torch.randn(9, 4, generator=generator), torch.randn(9, 3, generator=generator)
    fitted = LastLayer.fitted((phi, logits), (phi, logits), torch.arange(9) % 3)
    one, p = estimates.with_one(phi), logits.double().softmax(1)
    second = torch.diag_embed(p).mean(0) - p.mT @ p / 9
    precision = torch.kron(one.mT @ one, second) + fitted.precision * torch.eye(15)
    J = torch.kron(one[:1], torch.eye(3))
    covariance = J @ torch.linalg.inv(precision) @ J.mT
    from mofgap.balora import class_probabilities

    expected = class_probabilities(logits[:1].double(), covariance[None])
    for found, wanted in zip(fitted.moments(phi[:1], logits[:1]), expected, strict=True):
        torch.testing.assert_close(found, wanted)


def test_laplace_takes_the_precision_of_best_likelihood() -> None:
    generator = torch.Generator().manual_seed(1)
    phi, logits = torch.randn(9, 4, generator=generator), 9 * torch.randn(9, 3, generator=generator)
    labels = torch.arange(9) % 3  # at chance: far too certain logits want a wide posterior
    fitted = LastLayer.fitted((phi, logits), (phi, logits), labels)
    assert fitted.precision < 1
    assert fitted.nll(phi, logits, labels) < torch.nn.functional.cross_entropy(logits, labels)
