"""A memory of the training structures: what their gaps still miss, how far, and how near the nearest is.

A model of limited capacity fits some families of structures badly. Its training errors there say so, and
their signs say which way, when no gradient does. Nor has any training structure a distance from what was
learnt, so that no gradient teaches a spread, or alpha(X), to grow with it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

N_NEIGHBOURS = 30
N_DIMS = 32

REACH = 0.35
"""Distance over which what is missing falls to 1/e, in units of the usual distance between neighbours."""

SHRINKAGE = 0.03
"""Weight of missing nothing, beside neighbours whose weight is 1 where they lie on the structure."""

NUGGET = 0.1
"""What is left of the variance, about, where a structure lies on one that was learnt: labels differ too."""

CHUNK = 1024


class Nearby(NamedTuple):
    """What a memory says of n structures, each (n,).

    Attributes:
        missing_ev: What training left to be added to the gap, eV.
        error_ev: The usual absolute error of the fitted gaps around, eV.
        remoteness: Factor of variances, about 1 on average.
    """

    missing_ev: Tensor
    error_ev: Tensor
    remoteness: Tensor


class Memory(nn.Module):
    """Residuals of training around a structure, in the head's whitened pooled features.

    All is read off the nearest neighbours, at distances d_i, with s the mean distance of a training structure
    from the nearest other, and weights k_i = (1 - (d_i / r)²)² with r the distance of the first one left out,
    so that nothing jumps where the set of neighbours changes.

    The error is the mean of the residuals' sizes with weights k_i. What is missing is the sum of the
    residuals with weights w_i = k_i exp(-d_i / (`REACH` s)), divided by sum w_i + `SHRINKAGE`: the regression
    of Nadaraya (Theory Probab. Appl. 9, 141, 1964) and Watson, drawn towards zero where nothing is near.

    Remoteness is (d / s + `NUGGET`) / (1 + `NUGGET`) with d the distance of the nearest. Near data, the
    variance of a Gaussian process with the kernel exp(-r / l) grows linearly with distance (Rasmussen and
    Williams, Gaussian Processes for Machine Learning, 2006, equation 2.26 and section 4.2.1), and so does
    this.

    The constants were chosen on split val of the QMOF table, where spreads that grow as (d / s)^0.35 to
    (d / s)^0.5, and reaches of 0.25 to 0.5, did equally well.

    Args:
        n_structures: Training structures remembered.
        n_features: Width of the pooled features.

    Raises:
        ValueError: There are not more structures than neighbours are looked at.
    """

    mean: Tensor
    projection: Tensor
    points: Tensor
    residual_ev: Tensor
    spacing: Tensor
    squares: Tensor | None

    def __init__(self, n_structures: int, n_features: int) -> None:
        super().__init__()
        if n_structures <= N_NEIGHBOURS:
            raise ValueError(f"a memory needs more than {N_NEIGHBOURS} structures, not {n_structures}")
        n_dims = min(N_DIMS, n_features)
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("projection", torch.zeros(n_features, n_dims))
        self.register_buffer("points", torch.zeros(n_structures, n_dims))
        self.register_buffer("residual_ev", torch.zeros(n_structures))
        self.register_buffer("spacing", torch.tensor(0.0))  # 0: unknown
        self.register_buffer("squares", None, persistent=False)

    @torch.no_grad()
    def fit(self, pooled: Tensor, residual_ev: Tensor) -> None:
        """Remember structures.

        Args:
            pooled: (n_structures, n_features) the head's pooled features.
            residual_ev: (n_structures,) label minus fitted gap.
        """
        std, mean = torch.std_mean(pooled.double(), dim=0)
        weight = torch.where(std > 1e-6, 1 / std.clamp_min(1e-6), 0.0)
        standard = (pooled.double() - mean) * weight
        values, vectors = torch.linalg.eigh(standard.mT @ standard / len(standard))
        n_dims = self.projection.shape[1]
        scale = values[-n_dims:].clamp_min(1e-9).rsqrt()
        self.mean.copy_(mean)
        self.projection.copy_(weight[:, None] * vectors[:, -n_dims:] * scale)
        self.points.copy_((pooled - self.mean) @ self.projection)
        self.residual_ev.copy_(residual_ev)
        self.squares = None
        self.spacing.copy_(self._spacing())

    def _spacing(self) -> Tensor:
        """Mean distance of a training structure from the nearest other."""
        nearest = [
            torch.cdist(part, self.points).topk(2, largest=False).values[:, 1]
            for part in torch.split(self.points, CHUNK)
        ]
        return torch.cat(nearest).mean()

    def forward(self, pooled: Tensor) -> Nearby:
        """What is remembered around (n, n_features) pooled features."""
        point = (pooled - self.mean) @ self.projection
        # Squared distances up to a constant of each row find the neighbours; their own are then exact.
        if self.squares is None:
            self.squares = self.points.square().sum(1)
        rough = torch.addmm(self.squares, point, self.points.mT, alpha=-2)
        nearest = rough.topk(N_NEIGHBOURS + 1, dim=1, largest=False).indices
        squared = (self.points[nearest] - point[:, None]).square().sum(2)
        reach = squared.amax(1, keepdim=True).clamp_min(1e-12)
        weight = (1 - squared / reach).square() + 1e-9
        residual = self.residual_ev[nearest]
        error_ev = (weight * residual.abs()).sum(1) / weight.sum(1)
        if self.spacing == 0:
            return Nearby(torch.zeros_like(error_ev), error_ev, torch.ones_like(error_ev))
        distance = squared.sqrt() / self.spacing
        weight = weight * (-distance / REACH).exp()
        missing_ev = (weight * residual).sum(1) / (weight.sum(1) + SHRINKAGE)
        return Nearby(missing_ev, error_ev, (distance.amin(1) + NUGGET) / (1 + NUGGET))
