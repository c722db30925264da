"""A memory of the training structures: how well those near by were fitted, and how far the nearest lies.

What the likelihood's spread learns is smooth. Where a model of limited capacity fits a family of structures
badly, its own training errors there say so, and no gradient carries that to the spread. Nor has any training
structure a distance from what was learnt, so that no gradient teaches a spread, or alpha(X), to grow with it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

N_NEIGHBOURS = 30
N_DIMS = 32

NUGGET = 0.1
"""What is left of the variance, about, where a structure lies on one that was learnt: labels differ too."""

CHUNK = 1024


class Memory(nn.Module):
    """Training error around a structure and its remoteness, in the head's whitened pooled features.

    The error is a mean over neighbours weighted by (1 - (d / r)²)² with r the distance of the first one left
    out, so that it moves smoothly where the set of neighbours changes.

    Remoteness is a factor of variances: (d / s + `NUGGET`) / (1 + `NUGGET`), with d the distance of the
    nearest neighbour and s the mean of that distance among the training structures. Near data, the variance
    of a Gaussian process with the kernel exp(-r / l) grows linearly with distance (Rasmussen and Williams,
    Gaussian Processes for Machine Learning, 2006, equation 2.26 and section 4.2.1), and so does this. Factors
    of the spread from (d / s)^0.35 to (d / s)^0.5 did equally well on split val of the QMOF table.

    Args:
        n_structures: Training structures remembered.
        n_features: Width of the pooled features.

    Raises:
        ValueError: There are not more structures than neighbours are looked at.
    """

    mean: Tensor
    projection: Tensor
    points: Tensor
    error_ev: Tensor
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
        self.register_buffer("error_ev", torch.zeros(n_structures))
        self.register_buffer("spacing", torch.tensor(0.0))  # 0: remoteness is 1 everywhere
        self.register_buffer("squares", None, persistent=False)

    @torch.no_grad()
    def fit(self, pooled: Tensor, error_ev: Tensor) -> None:
        """Remember structures.

        Args:
            pooled: (n_structures, n_features) the head's pooled features.
            error_ev: (n_structures,) absolute error of the fitted gaps.
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
        self.error_ev.copy_(error_ev)
        self.squares = None
        self.spacing.copy_(self._spacing())

    def _spacing(self) -> Tensor:
        """Mean distance of a training structure from the nearest other."""
        nearest = [
            torch.cdist(part, self.points).topk(2, largest=False).values[:, 1]
            for part in torch.split(self.points, CHUNK)
        ]
        return torch.cat(nearest).mean()

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """(n, n_features) pooled features to the local error in eV and the remoteness, both (n,)."""
        point = (pooled - self.mean) @ self.projection
        # Squared distances up to a constant of each row find the neighbours; their own are then exact.
        if self.squares is None:
            self.squares = self.points.square().sum(1)
        rough = torch.addmm(self.squares, point, self.points.mT, alpha=-2)
        nearest = rough.topk(N_NEIGHBOURS + 1, dim=1, largest=False).indices
        squared = (self.points[nearest] - point[:, None]).square().sum(2)
        reach = squared.amax(1, keepdim=True).clamp_min(1e-12)
        weight = (1 - squared / reach).square() + 1e-9
        error_ev = (weight * self.error_ev[nearest]).sum(1) / weight.sum(1)
        if self.spacing == 0:
            return error_ev, torch.ones_like(error_ev)
        return error_ev, (squared.amin(1).sqrt() / self.spacing + NUGGET) / (1 + NUGGET)
