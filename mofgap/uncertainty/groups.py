"""Groups of novelty: the rows of a group share one distribution of errors."""

import numpy as np
import numpy.typing as npt

from mofgap.uncertainty.columns import Floats, Indices


def quantile_edges(novelty: npt.ArrayLike, max_groups: int, least: int) -> tuple[float, ...]:
    """Edges between groups of about equal size, for as many groups as have enough rows each.

    Args:
        novelty: Shape (n,).
        max_groups: Largest number of groups.
        least: Smallest number of rows in a group.

    Returns:
        Ascending edges, one fewer than groups.
    """
    values = np.asarray(novelty, dtype=np.float64)
    # An edge on the largest value, which many rows may share, would leave the last group empty.
    below = values[values < values.max(initial=-np.inf)].max(initial=-np.inf)
    for n_groups in range(min(max_groups, len(values) // least), 1, -1):
        quantiles = np.quantile(values, np.arange(1, n_groups) / n_groups, method="lower")
        edges = np.unique(np.minimum(quantiles, below))
        if np.bincount(group_of(values, edges), minlength=len(edges) + 1).min() >= least:
            return tuple(edges.tolist())
    return ()


def group_of(novelty: Floats, edges: npt.ArrayLike) -> Indices:
    """The group of each row, from 0. NaN sorts last: an unknown novelty counts as the largest."""
    return np.searchsorted(np.asarray(edges, dtype=np.float64), novelty, side="left")
