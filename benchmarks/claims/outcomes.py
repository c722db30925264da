"""What a task asks for: the loss of a network's outputs, and estimates from them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.claims.estimates import (
    FACTORS,
    PRECISIONS,
    Estimate,
    LastLayer,
    Moments,
    of_moments,
    with_one,
)
from benchmarks.claims.task import Kind
from mofgap.uncertainty.columns import Floats

HeadInputs = tuple[Tensor, Tensor]
"""Inputs (n, d) of a network's last layer, and the outputs (n, k) that it gives."""
TEMPERATURES = np.logspace(-0.5, 1, 31)
"""Temperatures that are tried."""


class Outcome(ABC):
    """What the labels are.

    Attributes:
        curvature: Usual second derivative of the loss by an output, for `balora-analytic`.
    """

    curvature: ClassVar[float]

    @abstractmethod
    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """() mean negative log-likelihood of labels (n,), in nats."""

    @abstractmethod
    def of_draws(self, outputs: Tensor) -> Estimate:
        """From outputs of samples, (n_draws, n, k)."""

    @abstractmethod
    def of_members(self, members: Sequence[Estimate]) -> Estimate:
        """From the predictions of an ensemble's members, each without an epistemic variance."""

    @abstractmethod
    def of_moments(self, moments: Moments, factor: float = 1.0) -> Estimate:
        """From mean and covariance of the outputs; the covariance is multiplied by a factor."""

    @abstractmethod
    def laplace(
        self, train: HeadInputs, val: HeadInputs, labels: Tensor, judged: Sequence[HeadInputs]
    ) -> list[Estimate]:
        """Last-layer Laplace: fitted to ``train``, its prior precision to ``val``, for each in ``judged``."""

    @abstractmethod
    def tempered(self, estimate: Estimate, temperature: float) -> Estimate:
        """A prediction without an epistemic variance at another temperature."""

    @abstractmethod
    def nlls(self, estimate: Estimate, labels: NDArray[np.generic]) -> Floats:
        """(n,) negative log-likelihoods, in nats."""

    @abstractmethod
    def quality(self, estimate: Estimate, labels: NDArray[np.generic]) -> dict[str, float]:
        """How near the predictions are, by the name of the measure."""

    def by_samples(self, outputs: Tensor, numbers: Sequence[int]) -> dict[int, Estimate]:
        """Estimates of the first samples, for some numbers of them."""
        return {n: self.of_draws(outputs[:n]) for n in numbers}

    def best_factor(self, val: Moments, labels: NDArray[np.generic]) -> float:
        """Factor of the covariance that gives validation inputs the best likelihood."""
        factors: list[float] = FACTORS.tolist()
        return min(factors, key=lambda each: self._mean_nll(self.of_moments(val, each), labels))

    def at_best_temperature(self, estimate: Estimate, labels: NDArray[np.generic]) -> Estimate:
        """Predictions at the temperature of best likelihood, arXiv 1706.04599.

        That of each half of the inputs is found on the other half: validation inputs are not kept.
        """
        found = np.empty_like(estimate.predicted)
        for half in (0, 1):
            other = np.arange(len(found)) % 2 != half
            some = Estimate(estimate.predicted[other], estimate.epistemic[other])
            best = min(
                TEMPERATURES, key=lambda t: self._mean_nll(self.tempered(some, float(t)), labels[other])
            )
            found[~other] = self.tempered(estimate, float(best)).predicted[~other]
        return Estimate(found, np.zeros(len(found)))

    def _mean_nll(self, estimate: Estimate, labels: NDArray[np.generic]) -> float:
        return float(self.nlls(estimate, labels).mean())


class Classes(Outcome):
    """A class; outputs are logits."""

    curvature = 0.25

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """The cross entropy."""
        return nn.functional.cross_entropy(outputs, labels)

    def of_draws(self, outputs: Tensor) -> Estimate:
        """Mean and variance of the class probabilities."""
        return Estimate.of_draws(outputs.double().softmax(2).numpy())

    def of_members(self, members: Sequence[Estimate]) -> Estimate:
        """Mean and variance of the class probabilities."""
        return Estimate.of_draws(np.stack([each.predicted for each in members]))

    def of_moments(self, moments: Moments, factor: float = 1.0) -> Estimate:
        """By `mofgap.balora.class_probabilities`."""
        return of_moments(moments, factor)

    def laplace(
        self, train: HeadInputs, val: HeadInputs, labels: Tensor, judged: Sequence[HeadInputs]
    ) -> list[Estimate]:
        """By `benchmarks.claims.estimates.LastLayer`."""
        fitted = LastLayer.fitted(train, val, labels)
        return [Estimate.of_moments(*fitted.moments(*each)) for each in judged]

    def tempered(self, estimate: Estimate, temperature: float) -> Estimate:
        """Logits divided by the temperature."""
        scaled = np.log(np.maximum(estimate.predicted, 1e-12)) / temperature
        scaled -= np.logaddexp.reduce(scaled, axis=1, keepdims=True)
        return Estimate(np.exp(scaled), estimate.epistemic)

    def nlls(self, estimate: Estimate, labels: NDArray[np.generic]) -> Floats:
        """Of the labelled class."""
        own = np.take_along_axis(estimate.predicted, labels.astype(np.int64)[:, None], 1)[:, 0]
        found: Floats = -np.log(np.maximum(own, 1e-12))
        return found

    def quality(self, estimate: Estimate, labels: NDArray[np.generic]) -> dict[str, float]:
        """The accuracy."""
        return {"val_accuracy": float((estimate.predicted.argmax(1) == labels).mean())}


