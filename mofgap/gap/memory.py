"""A memory of the training structures: what their gaps still miss, how far, and how near the nearest is.

A model of limited capacity fits some families of structures badly. Its training errors there say so, and
their signs say which way, when no gradient does. Nor has any training structure a distance from what was
learnt, so that no gradient teaches a spread, or alpha(X), to grow with it.

The posterior over the adapters does not know what was learnt either: its variance says how far a gap moves
with them, known or not. Where the gap of the nearest training structure is known, what is left is the
variance of the difference from it, which is a squared distance.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

N_NEIGHBOURS = 30
N_DIMS = 32

ROWS_PER_DIM = 8
"""Structures for each of them: whitened by fewer, new structures would stand apart from all."""

N_SKETCH = 64
"""Length of the sketches of gradients."""

HEAD_WEIGHT = 0.5
"""Weight of a distance in the head's features beside one in gradients, both in units of what is usual."""

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
    """Residuals of training around a structure, in a geometry of the model's own.

    A structure stands at its gradients in the geometry of the adapters' posterior (`Sensitivity.place`, eV),
    where squared distances are variances of the difference of two gaps, and beside them at the head's pooled
    features, whitened and scaled by `HEAD_WEIGHT`: the head's weights are not certain either. A model
    without adapters has the latter alone.

    All is read off the nearest neighbours, at distances d_i, with s the mean distance of a training structure
    from the nearest other, and weights k_i = (1 - (d_i / r)²)² with r the distance of the first one left out,
    so that nothing jumps where the set of neighbours changes.

    The error is the mean of the residuals' sizes with weights k_i. What is missing is the sum of the
    residuals with weights w_i = k_i exp(-d_i / (`REACH` s)), divided by sum w_i + `SHRINKAGE`: the regression
    of Nadaraya (Theory Probab. Appl. 9, 141, 1964) and Watson, drawn towards zero where nothing is near.

    Remoteness is (d / s + `NUGGET`) / (1 + `NUGGET`) with d the distance of the nearest. Near data, the
    variance of a Gaussian process with the kernel exp(-r / l) grows linearly with distance (Rasmussen and
    Williams, Gaussian Processes for Machine Learning, 2006, equation 2.26 and section 4.2.1), and so does
    that of the likelihood. The posterior's standard deviation is the distance itself, and as much as
    `NUGGET` s.

    The constants were chosen on split val of the QMOF table, where spreads that grow as (d / s)^0.35 to
    (d / s)^0.5, reaches of 0.25 to 0.5, weights of the head of 0.5 to 2 and sketches of 64 to 2,048 did about
    equally well.

    Args:
        n_structures: Training structures remembered.
        n_features: Width of the pooled features.
        n_sketch: Length of the sketches of gradients; 0 where there are none.

    Raises:
        ValueError: There are not more structures than neighbours are looked at.
    """

    mean: Tensor
    projection: Tensor
    points: Tensor
    residual_ev: Tensor
    spacing: Tensor
    squares: Tensor | None

    def __init__(self, n_structures: int, n_features: int, n_sketch: int = 0) -> None:
        super().__init__()
        if n_structures <= N_NEIGHBOURS:
            raise ValueError(f"a memory needs more than {N_NEIGHBOURS} structures, not {n_structures}")
        n_dims = min(N_DIMS, n_features, max(1, n_structures // ROWS_PER_DIM))
        self.n_sketch = n_sketch
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("projection", torch.zeros(n_features, n_dims))
        self.register_buffer("points", torch.zeros(n_structures, n_sketch + n_dims))
        self.register_buffer("residual_ev", torch.zeros(n_structures))
        self.register_buffer("spacing", torch.tensor(0.0))  # 0: unknown
        self.register_buffer("squares", None, persistent=False)

    @torch.no_grad()
    def fit(self, pooled: Tensor, residual_ev: Tensor, gradients: Tensor | None = None) -> None:
        """Remember structures.

        Args:
            pooled: (n_structures, n_features) the head's pooled features.
            residual_ev: (n_structures,) label minus fitted gap.
            gradients: (n_structures, n_sketch) sketches, eV; None where there are none.
        """
        std, mean = torch.std_mean(pooled.double(), dim=0)
        weight = torch.where(std > 1e-6, 1 / std.clamp_min(1e-6), 0.0)
        standard = (pooled.double() - mean) * weight
        values, vectors = torch.linalg.eigh(standard.mT @ standard / len(standard))
        n_dims = self.projection.shape[1]
        kept = values[-n_dims:]  # directions in which they do not differ are nothing to measure others by
        scale = torch.where(kept > 1e-6 * kept[-1], kept.clamp_min(1e-9).rsqrt(), 0.0)
        self.mean.copy_(mean)
        self.projection.copy_(weight[:, None] * vectors[:, -n_dims:] * scale)
        if gradients is not None:
            usual = _spacing((pooled - self.mean) @ self.projection)
            self.projection.mul_(HEAD_WEIGHT * _spacing(gradients) / usual if usual > 0 else 0.0)
        self.points.copy_(self._place(pooled, gradients))
        self.residual_ev.copy_(residual_ev)
        self.squares = None
        self.spacing.copy_(_spacing(self.points))

    def _place(self, pooled: Tensor, gradients: Tensor | None) -> Tensor:
        """(n, n_sketch + n_dims)."""
        head = (pooled - self.mean) @ self.projection
        return head if gradients is None else torch.cat([gradients, head], dim=1)

    def forward(self, pooled: Tensor, gradients: Tensor | None = None) -> Nearby:
        """What is remembered around (n, n_features) pooled features and (n, n_sketch) gradients."""
        point = self._place(pooled, gradients)
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

    def noise_factor(self, remoteness: Tensor, variance: Tensor) -> Tensor:
        """(n,) what alpha(X) is multiplied by, so that a variance becomes that of the difference.

        Args:
            remoteness: (n,) of `forward`.
            variance: (n,) closed form with alpha(X) as it is, eV².
        """
        if not self.n_sketch:
            return remoteness
        return (remoteness * (1 + NUGGET) * self.spacing).square() / variance.clamp_min(1e-12)


def _spacing(points: Tensor) -> Tensor:
    """Mean distance of a point from the nearest other; 0 where it is rounding, among twins alone."""
    nearest = [torch.cdist(p, points).topk(2, largest=False).values[:, 1] for p in torch.split(points, CHUNK)]
    found = torch.cat(nearest).mean()
    return torch.where(found > 1e-3 * points.norm(dim=1).mean(), found, 0.0)
