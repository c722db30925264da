"""A diverse batch: good items of which no two are similar."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mofgap.uncertainty.columns import Floats

COPY = 1e-4
"""An item of which less than this part is left after those chosen before is a copy of them."""

TIE = 1e-9
"""Gains that differ by less than this part differ by rounding alone."""


@dataclass(frozen=True)
class Pick:
    """An item of the batch.

    Attributes:
        index: Its place among the items.
        gain: Its quality times ``distinct``; what it was chosen for.
        distinct: 0..1, 1 for an item unlike all that were chosen before it.
    """

    index: int
    gain: float
    distinct: float


def choose(quality: Floats, points: Floats, length: float, budget: int) -> list[Pick]:
    """Greedily choose items of high quality that differ from one another.

    The similarity of two items is R_ij = exp(-|x_i - x_j|² / 2 length²). After a set S was chosen, item i is
    worth q_i sqrt(1 - R_iS R_SS⁻¹ R_Si): its quality times the root of the part of a Gaussian process'
    variance at x_i that values at S leave over. This is the greedy search for the most probable set of a
    determinantal point process of kernel q_i R_ij q_j. Sources: Kulesza and Taskar, arXiv 1207.6083; Chen,
    Zhang and Zhou, arXiv 1709.05135.

    Args:
        quality: (n,) not negative; an item of quality 0 is never chosen.
        points: (n, d).
        length: Distance over which items are similar, in the units of the points.
        budget: Choose at most so many; fewer where nothing but copies is left.

    Returns:
        Picks in order; of several equal ones the first item comes first.

    Raises:
        ValueError: If the shapes do not match, a quality is negative or not finite, or ``length`` is not
            positive.
    """
    quality, points = np.asarray(quality, dtype=np.float64), np.asarray(points, dtype=np.float64)
    if quality.ndim != 1 or points.ndim != 2 or len(points) != len(quality):
        raise ValueError(f"qualities {quality.shape} and points {points.shape} do not fit together")
    if not (np.isfinite(quality).all() and (quality >= 0).all() and length > 0):
        raise ValueError("qualities must be finite and at least 0, and the length positive")
    left = np.ones(len(quality))
    basis = np.empty((min(budget, len(quality)), len(quality)))
    picks: list[Pick] = []
    for k in range(len(basis)):
        distinct = np.sqrt(np.maximum(left, 0))
        gain = np.where(left > COPY, quality * distinct, 0)
        best = int(np.argmax(gain >= gain.max() * (1 - TIE)))
        if gain[best] <= 0:
            break
        picks.append(Pick(best, float(gain[best]), float(distinct[best])))
        similarity = np.exp(-((points - points[best]) ** 2).sum(axis=1) / (2 * length**2))
        basis[k] = (similarity - basis[:k, best] @ basis[:k]) / distinct[best]
        left = left - basis[k] ** 2
        left[best] = 0
    return picks
