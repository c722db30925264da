"""The neighbour correction: a nearest-neighbour model of the network's errors and of their size.

A network of limited capacity fits some families of structures badly. Its residuals on training structures
there say so, and their signs say in which direction.

The posterior over the adapters does not know the training structures: its variance says how far a gap
moves with the adapters. Where the gap of the nearest training structure is known, what is left is the
variance of the difference of the two gaps. That is a squared distance.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from mofgap.neighbours import Neighbours, n_components, whitening
from mofgap.uncertainty.columns import Floats

N_NEIGHBOURS = 30
N_DIMS = 32

N_SKETCH = 64
"""Length of the sketches of gradients."""

REACH = 0.35
"""Distance over which the weight of a residual falls to 1/e, in units of the usual spacing."""

SHRINKAGE = 0.03
"""Weight of a residual of zero, against weights of 1 for neighbours that lie on the structure."""

NUGGET = 0.1
"""Part of the usual spacing that every distance gets, since labels of equal structures differ too."""


class Correction(NamedTuple):
    """The correction of n structures from their neighbours, each (n,).

    Attributes:
        residual_ev: Expected residual, to be added to the gap, eV.
        error_ev: The usual absolute residual of the neighbours, eV.
        relative_distance: Distance from the nearest, in units of the usual one; about 1 on average.
        std_ev: Epistemic standard deviation that follows from the distance, eV.
    """

    residual_ev: Tensor
    error_ev: Tensor
    relative_distance: Tensor
    std_ev: Tensor


class NeighbourCorrection(nn.Module):
    """Residuals of the training structures nearest to a structure, in a geometry of the model's own.

    A structure is a point. Its first coordinates are a sketch of its gradients in the geometry of the
    adapters' posterior (`Sensitivity.gradient_features`, eV): squared distances there are variances of the
    difference of two gaps. The others are the pooled features of the head, since its weights are uncertain,
    too. In an ensemble the heads of the other members add theirs. The features are whitened, and scaled to
    the same usual spacing. A model without adapters has only the features.

    Let d_i be the distances of the nearest training structures, and d the smallest. The usual spacing s is
    the mean distance of a training structure from its nearest other. The weights are k_i = (1 - (d_i / r)²)²,
    with r the distance of the first structure left out. They keep everything smooth where the set of
    neighbours changes.

    - Error: the mean of the absolute residuals with weights k_i.
    - Residual: the sum of the residuals with weights w_i = k_i exp(-d_i / (`REACH` s)), divided by
      sum w_i + `SHRINKAGE`. That is the regression of Nadaraya (Theory Probab. Appl. 9, 141, 1964) and
      Watson, drawn towards zero where nothing is near.
    - Relative distance: (d / s + `NUGGET`) / (1 + `NUGGET`). The variance of the likelihood grows linearly
      with it, as that of a Gaussian process with the kernel exp(-r / l) does near data. See Rasmussen and
      Williams, Gaussian Processes for Machine Learning, 2006, equation 2.26 and section 4.2.1.
    - Standard deviation: d + `NUGGET` s, in eV. Without gradients a distance has no unit: then it is the root
      mean square of all residuals times the root of the relative distance.

    The constants were chosen on split val of the QMOF table. These values did about equally well there.
    Spreads may grow as (d / s)^0.35 to (d / s)^0.5, and reaches may be 0.25 to 0.5. The head's weight may be
    0.5 to 2, and sketches may have 64 to 2,048 dimensions.

    Args:
        n_structures: Number of training structures.
        n_features: Width of the pooled features.
        n_sketch: Length of the sketches of gradients; 0 where there are none.

    Raises:
        ValueError: If ``n_structures`` is not above `N_NEIGHBOURS`.
    """

    mean: Tensor
    projection: Tensor
    points: Tensor
    residual_ev: Tensor
    spacing: Tensor

    def __init__(self, n_structures: int, n_features: int, n_sketch: int = 0) -> None:
        super().__init__()
        if n_structures <= N_NEIGHBOURS:
            raise ValueError(
                f"a neighbour correction needs more than {N_NEIGHBOURS} structures, not {n_structures}"
            )
        n_dims = n_components(n_structures, min(N_DIMS, n_features))
        self.n_sketch = n_sketch
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("projection", torch.zeros(n_features, n_dims))
        self.register_buffer("points", torch.zeros(n_structures, n_sketch + n_dims))
        self.register_buffer("residual_ev", torch.zeros(n_structures))
        self.register_buffer("spacing", torch.tensor(0.0))  # 0: unknown
        self._index: _Index | None = None

    def fit(self, pooled: Tensor, residual_ev: Tensor, gradients: Tensor | None = None) -> None:
        """Take the training structures and their residuals.

        Args:
            pooled: (n_structures, n_features) pooled features of the head.
            residual_ev: (n_structures,) label minus fitted gap.
            gradients: (n_structures, n_sketch) sketches, eV; None where there are none.
        """
        rows = array_of(pooled)
        mean, kept = whitening(rows, self.projection.shape[1])
        if gradients is not None:
            usual = _spacing((rows - mean) @ kept)
            kept = kept * (_spacing(array_of(gradients)) / usual if usual > 0 else 0.0)
        # Components that do not vary are left out of the whitening, not of the shape on disk.
        projection = np.zeros(self.projection.shape)
        projection[:, : kept.shape[1]] = kept
        for buffer, values in ((self.mean, mean), (self.projection, projection)):
            buffer.copy_(torch.from_numpy(values))
        self._index = None
        points = self._here.place(rows, gradients)
        self.points.copy_(torch.from_numpy(points).half())  # rounded as they are stored
        self.residual_ev.copy_(residual_ev)
        self.spacing.fill_(_spacing(points))
        self._index = None

    def forward(self, pooled: Tensor, gradients: Tensor | None = None) -> Correction:
        """Compute the correction of structures from their neighbours.

        Args:
            pooled: (n, n_features) pooled features of the head.
            gradients: (n, n_sketch) sketches, eV; None where there are none.
        """
        index = self._here
        found = [index.at(point) for point in index.place(array_of(pooled), gradients)]
        return Correction(*pooled.new_tensor(np.reshape(found, (-1, 4))).unbind(1))

    @property
    def _here(self) -> _Index:
        """The buffers as arrays, made once."""
        if self._index is None:
            self._index = _Index(self)
        return self._index

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._index = None
        super()._load_from_state_dict(*args, **kwargs)


class _Index:
    """Copies of the buffers of a neighbour correction as arrays.

    Sending a model to another process moves its buffers to shared memory; a view of them would then point to
    nothing.
    """

    def __init__(self, correction: NeighbourCorrection) -> None:
        self.mean, self.projection = array_of(correction.mean), array_of(correction.projection)
        self.neighbours = Neighbours(correction.points.cpu().numpy().copy())
        self.residual_ev = array_of(correction.residual_ev)
        self.rms_ev = float(np.sqrt(np.mean(self.residual_ev**2)))
        self.spacing, self.n_sketch = float(correction.spacing), correction.n_sketch

    def place(self, rows: Floats, gradients: Tensor | None) -> Floats:
        """(n, n_sketch + n_dims) points of (n, n_features) pooled features and (n, n_sketch) gradients."""
        head: Floats = (rows - self.mean) @ self.projection
        return head if gradients is None else np.concatenate([array_of(gradients), head], axis=1)

    def at(self, point: Floats) -> tuple[float, float, float, float]:
        """The values of `Correction` at a point."""
        indices, distance = self.neighbours.nearest(point, N_NEIGHBOURS + 1)
        weight = (1 - distance**2 / max(distance[-1] ** 2, 1e-12)) ** 2 + 1e-9
        residual = self.residual_ev[indices]
        error = float(weight @ np.abs(residual) / weight.sum())
        expected, relative = 0.0, 1.0
        if self.spacing > 0:
            weight = weight * np.exp(-distance / (REACH * self.spacing))
            expected = float(weight @ residual / (weight.sum() + SHRINKAGE))
            relative = float((distance[0] / self.spacing + NUGGET) / (1 + NUGGET))
        std = distance[0] + NUGGET * self.spacing if self.n_sketch else self.rms_ev * np.sqrt(relative)
        return expected, error, relative, float(std)


def _spacing(points: Floats) -> float:
    """Mean distance of a point from the nearest other; 0 where that is only rounding error."""
    found = float(Neighbours(points).own_distances(1).mean())
    return found if found > 1e-3 * np.linalg.norm(points, axis=1).mean() else 0.0


def array_of(values: Tensor) -> Floats:
    """A copy of a tensor as an array of float64, without its gradient."""
    return values.detach().cpu().double().numpy().copy()