class Gaps(Outcome):
    """A band gap with a Gaussian likelihood; outputs are its mean, eV, and the logarithm of its std.

    The total variance is that of the likelihood and that of the mean under the posterior.
    """

    curvature = 10.0  # one over the square of a usual error, 0.3 eV

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Without the constant of the normal distribution."""
        mean, log_std = outputs.unbind(1)
        return (0.5 * ((labels - mean) * (-log_std).exp()).square() + log_std).mean()

    def of_draws(self, outputs: Tensor) -> Estimate:
        """Mean and variance of the means, and the root mean square of the likelihood's std."""
        mean, std = outputs.double()[..., 0].numpy(), outputs.double()[..., 1].exp().numpy()
        return _of_pairs(mean, std)

    def of_members(self, members: Sequence[Estimate]) -> Estimate:
        """As of samples."""
        both = np.stack([each.predicted for each in members])
        return _of_pairs(both[..., 0], both[..., 1])

    def of_moments(self, moments: Moments, factor: float = 1.0) -> Estimate:
        """The likelihood's std is that at the posterior mean."""
        outputs, covariance = moments[0].double(), moments[1].double()
        predicted = torch.stack([outputs[:, 0], outputs[:, 1].exp()], 1).numpy()
        return Estimate(predicted, factor * covariance[:, 0, 0].clamp_min(0).numpy())

    def laplace(
        self, train: HeadInputs, val: HeadInputs, labels: Tensor, judged: Sequence[HeadInputs]
    ) -> list[Estimate]:
        """Of the weights of the mean, whose curvature is exact: Bayesian linear regression."""
        phi = with_one(train[0])
        weights = (-2 * train[1].double()[:, 1]).exp()
        values, vectors = torch.linalg.eigh(phi.mT @ (weights[:, None] * phi))

        def estimate(inputs: HeadInputs, precision: float) -> Estimate:
            squares = (with_one(inputs[0]) @ vectors).square()
            variance = squares @ (values.clamp_min(0) + precision).reciprocal()
            covariance = variance[:, None, None].expand(-1, 2, 2)
            return self.of_moments((inputs[1], covariance))

        best = min(PRECISIONS.tolist(), key=lambda each: self._mean_nll(estimate(val, each), labels.numpy()))
        return [estimate(inputs, best) for inputs in judged]

    def tempered(self, estimate: Estimate, temperature: float) -> Estimate:
        """The likelihood's std multiplied by the temperature."""
        return Estimate(estimate.predicted * [1.0, temperature], estimate.epistemic)

    def nlls(self, estimate: Estimate, labels: NDArray[np.generic]) -> Floats:
        """Of the normal distribution of mean and total variance."""
        mean, std = estimate.predicted.T
        variance = std**2 + estimate.epistemic
        found: Floats = 0.5 * ((labels - mean) ** 2 / variance + np.log(2 * np.pi * variance))
        return found

    def quality(self, estimate: Estimate, labels: NDArray[np.generic]) -> dict[str, float]:
        """The mean absolute error, eV."""
        mean, _ = estimate.predicted.T
        return {"val_mae_ev": float(np.abs(labels - mean).mean())}


def _of_pairs(mean: Floats, std: Floats) -> Estimate:
    """From means and standard deviations, each (n_draws, n)."""
    predicted = np.stack([mean.mean(0), np.sqrt((std**2).mean(0))], 1)
    return Estimate(predicted, mean.var(0))


OUTCOMES: dict[Kind, Outcome] = {"classes": Classes(), "gaps": Gaps()}


def kind_of(labels: NDArray[np.generic]) -> Kind:
    """Classes are whole numbers."""
    return "classes" if labels.dtype.kind in "iu" else "gaps"
