"""Whitening, and nearest neighbours among a fixed set of points."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

ROWS_PER_DIM = 8
"""Rows for each component. Whitened by fewer rows, new points would stand equally far from all of them."""

SHORTLIST = 16
CHUNK = 1024


def whitening(rows: Floats, n_dims: int) -> tuple[Floats, Floats]:
    """Principal components of unit variance.

    The features are standardised first, so that their units do not matter. A feature or a component that does
    not vary is left out.

    Args:
        rows: (n, d).
        n_dims: As for `n_components`.

    Returns:
        The mean (d,), and the projection (d, n_kept) of a difference from it. Components of large variance
        come first; none is kept where nothing varies.
    """
    mean, std = rows.mean(axis=0), rows.std(axis=0)
    varies = std > 1e-6 * np.maximum(np.abs(mean), std.max())
    weight = np.where(varies, 1 / np.where(varies, std, 1), 0)
    standard = (rows - mean) * weight
    values, vectors = np.linalg.eigh(standard.T @ standard / len(rows))
    kept = np.flatnonzero(values > 1e-6 * values[-1])[::-1][: n_components(len(rows), n_dims)]
    return mean, weight[:, None] * vectors[:, kept] / np.sqrt(values[kept])


def n_components(n_rows: int, n_dims: int) -> int:
    """The most components that `whitening` keeps: ``n_dims``, or one for every `ROWS_PER_DIM` rows."""
    return min(n_dims, max(1, n_rows // ROWS_PER_DIM))


class Neighbours:
    """The nearest of a fixed set of points.

    Distances are exact in float64. Candidates are found in float32, which halves the traffic of memory.

    Args:
        points: (n, d).
    """

    def __init__(self, points: npt.ArrayLike) -> None:
        self.points: npt.NDArray[np.float32] = np.ascontiguousarray(points, dtype=np.float32)

    def nearest(self, point: Floats, n: int) -> tuple[npt.NDArray[np.intp], Floats]:
        """The ``n`` points nearest to one.

        Args:
            point: (d,).
            n: How many.

        Returns:
            Indices and distances, nearest first: (n,) each, fewer if there are fewer points.
        """
        rough = self._half_squares - self.points @ point.astype(np.float32)
        return self._exact(rough, point, n)

    def own_distances(self, n: int) -> Floats:
        """(n_points, n) distances of each point from the ``n`` nearest others, nearest first."""
        found = []
        for start in range(0, len(self.points), CHUNK):
            chunk = self.points[start : start + CHUNK]
            rough = self._half_squares - chunk @ self.points.T
            rough[np.arange(len(chunk)), np.arange(start, start + len(chunk))] = np.inf
            found += [
                self._exact(each, point.astype(np.float64), n)[1]
                for each, point in zip(rough, chunk, strict=True)
            ]
        return np.stack(found)

    @cached_property
    def _half_squares(self) -> npt.NDArray[np.float32]:
        return np.asarray((self.points**2).sum(axis=1) / 2, dtype=np.float32)

    def _exact(
        self, rough: npt.NDArray[np.float32], point: Floats, n: int
    ) -> tuple[npt.NDArray[np.intp], Floats]:
        """The ``n`` nearest among candidates, those with the smallest ``rough``.

        Args:
            rough: (n_points,) half of each squared distance, but for a constant; infinite for a point to
                skip.
            point: (d,).
            n: How many.
        """
        n_short = min(max(SHORTLIST, 2 * n), len(rough))
        short = np.sort(np.argpartition(rough, n_short - 1)[:n_short])
        short = short[np.isfinite(rough[short])]
        distances = np.sqrt(((self.points[short] - point) ** 2).sum(axis=1))
        order = np.argsort(distances, kind="stable")[:n]
        return short[order], distances[order]
