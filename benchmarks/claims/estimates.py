"""What a trained model predicts: class probabilities or gaps, and how uncertain they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.claims.task import Split
from mofgap.balora import class_probabilities
from mofgap.whole_file import whole_file

CLOSED_FORM = 0
"""Stands for the number of samples where there are none."""
PRECISIONS = np.logspace(-3, 4, 15)
"""Prior precisions of the Laplace approximation that are tried."""
FACTORS = np.logspace(-2, 3, 21)
"""Factors of the posterior's variance that are tried."""
Key = tuple[str, int, str]
"""Way of predicting, number of samples or members, name of the split."""


@dataclass(frozen=True)
class Estimate:
    """Predictions for the inputs of a split.

    Attributes:
        predicted: (n, n_classes) class probabilities; of gaps (n, 2) mean and std of the likelihood, eV.
        epistemic: (n,) variance of the class probabilities under the posterior, summed over classes; of gaps
            that of the mean, eV².
    """

    predicted: NDArray[np.float64]
    epistemic: NDArray[np.float64]

    @classmethod
    def of_draws(cls, draws: NDArray[np.float64]) -> Estimate:
        """From the probabilities of samples or members, (n_draws, n, n_classes)."""
        return cls(draws.mean(0), draws.var(0).sum(1))

    @classmethod
    def of_moments(cls, mean: Tensor, std: Tensor) -> Estimate:
        """From mean and standard deviation of the probabilities, each (n, n_classes)."""
        return cls(mean.double().numpy(), std.double().square().sum(1).numpy())


Moments = tuple[Tensor, Tensor]
"""Mean (n, n_classes) and covariance (n, n_classes, n_classes) of logits."""


def closed_form(model: Any, split: Split, size: int) -> Moments:
    """Mean and covariance of the logits of `mofgap.balora.BaLoRAModel`, without samples."""
    found = [model.covariance(batch.inputs) for batch in split.batches(size)]
    return torch.cat([mean for mean, _ in found]).double(), torch.cat([own for _, own in found]).double()


def of_moments(moments: Moments, factor: float = 1.0) -> Estimate:
    """The estimate for a covariance that is multiplied by a factor."""
    return Estimate.of_moments(*class_probabilities(moments[0], factor * moments[1]))


@dataclass(frozen=True)
class LastLayer:
    """Last-layer Laplace approximation with Kronecker factors: Daxberger et al., arXiv 2106.14806.

    Attributes:
        of_features: Eigenvalues and eigenvectors of the sum of outer products of the head's inputs.
        of_logits: The same for the mean second derivative of the loss by the logits.
        precision: Of the prior.
    """

    of_features: tuple[Tensor, Tensor]
    of_logits: tuple[Tensor, Tensor]
    precision: float

    @classmethod
    def fitted(cls, train: tuple[Tensor, Tensor], val: tuple[Tensor, Tensor], labels: Tensor) -> LastLayer:
        """Fit to training inputs; the prior precision has the best likelihood of validation inputs.

        Args:
            train: Features and logits of the training inputs.
            val: The same of the validation inputs.
            labels: Classes of the validation inputs.
        """
        phi, p = with_one(train[0]), train[1].double().softmax(1)
        second = torch.diag_embed(p).mean(0) - p.mT @ p / len(p)
        factors = torch.linalg.eigh(phi.mT @ phi), torch.linalg.eigh(second)
        tried = [cls(tuple(factors[0]), tuple(factors[1]), float(each)) for each in PRECISIONS]
        return min(tried, key=lambda each: each.nll(*val, labels))

    def moments(self, features: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of class probabilities, each (n, n_classes)."""
        (values, vectors), (of_logits, directions) = self.of_features, self.of_logits
        squares = (with_one(features) @ vectors).square()
        curvature = values.clamp_min(0)[:, None] * of_logits.clamp_min(0) + self.precision
        variance = squares @ curvature.reciprocal()
        covariance = (directions * variance[:, None, :]) @ directions.mT
        return class_probabilities(logits.double(), covariance)

    def nll(self, features: Tensor, logits: Tensor, labels: Tensor) -> float:
        """Mean negative log-likelihood, in nats."""
        probabilities, _ = self.moments(features, logits)
        return float(-probabilities.gather(1, labels[:, None]).log().mean())


def with_one(features: Tensor) -> Tensor:
    """(n, d + 1) features, and a one for the bias."""
    return torch.cat([features.double(), features.new_ones(len(features), 1).double()], 1)


@torch.no_grad()
def head_inputs(model: Any, head: str, split: Split, size: int) -> tuple[Tensor, Tensor]:
    """(n, d) what a layer gets, and (n, n_classes) the outputs of the network.

    Args:
        model: A wrapped model, or a network.
        head: Name of the layer in the network.
        split: Inputs.
        size: Of a batch.
    """
    features: list[Tensor] = []
    module = getattr(model, "model", model).get_submodule(head)
    handle = module.register_forward_pre_hook(lambda _, args: features.append(args[0].flatten(1)))
    try:
        logits = [model(*batch.inputs) for batch in split.batches(size)]
    finally:
        handle.remove()
    return torch.cat(features), torch.cat(logits)


def save(path: Path, estimates: Mapping[Key, Estimate], **about: float) -> None:
    """Write estimates and some numbers about the training to a file of numpy."""
    arrays: dict[str, Any] = {f"about|{name}": value for name, value in about.items()}
    for (way, n, split), each in estimates.items():
        arrays[f"p|{way}|{n}|{split}"] = each.predicted.astype(np.float32)
        arrays[f"v|{way}|{n}|{split}"] = each.epistemic.astype(np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as made, made.open("wb") as file:
        np.savez_compressed(file, **arrays)


def load(path: Path) -> tuple[dict[Key, Estimate], dict[str, float]]:
    """What `save` wrote."""
    found, about = {}, {}
    with np.load(path) as arrays:
        for name in arrays:
            kind, *rest = name.split("|")
            if kind == "about":
                about[rest[0]] = float(arrays[name])
            elif kind == "p":
                way, n, split = rest
                spread = arrays[f"v|{way}|{n}|{split}"].astype(np.float64)
                found[way, int(n), split] = Estimate(arrays[name].astype(np.float64), spread)
    return found, about
