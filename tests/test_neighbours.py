from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from mofgap.neighbours import Neighbours, whitening

RNG = np.random.default_rng(3)
ROWS = RNG.standard_normal((200, 6)) @ RNG.standard_normal((6, 9)) * np.geomspace(1e-3, 1e3, 9) + 5


def test_whitened_distances_are_those_of_standardised_principal_components() -> None:
    mean, projection = whitening(ROWS, 4)
    points = (ROWS - mean) @ projection
    pca = PCA(4, whiten=True)
    theirs = pca.fit_transform(StandardScaler().fit_transform(ROWS)) * np.sqrt(len(ROWS) / (len(ROWS) - 1))
    np.testing.assert_allclose(cdist(points, points), cdist(theirs, theirs), rtol=1e-6, atol=1e-7)


def test_what_does_not_vary_is_left_out() -> None:
    constant = np.column_stack([ROWS, np.full(len(ROWS), 7.3), ROWS[:, 0]])
    _mean, projection = whitening(constant, 30)
    assert projection.shape == (11, 6), "six directions vary"
    assert not projection[9].any()
    assert np.isfinite(projection).all()
    assert whitening(np.ones((20, 3)), 2)[1].shape == (3, 0)


@pytest.mark.parametrize(("n", "n_kept"), [(3, 1), (32, 4), (200, 5)])
def test_few_rows_have_few_components(n: int, n_kept: int) -> None:
    assert whitening(ROWS[:n], 5)[1].shape[1] == n_kept


@pytest.mark.parametrize("n_points", [5, 40, 2500])
def test_the_nearest_and_their_distances_against_brute_force(n_points: int) -> None:
    points = RNG.standard_normal((n_points, 12)).astype(np.float32)
    index = Neighbours(points)
    for query in RNG.standard_normal((20, 12)):
        distances = cdist(query[None], points)[0]
        indices, found = index.nearest(query, 3)
        assert indices.tolist() == np.argsort(distances)[:3].tolist()
        np.testing.assert_allclose(found, np.sort(distances)[:3], rtol=1e-9)


@pytest.mark.parametrize("n_points", [4, 30, 2500])
def test_a_point_is_not_its_own_neighbour_but_its_twin_is(n_points: int) -> None:
    points = RNG.standard_normal((n_points, 7)).astype(np.float32)
    points[-1] = points[0]
    found = Neighbours(points).own_distances(2)
    theirs = NearestNeighbors(n_neighbors=2, algorithm="brute").fit(points.astype(np.float64)).kneighbors()[0]
    np.testing.assert_allclose(found, theirs, rtol=1e-6, atol=1e-6)
    assert found[0, 0] == found[-1, 0] == 0 < found[1:-1].min()
